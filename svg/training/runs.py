"""A run's folder: what a run goes on from, whether it may, and its log.

runs/NAME/config.json     the configuration
runs/NAME/metrics.jsonl   one line of JSON every so many steps
runs/NAME/checkpoints/    see svg/checkpoint.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from svg import checkpoint
from svg.checkpoint import Checkpoint, CheckpointError
from svg.config import Config, config_from_dict
from svg.runtime.files import replacing

_FREE_GROUPS = {"eval"}
_FREE = {"data.path", "data.clips", "data.workers", "train.out", "train.steps", "train.keep", "train.trackers"}
_FREE |= {"train.log_every", "train.eval_every", "train.eval_clips", "train.save_every", "train.checkpoint_activations"}
"""What may change when a run goes on: its length, its logs, where things are, and what it needs of memory."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from training in a folder (made as needed); the system ends it with the process, if killed.

    Raises:
        ValueError: another process trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{folder} is being trained by another process: wait, or set another train.out") from None
    with lock:
        yield


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
    """metrics.jsonl: a line of JSON for each row, in order of steps.

    Args:
        folder: the run's.
        step: where the run goes on; what was logged after it is cut off.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / "metrics.jsonl"
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        kept = [line for line in lines if _step_of(line) <= step] if step else []
        with replacing(self.path) as path:
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row, which has a `step`."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _step_of(line: str) -> float:
    """A line's step; infinite for the half line that a killed process may have left."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
