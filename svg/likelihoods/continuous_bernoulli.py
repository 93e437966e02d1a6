"""The Bernoulli's exponent with the constant that normalises it over [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from svg.likelihoods.distribution import FrameDistribution, uniform_like
from svg.likelihoods.numerics import log_expm1_over
from svg.likelihoods.unit_interval import UnitInterval
from svg.noise import Noise


class ContinuousBernoulli(UnitInterval):
    """p(x) proportional to lambda^x (1-lambda)^(1-x) on [0, 1], lambda = sigmoid of C logits (Loaiza-Ganem & Cunningham
    2019).

    Frames lie at (k + u)/256. It has no options.
    """

    def __init__(self, channels: int = 3, size: tuple[int, int] = (64, 64)) -> None:
        super().__init__(channels, size)

    def _distribution(self, params: Tensor) -> ContinuousBernoulliFrames:
        return ContinuousBernoulliFrames(params)


class ContinuousBernoulliFrames(FrameDistribution):
    """The density exp(a x - A(a)) on [0, 1] with A(a) = ln((e^a - 1)/a); the logits a are (B, T, C, H, W)."""

    support = "unit interval"

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        small = logits.abs() < 0.3
        self._small, self._safe = small, torch.where(small, 1.0, logits)

    @property
    def mean(self) -> Tensor:
        """A'(a) = 1/(1 - e^-a) - 1/a, and 1 - A'(-a) where a < 0, so that its derivatives never overflow."""
        a, size = self.logits, self._safe.abs()
        series = 0.5 + a / 12 - a**3 / 720 + a**5 / 30240
        right = -1 / torch.expm1(-size) - 1 / size
        return torch.where(self._small, series, torch.where(a > 0, right, 1 - right))

    @property
    def mode(self) -> Tensor:
        return (self.logits > 0).to(self.logits)

    @property
    def stddev(self) -> Tensor:
        """A''(a) = 1/a^2 - 1/(4 sinh^2(a/2)), its root."""
        a, safe = self.logits, self._safe
        series = 1 / 12 - a**2 / 240 + a**4 / 6048
        size = safe.abs()
        return torch.where(self._small, series, size**-2 - torch.exp(-size) / torch.expm1(-size) ** 2).sqrt()

    def log_density(self, x: Tensor) -> Tensor:
        return self.logits * x - log_expm1_over(self.logits)

    def cdf(self, x: Tensor) -> Tensor:
        """(e^(a x) - 1)/(e^a - 1)."""
        x = x.clamp(0, 1)
        from_right = torch.where(self.logits > 0, 1 - x, x)
        size = self.logits.abs().clamp(min=1e-6)
        tail = torch.expm1(-size * from_right) / torch.expm1(-size)
        return torch.where(self.logits > 0, 1 - tail, tail)

    def _draw(self, noise: Noise | None) -> Tensor:
        u = uniform_like(noise, self.logits)
        size = self.logits.abs().clamp(min=1e-6)
        draw = -torch.log1p(u * torch.expm1(-size)) / size
        return torch.where(self.logits > 0, 1 - draw, draw)
