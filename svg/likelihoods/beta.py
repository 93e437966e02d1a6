"""The Beta distribution, whose two concentrations are maps that the decoder makes."""

from __future__ import annotations

import math

import torch
from scipy import special
from torch import Tensor
from torch.nn.functional import softplus

from svg.likelihoods.distribution import FrameDistribution, uniform_like
from svg.likelihoods.numerics import HALF_LOG_2PI, from_scipy, held, stirling_remainder
from svg.likelihoods.unit_interval import UnitInterval
from svg.noise import Noise

_LEAST = math.log(math.expm1(1e-4))
"""Decoder output below which the concentrations stay at 1 + 1e-4; its gradient there is that at the bound."""


class Beta(UnitInterval):
    """Beta(a, b) with a, b = 1 + softplus, at least 1 + 1e-4 (sigma-VAE, appendix C).

    Its log density is -inf at 0 and 1 wherever both concentrations exceed 1, so frames lie at (k + u)/256. It has no
    options.
    """

    maps = 2

    def __init__(self, channels: int = 3, size: tuple[int, int] = (64, 64)) -> None:
        super().__init__(channels, size)

    def _distribution(self, params: Tensor) -> BetaFrames:
        a, b = 1 + softplus(held(self._split(params), _LEAST))
        return BetaFrames(a, b)


class BetaFrames(FrameDistribution):
    """Beta(a, b) for each value, concentrations (B, T, C, H, W) above 1."""

    support = "unit interval"

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.b = a, b

    @property
    def mean(self) -> Tensor:
        return self.a / (self.a + self.b)

    @property
    def mode(self) -> Tensor:
        return (self.a - 1) / (self.a + self.b - 2)

    @property
    def stddev(self) -> Tensor:
        return (self.mean * (1 - self.mean) / (self.a + self.b + 1)).sqrt()

    def log_density(self, x: Tensor) -> Tensor:
        """(a-1) ln x + (b-1) ln(1-x) + lgamma(a+b) - lgamma(a) - lgamma(b).

        By Stirling's formula, with n = a + b and m = a/n, that is (a-1) ln(x/m) + (b-1) ln((1-x)/(1-m)) +
        (1/2) ln(n^3/(2 pi a b)) + remainders, which loses no digits as the concentrations grow.
        """
        n, m = self.a + self.b, self.mean
        powers = (self.a - 1) * _log_ratio(x, m, x - m) + (self.b - 1) * _log_ratio(1 - x, 1 - m, m - x)
        log_norm = 0.5 * (3 * n.log() - self.a.log() - self.b.log()) - HALF_LOG_2PI
        remainders = stirling_remainder(n) - stirling_remainder(self.a) - stirling_remainder(self.b)
        return powers + log_norm + remainders

    def cdf(self, x: Tensor) -> Tensor:
        """Without gradient."""
        return from_scipy(special.betainc, self.a, self.b, x.clamp(0, 1))

    def _draw(self, noise: Noise | None) -> Tensor:
        return from_scipy(special.betaincinv, self.a, self.b, uniform_like(noise, self.a))


def _log_ratio(x: Tensor, m: Tensor, difference: Tensor) -> Tensor:
    """ln(x/m), given x - m."""
    near = difference.abs() < m / 2
    return torch.where(near, torch.log1p(torch.where(near, difference / m, 0)), x.log() - m.log())
