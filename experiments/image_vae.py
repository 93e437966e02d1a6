"""Training the project's image VAE in memory, for the experiments: small data, small steps, no files.

What is trained is what train.py trains: svg.VAE under svg.objective.Objective by svg.training.optim. N images, B of a
batch, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data import images as data_images
from data import robot_push
from data.clips import ClipStore
from svg import VAE, likelihoods
from svg.config import ModelConfig, ObjectiveConfig, TrainConfig
from svg.objective import Objective
from svg.training.optim import adam, learning_rate, set_learning_rate

Watch = Callable[[int, dict[str, Tensor]], None]
"""Told of each step (from 0), once the weights have moved, its terms, `loss` among them."""


def digits(split: str, size: int = 32) -> Tensor:
    """scikit-learn's handwritten digits, resized: uint8 (N, 1, 1, H, W)."""
    folder = Path("datasets") / (f"digits_{size}" if size != 32 else "digits")
    if not folder.exists():
        data_images.make("digits", folder, size)
    return frames_of(ClipStore(folder / split))


def robot(split: str, clips: int) -> Tensor:
    """32 x 32 frames of the simulated robot, each an image: uint8 (N, 1, 3, 32, 32).

    Eight frames of each of `clips` clips for training, of a twelfth as many for val, of a sixth for test.
    """
    folder = Path("datasets") / f"robot_push_32_{clips}"
    if not folder.exists():
        val, test = max(1, clips // 12), max(1, clips // 6)
        robot_push.make(folder, clips=clips, val_clips=val, test_clips=test, frames=8, size=32, workers=1)
    return frames_of(ClipStore(folder / split))


def frames_of(store: ClipStore) -> Tensor:
    """All frames of a store of clips of one length, as images: uint8 (N, 1, C, H, W)."""
    clips = store.gather(np.arange(len(store)), np.zeros(len(store), np.int64), int(store.lengths[0]))
    return torch.from_numpy(clips).flatten(0, 1)[:, None].movedim(-1, 2).contiguous()


def build(
    likelihood: str,
    frames: Tensor,
    *,
    backbone: Literal["conv", "mlp"] = "conv",
    width: int = 16,
    z_dim: int = 16,
    posterior: Literal["diagonal", "isotropic", "constant", "deterministic"] = "diagonal",
    posterior_variance: float = 1.0,
    objective: ObjectiveConfig | None = None,
    **options: Any,
) -> Objective:
    """An image VAE for such frames under its objective (elbo by default), its weights those of seed 0.

    Args:
        options: of the likelihood.
    """
    channels, size = frames.shape[2], frames.shape[-1]
    torch.manual_seed(0)
    config = ModelConfig(
        name="vae",
        backbone=backbone,
        size=cast(Any, size),
        channels=channels,
        width=width,
        z_dim=z_dim,
        prior="fixed",
        posterior=posterior,
        posterior_variance=posterior_variance,
    )
    model = VAE(config, likelihoods.build(likelihood, channels, (size, size), **options))
    return Objective(model, objective or ObjectiveConfig())


def train(objective: Objective, frames: Tensor, config: TrainConfig, watch: Watch | None = None) -> None:
    """Trains on images (N, 1, C, H, W), uint8 or float, each batch drawn at random from config.seed.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    optimizer = adam(objective, config)
    order = torch.Generator().manual_seed(config.seed)
    within = torch.arange(config.batch_size)
    objective.train()
    for step in tqdm(range(config.steps), unit="step", leave=False, dynamic_ncols=True):
        chosen = torch.randint(len(frames), (config.batch_size,), generator=order)
        loss, terms = objective(frames[chosen], step * config.batch_size + within, step)
        if not loss.isfinite():
            raise FloatingPointError(f"{objective.model.likelihood.name}: the loss is {loss.item()} at step {step}")
        set_learning_rate(optimizer, learning_rate(step, config))
        optimizer.zero_grad()
        loss.backward()
        if config.grad_clip:
            torch.nn.utils.clip_grad_norm_(objective.parameters(), config.grad_clip)
        optimizer.step()
        if watch:
            watch(step, terms | {"loss": loss.detach()})
            objective.train()


@torch.no_grad()
def terms_of(objective: Objective, frames: Tensor, batch_size: int = 256) -> dict[str, float]:
    """Mean terms of a trained objective over images, in eval mode and with one draw of z each."""
    objective.eval()
    totals: dict[str, Tensor] = {}
    for first in range(0, len(frames), batch_size):
        some = frames[first : first + batch_size]
        _, terms = objective(some, first + torch.arange(len(some)))
        for name, term in terms.items():
            totals[name] = totals.get(name, torch.zeros(())) + term.double().sum()
    return {name: total.item() / len(frames) for name, total in totals.items()}


def bits_per_dim(objective: Objective, frames: Tensor, batch_size: int = 64) -> float:
    """The negative ELBO of integer images in bits per dimension (likelihoods.md, section B)."""
    nats = 0.0
    with torch.no_grad():
        for first in range(0, len(frames), batch_size):
            some = frames[first : first + batch_size]
            noise = objective.eval().noise(first + torch.arange(len(some)), 1)
            out = objective.model(some, noise.normal(objective.model.latent_size))
            distribution = objective.model.likelihood.distribution(out.params)
            log_p = likelihoods.dequantized_log_prob(distribution, some, noise.child(1))
            nats += (out.posterior.kl(out.prior) - log_p).double().sum().item()
    return nats / (frames.numel() * math.log(2))


def refit(objective: Objective, frames: Tensor) -> None:
    """Replaces what training fitted to its batches by its exact mean over the training images."""
    if objective.model.likelihood.fits_target or objective.model.config.floats_prior:
        with objective.eval().refit():
            terms_of(objective, frames, batch_size=64)
