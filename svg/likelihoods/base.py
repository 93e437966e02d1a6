"""What every likelihood shares: a head turns the decoder's raw output into a training loss and into a distribution.

B batch, T frames, C channels, H W pixels, P decoder channels, Z latent; d = C H W values of a frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from svg.likelihoods.distribution import FrameDistribution, require_frames
from svg.likelihoods.options import require_choice
from svg.noise import Noise

_LINKS = {"sigmoid": torch.sigmoid, "identity": lambda raw: raw}

Latents = Mapping[str, Any]
"""What an objective tells a likelihood of the latents. Where the posterior variance is constant: `offset`, posterior
mean minus prior mean (B, T, Z), and `variance`, that constant (Z,). Other entries are of no matter here."""


class Likelihood(nn.Module, ABC):
    """The observation model p(x | decoder output).

    A subclass sets `maps` (or `param_channels`) and `_distribution`, and `_training_loss` where that is not simply the
    negative log-probability. Both get float32 parameters, or float64 where the decoder computes in it, with autocast
    off.

    Args:
        channels: image channels C.
        size: frame height and width (pixels).
        mean: how a raw mean map becomes a mean: `sigmoid` or `identity`.
    """

    name: str
    options: Mapping[str, Any]
    """What `svg.likelihoods.build` made it from, so that a saved model can be rebuilt."""
    normalised: bool = True
    """Whether the training loss is the NLL of a density."""
    fits_target: bool = False
    """Whether the training loss fits a scale to the frames that it scores; in eval mode it is then the frozen running
    scale's."""
    discrete: bool = False
    """Whether it scores the integers 0..255."""
    needs: tuple[str, ...] = ()
    """The `latents` that `loss` needs; see `Latents`."""
    paths: tuple[str, ...] = ()
    """Options that may name a file, which is read as the head is built."""
    of_any_length: tuple[str, ...] = ()
    """Buffers whose length is known only when they are loaded."""
    maps: int = 1
    """Decoder maps per image channel."""
    sized: bool = False
    """Whether it is tied to frames of `size`."""
    in_unit: bool = True
    """Whether `loss` refuses float frames outside [0, 1]; false for data in other units."""
    lr_scale: float = 1.0
    """Learning rate of the head's own parameters, in multiples of the network's."""

    def __init__(self, channels: int = 3, size: tuple[int, int] = (64, 64), mean: str = "sigmoid") -> None:
        super().__init__()
        self.channels, self.size = channels, tuple(size)
        self._link = _LINKS[require_choice("mean", mean, _LINKS)]

    @property
    def param_channels(self) -> int:
        """Decoder channels P, ordered as einops '(p c)'."""
        return self.maps * self.channels

    @property
    def sigma(self) -> Tensor | None:
        """The scale shown in logs, a scalar without gradient; None where it is a map."""
        return None

    def loss(
        self,
        params: Tensor,
        target: Tensor,
        *,
        latents: Latents | None = None,
        step: int | None = None,
        noise: Noise | None = None,
    ) -> Tensor:
        """The training objective in nats per frame (B, T); in eval mode, the NLL of `distribution(params)`.

        Args:
            params: the decoder's raw output (B, T, P, H, W), any floating dtype.
            target: uint8 (B, T, C, H, W), or float in [0, 1] where the likelihood is continuous.
            latents: what `needs` names.
            step: training step, for what follows a schedule.
            noise: of index (B, T), for what dequantises its frames in training; None draws from torch's global
                generator.

        Raises:
            ValueError: the target's shape or dtype does not fit, float values of it lie outside [0, 1] (see
                `require_frames` for what is checked where), or `latents` are missing.
        """
        with torch.autocast(params.device.type, enabled=False):
            params = self._full_precision(params)
            expected = (*params.shape[:-3], self.channels, *params.shape[-2:])
            if target.shape != expected:
                raise ValueError(f"the target's shape is {tuple(target.shape)}, but the decoder made {expected}")
            observed = self._observed(require_frames(target) if self.in_unit else target, noise)
            if self.training:
                return self._training_loss(params, observed, latents, step)
            return -self._distribution(params).unchecked_log_prob(observed)

    def distribution(self, params: Tensor) -> FrameDistribution:
        """The normalised density of the frames, for params (B, T, P, H, W)."""
        with torch.autocast(params.device.type, enabled=False):
            return self._distribution(self._full_precision(params))

    @contextmanager
    def refit(self) -> Iterator[None]:
        """Refits the running scale: every `loss` inside the block is counted, in float64, and the exact mean then
        replaces it.

        To be run over training data in eval mode. It does nothing where nothing is fitted to the target.
        """
        yield

    def on_validation(self, step: int, bound: float) -> None:
        """Told by the training loop after each validation: the step and the bound (nats per frame, higher is
        better)."""

    def _full_precision(self, params: Tensor) -> Tensor:
        if params.shape[-3] != self.param_channels:
            raise ValueError(
                f"{type(self).__name__} needs {self.param_channels} decoder channels, but it got {params.shape[-3]}"
            )
        if self.sized and params.shape[-2:] != self.size:
            made = tuple(params.shape[-2:])
            raise ValueError(f"{type(self).__name__} was built for frames of {self.size} pixels, but it got {made}")
        return params if params.dtype == torch.float64 else params.float()

    def _split(self, params: Tensor) -> Tensor:
        """The maps apart: (B, T, (p c), H, W) to (p, B, T, C, H, W)."""
        return rearrange(params, "... (p c) h w -> p ... c h w", c=self.channels)

    def _observed(self, target: Tensor, noise: Noise | None) -> Tensor:
        """The target as the density sees it."""
        return target

    @abstractmethod
    def _distribution(self, params: Tensor) -> FrameDistribution: ...

    def _training_loss(self, params: Tensor, target: Tensor, latents: Latents | None, step: int | None) -> Tensor:
        return -self._distribution(params).unchecked_log_prob(target)
