"""The distribution of a frame, which a likelihood returns: its event is one frame, its values are in [0, 1] units.

B batch, T frames, C channels, H W pixels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from svg.noise import Noise


class FrameDistribution(ABC):
    """A normalised distribution of frames, independent over B and T.

    Frames are uint8 k, or float. `mean`, `mode` and `stddev` are float (B, T, C, H, W) in [0, 1] units.
    """

    support: Literal["reals", "unit interval", "levels", "binary"] = "reals"
    """What it is a distribution of; decides where an integer k lies (k/255, or (k + 1/2)/256 in the unit interval)."""

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
        """P(X <= x) of each value, for float x in [0, 1] units that broadcasts to (B, T, C, H, W)."""

    @abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """The log density of each value for float x that broadcasts to (B, T, C, H, W)."""

    @abstractmethod
    def _draw(self, noise: Noise | None) -> Tensor: ...

    def log_prob(self, x: Tensor) -> Tensor:
        """The log density of frames x (B, T, C, H, W): nats per frame, (B, T).

        Raises:
            ValueError: x is neither uint8 nor float in [0, 1]; see `require_frames` for what is checked where.
        """
        return self.unchecked_log_prob(require_frames(x))

    def unchecked_log_prob(self, x: Tensor) -> Tensor:
        """`log_prob` of frames that are known to be uint8 or float, as where a loss has checked them."""
        x = x.to(self.mean.dtype) if x.is_floating_point() else place(x.to(self.mean.dtype), 0.5, self.support)
        return self.log_density(x).sum((-3, -2, -1))

    @torch.no_grad()
    def sample(self, noise: Noise | None = None, clamp: bool = False) -> Tensor:
        """A draw (B, T, C, H, W), float in [0, 1] units.

        Args:
            noise: its index has the shape (B, T); None draws from torch's global generator.
            clamp: cut what lies outside [0, 1].
        """
        draw = self._draw(noise)
        return draw.clamp(0, 1) if clamp else draw


def require_frames(x: Tensor) -> Tensor:
    """Frames (B, T, C, H, W), where they are uint8 levels or float in [0, 1]: ones of another type would be read as
    level 1 of 255.

    The type is always checked. The range of floats is checked here and now where the host has their values: on the
    CPU. It would have to wait for those of an accelerator, and those of a compiled graph or of fake tensors are not
    there yet: outside [0, 1] they become NaN, and so does the loss, at which training stops. uint8 frames, what models
    are trained on, cost nothing.

    Raises:
        ValueError: another type, or, on the CPU, a float outside [0, 1].
    """
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise ValueError(f"frames are uint8 levels 0..255 or float in [0, 1], not {x.dtype}: convert them")
    inside = (x >= 0) & (x <= 1)
    if x.device.type != "cpu" or type(x) is not Tensor or torch.compiler.is_compiling():
        return torch.where(inside, x, math.nan)
    if not inside.all():
        raise ValueError(
            f"float frames lie in [0, 1], but these reach from {float(x.min()):g} to {float(x.max()):g}: divide levels "
            "by 255, or give them as uint8"
        )
    return x


def place(levels: Tensor, u: Tensor | float, support: str) -> Tensor:
    """Where level k in 0..255 lies, spread over its bin by u in (0, 1): (k + u - 1/2)/255, or (k + u)/256 in the unit
    interval."""
    if support == "unit interval":
        return ((levels + u) / 256).clamp(2.0**-30, 1 - 2.0**-24)  # float32 would round the last bin's end to 1
    return (levels + u - 0.5) / 255


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
