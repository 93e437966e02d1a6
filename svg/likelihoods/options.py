"""Checks of a likelihood's options: a wrong value is refused when it is built, in a line that names the option."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Sequence
from typing import Any, TypeGuard

from svg.config.options import shortened

LARGEST = 1e30
"""Of a number; float32 holds it."""
LARGEST_FLOOR = 80
"""Of a log scale, up or down: float32 holds its exponential."""


def valid_options(cls: type) -> dict[str, Any]:
    """The options of a likelihood class and their defaults, from its signature."""
    parameters = inspect.signature(cls).parameters
    return {name: p.default for name, p in parameters.items() if name not in ("channels", "size")}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _refuse(option: str, value: object, rule: str) -> ValueError:
    return ValueError(f"likelihood.options.{option} is {shortened(value)}, but it must be {rule}")


def require_whole(argument: str, value: object) -> int:
    """`value`, if it is a whole number above 0: an argument of `build`."""
    if not _is_whole(value):
        raise ValueError(f"{argument} is {value!r}, but it must be a whole number, at least 1")
    return value


def require_size(value: object) -> tuple[int, int]:
    """(height, width), if it is two whole numbers above 0: an argument of `build`."""
    if not isinstance(value, Sequence) or len(value) != 2 or not all(map(_is_whole, value)):
        raise ValueError(f"size is {value!r}, but it must be (height, width), whole numbers, at least 1")
    height, width = value
    return height, width


def require_choice(option: str, value: str, choices: Collection[str]) -> str:
    """`value`, if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise _refuse(option, value, f"one of: {', '.join(choices)}")
    return value


def require_positive(option: str, value: float, below: float = math.inf) -> float:
    """`value`, if it is a number above 0 and below `below`."""
    if not _is_number(value) or not 0 < value < below:
        raise _refuse(option, value, "a number above 0" if below == math.inf else f"a number between 0 and {below:g}")
    return float(value)


def require_at_least(option: str, value: float, least: float) -> float:
    """`value`, if it is a number and not below `least`."""
    if not _is_number(value) or value < least:
        raise _refuse(option, value, f"a number, at least {least:g}")
    return float(value)


def require_within(option: str, value: int, least: int, most: int) -> int:
    """`value`, if it is a whole number in that range, both ends included."""
    if not _is_number(value) or value != int(value) or not least <= value <= most:
        raise _refuse(option, value, f"a whole number from {least} to {most}")
    return int(value)


def require_flag(option: str, value: bool) -> bool:
    """`value`, if it is true or false."""
    if not isinstance(value, bool):
        raise _refuse(option, value, "true or false")
    return value


def require_floor(value: float | str | None) -> float | None:
    """The lower bound of a log scale: a number, or None (or "none") for no bound."""
    if value is None or value == "none":
        return None
    if not _is_number(value) or abs(float(value)) > LARGEST_FLOOR:
        rule = f'a number (of log sigma) from -{LARGEST_FLOOR} to {LARGEST_FLOOR}, or "none"'
        raise _refuse("floor", value, rule)
    return float(value)
