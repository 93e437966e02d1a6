"""Dataclasses from plain containers: types are checked, and what is wrong is named as on the command line."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The numbers that an option takes, as an annotation: `steps: Annotated[int, Range(1, 100)]`; of a tuple, each."""

    low: float = -math.inf
    high: float = math.inf
    """Itself never taken where it is infinite."""
    above_low: bool = False
    """Whether `low` itself is refused."""
    below_high: bool = False
    """Whether `high` itself is refused."""
    or_zero: bool = False
    """Whether 0 is taken too, where it means something else."""

    def refusal(self, value: float) -> str | None:
        """What a value must be, if it is not in the range."""
        if self.or_zero and value == 0:
            return None
        too_low = not value >= self.low or (self.above_low and value == self.low)
        too_high = not value <= self.high or (self.below_high and value == self.high) or value == math.inf
        if not (too_low or too_high):
            return None
        if self.high == 1:
            return f"must be in {'(' if self.above_low else '['}{self.low:g}, 1{')' if self.below_high else ']'}"
        if too_high and not too_low and self.high < math.inf:
            return f"must be {'below' if self.below_high else 'at most'} {self.high:,}"
        if self.low == 0:
            return "must be positive and finite" if self.above_low else "must be finite and not negative"
        return f"must be {'more than' if self.above_low else 'at least'} {self.low:,}" + (" or 0" * self.or_zero)


@dataclass(frozen=True)
class NotEmpty:
    """An annotation of options whose text, or each of a list, must not be empty."""


def check_fields(group: Any, prefix: str) -> None:
    """Compares a dataclass's values with the `Range` and `NotEmpty` of their annotations.

    Raises:
        ValueError: a value is refused; it is named after `prefix`, as `train.` or `--`.
    """
    for name, hint in get_type_hints(type(group), include_extras=True).items():
        value = getattr(group, name)
        for rule in getattr(hint, "__metadata__", ()):
            if isinstance(rule, NotEmpty):
                for text in value if isinstance(value, list) else (value,):
                    require(text is None or text.strip() != "", prefix + name, text, "must not be empty")
            elif isinstance(rule, Range):
                for number in value if isinstance(value, tuple) else (value,):
                    refusal = rule.refusal(number)
                    require(refusal is None, prefix + name, value, refusal or "")


def require(condition: bool, option: str, value: object, rule: str) -> None:
    """Raises ValueError, `option` being `value`, unless the condition holds; the rule says what it must be."""
    if not condition:
        raise ValueError(f"{option} is {shortened(value)}, but it {rule}")


def shortened(value: object) -> str:
    """A value as an error shows it: of a long one its beginning."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text):,} characters)"


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass, with dataclasses as fields, from plain containers; types are checked, unknown options refused.

    Raises:
        ValueError: an unknown option, a wrong type or value, or a missing option, named as on the command line.
    """
    return _build(cls, values, "", option_names(cls))


def option_names(cls: type, prefix: str = "") -> list[str]:
    """The dotted names of a dataclass's options and groups: train, train.steps, train.lr, ..."""
    names = []
    for name, kind in get_type_hints(cls).items():
        names += [prefix + name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            names += option_names(kind, f"{prefix}{name}.")
    return names


def unknown_option(option: str, names: list[str]) -> ValueError:
    """The error for an option (`train.stps` or `--train.stps`) that is none of `names`, with the likeliest that is."""
    dashes, name = ("--", option[2:]) if option.startswith("--") else ("", option)
    if name in names:
        example = next(other for other in names if other.startswith(f"{name}."))
        return ValueError(f"{option} is a group of options, such as {dashes}{example}")
    leaf = name.rpartition(".")[2]
    namesakes = [other for other in names if other.rpartition(".")[2] == leaf]
    likely = namesakes or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {' or '.join(dashes + other for other in likely)}?" if likely else "--help lists the options"
    return ValueError(f"unknown option {option}: {hint}")


def _build(cls: type[T], values: object, prefix: str, names: list[str]) -> T:
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{prefix[:-1] or 'the configuration'} is {shortened(values)}, but it must be a group of options"
        )
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise unknown_option(f"{prefix}{key}", names)
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        optional = item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING
        if not optional and item.name not in values:
            raise ValueError(f"--{prefix}{item.name} is required")
    return cls(**{key: _convert(value, hints[key], prefix + key, names) for key, value in values.items()})


def _convert(value: Any, kind: Any, option: str, names: list[str]) -> Any:
    """The value as the annotation says, or a ValueError that names the option."""
    origin, args = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, option + ".", names)  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        inner = next(arg for arg in args if arg is not type(None))
        return None if value is None else _convert(value, inner, option, names)
    if origin is Literal:
        match = [choice for choice in args if type(choice) is type(value) and choice == value]
        require(bool(match), option, value, f"must be {' or '.join(str(choice) for choice in args)}")
        return match[0]
    if origin in (list, tuple):
        require(isinstance(value, (list, tuple)), option, value, "must be a list")
        if origin is list:
            return [_convert(item, args[0], option, names) for item in value]
        require(len(value) == len(args), option, value, f"must have {len(args)} entries")
        return tuple(_convert(item, arg, option, names) for item, arg in zip(value, args, strict=True))
    if origin is dict:
        require(isinstance(value, Mapping), option, value, "must be a group of options")
        return dict(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        require(number and value == value // 1, option, value, "must be a whole number")
        return int(value)
    if kind is float:
        require(number, option, value, "must be a number")
        return float(value)
    if kind in (bool, str):
        require(isinstance(value, kind), option, value, "must be true or false" if kind is bool else "must be text")
        require(kind is bool or "\0" not in value, option, value, "must not have a null character")
    return value
