"""What the records of all clips say together: means over clips with 95 % intervals.

An `Entry` is what metrics.json holds of one model: `name`, `protocol`, `run`, and of what was measured `results`
(metric, curve, numbers), `ensemble` (curve, numbers), `calibration`, `likelihood`, `fvd`, `fid`.

B clips, T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from svg.evaluation.calibration import summarise_calibration
from svg.evaluation.scores import CURVES, Record
from svg.metrics import METRICS, Interval

Entry = dict[str, Any]


def summarise(records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """The metrics of all clips: metric, curve, and its numbers.

    `mean` and `half` are the mean over clips and frames and the half-width of its 95 % interval (None for a single
    clip); `frames` and `frames_half` the same frame by frame.
    """
    records = _sorted(records)
    names = [name for name in METRICS if name in records[0]]
    return {name: {curve: _of(record[name][curve] for record in records) for curve in CURVES} for name in names}


def summarise_ensemble(records: Iterable[Record]) -> dict[str, Any]:
    """The same of each curve of `svg.evaluation.calibration.Ensemble`."""
    records = _sorted(records)
    return {name: _of(record["ensemble"][name] for record in records) for name in records[0]["ensemble"]}


def summarise_rollouts(records: Iterable[Record]) -> dict[str, Any]:
    """The calibration of rollouts: see `svg.evaluation.calibration.summarise_calibration`."""
    return summarise_calibration([record["rollout"] for record in _sorted(records)])


def summarise_intervals(records: Iterable[Record]) -> dict[str, Any]:
    """Of the interval of each level the share of values inside, as `summarise`'s numbers, and of its `moving` and
    `still` values frame by frame (None where there are none)."""
    records = _sorted(records)
    found = {}
    for level in records[0].get("intervals", {}):
        values = torch.tensor([record["intervals"][level] for record in records], dtype=torch.float64)  # B T 3
        inside, moved_inside, moved = values.mean(0).unbind(-1)
        found[level] = _of(values[..., 0].tolist()) | {
            "moving": _shares(moved_inside, moved),
            "still": _shares(inside - moved_inside, 1 - moved),
        }
    return found


def _shares(part: torch.Tensor, whole: torch.Tensor) -> list[float | None]:
    return [p / w if w > 0 else None for p, w in zip(part.tolist(), whole.tolist(), strict=True)]


def _sorted(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record["clip"])


def _of(curves: Iterable[Sequence[float]]) -> dict[str, Any]:
    """Of the curves (B, T) of all clips."""
    values = torch.tensor(list(curves), dtype=torch.float64)
    frames, overall = Interval.over_clips(values), Interval.over_clips(values.mean(dim=1))
    single = len(values) == 1
    return {
        "mean": overall.mean.item(),
        "half": None if single else overall.half.item(),
        "frames": frames.mean.tolist(),
        "frames_half": None if single else frames.half.tolist(),
    }
