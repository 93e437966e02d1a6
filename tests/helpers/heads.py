"""What the tests of the likelihoods share: heads, random decoder output and frames, by name."""

import torch

from svg.likelihoods import Likelihood, build
from svg.noise import Noise

LATENTS = {"offset": torch.tensor([[[0.3, -0.2], [0.1, 0.5], [1.0, -0.7]]] * 2), "variance": torch.tensor([0.5, 1.0])}
"""Latents (B 2, T 3, Z 2) of a model with a constant posterior variance."""


def head(name: str, channels: int = 3, size: tuple[int, int] = (4, 5), **options) -> Likelihood:
    torch.manual_seed(0)
    return build(name, channels, size, **options)


def batch(
    likelihood: Likelihood, clips: int = 2, frames: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decoder output and uint8 frames that have little to do with one another."""
    generator = torch.Generator().manual_seed(seed)
    height, width = likelihood.size
    params = torch.randn(clips, frames, likelihood.param_channels, height, width, generator=generator, dtype=dtype)
    target = torch.randint(0, 256, (clips, frames, likelihood.channels, height, width), generator=generator)
    return params, target.to(torch.uint8)


def training_loss(likelihood: Likelihood, params: torch.Tensor, target: torch.Tensor, step: int = 0) -> torch.Tensor:
    noise = Noise(step, tuple(torch.meshgrid(*map(torch.arange, target.shape[:2]), indexing="ij")))
    return likelihood.loss(params, target, latents=LATENTS, step=step, noise=noise)
