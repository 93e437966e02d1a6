"""Rollouts scored against the true futures, clip by clip; svg/evaluation/summary.py says what all clips together say.

The protocol is SRVP's (Franceschi et al. 2020): each metric takes its own best sample, by the mean over the horizon.
Copying the last context frame is the baseline; a rollout whose latents come from the posterior of the true future shows
what the latents could do at best.

B clips, S samples (s of them in a chunk), T predicted frames, C channels, H W pixels.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svg.conformal import covered
from svg.evaluation.calibration import RANK, TRANSFORM, Ensemble, RolloutTransform, by_sigma, histogram, uniforms
from svg.metrics import METRICS, BestOfN, Score
from svg.models.base import to_float
from svg.models.calibrated import total_stddev
from svg.models.rollout import Chunk
from svg.models.svg_lp import SVG
from svg.runtime.parallel import double
from svg.runtime.precision import exact

Record = dict[str, Any]
"""The scores of one clip, for JSON: `clip`, its number, and for each metric {"sample": which is best, **curves}."""

CURVES = {
    "best": "best of {samples}",
    "mean": "mean sample",
    "posterior": "posterior",
    "copy_last": "copy last frame",
}
"""What is compared frame by frame, and how it is called."""


STILL = 2
"""Grey levels by which a value may change from frame to frame and still be called still."""


@dataclass(frozen=True)
class Futures:
    """Which futures are drawn of each clip."""

    context: int
    horizon: int
    samples: int
    seed: int
    memory: float = 2.0
    """Budget of a chunk (GiB); it changes no result."""
    calibrated: bool = False
    """Whether the model's calibration is applied."""


def _rollouts(model: SVG, context: Tensor, clips: Tensor, futures: Futures, **options: Any) -> Iterator[Chunk]:
    """Futures of context frames (B, context, C, H, W), in chunks."""
    return model.iter_rollouts(
        context,
        futures.horizon,
        futures.samples,
        futures.seed,
        clip_ids=clips,
        memory=futures.memory,
        calibrated=futures.calibrated,
        **options,
    )


def _uniforms(futures: Futures, clips: Tensor, truth: Tensor, stream: int) -> Tensor:
    steps = torch.arange(futures.context, futures.context + futures.horizon, device=truth.device)
    return uniforms(futures.seed, clips, steps, truth.shape[2:], stream)


def score_clips(
    model: SVG,
    frames: Tensor,
    clips: Tensor,
    futures: Futures,
    scores: Mapping[str, Score],
    advance: Callable[[int], object] = lambda count: None,
    calibrate: bool = False,
) -> list[Record]:
    """Draws the futures of some clips and scores them chunk by chunk, none of which is kept.

    Args:
        frames: uint8 (B, context + horizon, C, H, W), on the model's device.
        clips: int64 (B,), the clips' numbers, on which the noise of their futures depends.
        scores: by their names in `METRICS`.
        advance: told how many futures each chunk had.
        calibrate: also measure the calibration of the predicted distributions.

    Returns:
        A record for each clip. Besides the metrics it has `ensemble`, curves of `calibration.Ensemble`, and, where
        that was asked for, `rollout`, for `calibration.summarise_calibration`, and of calibrated futures `intervals`.

    Raises:
        ValueError: a score is not finite.
    """
    context, truth = frames[:, : futures.context], frames[:, futures.context :]
    leaders: dict[int, dict[str, BestOfN]] = {}
    together = Ensemble(to_float(truth))
    with exact(frames.device):
        u = _uniforms(futures, clips, truth, TRANSFORM) if calibrate else None
        transform = None if u is None else RolloutTransform(truth, u, clips, futures.seed)
        watch = transform.watch if transform else None
        for chunk in _rollouts(model, context, clips, futures, watch=watch):
            new = {name: BestOfN(METRICS[name].higher_is_better) for name in scores}
            for name, leader in leaders.setdefault(chunk.clips.start, new).items():
                leader.update(scores[name](chunk.frames, truth[chunk.clips]))
            together.update(chunk.clips, chunk.frames)
            advance(chunk.frames.shape[0] * chunk.frames.shape[1])
        last = context[:, -1:].expand_as(truth)
        posterior = model.reconstruct(frames, futures.context, seed=futures.seed, clip_ids=clips)
        others = {
            name: {"posterior": double(score(posterior[:, 0], truth)), "copy_last": double(score(last, truth))}
            for name, score in scores.items()
        }
        ensemble = together.curves()
        calibration, intervals = {}, {}
        if transform:
            sigma = total_stddev(together.variance, transform.variance, together.count)
            calibration = _calibration(transform, together, sigma, _uniforms(futures, clips, truth, RANK))
            if futures.calibrated and model.calibration:
                intervals = _intervals(model.calibration.radii, together, sigma, frames[:, futures.context - 1 :])
    records: list[Record] = [{"clip": clip} for clip in clips.tolist()]
    for name in scores:
        _put_metric(records, name, [leader[name] for leader in leaders.values()], others[name])
    for position, record in enumerate(records):
        record["ensemble"] = {name: values[position].tolist() for name, values in ensemble.items()}
        if calibration:
            record["rollout"] = {name: values[position].tolist() for name, values in calibration.items()}
        if intervals:
            record["intervals"] = {str(level): values[position].tolist() for level, values in intervals.items()}
    return records


