"""The few functions that the likelihoods need and torch lacks, stable in float32."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def smooth_floor(log_scale: Tensor, floor: float | None) -> Tensor:
    """A lower bound without a kink, floor + softplus(log_scale - floor); None leaves `log_scale` as it is.

    It biases a scale near the floor upward (5% three units above it).
    """
    return log_scale if floor is None else floor + softplus(log_scale - floor)


def hard_floor(log_scale: Tensor, floor: float | None) -> Tensor:
    """max(log_scale, floor) whose gradient is log_scale's on both sides, so that a parameter below the floor can
    return."""
    return log_scale if floor is None else log_scale + (floor - log_scale).clamp(min=0).detach()


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0 (Maechler 2012, equation 7)."""
    near = x > -math.log(2)
    return torch.where(
        near, torch.log(-torch.expm1(torch.where(near, x, -1))), torch.log1p(-torch.exp(torch.where(near, -1, x)))
    )
