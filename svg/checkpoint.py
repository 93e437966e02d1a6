"""Checkpoints: folders that are whole or not there, of JSON and safetensors only.

    checkpoints/step_00000500/
        config.json           the whole configuration, and the version of the format
        model.safetensors     the weights to use (the moving average, where there is one)
        training.safetensors  what training goes on from: raw weights and optimiser moments, by parameter name
        training.json         step, seconds trained, gradient scaler
        manifest.json         size and SHA-256 of each of the above

The first two files are a model; `save_pretrained` writes them with a manifest of their own. Wherever a manifest lies
beside what is read, it is compared.

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
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from svg.runtime.files import flush, replacing
from svg.runtime.reading import ReadError, read_json, read_tensors

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


class _File(TypedDict):
    bytes: int
    sha256: str


class _Manifest(TypedDict):
    files: dict[str, _File]


class _Step(TypedDict):
    step: int


class _Training(_Step, total=False):
    seconds: float
    read_at: float
    scaler: dict[str, Any] | None


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
    """Writes config.json, model.safetensors and their manifest.json into a folder (made as needed).

    Raises:
        CheckpointError: the folder has another program's manifest.json.
    """
    if (folder / MANIFEST).exists():
        try:
            _manifest(folder)
        except CheckpointError as error:
            raise CheckpointError(f"{error}: it is not written over, name another folder") from None
    folder.mkdir(parents=True, exist_ok=True)
    with (
        replacing(folder / MANIFEST) as manifest,
        replacing(folder / MODEL) as model,
        replacing(folder / CONFIG) as own,
    ):
        _write_json(own, {"format": FORMAT, **config})
        _write_tensors(model, weights)
        _write_json(manifest, {"format": FORMAT, "files": {CONFIG: _entry(own), MODEL: _entry(model)}})


def read_config(folder: Path) -> dict[str, Any]:
    """A model's configuration, as plain containers.

    Raises:
        CheckpointError: it is missing, damaged or of a newer version.
    """
    config: dict[str, Any] = _read_json(_verified(folder, CONFIG))
    version = config.pop("format", None)
    if not isinstance(version, int):
        raise CheckpointError(f"{folder / CONFIG} is not a model of svg-lp: it states no format")
    if version > FORMAT:
        raise CheckpointError(
            f"{folder / CONFIG} has format {version}, this version of svg-lp reads {FORMAT}: upgrade svg-lp"
        )
    return config


def read_weights(folder: Path) -> dict[str, Tensor]:
    """A model's tensors by name, on the CPU.

    Raises:
        CheckpointError: the file is missing or damaged, or has a value that is not finite.
    """
    weights = _read_tensors(_verified(folder, MODEL))
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(
                f"{folder / MODEL}: tensor {name} is not finite (its training diverged): use another model"
            )
    return weights


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
    state: dict[str, Any] = _read_json(_verified(folder, TRAINING), _Training)
    training = _read_tensors(_verified(folder, TENSORS))
    return Checkpoint(state.pop("step"), read_config(folder), read_weights(folder), training, state)


def verify(folder: Path, names: Iterable[str] = (CONFIG, MODEL, TENSORS, TRAINING)) -> None:
    """Compares files with the manifest.

    Raises:
        CheckpointError: one of them is missing or differs, or the manifest is; the first is named.
        UnreadableError: the system does not let it be read.
    """
    files = _manifest(folder)
    for name in names:
        if name not in files:
            raise CheckpointError(f"{folder / MANIFEST} is damaged (it does not list {name})")
        path, wanted = folder / name, files[name]
        with _reading(path):
            size = path.stat().st_size
            if size != wanted["bytes"]:
                raise CheckpointError(f"{path} is damaged ({size} bytes of {wanted['bytes']})")
            if _digest(path) != wanted["sha256"]:
                raise CheckpointError(f"{path} is damaged (its checksum differs)")


def _verified(folder: Path, name: str) -> Path:
    """The path of a file, after comparing it with the manifest that may lie beside it."""
    if os.path.lexists(folder / MANIFEST):
        try:
            verify(folder, [name])
        except UnreadableError:
            raise
        except CheckpointError as error:
            raise CheckpointError(f"{error}: take it from a copy (or, if you changed it, delete {MANIFEST})") from None
    return folder / name


def _manifest(folder: Path) -> dict[str, _File]:
    """What a manifest says of files by name."""
    return _read_json(folder / MANIFEST, _Manifest)["files"]


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
    files = _manifest(folder) | {name: _entry(folder / name) for name in (TENSORS, TRAINING)}
    _write_json(folder / MANIFEST, {"format": FORMAT, "files": files})
    flush(folder)


def _entry(path: Path) -> _File:
    """What a manifest says of a file."""
    return {"bytes": path.stat().st_size, "sha256": _digest(path)}


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
    except (OSError, ReadError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, (FileNotFoundError, NotADirectoryError)):
            raise CheckpointError(f"{path} is missing") from None
        if isinstance(cause, OSError):
            raise UnreadableError(f"{path} can't be read ({(cause.strerror or str(cause)).lower()})") from None
        raise CheckpointError(str(error)) from None


def _read_json(path: Path, kind: Any = dict) -> Any:
    with _reading(path):
        return read_json(path, kind)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    with _reading(path):
        return read_tensors(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
