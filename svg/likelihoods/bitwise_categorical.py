"""A distribution of 256 levels from eight independent bits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from svg.likelihoods.base import Likelihood
from svg.likelihoods.discrete import LEVELS, DiscreteDistribution
from svg.likelihoods.distribution import uniform_like
from svg.noise import Noise


class BitwiseCategorical(Likelihood):
    """P(k) = prod_i P(bit i of k), 8 C logits, bit 0 the lowest (sigma-VAE, appendix C). It has no options."""

    discrete = True
    maps = 8

    def __init__(self, channels: int = 3, size: tuple[int, int] = (64, 64)) -> None:
        super().__init__(channels, size)

    def _distribution(self, params: Tensor) -> BitwiseLevels:
        return BitwiseLevels(self._split(params))


class BitwiseLevels(DiscreteDistribution):
    """Independent bits with logits (8, B, T, C, H, W)."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits.device)
        self.logits = logits

    def log_mass(self, levels: Tensor) -> Tensor:
        """-sum of the bits' binary cross-entropies."""
        bits = (levels >> self._per_bit(lambda i: i)) & 1
        return logsigmoid(torch.where(bits == 1, self.logits, -self.logits)).sum(0)

    @property
    def mean(self) -> Tensor:
        """sum_i 2^i p_i, in units of 255."""
        return (self._per_bit(lambda i: 2**i) / 255 * self.logits.sigmoid()).sum(0)

    @property
    def stddev(self) -> Tensor:
        variance = self.logits.sigmoid() * (-self.logits).sigmoid()
        return (self._per_bit(lambda i: 4**i) * variance).sum(0).sqrt() / 255

    @property
    def mode(self) -> Tensor:
        return (self._per_bit(lambda i: 2**i) * (self.logits > 0)).sum(0) / 255

    def cdf(self, x: Tensor) -> Tensor:
        """P(k <= level): k first falls below the level at one of its set bits, or equals it."""
        level = torch.floor(255 * (x + 1e-6)).long()
        below, equal = torch.zeros_like(self.logits[0]), torch.ones_like(self.logits[0])
        for i in reversed(range(8)):
            zero, one = (-self.logits[i]).sigmoid(), self.logits[i].sigmoid()
            is_set = (level >> i) & 1 == 1
            below = torch.where(is_set, below + equal * zero, below)
            equal = equal * torch.where(is_set, one, zero)
        return torch.where(level < 0, 0.0, torch.where(level >= LEVELS - 1, 1.0, below + equal))

    def _draw(self, noise: Noise | None) -> Tensor:
        """Bit by bit."""
        draws = [uniform_like(None if noise is None else noise.child(i), self.logits[i]) for i in range(8)]
        return (self._per_bit(lambda i: 2**i) * (torch.stack(draws) < self.logits.sigmoid())).sum(0) / 255

    def _per_bit(self, value: Callable[[Tensor], Tensor]) -> Tensor:
        """value(i) for each bit i, along the first dimension of the logits."""
        return value(torch.arange(8, device=self.device)).view(8, *[1] * (self.logits.ndim - 1))
