"""Checkpoints: folders that are whole or not there, of JSON and safetensors only.

    checkpoints/step_00000500/
        config.json           the whole configuration, and the version of the format
        model.safetensors     the weights to use (the moving average, where there is one); these two files are a model
        training.safetensors  what training goes on from: raw weights and optimiser moments, by parameter name
        training.json         step, seconds trained, gradient scaler
        manifest.json         size and SHA-256 of each of the above

A checkpoint is written under a temporary name, flushed to disk, and renamed: by `save` at once, by a `Writer` while
training goes on. Of what lies in `checkpoints/`, only folders named `step_` and eight digits are the run's: they are
gone on from and, once there are newer ones, removed. All else there is the user's and left alone. A checkpoint that is
damaged is moved aside, never removed, and one that can't be read stops whoever wants it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from svg.runtime.files import flush

FORMAT = 1
CONFIG, MODEL = "config.json", "model.safetensors"
TRAINING, TENSORS = "training.json", "training.safetensors"
MANIFEST = "manifest.json"
_FOLDER = re.compile(r"step_\d{8}")
_LEFTOVER = re.compile(r"\.step_\d{8}\.(\d+|old)")
"""What a killed process was writing (with its number) or removing."""

log = logging.getLogger("svg")


class CheckpointError(ValueError):
    """A model or checkpoint that is missing, damaged or does not fit; the text is the line that a user reads."""


class UnreadableError(CheckpointError):
    """A file that the system does not let be read (its permissions, a failing disk), which may well be whole."""


@dataclass
class Checkpoint:
    """What a run goes on from.

    `weights` are those to use and `training` those (and the moments) to train on; the tensors may be on any device.
    """

    step: int
    config: dict[str, Any]
    weights: dict[str, Tensor]
    training: dict[str, Tensor]
    state: dict[str, Any]
    """What else training needs, as JSON values."""

    def snapshot(self) -> Checkpoint:
        """The same, its tensors in CPU memory that training does not change; one that is there twice is copied once."""
        copies: dict[tuple[Any, ...], Tensor] = {}

        def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            found = {}
            for name, tensor in tensors.items():
                place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
                if place not in copies:
                    copies[place] = tensor.detach().to("cpu", copy=True)
                found[name] = copies[place]
            return found

        return replace(self, weights=copied(self.weights), training=copied(self.training))


def write_model(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Writes config.json and model.safetensors, the two files of a model, into a folder (made as needed)."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / CONFIG, {"format": FORMAT, **config})
    _write_tensors(folder / MODEL, weights)


def read_config(folder: Path) -> dict[str, Any]:
    """A model's configuration, as plain containers.

    Raises:
        CheckpointError: it is missing, damaged or of a newer version.
    """
    config = _read_json(folder / CONFIG)
    version = config.pop("format", None)
    if not isinstance(version, int):
        raise CheckpointError(f"{folder / CONFIG} is not a model of svg-lp: it states no format")
    if version > FORMAT:
        raise CheckpointError(
            f"{folder / CONFIG} has format {version}, this version of svg-lp reads {FORMAT}: upgrade svg-lp"
        )
    return config


def read_weights(folder: Path) -> dict[str, Tensor]:
    """A model's tensors by name, on the CPU. Raises CheckpointError where the file is missing or damaged."""
    return _read_tensors(folder / MODEL)


