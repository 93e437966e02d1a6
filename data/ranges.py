"""What numbers may be, of command lines, functions and files alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """From the least to the most that a number may be, both included; NaN is never inside."""

    least: float
    most: float
    unit: str = ""

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most

    def __str__(self) -> str:
        least, most = (f"{n:,}" if abs(n) < 10**12 else f"{float(n):.3g}" for n in (self.least, self.most))
        return f"from {least} to {most}{' ' if self.unit else ''}{self.unit}"


RANGES = {
    "clips": Range(1, 10**9),
    "val_clips": Range(1, 10**9),
    "test_clips": Range(1, 10**9),
    "frames": Range(1, 10_000),
    "size": Range(1, 2048, "pixels"),
    "seed": Range(0, 2**63 - 1),
    "workers": Range(1, 1024),
    "fps": Range(1e-3, 1e6, "frames/s"),
}
"""The numbers that the programs of data/ are given."""


def refuse_outside(ranges: dict[str, Range] | None = None, /, **values: float) -> None:
    """Checks numbers by their names in `RANGES`, or in `ranges` where it has them.

    Raises:
        ValueError: one is outside of its range; the text names it.
    """
    for name, value in values.items():
        allowed = (RANGES | (ranges or {}))[name]
        if value not in allowed:
            raise ValueError(f"{name} is {value}, but it must be {allowed}")
