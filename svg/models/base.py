"""What all models share: an encoder's posterior, a prior, and a decoder that ends in a likelihood.

B batch, T frames, C channels, H W pixels, P likelihood parameters, Z latent.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from svg import checkpoint
from svg.config import ModelConfig
from svg.likelihoods.base import Likelihood
from svg.likelihoods.fitted import RunningMean


@dataclass
class Gaussian:
    """Diagonal Gaussians over latents: `mean` and `logvar` (B, T, Z), float32."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor, u: Tensor | None = None) -> Tensor:
        """Reparameterised draws, (B, T, Z), from standard-normal `noise` of that shape; `u` is a mixture's."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self, other: Prior, z: Tensor | None = None) -> Tensor:
        """KL(self || other) in nats, summed over latents: (B, T).

        In closed form for another Gaussian; for a mixture, which has none, log self(z) - log other(z) at a draw z
        (B, T, Z) of self, whose mean over draws it is.
        """
        if isinstance(other, Mixture):
            if other.logits.shape[-1] > 1:
                assert z is not None, "the KL term of a mixture is taken at a draw"
                return self.log_prob(z) - other.log_prob(z)
            other = Gaussian(other.mean[..., 0, :], other.logvar[..., 0, :])
        delta = (self.mean - other.mean) ** 2 * torch.exp(-other.logvar)
        ratio = self.logvar - other.logvar
        return 0.5 * (torch.expm1(ratio) - ratio + delta).sum(-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """The log density of z (..., T, Z), summed over latents: (..., T)."""
        squares = (z - self.mean) ** 2 * torch.exp(-self.logvar)
        return -0.5 * (squares + self.logvar + math.log(2 * math.pi)).sum(-1)

    @classmethod
    def standard(cls, like: Tensor) -> Gaussian:
        """N(0, I) of the shape of `like`."""
        return cls(torch.zeros_like(like), torch.zeros_like(like))


@dataclass
class Mixture:
    """Mixtures of K diagonal Gaussians over latents, float32.

    p(z) = sum_k softmax(logits)_k N(z; mean_k, exp(logvar_k)). Where actions are held and then switch, what comes next
    is one of a few things, and one Gaussian a step would spread over all of them.
    """

    logits: Tensor
    """(B, T, K)."""
    mean: Tensor
    """(B, T, K, Z)."""
    logvar: Tensor
    """(B, T, K, Z)."""

    def sample(self, noise: Tensor, u: Tensor) -> Tensor:
        """Draws (B, T, Z).

        Args:
            noise: standard normals (B, T, Z).
            u: uniforms (B, T), by which the component is chosen.
        """
        ends = self.logits.softmax(-1).cumsum(-1)[..., :-1]
        chosen = (u[..., None] > ends).sum(-1)[..., None, None].expand(*noise.shape[:-1], 1, noise.shape[-1])
        mean, logvar = (part.gather(-2, chosen).squeeze(-2) for part in (self.mean, self.logvar))
        return mean + torch.exp(0.5 * logvar) * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """The log density of z (..., T, Z): (..., T)."""
        each = Gaussian(self.mean, self.logvar).log_prob(z[..., None, :])
        return (each + self.logits.log_softmax(-1)).logsumexp(-1)


Prior = Gaussian | Mixture


@dataclass
class Inferred:
    """What a model makes of frames before it draws latents."""

    target: Tensor
    """The frames to be explained (B, T, C, H, W)."""
    posterior: Gaussian | None
    """q, (B, T, Z); None in a model without latents."""
    prior: Prior | None
    """p, (B, T, Z)."""
    context: Any = None
    """What `generate` needs besides z."""


@dataclass
class Outputs:
    """What a forward pass gives to the objective."""

    params: Tensor
    """The decoder's raw output (B, T, P, H, W)."""
    target: Tensor
    """The frames it explains, uint8 (or float in [0, 1]) (B, T, C, H, W)."""
    z: Tensor | None = None
    """Posterior draws (B, T, Z)."""
    posterior: Gaussian | None = None
    """q, (B, T, Z); None in a model without latents."""
    prior: Prior | None = None
    """p, (B, T, Z)."""


class Model(nn.Module):
    """A model of frames: what objectives, bounds and checkpoints need of it.

    Args:
        config: sizes, prior and posterior.
        likelihood: the observation model; the decoder has `likelihood.param_channels` output channels.
    """

    given = 0
    """Leading frames of a clip that are conditioned on and not explained."""
    prior_variance: RunningMean
    """BILBO's S^2 (Z,), in a model whose prior floats."""

    def __init__(self, config: ModelConfig, likelihood: Likelihood) -> None:
        super().__init__()
        self.config, self.likelihood = config, likelihood

    @property
    def latent_size(self) -> int:
        """Z, or 0 for a model without latents."""
        raise NotImplementedError

    def infer(self, frames: Tensor) -> Inferred:
        """Prior and posterior of the explained frames of (B, T, C, H, W), uint8 or float in [0, 1]."""
        raise NotImplementedError

    def generate(self, inferred: Inferred, z: Tensor | None) -> Tensor:
        """The likelihood's parameters (B, T, P, H, W) of the explained frames, given latents z (B, T, Z)."""
        raise NotImplementedError

    def check_frames(self, frames: Tensor, least: int = 1) -> None:
        """Raises ValueError unless frames are (B, T >= least, C, H, W) of this model's size."""
        raise NotImplementedError

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors, from which `svg.load` rebuilds the model, and manifest.json, by
        which it notices damage to them."""
        head = self.likelihood
        config = {
            "model": dataclasses.asdict(self.config),
            "likelihood": {"name": head.name, "options": dict(head.options)},
        }
        checkpoint.write_model(Path(folder), config, self.state_dict())


def to_float(frames: Tensor) -> Tensor:
    """uint8 frames to float32 k/255; floats are taken to be in [0, 1] already."""
    return frames.float() / 255 if frames.dtype == torch.uint8 else frames


@contextmanager
def evaluating(model: nn.Module, batch_statistics: bool = False) -> Iterator[None]:
    """The model in eval mode, without gradients; its mode is restored at the end.

    With `batch_statistics`, BatchNorm normalises by the batch at hand (and leaves its running statistics alone), as
    the published generation script does: a sample then depends on the batch it is in.
    """
    modes = [(module, module.training) for module in model.modules()]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)] if batch_statistics else []
    model.eval()
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        with torch.no_grad():
            yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for module, mode in modes:
            module.training = mode
