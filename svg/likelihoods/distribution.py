"""The distribution of a frame, which a likelihood returns: its event is one frame, its values are in [0, 1] units.

B batch, T frames, C channels, H W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from svg.noise import Noise


class FrameDistribution(ABC):
    """A normalised distribution of frames, factorised over B and T.

    Frames are uint8 (k stands for x = k/255) or float. `mean`, `mode` and `stddev` are float (B, T, C, H, W) in [0, 1]
    units.
    """

    bins: int = 255
    """Integer levels per unit of x: a dequantised frame's log density minus d ln(bins) bounds its log-probability."""

    @property
    @abstractmethod
    def mean(self) -> Tensor: ...

    @property
    @abstractmethod
    def mode(self) -> Tensor: ...

    @property
    @abstractmethod
    def stddev(self) -> Tensor: ...

    @abstractmethod
    def cdf(self, x: Tensor) -> Tensor:
        """P(X <= x) of each value, for float x that broadcasts to (B, T, C, H, W)."""

    @abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """The log density of each value, (B, T, C, H, W), for float x."""

    @abstractmethod
    def _draw(self, noise: Noise | None) -> Tensor: ...

    def log_prob(self, x: Tensor) -> Tensor:
        """The log density of frames x (B, T, C, H, W), uint8 or float: nats per frame, (B, T)."""
        return self.log_density(to_unit(x, self.mean.dtype)).sum((-3, -2, -1))

    def dequantize(self, levels: Tensor, u: Tensor) -> Tensor:
        """Integers k spread over their bins by u in (0, 1): (k + u - 1/2)/255."""
        return (levels + u - 0.5) / 255

    @torch.no_grad()
    def sample(self, noise: Noise | None = None, clamp: bool = False) -> Tensor:
        """A draw (B, T, C, H, W), float in [0, 1] units.

        Args:
            noise: its index has the shape (B, T); None draws from torch's global generator.
            clamp: cut what lies outside [0, 1].
        """
        draw = self._draw(noise)
        return draw.clamp(0, 1) if clamp else draw


def to_unit(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Frames as float: integers k become k/255."""
    return x.to(dtype) if x.is_floating_point() else x.to(dtype) / 255


def normal_like(noise: Noise | None, like: Tensor) -> Tensor:
    """Standard normals of the shape (B, T, C, H, W) of `like`."""
    return torch.randn_like(like) if noise is None else noise.normal(*like.shape[-3:]).to(like)


def uniform_like(noise: Noise | None, like: Tensor) -> Tensor:
    """Uniforms in (0, 1) of the shape (B, T, C, H, W) of `like`."""
    if noise is None:
        return torch.rand_like(like).clamp(min=2.0**-33)
    return noise.uniform(*like.shape[-3:]).to(like)
