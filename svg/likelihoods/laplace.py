"""A Laplace distribution whose one scale is the best for the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from svg.likelihoods.base import Latents
from svg.likelihoods.distribution import FrameDistribution, to_unit, uniform_like
from svg.likelihoods.fitted import Fitted
from svg.likelihoods.numerics import least_scale
from svg.likelihoods.options import require_floor
from svg.noise import Noise


class Laplace(Fitted):
    """-ln 2b - |r|/b with b = mean of |r| over batch, time, channels and pixels: an absolute error, calibrated [O].

    Options:
        floor: hard lower bound of log b, or none.
        decay: of the running mean absolute error that evaluation uses.
        mean: sigmoid or identity.
    """

    def __init__(
        self,
        channels: int = 3,
        size: tuple[int, int] = (64, 64),
        floor: float | None = -6.0,
        decay: float = 0.9,
        mean: str = "sigmoid",
    ) -> None:
        # Before training b is the mean of |r| of the uniform distribution on [0, 1] around 1/2.
        super().__init__(channels, size, mean, start=0.25, decay=decay)
        self.floor = require_floor(floor)

    @property
    def sigma(self) -> Tensor:
        """The running b."""
        return self._bounded(self.running.value)

    def _bounded(self, scale: Tensor) -> Tensor:
        return scale.clamp(min=least_scale(self.floor))

    def _distribution(self, params: Tensor) -> LaplaceFrames:
        return LaplaceFrames(self._link(params), self._bounded(self.running.value))

    def _statistic(self, params: Tensor, target: Tensor, latents: Latents | None) -> Tensor:
        return (to_unit(target, params.dtype) - self._link(params)).abs()

    def _training_loss(self, params: Tensor, target: Tensor, latents: Latents | None, step: int | None) -> Tensor:
        scale = self._bounded(self.running.update(self._statistic(params, target, latents)))
        return -LaplaceFrames(self._link(params), scale).unchecked_log_prob(target)


class LaplaceFrames(FrameDistribution):
    """Laplace(mean, scale) for each value: mean (B, T, C, H, W), scale broadcasts to it."""

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        self._mean, self.scale = mean, scale

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def mode(self) -> Tensor:
        return self._mean

    @property
    def stddev(self) -> Tensor:
        return (math.sqrt(2) * self.scale).expand_as(self._mean)

    def log_density(self, x: Tensor) -> Tensor:
        return -(x - self._mean).abs() / self.scale - (2 * self.scale).log()

    def cdf(self, x: Tensor) -> Tensor:
        z = (x - self._mean) / self.scale
        return 0.5 - 0.5 * z.sign() * torch.expm1(-z.abs())

    def _draw(self, noise: Noise | None) -> Tensor:
        u = uniform_like(noise, self._mean)
        return self._mean + self.scale * torch.where(u < 0.5, (2 * u).log(), -(2 * (1 - u)).log())
