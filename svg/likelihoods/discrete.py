"""Distributions of the integers 0..255.

B batch, T frames, C channels, H W pixels. Everything but `log_masses` takes the 256 levels one by one, so that it never
holds 256 maps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import reduce

import torch
from torch import Tensor

from svg.likelihoods.distribution import FrameDistribution, uniform_like
from svg.noise import Noise

LEVELS = 256


class DiscreteDistribution(FrameDistribution):
    """Masses on the levels k = 0..255, whose values are k/255.

    Args:
        device: of its parameters.
    """

    support = "levels"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @abstractmethod
    def log_mass(self, levels: Tensor) -> Tensor:
        """The log-probability of each value's level: int64 levels that broadcast to (B, T, C, H, W)."""

    def log_masses(self) -> Tensor:
        """All log-probabilities, (B, T, 256, C, H, W)."""
        return torch.stack([self.log_mass(level) for level in self._levels()], dim=-4)

    def log_density(self, x: Tensor) -> Tensor:
        """The log-probability of the level next to x."""
        return self.log_mass(torch.round(255 * x).long())

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-probability of uint8 frames (B, T, C, H, W): nats per frame, (B, T)."""
        return self.unchecked_log_prob(x)

    def unchecked_log_prob(self, x: Tensor) -> Tensor:
        return self.log_mass(require_integers(x)).sum((-3, -2, -1))

    @property
    def mean(self) -> Tensor:
        return self._sum(lambda value, mass: value * mass)

    @property
    def stddev(self) -> Tensor:
        mean = self.mean
        return self._sum(lambda value, mass: (value - mean).square() * mass).sqrt()

    @property
    def mode(self) -> Tensor:
        levels = self._levels()
        best = self.log_mass(next(levels))
        mode = torch.zeros_like(best)
        for level in levels:
            mass = self.log_mass(level)
            mode = torch.where(mass > best, level / 255, mode)
            best = torch.maximum(mass, best)
        return mode

    def cdf(self, x: Tensor) -> Tensor:
        return self._sum(lambda value, mass: mass * (value <= x + 1e-6)).clamp(max=1)

    def _levels(self) -> Iterator[Tensor]:
        yield from torch.arange(LEVELS, device=self.device)

    def _sum(self, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The sum over levels of term(value k/255, mass)."""
        return reduce(torch.add, (term(level / 255, self.log_mass(level).exp()) for level in self._levels()))

    def _draw(self, noise: Noise | None) -> Tensor:
        """Inverts the CDF."""
        levels = self._levels()
        cdf = self.log_mass(next(levels)).exp()
        u = uniform_like(noise, cdf)
        draw = torch.zeros_like(cdf)
        for level in levels:
            draw += u > cdf
            cdf = cdf + self.log_mass(level).exp()
        return draw / 255


def require_integers(x: Tensor) -> Tensor:
    """uint8 frames as int64 levels. Others are refused: rounding floats would hide what was scored, and wider integers
    need not be levels."""
    if x.dtype != torch.uint8:
        raise ValueError(f"the integers 0..255 are scored here: give uint8 frames, not {x.dtype}")
    return x.long()
