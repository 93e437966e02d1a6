"""The diagonal Gaussian of all Gaussian heads."""

from __future__ import annotations

import torch
from torch import Tensor

from svg.likelihoods.distribution import FrameDistribution, normal_like
from svg.likelihoods.numerics import HALF_LOG_2PI
from svg.noise import Noise


class Normal(FrameDistribution):
    """N(mean, sigma^2) for each value: mean (B, T, C, H, W), log_sigma any shape that broadcasts to it."""

    def __init__(self, mean: Tensor, log_sigma: Tensor) -> None:
        self._mean, self.log_sigma = mean, log_sigma

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def mode(self) -> Tensor:
        return self._mean

    @property
    def stddev(self) -> Tensor:
        return self.log_sigma.exp().expand_as(self._mean)

    def log_density(self, x: Tensor) -> Tensor:
        return -0.5 * self._standardised(x).square() - self.log_sigma - HALF_LOG_2PI

    def cdf(self, x: Tensor) -> Tensor:
        return torch.special.ndtr(self._standardised(x))

    def _standardised(self, x: Tensor) -> Tensor:
        return (x - self._mean) * torch.exp(-self.log_sigma)

    def _draw(self, noise: Noise | None) -> Tensor:
        return self._mean + self.stddev * normal_like(noise, self._mean)
