"""Pictures of an image VAE: grids of images with captions, and plots of its latents and its training.

N images of a row, H W pixels, C channels (1 or 3), Z latent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from svg.evaluation.latents import active_units
from svg.media import Frames, pictures
from svg.media.write import write_png
from svg.models.base import Gaussian, evaluating
from svg.models.samplers import Sampler, slerp
from svg.models.vae import VAE
from svg.runtime.files import replacing, whole_lines

COLUMNS = 16
_BACKGROUND, _TEXT = (22, 24, 29), (222, 226, 232)
_BLUE, _RED, _GREY = "#3f7fd0", "#c8402f", "#5b6470"

Row = tuple[str, Frames]
"""A caption and images uint8 (N, H, W, C)."""


def write_all(
    out: Path, model: VAE, frames: Tensor, built: Mapping[str, Sampler], latents: Gaussian, seed: int
) -> None:
    """Writes reconstructions.png, samples.png, interpolations.png and latents.png.

    Args:
        out: a folder.
        frames: test images (N, 1, C, H, W), the first of which are shown.
        built: samplers, each with rows in samples.png; without any there is none.
        latents: posteriors (N, Z).
        seed: of the samplers' draws.
    """
    write_grid(out / "reconstructions.png", reconstructions(model, frames[: 2 * COLUMNS]))
    if built:
        write_grid(out / "samples.png", samples(model, built, seed))
    write_grid(out / "interpolations.png", interpolations(model, frames))
    write_latents(out / "latents.png", latents, model.prior)


def write_grid(path: str | Path, rows: Sequence[Row]) -> None:
    """Writes a PNG with a row for each entry, its caption to the left; small images are magnified."""
    _, height, width, _ = rows[0][1].shape
    scale = max(1, 64 // height)
    gap, font = 2 * scale, ImageFont.load_default(14)
    margin = 14 + max(round(font.getlength(caption)) for caption, _ in rows)
    cell_h, cell_w = scale * height + gap, scale * width + gap
    size = margin + max(len(images) for _, images in rows) * cell_w, gap + len(rows) * cell_h
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for row, (caption, images) in enumerate(rows):
        top = gap + row * cell_h
        draw.text((7, top + scale * height / 2), caption, fill=_TEXT, font=font, anchor="lm")
        for column, image in enumerate(images.repeat(scale, axis=1).repeat(scale, axis=2)):
            pixels = np.broadcast_to(image, (*image.shape[:2], 3))
            sheet.paste(Image.fromarray(np.ascontiguousarray(pixels)), (margin + column * cell_w, top))
    write_png(path, np.asarray(sheet))


def reconstructions(model: VAE, frames: Tensor) -> list[Row]:
    """Rows of data and reconstructions of frames (N, 1, C, H, W), and of sigma where it is a map, white the largest."""
    rows = []
    for some in frames.split(COLUMNS):
        with evaluating(model):
            distribution = model.distribution(model.encode(some).mean)
            mean, stddev = distribution.mean.clamp(0, 1), distribution.stddev
        rows += [("data", pictures(some[:, 0])), ("mean", pictures(mean[:, 0]))]
        if (stddev - stddev.mean()).abs().max() > 1e-6:
            largest = stddev.max()
            rows.append((f"sigma, to {largest:.2f}", pictures((stddev / largest)[:, 0])))
    return rows


def samples(model: VAE, built: Mapping[str, Sampler], seed: int, rows: int = 3) -> list[Row]:
    """Rows of images of each sampler's latents."""
    found = []
    for name, sampler in built.items():
        z = sampler.sample(rows * COLUMNS, seed).to(model.mean.weight)
        with evaluating(model):
            images = pictures(model.images(z[:, None])[:, 0])
        found += [
            (name.replace("_", " ") if row == 0 else "", images[row * COLUMNS : (row + 1) * COLUMNS])
            for row in range(rows)
        ]
    return found


def interpolations(model: VAE, frames: Tensor, rows: int = 4) -> list[Row]:
    """Rows from one image to the next but `rows`, by slerp between their posterior means."""
    with evaluating(model):
        mean = model.encode(frames[: 2 * rows]).mean
        start, end = mean.chunk(2)
        ratios = torch.linspace(0, 1, COLUMNS, device=mean.device)[:, None]
        return [
            ("slerp" if row == 0 else "", pictures(model.images(slerp(a, b, ratios)[:, None])[:, 0]))
            for row, (a, b) in enumerate(zip(start, end, strict=True))
        ]


def write_latents(path: str | Path, latents: Gaussian, prior: Gaussian) -> None:
    """Writes a PNG: each latent's variance of the posterior mean over the images, which says whether it is active, and
    its KL term, both sorted.

    Args:
        latents: posteriors (N, Z).
        prior: as `VAE.prior`, (1, 1, Z).
    """
    figure = Figure(figsize=(9.2, 3.4), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2)
    variance = latents.mean.var(0, correction=0).sort(descending=True).values
    left.bar(range(len(variance)), variance.clamp(min=1e-6).numpy(), color=_BLUE, width=0.85)
    left.axhline(0.01, color=_RED, linewidth=1.2, linestyle=(0, (5, 3)))
    left.set_yscale("log")
    _dress(left, f"{active_units(latents.mean)} of {len(variance)} latents active", "variance of the mean over images")
    if latents.logvar.isfinite().all():
        apart = Gaussian(latents.mean[..., None], latents.logvar[..., None])  # each latent a Gaussian of its own
        own = Gaussian(prior.mean.detach().cpu()[0, ..., None], prior.logvar.detach().cpu()[0, ..., None])
        each = apart.kl(own).mean(0).sort(descending=True).values
        right.bar(range(len(each)), each.numpy(), color=_BLUE, width=0.85)
        _dress(right, f"KL {each.sum():.1f} nats in all", "KL term (nats)")
    else:
        right.set_visible(False)
    for axis in (left, right):
        axis.set_xlabel("latent, sorted")
        axis.xaxis.get_major_locator().set_params(integer=True)
    _write(figure, path)


def write_training(path: str | Path, log: Path) -> None:
    """Writes a PNG of what a run's metrics.jsonl has of sigma, the KL term and the bound, over training steps.

    Lines that are not whole are passed over, and there is no picture where there is nothing to show.
    """
    lines = [row for row in whole_lines(log) if isinstance(row.get("step"), int)]
    titles = {"sigma": "sigma", "kl": "KL (nats)", "neg_elbo": "-ELBO (nats)"}
    shown = [name for name in titles if any(_is_number(row.get(name)) for row in lines)]
    if not shown:
        return
    figure = Figure(figsize=(4.4 * len(shown), 3.4), layout="constrained", dpi=150)
    for axis, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for key, label, colour in ((name, "training", _GREY), (f"val_{name}", "validation", _RED)):
            points = [(row["step"], row[key]) for row in lines if _is_number(row.get(key))]
            if points:
                axis.plot(*zip(*points, strict=True), label=label, color=colour, linewidth=1.6)
        _dress(axis, titles[name], "")
        axis.set_xlabel("step")
        if name == "sigma":
            axis.set_yscale("log")
        if len(axis.lines) > 1:
            axis.legend(frameon=False, fontsize=9)
    _write(figure, path)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _dress(axis: Axes, title: str, label: str) -> None:
    axis.set_title(title, fontsize=11)
    axis.set_ylabel(label)
    axis.grid(color="#e3e6ea", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _write(figure: Figure, path: str | Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
