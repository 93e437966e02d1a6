"""The command line of the programs: YAML files and `--group.field value` options make one dataclass.

    config = parse(Config, program="train.py", description="Train a model.", config_files=True)

Later sources win: the dataclass's defaults, `defaults`, each `--config FILE`, then the options. `--help` shows each
field's docstring and the value it would have, with those of the given files.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import itertools
import shutil
import sys
import textwrap
import types
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from svg.config.options import from_dict, option_names, shortened, unknown_option
from svg.runtime.reading import ReadError, parse_yaml, read_yaml

T = TypeVar("T")


def parse(
    cls: type[T],
    argv: Sequence[str] | None = None,
    *,
    program: str,
    description: str,
    defaults: Mapping[str, Any] | None = None,
    config_files: bool = False,
) -> T:
    """The dataclass that the command line describes.

    Args:
        cls: a dataclass, whose fields may be dataclasses (groups): options are `--field` and `--group.field`. A list
            takes any number of values, a dict takes `--field.key value`, a field without default is required.
        argv: the arguments, by default those of the process.
        defaults: values (as of `asdict`, any part of them) that replace the dataclass's defaults.
        config_files: whether `--config FILE` (YAML, repeatable) is an option.

    Raises:
        ValueError: an unknown option, a wrong value, a file that cannot be read; the text names it.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    values: dict[str, Any] = {}
    _merge(values, defaults or {})
    if config_files:
        finder = _Parser(add_help=False, allow_abbrev=False)
        finder.add_argument("--config", action="append", default=[])
        for path in finder.parse_known_args(argv)[0].config:
            try:
                _merge(values, read_yaml(Path(path)))
            except ReadError as error:
                raise ValueError(f"--config {error}") from None
            try:
                from_dict(cls, values)
            except ValueError as error:
                raise ValueError(f"--config {path}: {error}") from None
    parser = _parser(cls, values, program, description, config_files)
    found, rest = parser.parse_known_args(argv)
    kinds = _kinds(cls)
    typed = [(option, text, kinds[option]) for option, text in vars(found).items() if option in kinds]
    for option, text, kind in typed + _keyed(rest, kinds, option_names(cls)):
        try:
            _assign(values, option, _value(text, kind))
        except ReadError:
            raise ValueError(f"--{option} is {shortened(text)}, which is not a YAML value") from None
    return from_dict(cls, values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message.removeprefix("argument "))


def _parser(cls: type, values: dict[str, Any], program: str, description: str, config_files: bool) -> _Parser:
    usage = f"{program}{' --config FILE' if config_files else ''} [--option value ...]"
    width = min(shutil.get_terminal_size().columns - 2, 110)
    parser = _Parser(
        prog=program,
        usage=usage,
        description=description,
        allow_abbrev=False,
        formatter_class=partial(argparse.HelpFormatter, max_help_position=30, width=width),
    )
    if config_files:
        parser.add_argument("--config", metavar="FILE", action="append", help="YAML file with options; repeatable")
    _add_options(parser, parser, cls, values, "")
    return parser


def _add_options(parser: _Parser, group: Any, cls: type, values: Mapping[str, Any], prefix: str) -> None:
    """An option for each field, its help the field's docstring and the value that it would have."""
    hints, texts = get_type_hints(cls), _field_docstrings(cls)
    for item in dataclasses.fields(cls):
        kind, name = hints[item.name], prefix + item.name
        if dataclasses.is_dataclass(kind):
            title = parser.add_argument_group(item.name, inspect.getdoc(kind))
            _add_options(parser, title, kind, values.get(item.name, {}), name + ".")  # type: ignore[arg-type]
            continue
        if item.name in values:
            shown = _show(values[item.name])
        elif item.default is not dataclasses.MISSING:
            shown = _show(item.default)
        else:
            shown = "required" if item.default_factory is dataclasses.MISSING else _show(item.default_factory())
        text = f"{texts.get(item.name, '')} [{shown}]".replace("%", "%%")
        group.add_argument(f"--{name}", dest=name, default=argparse.SUPPRESS, help=text, **_form(kind))


def _form(kind: Any) -> dict[str, Any]:
    """How many values an option takes, and what stands for them in the help."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _form(next(arg for arg in args if arg is not type(None)))
    if origin is Literal:
        return {"metavar": "|".join(str(choice) for choice in args)}
    if origin is list:
        return {"nargs": "*", "metavar": args[0].__name__.upper()}
    if origin is tuple:
        return {"nargs": len(args), "metavar": tuple(arg.__name__.upper() for arg in args)}
    if kind is bool:
        return {"nargs": "?", "const": "true", "metavar": "true|false"}
    return {"metavar": {"int": "INT", "float": "FLOAT", "str": "TEXT"}.get(getattr(kind, "__name__", ""), "VALUE")}


def _field_docstrings(cls: type) -> dict[str, str]:
    """The string below each field in the class's source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    texts = {}
    for node, following in itertools.pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(following, ast.Expr) and isinstance(node.target, ast.Name):
            texts[node.target.id] = inspect.cleandoc(ast.literal_eval(following.value)).replace("\n", " ")
    return texts


def _kinds(cls: Any, prefix: str = "") -> dict[str, Any]:
    """The type of each option."""
    kinds: dict[str, Any] = {}
    for name, kind in get_type_hints(cls).items():
        kinds |= _kinds(kind, f"{prefix}{name}.") if dataclasses.is_dataclass(kind) else {prefix + name: kind}
    return kinds


def _keyed(rest: list[str], kinds: dict[str, Any], names: list[str]) -> list[tuple[str, Any, Any]]:
    """The (option, text, type) of each `--field.key value` of a dict field; anything else is refused."""
    keyed = []
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--"):
            raise ValueError(f"{argument!r} belongs to no option; --help lists them")
        option, equals, text = argument.removeprefix("--").partition("=")
        field = next(
            (name for name, kind in kinds.items() if get_origin(kind) is dict and option.startswith(f"{name}.")), ""
        )
        if not field:
            raise unknown_option(f"--{option}", names)
        if not equals:
            if not rest:
                raise ValueError(f"--{option}: expected one argument")
            text = rest.pop(0)
        keyed.append((option, text, get_args(kinds[field])[1]))
    return keyed


def _value(text: Any, kind: Any) -> Any:
    """What was typed, read as the option's type; `from_dict` checks it."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if text == "null" else _value(text, next(arg for arg in args if arg is not type(None)))
    if origin is Literal:
        return next((choice for choice in args if str(choice) == text), text)
    if origin in (list, tuple):
        return [
            _value(item, arg) for item, arg in zip(text, args if origin is tuple else args * len(text), strict=True)
        ]
    return text if kind is str else parse_yaml(text)


def _assign(values: dict[str, Any], option: str, value: Any) -> None:
    *groups, name = option.split(".")
    for group in groups:
        inner = values.setdefault(group, {})
        if not isinstance(inner, dict):
            raise ValueError(f"--{option}: {group} is {shortened(inner)}, which has no options of its own")
        values = inner
    values[name] = value


def _merge(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Overwrite values with those of `over`, group by group."""
    for key, value in over.items():
        if isinstance(value, Mapping):
            inner = values.setdefault(key, {})
            if isinstance(inner, dict):
                _merge(inner, value)
                continue
        values[key] = value


def _show(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(_show(item) for item in value)
    return (
        {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)
    )
