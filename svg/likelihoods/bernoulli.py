"""The Bernoulli distribution, for binary frames, and the cross-entropy that is used with grey ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from svg.likelihoods.base import Likelihood
from svg.likelihoods.distribution import FrameDistribution, uniform_like
from svg.noise import Noise


class Bernoulli(Likelihood):
    """x ln p + (1-x) ln(1-p) from C logits, normalised only for binary x: grey frames have no bits/dim under it.

    `continuous_bernoulli` is the density for grey frames. It has no options.
    """

    normalised = False

    def __init__(self, channels: int = 3, size: tuple[int, int] = (64, 64)) -> None:
        super().__init__(channels, size)

    def _distribution(self, params: Tensor) -> BernoulliFrames:
        return BernoulliFrames(params)


class BernoulliFrames(FrameDistribution):
    """P(x = 1) = sigmoid(logits), logits (B, T, C, H, W); integer frames are taken as k/255."""

    support = "binary"

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    @property
    def mode(self) -> Tensor:
        return (self.logits > 0).to(self.logits)

    @property
    def stddev(self) -> Tensor:
        return (self.logits.sigmoid() * (-self.logits).sigmoid()).sqrt()

    def log_density(self, x: Tensor) -> Tensor:
        return x * self.logits + logsigmoid(-self.logits)

    def cdf(self, x: Tensor) -> Tensor:
        return (x >= 0) * torch.where(x >= 1, 1, (-self.logits).sigmoid())

    def _draw(self, noise: Noise | None) -> Tensor:
        return (uniform_like(noise, self.logits) < self.mean).to(self.logits)
