"""Clip stores, written (`data/clips.py` says what they hold).

T frames of one clip, H W pixels, C channels, K values per frame.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.files import StoreError, check, sync, writing
from data.staging import locked, recover_folder, replace_folder
from data.store_files import (
    FORMAT,
    JOURNAL,
    MANIFEST,
    VERSION,
    Column,
    Heading,
    Journal,
    file_digests,
    file_names,
    usable_name,
)
from data.store_reader import ClipStore


class ClipWriter:
    """Writes a clip store, clip after clip; the folder appears, whole, when the `with` block ends without an exception.

    Until then everything is in a hidden sibling, `.NAME.partial`. It is deleted if the block raises; with `resume` it
    is kept, and the next writer of the same folder carries on from the last `checkpoint`. The same clips give the same
    bytes, interrupted or not.

    Args:
        folder: where the store will be; its parents are made.
        frame_shape: (H, W, C).
        fps: frames per second of the source.
        source: where the clips come from, in words.
        split: train, val or test.
        arrays: name and width K of each per-frame array.
        details: further JSON values for the manifest; the attribute `details` may be added to until the block ends.
        overwrite: replace a store that is there; it stays whole until the new one is.
        resume: carry on from the last checkpoint of a writer that was interrupted.

    Attributes:
        partial: where everything is until then.
        state: what the last checkpoint was given; None where nothing was resumed.

    Raises:
        StoreError: the folder exists (without `overwrite`), another process writes it, or what is to be resumed was
            begun with other arguments.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        frame_shape: Sequence[int],
        fps: float,
        source: str,
        split: str,
        arrays: Mapping[str, int] | None = None,
        details: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        self.folder = Path(folder).resolve()  # a link to the folder goes on pointing at it
        self.overwrite, self.resume = overwrite, resume
        self.details: dict[str, Any] = dict(details or {})
        self.state: Any = None
        self.arrays = dict(arrays or {})
        self.partial = self.folder.with_name(f".{self.folder.name}.partial")
        self._frame_shape = tuple(int(n) for n in frame_shape)
        self._lengths: list[int] = []
        self._checkpointed = 0
        self._heading: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "source": source,
            "split": split,
            "frame_shape": list(self._frame_shape),
            "fps": float(fps),
            "arrays": self.arrays,
            "details": dict(self.details),
        }
        try:
            check(self._heading, Heading)
        except ValueError as error:
            raise StoreError(f"{folder} {error}") from None
        if strange := [name for name in self.arrays if not usable_name(name)]:
            raise StoreError(f"{folder} has arrays named {', '.join(map(repr, strange))}, which cannot be files")

    def __len__(self) -> int:
        """Clips appended so far, resumed ones included."""
        return len(self._lengths)

    def __enter__(self) -> ClipWriter:
        with ExitStack() as stack:
            stack.enter_context(locked(self.folder))
            recover_folder(self.folder)
            self._refuse_existing()
            self.partial.mkdir(exist_ok=True)
            self._journal = stack.enter_context(Journal(self.partial, self._heading, self.resume))
            crc32: dict[str, int] = {}
            for entry in self._journal.entries:
                self._lengths += entry["lengths"]
                crc32, self.state = entry["crc32"], entry["state"]
            self._checkpointed = len(self._lengths)
            if not self._lengths:
                for leftover in self.partial.glob("*.npy"):
                    leftover.unlink()
            columns: dict[str, tuple[type, tuple[int, ...]]] = {"frames": (np.uint8, self._frame_shape)}
            columns |= {name: (np.float32, (width,)) for name, width in self.arrays.items()}
            rows = sum(self._lengths)
            self._columns = {
                name: stack.enter_context(Column(self.partial / f"{name}.npy", dtype, row, rows, crc32.get(name, 0)))
                for name, (dtype, row) in columns.items()
            }
            self._open = stack.pop_all()
        return self

    def append(self, frames: NDArray[np.uint8], **arrays: ArrayLike) -> None:
        """Adds one clip.

        Args:
            frames: uint8 (T, H, W, C), T at least 1.
            arrays: (T, K) of each per-frame array, finite; stored as float32.

        Raises:
            StoreError: a shape or dtype is wrong, or an array is missing, unknown or not finite; nothing was written.
        """
        clip = f"clip {len(self)} for {self.folder}"
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != self._frame_shape or not len(frames):
            raise StoreError(
                f"{clip}: frames are {frames.dtype} {frames.shape}, but must be uint8 (T, *{self._frame_shape})"
            )
        if set(arrays) != set(self.arrays):
            raise StoreError(f"{clip}: arrays are {sorted(arrays)}, but must be {sorted(self.arrays)}")
        values: dict[str, NDArray[Any]] = {"frames": frames}
        for name, width in self.arrays.items():
            values[name] = np.asarray(arrays[name], np.float32)
            if values[name].shape != (len(frames), width) or not np.isfinite(values[name]).all():
                shape = values[name].shape
                raise StoreError(f"{clip}: {name} is {shape}, but must be finite and {(len(frames), width)}")
        for name, column in self._columns.items():
            column.append(values[name])
        self._lengths.append(len(frames))

    def checkpoint(self, state: Any = None) -> None:
        """Makes what was appended so far safe from a crash; `state`, any JSON value, is there when it is resumed."""
        for column in self._columns.values():
            column.sync()
        crc32 = {name: column.crc32 for name, column in self._columns.items()}
        self._journal.write({"lengths": self._lengths[self._checkpointed :], "crc32": crc32, "state": state})
        self._checkpointed = len(self._lengths)

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        with self._open:
            if kind is None:
                self._finish()
            elif not self.resume:
                shutil.rmtree(self.partial, ignore_errors=True)

    def _finish(self) -> None:
        if not self._lengths:
            shutil.rmtree(self.partial, ignore_errors=True)
            raise StoreError(f"no clip was written for {self.folder}")
        lengths = np.array(self._lengths, np.int64)
        for name, values in {"starts": np.cumsum(lengths) - lengths, "lengths": lengths}.items():
            with Column(self.partial / f"{name}.npy", np.int64, ()) as column:
                column.append(values)
                column.finish()
        for column in self._columns.values():
            column.finish()
        sizes = {name: (self.partial / name).stat().st_size for name in file_names(self.arrays)}
        digests = file_digests(self.partial, sizes)
        manifest = self._heading | {
            "clips": len(lengths),
            "frames": int(lengths.sum()),
            "details": self.details,
            "files": {name: {"bytes": sizes[name], "sha256": digests[name]} for name in sizes},
        }
        with writing(self.partial / MANIFEST), open(self.partial / MANIFEST, "wb") as file:
            file.write(json.dumps(manifest, indent=2).encode())
            sync(file)
        ClipStore(self.partial)  # whole, or it raises
        replace_folder(self.folder, self.partial)
        (self.folder / JOURNAL).unlink()

    def _refuse_existing(self) -> None:
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            return
        ours = {MANIFEST, JOURNAL}
        if not self.folder.is_dir() or any(
            path.name not in ours and path.suffix != ".npy" for path in self.folder.iterdir()
        ):
            raise StoreError(
                f"{self.folder} exists and is not a clip store, so it is left alone: choose another folder"
            )
        if not self.overwrite:
            raise StoreError(f"{self.folder} exists: delete it, or ask for it to be overwritten")
