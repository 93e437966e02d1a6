"""Checks of a likelihood's options: a wrong value is refused when it is built, in a line that names the option."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection


def valid_options(cls: type) -> dict[str, object]:
    """The options of a likelihood class and their defaults, from its signature."""
    parameters = inspect.signature(cls).parameters
    return {name: p.default for name, p in parameters.items() if name not in ("channels", "size")}


def require_choice(option: str, value: str, choices: Collection[str]) -> str:
    """`value`, if it is one of `choices`."""
    if value not in choices:
        raise ValueError(f"likelihood.options.{option} is {value!r}, but it must be one of: {', '.join(choices)}")
    return value


def require_number(option: str, value: float, low: float, high: float = math.inf) -> float:
    """`value`, if it is a number strictly between `low` and `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
        rule = f"above {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"likelihood.options.{option} is {value!r}, but it must be a number {rule}")
    return float(value)


def require_floor(value: float | str | None) -> float | None:
    """The lower bound of a log scale: a number, or None (or "none") for no bound."""
    if value is None or value == "none":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f'likelihood.options.floor is {value!r}, but it must be a number (of log sigma) or "none"')
    return float(value)
