"""The few functions that the likelihoods need and torch lacks, stable in float32."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
LEAST_LOG_SCALE = -35.0


def smooth_floor(log_scale: Tensor, floor: float | None) -> Tensor:
    """A lower bound without a kink, floor + softplus(log_scale - floor); None leaves `log_scale` as it is.

    It biases a scale near the floor upward: three units above it by a factor of 1.05, one unit above it by 1.37. Scales
    are kept within exp(-35) and exp(35) in any case, so that float32 holds their squares.
    """
    return held(log_scale if floor is None else floor + softplus(log_scale - floor), LEAST_LOG_SCALE, -LEAST_LOG_SCALE)


def hard_floor(log_scale: Tensor, floor: float | None) -> Tensor:
    """max(log_scale, floor) with log_scale's gradient on both sides; None leaves `log_scale` as it is."""
    return log_scale if floor is None else held(log_scale, floor)


def held(x: Tensor, low: float, high: float = math.inf) -> Tensor:
    """x clamped to [low, high] with x's gradient throughout, so that what has left the interval can return to it."""
    return x.detach().clamp(low, high) + (x - x.detach())


def least_scale(floor: float | None) -> float:
    """e^floor, the lower bound of a fitted scale; without a floor the least scale whose square float32 holds, so that
    an exact fit has a finite loss."""
    return math.exp(LEAST_LOG_SCALE if floor is None else floor)


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0 (Maechler 2012, equation 7)."""
    near = x > -math.log(2)
    at_near, at_far = torch.where(near, x, -1), torch.where(near, -1, x)
    return torch.where(near, torch.log(-torch.expm1(at_near)), torch.log1p(-torch.exp(at_far)))


def log_ndtr(z: Tensor) -> Tensor:
    """ln Phi(z), Phi the standard normal's CDF; in float32 the gradient of torch's own is wrong below z = -100."""
    tail = z < -1
    left, right = torch.where(tail, z, -1.0), torch.where(tail, -1.0, z)
    scaled = torch.special.erfcx(-left / math.sqrt(2))  # 2 Phi(z) exp(z^2/2)
    return torch.where(tail, torch.log(scaled / 2) - 0.5 * left.square(), torch.log1p(-torch.special.ndtr(-right)))


def log_expm1_over(x: Tensor) -> Tensor:
    """log((exp(x) - 1)/x), the log of the integral of exp(x t) over t in [0, 1]; finite everywhere."""
    small = x.abs() < 0.1
    size = torch.where(small, 1.0, x.abs())
    far = x.clamp(min=0) + torch.log(-torch.expm1(-size)) - size.log()
    return torch.where(small, x / 2 + x**2 / 24 - x**4 / 2880, far)


def stirling_remainder(x: Tensor) -> Tensor:
    """lgamma(x) - [(x - 1/2) ln x - x + (1/2) ln 2 pi] for x > 0: what is left where gammas of large arguments cancel.

    The series from x = 10 on is Abramowitz & Stegun 6.1.41.
    """
    large = x > 10
    at_small, inverse = torch.where(large, 1.0, x), 1 / torch.where(large, x, 10.0)
    direct = torch.lgamma(at_small) - (at_small - 0.5) * at_small.log() + at_small - HALF_LOG_2PI
    return torch.where(large, inverse * (1 / 12 - inverse**2 * (1 / 360 - inverse**2 / 1260)), direct)


@torch.no_grad()
def from_scipy(function: Callable, *values: Tensor) -> Tensor:
    """A scipy.special function of tensors, computed on the CPU in float64; without gradient."""
    arrays = [value.detach().cpu().double().numpy() for value in torch.broadcast_tensors(*values)]
    return torch.from_numpy(function(*arrays)).to(values[0])
