"""What a metric of predicted frames is: how it is computed, read and shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]
"""Predictions (B, s, T, C, H, W) or (B, T, C, H, W) and truth (B, T, C, H, W), in [0, 1] or uint8, to (B, s, T) or
(B, T)."""


@dataclass(frozen=True)
class Metric:
    """A metric of predicted frames."""

    score: Score | None
    """None where it needs weights, as LPIPS does."""
    title: str
    definition: str
    """What stands beside its numbers, in metrics.json and in the report."""
    higher_is_better: bool
    unit: str = ""
    digits: int = 4
    """After the point, in tables."""
    by_default: bool = True
    """Whether an evaluation that names no metrics has it."""
