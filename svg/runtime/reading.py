"""Files that somebody else may have written, read within bounds: of size, depth and types. Nothing in them is executed.

    state = read_json(path, State)   # a TypedDict: missing keys and wrong types are refused by name
    values = read_yaml(path)         # YAML 1.2's core types; no tags, anchors or duplicate keys
    tensors = read_tensors(path)     # safetensors

Whatever is wrong raises `ReadError`, whose text is the one line that a user reads: the file, and what is the matter.
"""

from __future__ import annotations

import json
import math
import re
import types
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

T = TypeVar("T")

LARGEST = 64 * 2**20
"""Bytes of a JSON or YAML file, at most."""
DEEPEST = 32
"""Nested lists and groups, at most."""
LONGEST_NUMBER = 100
"""Characters of a number, at most."""


class ReadError(ValueError):
    """A file that is missing, damaged or not what it should be; the text names it."""


def read_text(path: Path, largest: int = LARGEST) -> str:
    """A file's text, UTF-8. Raises ReadError where it is missing, too large or no text."""
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ReadError(f"{path}: {reason.lower()}") from None
    if len(content) > largest:
        raise ReadError(f"{path} has more than {largest / 2**20:g} MiB, too many for what it should hold")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ReadError(f"{path} is damaged (it is not text)") from None


def read_json(path: Path, kind: type[T] | Any = dict) -> T:
    """A JSON file's value.

    Args:
        kind: its type: a TypedDict (whose other keys are let through), list[int], dict[str, float], ...

    Raises:
        ReadError: the file can't be read, is no JSON, is nested too deeply, or has another type.
    """
    return parse_json(read_text(path), kind, str(path))


def parse_json(text: str, kind: type[T] | Any, name: str) -> T:
    """As `read_json`, of a text that is from a file of this name (one line of it, say)."""
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_int=_integer)
    except RecursionError:
        raise ReadError(f"{name} is damaged (it is nested too deeply)") from None
    except ValueError as error:
        raise ReadError(f"{name} is damaged ({error})") from None
    _check_depth(value, name)
    _check_type(value, kind, name, "")
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """The groups of a YAML file. Raises ReadError as `parse_yaml`, or where it holds no groups."""
    try:
        values = parse_yaml(read_text(path))
    except ReadError as error:
        text = str(error)
        raise (error if text.startswith(str(path)) else ReadError(f"{path}: {text}")) from None
    if not isinstance(values, dict):
        raise ReadError(f"{path}: holds no options (`group:` lines with indented `name: value` lines)")
    return values


def parse_yaml(text: str) -> Any:
    """A YAML text's value, by the core types of YAML 1.2: `no` is text, 010 is ten, 1:30 is text, 1e-3 is a number.

    Raises:
        ReadError: it is no YAML, or has what is not read here: tags, anchors, duplicate keys, deep nesting.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ReadError("not YAML (nested too deeply)") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ReadError(f"not YAML{where} ({getattr(error, 'problem', None) or 'not text'})") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file's tensors by name, on the CPU. Raises ReadError where it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except OSError as error:
        raise ReadError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (SafetensorError, RuntimeError, ValueError, OverflowError, MemoryError) as error:
        raise ReadError(f"{path} is damaged ({str(error).splitlines()[0] if str(error) else 'no tensors'})") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _check_depth(value: Any, name: str) -> None:
    """Raises ReadError where containers are nested more than `DEEPEST` deep."""
    level = [value]
    for _ in range(DEEPEST):
        level = [item for part in level if isinstance(part, (dict, list)) for item in _items(part)]
        if not level:
            return
    raise ReadError(f"{name} is damaged (it is nested too deeply)")


def _items(part: dict[str, Any] | list[Any]) -> list[Any]:
    return list(part.values()) if isinstance(part, dict) else part


def _check_type(value: Any, kind: Any, name: str, where: str) -> None:
    """Raises ReadError where a value of a file, at the place `where`, is of another type."""
    if not _is_shallowly(value, kind):
        found = f"{where[1:]} is {str(value)[:40]!r}" if where else f"it holds {str(value)[:40]!r}"
        raise ReadError(f"{name} is damaged ({found}, which is no {_name(kind)})")
    if is_typeddict(kind):
        hints = get_type_hints(kind)
        for key in kind.__required_keys__:
            if key not in value:
                raise ReadError(f"{name} is damaged (it lacks {where[1:] + '.' if where else ''}{key})")
        for key in hints.keys() & value.keys():
            _check_type(value[key], hints[key], name, f"{where}.{key}")
    elif get_origin(kind) is dict:
        for key, item in value.items():
            _check_type(item, get_args(kind)[1], name, f"{where}.{key}")
    elif get_origin(kind) is list:
        for position, item in enumerate(value):
            _check_type(item, get_args(kind)[0], name, f"{where}.{position}")
    elif get_origin(kind) in (Union, types.UnionType):
        inner = next(arg for arg in get_args(kind) if _is_shallowly(value, arg))
        _check_type(value, inner, name, where)


def _is_shallowly(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, what it contains not looked at."""
    if get_origin(kind) in (Union, types.UnionType):
        return any(_is_shallowly(value, arg) for arg in get_args(kind))
    kind = dict if is_typeddict(kind) else get_origin(kind) or kind
    if kind is Any:
        return True
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _name(kind: Any) -> str:
    named = {int: "whole number", float: "number", str: "text", bool: "true or false", list: "list", dict: "group"}
    return named.get(dict if is_typeddict(kind) else get_origin(kind) or kind, "value of the right type")


