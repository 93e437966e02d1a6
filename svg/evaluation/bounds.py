"""The likelihood of test clips: bounds on log p(x_2, ..., x_T | x_1), and how calibrated the predictions behind them
are.

Teacher-forced: every frame is predicted from the true frames before it, with z from the posterior, one draw a frame.
The scales that training fitted to its own batches are frozen first: running averages of training, or better, refitted
over training clips (likelihoods.md, sections A to C). Sigma measured so is that of one step; the error of a rollout is
larger.

B clips, T explained frames (t = 2..T+1), C channels, H W pixels, d = C H W values of a frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from svg.config import Config
from svg.evaluation.calibration import TRANSFORM, by_sigma, histogram, summarise_calibration, uniforms
from svg.evaluation.iwae import iwae
from svg.likelihoods import bits_per_dim, dequantized_log_prob
from svg.likelihoods.pit import integral_transform
from svg.metrics import Interval
from svg.models.base import evaluating, to_float
from svg.models.svg_lp import SVG
from svg.noise import Noise
from svg.objective import Objective

BOUND = 12  # noise stream

Record = dict[str, Any]


@dataclass(frozen=True)
class Bounds:
    """Which bounds are taken."""

    lengths: tuple[int, ...]
    """Frames of a clip from frame 0, ascending: training's and the full clip's."""
    seed: int
    importance: int = 0
    """K of the IWAE bound; 0 leaves it out."""


def why_undefined(model: SVG) -> str | None:
    """Why a model has no likelihood of grey frames, or None where it has one."""
    if model.config.posterior == "deterministic":
        return "the posterior is deterministic, so that there is no bound"
    if model.likelihood.name == "bernoulli":
        return "bernoulli is a density of binary frames only"
    return None


def needs_refit(model: SVG) -> bool:
    """Whether training fitted a scale, or the prior's variance, to the very batches that it scored."""
    return model.likelihood.fits_target or model.config.floats_prior


def refit(model: SVG, config: Config, batches: Iterable[Mapping[str, Any]]) -> None:
    """Replaces such scales by their exact means over training clips, `frames` and `index` of each batch, in float64."""
    objective = Objective(model, config.objective, config.train.seed)
    with evaluating(objective), objective.refit():
        for batch in batches:
            objective(batch["frames"], batch["index"])


def clip_bounds(model: SVG, frames: Tensor, clips: Tensor, bounds: Bounds) -> list[Record]:
    """The bounds of some clips, frame by frame.

    Args:
        frames: uint8 (B, longest of the lengths, C, H, W), on the model's device.
        clips: int64 (B,), their numbers, on which all noise depends.

    Returns:
        A record for each clip: `nll` (of the density at k/255, or of the masses), `exact` (of the integers, dequantised
        where needed) and `kl`, each of T frames in nats; `iwae` and `iwae_exact`, by length, in nats a clip; and `pit`,
        `sigma`, `error`, `by_sigma` for `svg.evaluation.calibration.summarise_calibration`.
    """
    steps = torch.arange(1, frames.shape[1], device=frames.device)
    noise = Noise(bounds.seed, (clips.to(frames.device)[:, None], steps[None]), BOUND)
    with evaluating(model):
        out = model(frames, noise.normal(model.latent_size) if model.latent_size else None)
        distribution = model.likelihood.distribution(out.params)
        nll = -distribution.log_prob(out.target)
        kl = torch.zeros_like(nll) if out.posterior is None or out.prior is None else out.posterior.kl(out.prior, out.z)
        u = uniforms(bounds.seed, clips, steps, frames.shape[2:], TRANSFORM)
        pit = histogram(integral_transform(distribution, out.target, u))
        sigma, error = distribution.stddev, distribution.mean.clamp(0, 1) - to_float(out.target)
        exact = -dequantized_log_prob(distribution, out.target, noise.child(0))
        bins = by_sigma(sigma, error)
        rms = [values.square().mean((-3, -2, -1)).sqrt() for values in (sigma, error)]
    curves = dict(zip(("nll", "exact", "kl", "sigma", "error"), (nll, exact, kl, *rms), strict=True))
    records: list[Record] = [
        {"clip": clip, **{name: values[i].tolist() for name, values in curves.items()}}
        | {"pit": pit[i].tolist(), "by_sigma": bins[i].tolist()}
        for i, clip in enumerate(clips.tolist())
    ]
    if bounds.importance:
        ids = clips.to(frames.device)
        for length in bounds.lengths:
            given = frames[:, :length]
            density = iwae(model, given, ids, bounds.importance, bounds.seed)
            masses = iwae(model, given, ids, bounds.importance, bounds.seed, score=dequantized_log_prob)
            for record, first, second in zip(records, density.tolist(), masses.tolist(), strict=True):
                record.setdefault("iwae", {})[str(length)] = -first
                record.setdefault("iwae_exact", {})[str(length)] = -second
    for record in records:
        if not all(map(math.isfinite, record["nll"] + record["exact"] + record["kl"])):
            raise ValueError(f"the likelihood of clip {record['clip']} is not finite: training has diverged")
    return records


def summarise_bounds(records: Sequence[Record], bounds: Bounds, dims: int) -> dict[str, Any]:
    """The bounds of all clips.

    Args:
        dims: d.

    Returns:
        `lengths`: for each length T `nats_per_frame` (an upper bound on -log p over T - 1 frames), `bits_per_dim`, `kl`
        (nats a frame) and, with importance samples, `iwae_nats_per_frame` and `iwae_bits_per_dim`, each with the mean
        over clips and `half` the width of its 95 % interval; `frames`: `nats` and `kl` frame by frame; `calibration`.
    """
    records = sorted(records, key=lambda record: record["clip"])
    nll, exact, kl = (torch.tensor([record[name] for record in records]).double() for name in ("nll", "exact", "kl"))
    lengths: dict[str, Any] = {}
    for length in bounds.lengths:
        some = slice(0, length - 1)
        values = {
            "nats_per_frame": (nll + kl)[:, some].mean(1),
            "bits_per_dim": bits_per_dim((exact + kl)[:, some].mean(1), dims),
            "kl": kl[:, some].mean(1),
        }
        if bounds.importance:
            density, masses = (
                torch.tensor([record[name][str(length)] for record in records]).double() / (length - 1)
                for name in ("iwae", "iwae_exact")
            )
            values |= {"iwae_nats_per_frame": density, "iwae_bits_per_dim": bits_per_dim(masses, dims)}
        lengths[str(length)] = {name: interval(torch.as_tensor(value)) for name, value in values.items()}
    return {
        "lengths": lengths,
        "frames": {"nats": (nll + kl).mean(0).tolist(), "kl": kl.mean(0).tolist()},
        "calibration": summarise_calibration(list(records)),
    }


def interval(values: Tensor) -> dict[str, float | None]:
    """The mean of values (B,) over clips and half the width of its 95 % interval (None for a single clip)."""
    found = Interval.over_clips(values)
    return {"mean": found.mean.item(), "half": found.half.item() if len(values) > 1 else None}
