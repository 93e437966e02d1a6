"""Student's t, whose location, scale and degrees of freedom are maps that the decoder makes."""

from __future__ import annotations

import torch
from scipy import special
from torch import Tensor
from torch.nn.functional import softplus

from svg.likelihoods.base import Likelihood
from svg.likelihoods.distribution import FrameDistribution, uniform_like
from svg.likelihoods.numerics import HALF_LOG_2PI, from_scipy, smooth_floor, stirling_remainder
from svg.likelihoods.options import require_floor
from svg.noise import Noise


class StudentT(Likelihood):
    """Student-t with 3C decoder channels: mu, log s and nu = 2 + softplus, so that mean and variance exist [O].

    Options:
        floor: smooth lower bound of log s, or none.
        mean: sigmoid or identity.
    """

    maps = 3

    def __init__(
        self,
        channels: int = 3,
        size: tuple[int, int] = (64, 64),
        floor: float | None = -6.0,
        mean: str = "sigmoid",
    ) -> None:
        super().__init__(channels, size, mean)
        self.floor = require_floor(floor)

    def _distribution(self, params: Tensor) -> StudentTFrames:
        mean, log_scale, raw = self._split(params)
        return StudentTFrames(self._link(mean), smooth_floor(log_scale, self.floor), softplus(raw))


class StudentTFrames(FrameDistribution):
    """mean + s t_nu for each value: mean, log_scale and excess = nu - 2, each (B, T, C, H, W)."""

    def __init__(self, mean: Tensor, log_scale: Tensor, excess: Tensor) -> None:
        self._mean, self.log_scale, self.excess = mean, log_scale, excess
        self.nu = 2 + excess

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def mode(self) -> Tensor:
        return self._mean

    @property
    def stddev(self) -> Tensor:
        """s sqrt(nu/(nu - 2)), with nu taken as 2.01 where it is less: the variance grows without bound as nu nears 2,
        which no number of draws would show, and calibrations and maps need a finite scale."""
        return self.log_scale.exp() * (1 + 2 / self.excess.clamp(min=0.01)).sqrt()

    def log_density(self, x: Tensor) -> Tensor:
        """lgamma((nu+1)/2) - lgamma(nu/2) - ln(nu pi)/2 - ln s - ((nu+1)/2) ln(1 + z^2/nu), z = (x - mean)/s.

        By Stirling's formula the first three terms are -ln(2 pi)/2 + (nu/2) ln(1 + 1/nu) - 1/2 + a difference of
        remainders, which loses no digits as nu grows.
        """
        half = self.nu / 2
        remainders = stirling_remainder(half + 0.5) - stirling_remainder(half)
        log_norm = half * torch.log1p(1 / self.nu) - 0.5 + remainders - HALF_LOG_2PI
        return log_norm - self.log_scale - (half + 0.5) * torch.log1p(self._standardised(x).square() / self.nu)

    def cdf(self, x: Tensor) -> Tensor:
        """Without gradient."""
        return from_scipy(special.stdtr, self.nu, self._standardised(x))

    def _standardised(self, x: Tensor) -> Tensor:
        return (x - self._mean) * torch.exp(-self.log_scale)

    def _draw(self, noise: Noise | None) -> Tensor:
        quantile = from_scipy(special.stdtrit, self.nu, uniform_like(noise, self._mean))
        return self._mean + self.log_scale.exp() * quantile
