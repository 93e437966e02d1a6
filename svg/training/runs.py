"""A run's folder: what a run goes on from, whether it may, and its log.

runs/NAME/config.json     the configuration
runs/NAME/metrics.jsonl   one line of JSON every so many steps (metrics.N.jsonl: of earlier runs here)
runs/NAME/checkpoints/    see svg/checkpoint.py
"""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from svg import checkpoint
from svg.checkpoint import Checkpoint, CheckpointError
from svg.config import Config, config_from_dict
from svg.runtime.files import flush, replacing, whole_lines

log = logging.getLogger("svg")

_FREE_GROUPS = {"eval"}
_FREE = {"data.path", "data.clips", "data.workers", "train.out", "train.steps", "train.keep", "train.trackers"}
_FREE |= {"train.log_every", "train.eval_every", "train.eval_clips", "train.save_every", "train.checkpoint_activations"}
"""What may change when a run goes on: its length, its logs, where things are, and what it needs of memory."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from training in a folder (made as needed); the system ends it with the process, if killed.

    Raises:
        ValueError: another process trains there, or the folder holds what is no run and would be written over.
    """
    _require_no_model(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{folder} is being trained by another process: wait, or set another train.out") from None
    with lock:
        yield


def _require_no_model(folder: Path) -> None:
    """Raises ValueError where config.json is that of a model, or of another program."""
    config = folder / checkpoint.CONFIG
    if checkpoint.any_of(folder) or not config.exists():
        return
    if (folder / checkpoint.MODEL).exists():
        remedy = f"name another folder (--train.init_from {folder} starts from its weights)"
        raise ValueError(f"train.out {folder} holds a model ({checkpoint.MODEL}), which is no run: {remedy}")
    try:
        is_run = "train" in checkpoint.read_config(folder)
    except CheckpointError:
        is_run = False
    if not is_run:
        raise ValueError(f"train.out {folder} has a {checkpoint.CONFIG} that is no run's: name another folder")


def resume_point(folder: Path, config: Config) -> Checkpoint | None:
    """The newest whole checkpoint of the run in a folder, or None where there is none yet.

    Raises:
        ValueError: the run was started with other settings, named; only its length, logs and places may change.
        CheckpointError: there are checkpoints, but all are damaged.
    """
    newest = checkpoint.latest(folder)
    if newest is None:
        return None
    found = checkpoint.read(newest)
    try:
        before = config_from_dict(found.config)
    except ValueError as error:
        raise CheckpointError(f"{newest / checkpoint.CONFIG}: {error}") from None
    changed = changed_settings(before, config)
    if changed:
        raise ValueError(
            f"{folder} was started with other settings: {', '.join(changed)}\n"
            "give the same ones to go on with it, or another train.out to start anew"
        )
    return found


def changed_settings(before: Config, now: Config) -> list[str]:
    """The settings that differ and may not, each as `train.lr 0.002 (was 0.001)`."""
    changed = []
    for group, options in now.to_dict().items():
        for name, value in options.items():
            was = before.to_dict()[group][name]
            if value != was and group not in _FREE_GROUPS and f"{group}.{name}" not in _FREE:
                changed.append(f"{group}.{name} {value} (was {was})")
    return changed


def write_config(folder: Path, config: Config) -> None:
    """Writes the run's configuration."""
    with replacing(folder / "config.json") as path:
        path.write_text(
            json.dumps({"format": checkpoint.FORMAT, **config.to_dict()}, indent=2) + "\n", encoding="utf-8"
        )


class MetricsLog:
    """metrics.jsonl: a line of JSON for each row, in order of steps; a number that is not finite is null.

    Args:
        folder: the run's.
        step: where the run goes on; what was logged after it is cut off. The log of a run that starts anew does not
            take the place of an earlier one, which gets another name, as one does that has damaged lines.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / "metrics.jsonl"
        text = self.path.read_bytes() if self.path.exists() else b""
        rows = whole_lines(self.path) if text else []
        damaged = text.count(b"\n") - len(rows)
        if text and not step:
            log.warning("warning: an earlier log, whose checkpoints are gone, is kept as %s", self._keep())
        elif damaged > 0:  # more than the half line that a killed process leaves
            log.warning("warning: %s has %d damaged lines and is kept as %s", self.path, damaged, self._keep())
        with replacing(self.path) as path:
            path.write_text("".join(_line(row) for row in rows if step and _step_of(row) <= step), encoding="utf-8")
        self.sync()
        flush(folder)

    def _keep(self) -> Path:
        """Gives the file another name."""
        names = (self.path.with_name(f"metrics.{number}.jsonl") for number in itertools.count(1))
        return self.path.rename(next(name for name in names if not name.exists()))

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends a row, which has a `step`. Raises ValueError if it can't be written."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        except OSError as error:
            raise self._failure(error) from None

    def sync(self) -> None:
        """Waits until all rows are on the disk. Raises ValueError if they can't be written."""
        try:
            flush(self.path)
        except OSError as error:
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> ValueError:
        remedy = "once that is mended, the same command goes on from the last checkpoint"
        return ValueError(f"{self.path} could not be written ({error.strerror}): {remedy}")


def _line(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON, which has no number that is not finite."""
    values = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
    return json.dumps(values, allow_nan=False) + "\n"


def _step_of(row: Mapping[str, Any]) -> float:
    """A row's step; infinite where it has none."""
    step = row.get("step")
    return step if isinstance(step, int) else math.inf
