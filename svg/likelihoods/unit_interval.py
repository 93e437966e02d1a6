"""What the densities on the open unit interval share: integers k lie at (k + u)/256."""

from __future__ import annotations

import torch
from torch import Tensor

from svg.likelihoods.base import Likelihood
from svg.likelihoods.distribution import place, to_unit, uniform_like
from svg.noise import Noise


class UnitInterval(Likelihood):
    """A likelihood whose density is on (0, 1).

    In training the frames are dequantised, (k + u)/256 with a uniform u; a density could otherwise grow without bound
    at the 256 values. In evaluation u = 1/2; svg/likelihoods/bits.py draws it.
    """

    def _observed(self, target: Tensor, noise: Noise | None) -> Tensor:
        levels = 255 * to_unit(target, torch.float32)
        return place(levels, uniform_like(noise, levels) if self.training else 0.5, "unit interval")