def _put_metric(records: list[Record], name: str, parts: list[BestOfN], others: Mapping[str, Tensor]) -> None:
    """Adds a metric of B clips to their records: its best samples by ranges of clips, and the other curves (B, T)."""
    curves = {"best": torch.cat([part.best for part in parts]), "mean": torch.cat([part.mean for part in parts])}
    curves |= others
    for position, sample in enumerate(torch.cat([part.index for part in parts]).tolist()):
        values = {curve: curves[curve][position].tolist() for curve in CURVES}
        records[position][name] = {"sample": sample, **values}
    finite = torch.stack([curve.isfinite().all(dim=1) for curve in curves.values()]).all(dim=0)
    if not finite.all():
        clip = records[int(finite.int().argmin())]["clip"]
        raise ValueError(f"{name} of clip {clip} is not finite: the model predicts values that are no numbers")


def _calibration(transform: RolloutTransform, ensemble: Ensemble, sigma: Tensor, u: Tensor) -> dict[str, Tensor]:
    """Histograms and sums of the futures of B clips: see `svg.evaluation.calibration.summarise_calibration`.

    Args:
        sigma: the predicted standard deviation of the truth around the futures' mean (B, T, C, H, W).
        u: uniforms of that shape.
    """
    futures = total_stddev(ensemble.variance, torch.zeros_like(sigma), ensemble.count)
    error = ensemble.mean - ensemble.truth
    return {
        "pit": histogram(transform.transform),
        "rank": histogram(ensemble.rank(u)),
        "rank_noise": histogram(transform.rank(u)),
        "sigma": sigma.square().mean((-3, -2, -1)).sqrt(),
        "futures": futures.square().mean((-3, -2, -1)).sqrt(),
        "error": error.square().mean((-3, -2, -1)).sqrt(),
        "by_sigma": by_sigma(sigma, error),
    }


def _intervals(radii: Mapping[float, Tensor], ensemble: Ensemble, sigma: Tensor, frames: Tensor) -> dict[float, Tensor]:
    """Of the interval of each level, (B, T, 3): the share of values inside, that of moving values inside, and that of
    moving values.

    Args:
        sigma: as of `_calibration`.
        frames: uint8 (B, 1 + T, C, H, W), the truth from the last context frame on.
    """
    moving = (frames[:, 1:].int() - frames[:, :-1].int()).abs() > STILL
    found = {}
    for level, radius in radii.items():
        inside = covered(ensemble.truth, ensemble.mean, sigma, radius[: sigma.shape[1]].to(sigma))
        parts = (inside, inside & moving, moving)
        found[level] = torch.stack([part.float().mean((-3, -2, -1)) for part in parts], dim=-1)
    return found