class _Loader(yaml.SafeLoader):
    """The core schema of YAML 1.2 alone."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases are not read here", event.start_mark)
        if self.depth >= DEEPEST:
            raise yaml.composer.ComposerError(None, None, "nested too deeply", self.peek_event().start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def map(self, node: yaml.MappingNode) -> dict[Any, Any]:
        """A group, whose keys are texts (or plain values) that differ."""
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (dict, list)) or key in found:
                problem = "a list as a key" if isinstance(key, (dict, list)) else f"{str(key)[:40]!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=True)
        return found

    def list(self, node: yaml.SequenceNode) -> list[Any]:
        """A list."""
        return [self.construct_object(item, deep=True) for item in node.value]

    def refuse(self, node: yaml.Node) -> None:
        """For tags that say how a value is to be made."""
        raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag} is not read here", node.start_mark)


_BOOL = re.compile(r"(true|false)$")
_NULL = re.compile(r"(~|null|)$")
_INT = re.compile(rf"[-+]?[0-9][0-9_]{{0,{LONGEST_NUMBER}}}$", re.ASCII)
_FLOAT = re.compile(
    rf"(?=.{{1,{LONGEST_NUMBER}}}$)"
    r"([-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN))$",
    re.ASCII,
)


def _float(text: str) -> float:
    return float(text.replace("_", "").replace(".inf", "inf").replace(".Inf", "inf").replace(".nan", "nan").lower())


def _scalar(read: Any) -> Any:
    def construct(loader: _Loader, node: yaml.ScalarNode) -> Any:
        text = loader.construct_scalar(node)
        try:
            return read(text)
        except (ValueError, KeyError):
            problem = f"{str(text)[:40]!r} is not what its tag says"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    return construct


_Loader.yaml_constructors, _Loader.yaml_implicit_resolvers = {}, {}  # none of those that PyYAML knows
_TAG = "tag:yaml.org,2002:"
for _name_, _pattern, _first, _read in (
    ("null", _NULL, ["~", "n", ""], lambda text: None),
    ("bool", _BOOL, ["t", "f"], {"true": True, "false": False}.__getitem__),
    ("int", _INT, list("-+0123456789"), lambda text: int(text.replace("_", ""))),
    ("float", _FLOAT, list("-+.0123456789"), _float),
):
    _Loader.add_implicit_resolver(_TAG + _name_, _pattern, _first)
    _Loader.add_constructor(_TAG + _name_, _scalar(_read))
_Loader.add_constructor(_TAG + "str", _scalar(str))
_Loader.add_constructor(_TAG + "map", _Loader.map)
_Loader.add_constructor(_TAG + "seq", _Loader.list)
_Loader.add_constructor(None, _Loader.refuse)
