"""What the records of all clips say together: means over clips with 95 % intervals.

An `Entry` is what metrics.json holds of one model: `name`, `protocol`, `run`, and of what was measured `results`
(metric, curve, numbers), `ensemble` (curve, numbers), `calibration`, `likelihood`, `fvd`, `fid`.

B clips, T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from svg.evaluation.calibration import summarise_calibration
from svg.evaluation.scores import CURVES, METRICS, Record
from svg.metrics import Interval

Entry = dict[str, Any]


def name_apart(entries: Sequence[Entry], checkpoints: Sequence[str]) -> None:
    """Gives models the names of their folders, or their whole paths where those are the same."""
    short = [Path(name).resolve().name if Path(name).exists() else name for name in checkpoints]
    for entry, name, path in zip(entries, short, checkpoints, strict=True):
        entry["name"] = name if short.count(name) == 1 else path


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
