"""A distribution of 256 levels from eight independent bits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from svg.likelihoods.base import Likelihood
from svg.likelihoods.discrete import DiscreteDistribution


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

    def _per_bit(self, value: Callable[[int], int]) -> Tensor:
        """value(i) for each bit i, along the first dimension of the logits."""
        values = torch.tensor([value(i) for i in range(8)], device=self.device)
        return values.view(8, *[1] * (self.logits.ndim - 1))
