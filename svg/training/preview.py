"""Pictures of a model while it trains.

B clips, S samples, T frames, C channels, H W pixels.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from svg.config import EvalConfig
from svg.media import pictures
from svg.media.panels import BLUE, RED, Panel, comparison_panels, grid
from svg.media.write import write_gif, write_png
from svg.metrics import psnr
from svg.models.svg_lp import SVG
from svg.models.vae import VAE
from svg.runtime.precision import exact

FUTURES = 10
"""Samples among which the best is chosen."""


def write_futures(path: Path, model: SVG, frames: Tensor, clips: Tensor, config: EvalConfig, fps: float) -> None:
    """A GIF with a row for each clip: context | truth | best of 10 samples | three samples.

    Args:
        frames: uint8 (B, T, C, H, W), the context and the true future.
        clips: int64 (B,), their numbers, on which the noise depends.
        config: its seed and memory.
        fps: frames per second.
    """
    n_past = model.config.n_past
    horizon = frames.shape[1] - n_past
    with exact(frames.device):
        futures = model.rollout(frames[:, :n_past], horizon, FUTURES, config.seed, clip_ids=clips, memory=config.memory)
    best = psnr(futures, frames[:, n_past:]).mean(-1).argmax(1)
    panels = []
    for clip, future, choice in zip(frames, futures, best, strict=True):
        context, truth = pictures(clip[:n_past]), pictures(clip[n_past:])
        panels += comparison_panels(context, truth, pictures(future[choice]), pictures(future[:3]))
    write_gif(path, grid(panels, columns=6), fps)


def write_images(path: Path, model: VAE, frames: Tensor, seed: int) -> None:
    """A PNG with a row of images, one of their reconstructions, and one of samples.

    Args:
        frames: uint8 (B, 1, C, H, W).
        seed: of the samples.
    """
    with exact(frames.device):
        rows = {
            "image": (frames, BLUE),
            "posterior": (model.reconstruct(frames), RED),
            "prior": (model.sample(len(frames), seed), RED),
        }
    panels = [
        Panel(caption, pictures(image), [colour]) for caption, (images, colour) in rows.items() for image in images
    ]
    write_png(path, grid(panels, columns=len(frames))[0])
