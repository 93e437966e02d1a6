"""Checkpoints: folders that are whole or not there, of JSON and safetensors only.

    checkpoints/step_00000500/
        config.json           the whole configuration, and the version of the format
        model.safetensors     the weights to use (the moving average, where there is one); these two files are a model
        training.safetensors  what training goes on from: raw weights and optimiser moments, by parameter name
        training.json         step, seconds trained, gradient scaler
        manifest.json         size and SHA-256 of each of the above

A checkpoint is written under a temporary name, flushed to disk, and renamed: by `save` at once, by a `Writer` while
training goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = 1
CONFIG, MODEL = "config.json", "model.safetensors"
TRAINING, TENSORS = "training.json", "training.safetensors"
MANIFEST = "manifest.json"

log = logging.getLogger("svg")


class CheckpointError(ValueError):
    """A model or checkpoint that is missing, damaged or does not fit; the text is the line that a user reads."""


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
        keep: how many checkpoints stay, this one included. Those of later steps, from which the run did not go on
            (they are damaged), are removed.

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
        if folder.exists():
            _remove(folder)
        temporary.rename(folder)
        _flush(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CheckpointError(
            f"{folder} could not be written ({reason}): once that is mended, the same command goes on from the "
            "checkpoint before it"
        ) from None
    saved = _folders(run)
    position = saved.index(folder)
    for old in saved[:position] + saved[position + keep :]:
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


def latest(run: Path) -> Path | None:
    """The newest checkpoint of a run that is whole, or None where there is none yet; damaged newer ones are reported.

    Raises:
        CheckpointError: there are checkpoints, but all of them are damaged.
    """
    damaged = None
    for folder in _folders(run):
        try:
            verify(folder)
        except CheckpointError as error:
            log.warning("warning: %s: trying the checkpoint before it", error)
            damaged = error
        else:
            return folder
    if damaged:
        raise CheckpointError(f"{run} has no checkpoint that is whole ({damaged}): delete {run} to start again")
    return None


def read(folder: Path) -> Checkpoint:
    """A checkpoint, to resume from. Raises CheckpointError where a file is missing or damaged."""
    state = _read_json(folder / TRAINING)
    return Checkpoint(
        state.pop("step"), read_config(folder), read_weights(folder), _read_tensors(folder / TENSORS), state
    )


def verify(folder: Path) -> None:
    """Compares each file with the manifest. Raises CheckpointError, naming the first that differs."""
    files = _read_json(folder / MANIFEST).get("files", {})
    for name in (CONFIG, MODEL, TENSORS, TRAINING):
        path, wanted = folder / name, files.get(name, {})
        if not path.is_file():
            raise CheckpointError(f"{path} is missing")
        if path.stat().st_size != wanted.get("bytes"):
            raise CheckpointError(f"{path} is damaged ({path.stat().st_size} bytes of {wanted.get('bytes')})")
        if _digest(path) != wanted.get("sha256"):
            raise CheckpointError(f"{path} is damaged (its checksum differs)")


def remove_leftovers(run: Path) -> None:
    """Removes what a killed process was writing or removing."""
    for path in (run / "checkpoints").glob(".step_*"):
        shutil.rmtree(path)


def _remove(folder: Path) -> None:
    """Removes a checkpoint; interrupted, it leaves no half of one."""
    shutil.rmtree(folder.rename(folder.with_name(f".{folder.name}.old")))


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """An optimiser's state as tensors named `optimizer.MOMENT/PARAMETER`; `names` are the parameters'."""
    return {
        f"optimizer.{key}/{names[parameter]}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]
) -> None:
    """Puts back what `optimizer_tensors` gave.

    Moments get the memory order of their parameter, without which a vectorised update could round differently.
    """
    states: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        key, _, parameter = name.partition("/")
        if key.startswith("optimizer."):
            states.setdefault(parameter, {})[key.removeprefix("optimizer.")] = tensor
    state: dict[int, dict[str, Tensor]] = {}
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for position, parameter in enumerate(ordered):
        for key, tensor in states.get(names[parameter], {}).items():
            moment = torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
            state.setdefault(position, {})[key] = moment
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _folders(run: Path) -> list[Path]:
    """A run's checkpoints, newest first."""
    return sorted((run / "checkpoints").glob("step_*"), reverse=True)


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes all files of a checkpoint, and waits until they are on the disk."""
    write_model(folder, checkpoint.config, checkpoint.weights)
    _write_tensors(folder / TENSORS, checkpoint.training)
    _write_json(folder / TRAINING, {"step": checkpoint.step, **checkpoint.state})
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for path in sorted(folder.iterdir())}
    _write_json(folder / MANIFEST, {"format": FORMAT, "files": files})
    _flush(folder)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    _flush(path)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    _flush(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is damaged (it holds no object)")
    return value


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except OSError as error:
        raise CheckpointError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error})") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Waits until a file's bytes, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