def clip_features(
    model: SVG,
    frames: Tensor,
    clips: Tensor,
    futures: Futures,
    extract: Callable[[Tensor], Tensor],
    with_context: bool,
    advance: Callable[[int], object] = lambda count: None,
) -> list[Record]:
    """Features of some clips' true and predicted videos, for distances between many of them.

    Args:
        frames, clips, futures, advance: as of `score_clips`.
        extract: videos (N, T, C, H, W), uint8 or float in [0, 1], to features (N, D).
        with_context: whether videos begin with the context frames.

    Returns:
        A record for each clip, whose `features` `unpack_features` reads.
    """
    context = frames[:, : futures.context]
    predicted: dict[int, list[Tensor]] = {}
    with exact(frames.device):
        for chunk in _rollouts(model, context, clips, futures):
            videos = chunk.frames
            if with_context:
                given = to_float(context[chunk.clips, None]).expand(-1, videos.shape[1], -1, -1, -1, -1)
                videos = torch.cat((given, videos), dim=2)
            features = extract(videos.flatten(0, 1)).unflatten(0, videos.shape[:2])
            predicted.setdefault(chunk.clips.start, []).append(features)
            advance(videos.shape[0] * videos.shape[1])
        real = extract(frames if with_context else frames[:, futures.context :])
    fake = torch.cat([torch.cat(chunks, dim=1) for chunks in predicted.values()])
    packed = torch.cat((real[:, None], fake), dim=1).float().cpu().numpy().astype("<f4")
    return [
        {"clip": clip, "shape": rows.shape, "features": base64.b64encode(rows.tobytes()).decode()}
        for clip, rows in zip(clips.tolist(), packed, strict=True)
    ]


def unpack_features(records: Iterable[Record]) -> tuple[Tensor, Tensor]:
    """Features of the true videos (B, D) and of their predictions (B, S, D), float32, from `clip_features`' records."""
    rows = [
        np.frombuffer(base64.b64decode(record["features"]), "<f4").reshape(record["shape"])
        for record in sorted(records, key=lambda record: record["clip"])
    ]
    features = torch.from_numpy(np.stack(rows))
    return features[:, 0], features[:, 1:]


def draw(model: SVG, context: Tensor, clip: int, futures: Futures, samples: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Some futures of one clip, the same as `score_clips` scores.

    Args:
        context: uint8 (context, C, H, W), on the model's device.
        clip: its number.
        samples: which of the futures.

    Returns:
        float32 (len(samples), T, C, H, W) in [0, 1], and their predicted standard deviations.

    Raises:
        ValueError: they are no numbers.
    """
    chosen = replace(futures, samples=len(samples))
    ids = torch.tensor(samples)
    with exact(context.device):
        chunks = _rollouts(model, context[None], torch.tensor([clip]), chosen, sample_ids=ids, stddev=True)
        parts = [(chunk.frames[0], chunk.stddev[0]) for chunk in chunks if chunk.stddev is not None]
    frames, stddev = (torch.cat(part) for part in zip(*parts, strict=True))
    if not frames.isfinite().all():
        raise ValueError(f"the futures of clip {clip} are not finite: the model predicts values that are no numbers")
    return frames, stddev


def drawn_arrays(model: SVG, context: Tensor, clip: int, futures: Futures) -> dict[str, Any]:
    """All futures of one clip, as `draw`: `futures` and `sigma`, float32 arrays (S, T, H, W, C)."""
    drawn = draw(model, context, clip, futures, range(futures.samples))
    return {name: x.movedim(2, -1).cpu().numpy() for name, x in zip(("futures", "sigma"), drawn, strict=True)}