def save(run: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes a checkpoint of a run and removes old ones.

    Args:
        run: the run's folder.
        keep: how many checkpoints stay, this one included. Those of this and of later steps, from which the run did
            not go on (they are damaged), are moved aside.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: it could not be written (the disk is full, say); what was there before stays.
    """
    folder = run / "checkpoints" / f"step_{checkpoint.step:08d}"
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        _write(temporary, checkpoint)
        for other in _folders(run):
            if other.name >= folder.name:
                _move_aside(other)
        if os.path.lexists(folder):  # a file of that name
            _move_aside(folder)
        temporary.rename(folder)
        flush(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CheckpointError(
            f"{folder} could not be written ({reason}): once that is mended, the same command goes on from the "
            "checkpoint before it"
        ) from None
    for old in _folders(run)[keep:]:
        _remove(old)
    return folder


class Writer:
    """Saves the checkpoints of a run while it goes on: a thread writes them, one at a time.

        with Writer(run, keep) as writer:
            writer.save(checkpoint)

    What goes wrong in the thread is raised by the next `check` or `save`, or when the block ends. However that comes
    about, it waits for what is being written; if an exception ends it, an error of the last write is only logged.

    Args:
        run, keep: as `save`.
    """

    def __init__(self, run: Path, keep: int) -> None:
        self.run, self.keep = run, keep
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[Path] | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Starts to write a snapshot of a checkpoint, after the one before it is written."""
        self._wait()
        self._writing = self._thread.submit(save, self.run, checkpoint.snapshot(), self.keep)

    def check(self) -> None:
        """Raises the error that has ended the last write, if one has; waits for nothing."""
        if self._writing and self._writing.done():
            self._wait()

    def _wait(self) -> None:
        try:
            if self._writing:
                self._writing.result()
        finally:
            self._writing = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._thread.shutdown()
        try:
            self._wait()
        except (CheckpointError, OSError) as failure:
            if error is None:
                raise
            log.warning("warning: %s", failure)


def any_of(run: Path) -> bool:
    """Whether a run has checkpoints, whole or not."""
    return bool(_folders(run))


def latest(run: Path) -> Path | None:
    """The newest checkpoint of a run that is whole, or None where there is none yet; damaged newer ones are reported.

    Raises:
        CheckpointError: there are checkpoints, but all of them are damaged.
        UnreadableError: one that is newer than those known to be whole can't be read.
    """
    damaged = None
    for folder in _folders(run):
        try:
            verify(folder)
        except UnreadableError as error:
            raise UnreadableError(f"{error}: mend that, or move {folder} away to do without it") from None
        except CheckpointError as error:
            log.warning("warning: %s: trying the checkpoint before it", error)
            damaged = error
        else:
            return folder
    if damaged:
        raise CheckpointError(
            f"{run} has no checkpoint that is whole ({damaged}): move {run / 'checkpoints'} away to start again"
        )
    return None


def read(folder: Path) -> Checkpoint:
    """A checkpoint, to resume from. Raises CheckpointError where a file is missing or damaged."""
    state = _read_json(folder / TRAINING)
    return Checkpoint(
        state.pop("step"), read_config(folder), read_weights(folder), _read_tensors(folder / TENSORS), state
    )


def verify(folder: Path, names: Iterable[str] = (CONFIG, MODEL, TENSORS, TRAINING)) -> None:
    """Compares files with the manifest.

    Raises:
        CheckpointError: one of them is missing or differs, or the manifest is; the first is named.
        UnreadableError: the system does not let it be read.
    """
    files = _read_json(folder / MANIFEST).get("files")
    for name in names:
        path, wanted = folder / name, files.get(name) if isinstance(files, dict) else None
        if not isinstance(wanted, dict):
            raise CheckpointError(f"{folder / MANIFEST} is damaged (it does not list {name})")
        with _reading(path):
            size = path.stat().st_size
            if size != wanted.get("bytes"):
                raise CheckpointError(f"{path} is damaged ({size} bytes of {wanted.get('bytes')})")
            if _digest(path) != wanted.get("sha256"):
                raise CheckpointError(f"{path} is damaged (its checksum differs)")


def remove_leftovers(run: Path) -> None:
    """Removes what a killed process was writing or removing."""
    for path in _entries(run / "checkpoints"):
        if _LEFTOVER.fullmatch(path.name):
            _remove_tree(path)


def _folders(run: Path) -> list[Path]:
    """A run's checkpoints, newest first."""
    found = [path for path in _entries(run / "checkpoints") if _FOLDER.fullmatch(path.name) and path.is_dir()]
    return sorted(found, reverse=True)


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder; nothing if it does not exist."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _move_aside(path: Path) -> None:
    """Renames what has a checkpoint's name and is none, or a damaged one, to a name that no checkpoint has."""
    names = (path.with_name(f"{path.name}.aside{number or ''}") for number in itertools.count())
    aside = next(name for name in names if not os.path.lexists(name))
    path.rename(aside)
    log.warning("warning: %s was not gone on from and is kept as %s: delete it if you do not need it", path, aside)


def _remove(folder: Path) -> None:
    """Removes a checkpoint; interrupted, it leaves no half of one. One that its owner made read-only stays."""
    if os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        try:
            _remove_tree(folder.rename(folder.with_name(f".{folder.name}.old")))
        except OSError as error:
            log.warning("warning: %s could not be removed (%s)", folder, error.strerror)


def _remove_tree(path: Path) -> None:
    """Removes a folder, or only the link to one."""
    try:
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path)
    except OSError as error:
        log.warning("warning: %s could not be removed (%s)", path, error.strerror)


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes all files of a checkpoint, and waits until they are on the disk."""
    write_model(folder, checkpoint.config, checkpoint.weights)
    _write_tensors(folder / TENSORS, checkpoint.training)
    _write_json(folder / TRAINING, {"step": checkpoint.step, **checkpoint.state})
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for path in sorted(folder.iterdir())}
    _write_json(folder / MANIFEST, {"format": FORMAT, "files": files})
    flush(folder)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    flush(path)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    flush(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what reading a file may raise into a CheckpointError that names it."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path} is missing") from None
    except OSError as error:
        raise UnreadableError(f"{path} can't be read ({(error.strerror or str(error)).lower()})") from None
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error})") from None


def _read_json(path: Path) -> dict[str, Any]:
    with _reading(path):
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path} is damaged ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is damaged (it holds no object)")
    return value


def _read_tensors(path: Path) -> dict[str, Tensor]:
    with _reading(path), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
