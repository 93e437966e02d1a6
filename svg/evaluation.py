"""Rollouts scored against the true futures: clip by clip, and what all clips together say.

The protocol is SRVP's (Franceschi et al. 2020): each metric takes its own best sample, by the mean over the horizon,
and results are means over clips with 95 % intervals. Copying the last context frame is the baseline.

B clips, S samples (s of them in a chunk), T predicted frames, C channels, H W pixels.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svg.metrics import BestOfN, Interval, psnr, ssim, ssim_svg
from svg.model import SVG, to_float
from svg.precision import exact
from svg.rollout import iter_rollouts

Score = Callable[[Tensor, Tensor], Tensor]
"""Predictions (B, s, T, C, H, W) or (B, T, C, H, W) and truth (B, T, C, H, W) to (B, s, T) or (B, T)."""

Record = dict[str, Any]
"""The scores of one clip, for JSON: `clip`, its number, and for each metric {"sample": which is best, **curves}."""

CURVES = {"best": "best of {samples}", "mean": "mean sample", "copy_last": "copy last frame"}
"""What is compared frame by frame, and how it is called."""


@dataclass(frozen=True)
class Metric:
    """How a metric is read and shown."""

    title: str
    unit: str
    digits: int
    higher_is_better: bool


METRICS = {
    "psnr": Metric("PSNR", "dB", 2, True),
    "ssim": Metric("SSIM", "", 4, True),
    "lpips": Metric("LPIPS", "", 4, False),
    "ssim_svg": Metric("SSIM of the SVG script", "", 4, True),
}
SCORES: dict[str, Score] = {"psnr": psnr, "ssim": ssim, "ssim_svg": ssim_svg}
"""Those that need no weights; `svg.metrics.LPIPS(file)` is the other."""


@dataclass(frozen=True)
class Futures:
    """Which futures are drawn of each clip."""

    context: int
    horizon: int
    samples: int
    seed: int
    memory: float = 2.0
    """Budget of a chunk (GiB); it changes no result."""


def score_clips(
    model: SVG,
    frames: Tensor,
    clips: Tensor,
    futures: Futures,
    scores: Mapping[str, Score],
    advance: Callable[[int], object] = lambda count: None,
) -> list[Record]:
    """Draws the futures of some clips and scores them chunk by chunk, none of which is kept.

    Args:
        frames: uint8 (B, context + horizon, C, H, W), on the model's device.
        clips: int64 (B,), the clips' numbers, on which the noise of their futures depends.
        scores: by their names in `METRICS`.
        advance: told how many futures each chunk had.

    Returns:
        A record for each clip.

    Raises:
        ValueError: a score is not finite.
    """
    context, truth = frames[:, : futures.context], frames[:, futures.context :]
    leaders: dict[int, dict[str, BestOfN]] = {}
    with exact(frames.device):
        for chunk in iter_rollouts(
            model, context, futures.horizon, futures.samples, futures.seed, clip_ids=clips, memory=futures.memory
        ):
            new = {name: BestOfN(METRICS[name].higher_is_better) for name in scores}
            for name, leader in leaders.setdefault(chunk.clips.start, new).items():
                leader.update(scores[name](chunk.frames, truth[chunk.clips]))
            advance(chunk.frames.shape[0] * chunk.frames.shape[1])
        last = context[:, -1:].expand_as(truth)
        copied = {name: score(last, truth).double() for name, score in scores.items()}
    records: list[Record] = [{"clip": clip} for clip in clips.tolist()]
    for name in scores:
        parts = [leader[name] for leader in leaders.values()]
        curves = {"best": torch.cat([part.best for part in parts]), "mean": torch.cat([part.mean for part in parts])}
        curves["copy_last"] = copied[name]
        for position, sample in enumerate(torch.cat([part.index for part in parts]).tolist()):
            values = {curve: curves[curve][position].tolist() for curve in CURVES}
            records[position][name] = {"sample": sample, **values}
        finite = torch.stack([curve.isfinite().all(dim=1) for curve in curves.values()]).all(dim=0)
        if not finite.all():
            clip = records[int(finite.int().argmin())]["clip"]
            raise ValueError(f"{name} of clip {clip} is not finite: the model predicts values that are no numbers")
    return records


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
        for chunk in iter_rollouts(
            model, context, futures.horizon, futures.samples, futures.seed, clip_ids=clips, memory=futures.memory
        ):
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


def draw(model: SVG, context: Tensor, clip: int, futures: Futures, samples: Sequence[int]) -> Tensor:
    """Some futures of one clip, the same as `score_clips` scores.

    Args:
        context: uint8 (context, C, H, W), on the model's device.
        clip: its number.
        samples: which of the futures.

    Returns:
        float32 (len(samples), T, C, H, W) in [0, 1].
    """
    found: dict[int, Tensor] = {}
    ids = torch.tensor([clip])
    count = max(samples) + 1
    with exact(context.device):
        for chunk in iter_rollouts(
            model, context[None], futures.horizon, count, futures.seed, clip_ids=ids, memory=futures.memory
        ):
            for sample in {*samples} & {*range(chunk.samples.start, chunk.samples.stop)}:
                found[sample] = chunk.frames[0, sample - chunk.samples.start]
    return torch.stack([found[sample] for sample in samples])


def summarise(records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """What the records of all clips say: metric, curve, and its numbers.

    `mean` and `half` are the mean over clips and frames and the half-width of its 95 % interval (None for a single
    clip); `frames` and `frames_half` the same frame by frame.
    """
    records = sorted(records, key=lambda record: record["clip"])
    names = [name for name in METRICS if name in records[0]]
    return {
        name: {curve: _summary(torch.tensor([record[name][curve] for record in records])) for curve in CURVES}
        for name in names
    }


def _summary(curves: Tensor) -> dict[str, Any]:
    """Of the curves (B, T) of all clips."""
    curves = curves.double()
    frames, overall = Interval.over_clips(curves), Interval.over_clips(curves.mean(dim=1))
    single = len(curves) == 1
    return {
        "mean": overall.mean.item(),
        "half": None if single else overall.half.item(),
        "frames": frames.mean.tolist(),
        "frames_half": None if single else frames.half.tolist(),
    }


def table(summary: Mapping[str, Mapping[str, Any]], samples: int) -> str:
    """The summary as text: a row for each metric, a column for each curve."""
    rows = [["", *(title.format(samples=samples) for title in CURVES.values())]]
    for name, curves in summary.items():
        metric = METRICS[name]
        unit = f" ({metric.unit})" if metric.unit else ""
        row = [f"{metric.title}{unit} {'↑' if metric.higher_is_better else '↓'}"]
        for curve in CURVES:
            half = curves[curve]["half"]
            interval = "" if half is None else f" ± {half:.{metric.digits}f}"
            row.append(f"{curves[curve]['mean']:.{metric.digits}f}{interval}")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
