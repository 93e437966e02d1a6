"""The clip store: the one format that training and evaluation read.

A store is a folder:
    manifest.json   format version, source, split, frame shape, fps, counts; size and SHA-256 of each file
    frames.npy      uint8 (F, H, W, C), the frames of all clips one after another, memory-mapped
    starts.npy      int64 (N,), the row of each clip's first frame
    lengths.npy     int64 (N,), the frames of each clip (clips may differ; an image is a clip of length 1)
    NAME.npy        float32 (F, K), one file for each per-frame array (actions, end-effector positions)

F frames of all clips, N clips, T frames of one clip, H W pixels, C channels, K values per frame.

    python -m data.clips info DIR      what a store, or a data set of stores, holds
    python -m data.clips verify DIR    compare every byte with the checksums
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.store_files import (
    FORMAT,
    JOURNAL,
    MANIFEST,
    VERSION,
    Column,
    Journal,
    StoreError,
    file_digests,
    file_names,
    list_splits,
    read_manifest,
)

__all__ = ["ClipStore", "ClipWriter", "StoreError", "stores"]


class ClipStore:
    """A clip store, open for reading.

    Opening reads the manifest and the clip lengths and checks every file's size; the frames are mapped at their first
    use, in each process anew (a store pickles as its path).

    Args:
        folder: the store's folder.

    Raises:
        StoreError: the store is missing, damaged, foreign or of a newer version.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.manifest: dict[str, Any] = read_manifest(self.folder)
        try:
            self.frame_shape: tuple[int, int, int] = tuple(int(n) for n in self.manifest["frame_shape"])  # type: ignore[assignment]
            self.fps = float(self.manifest["fps"])
            self.split = str(self.manifest["split"])
            self.arrays: dict[str, int] = {str(name): int(width) for name, width in self.manifest["arrays"].items()}
            clips, frames = int(self.manifest["clips"]), int(self.manifest["frames"])
            self._sizes = {name: int(self.manifest["files"][name]["bytes"]) for name in file_names(self.arrays)}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{self.folder / MANIFEST} is damaged ({error!r}): make the store again") from None
        self._rows = frames
        self._check_sizes()
        self.starts: NDArray[np.int64] = np.array(self._load("starts", np.int64, (clips,)))
        self.lengths: NDArray[np.int64] = np.array(self._load("lengths", np.int64, (clips,)))
        if not clips or self.lengths.min() < 1 or self.starts.min() < 0 or (self.starts + self.lengths).max() > frames:
            raise StoreError(f"{self.folder}: starts.npy and lengths.npy do not fit frames.npy: make the store again")

    def __reduce__(self) -> tuple[type[ClipStore], tuple[Path]]:
        return type(self), (self.folder,)

    def __len__(self) -> int:
        """Number of clips N."""
        return len(self.lengths)

    def __repr__(self) -> str:
        return f"ClipStore({str(self.folder)!r}: {len(self)} clips of {self.frame_shape})"

    def frames(self, clip: int, start: int = 0, length: int | None = None) -> NDArray[np.uint8]:
        """Frames of one clip, a copy: uint8 (T, H, W, C); from `start` on, all that follow or `length` of them.

        Raises:
            StoreError: the store has no such clip, or the clip no such frames.
        """
        return self._all_frames[self._span(clip, start, length)].copy()

    def array(self, name: str, clip: int, start: int = 0, length: int | None = None) -> NDArray[np.float32]:
        """A per-frame array of one clip, a copy: float32 (T, K).

        Raises:
            StoreError: the store has no such array or clip, or the clip no such frames.
        """
        if name not in self.arrays:
            raise StoreError(f"{self.folder} has no array {name!r}; it has {', '.join(self.arrays) or 'none'}")
        return self._all_arrays[name][self._span(clip, start, length)].copy()

    def gather(self, clips: ArrayLike, starts: ArrayLike, length: int) -> NDArray[np.uint8]:
        """A window of each of several clips, a copy: uint8 (len(clips), length, H, W, C).

        Raises:
            StoreError: as `frames` does.
        """
        clips, starts = np.asarray(clips, np.int64), np.asarray(starts, np.int64)
        inside = (clips >= 0) & (clips < len(self)) & (starts >= 0)
        if not inside.all() or (starts + length > self.lengths[clips]).any():
            for clip, start in zip(clips, starts, strict=True):
                self._span(int(clip), int(start), length)
        windows = np.empty((len(clips), length, *self.frame_shape), np.uint8)
        for window, row in zip(windows, (self.starts[clips] + starts).tolist(), strict=True):
            window[:] = self._all_frames[row : row + length]
        return windows

    def verify(self) -> None:
        """Compares every file's SHA-256 with the manifest, under a progress bar.

        Raises:
            StoreError: a file's bytes are not those that were written; all such files are named.
        """
        digests = file_digests(self.folder, self._sizes)
        damaged = [name for name in digests if digests[name] != self.manifest["files"][name].get("sha256")]
        if damaged:
            raise StoreError(
                f"{self.folder}: {', '.join(f'{name} differs from its checksum' for name in damaged)}: "
                "make or copy the store again"
            )

    @cached_property
    def _all_frames(self) -> NDArray[np.uint8]:
        return self._load("frames", np.uint8, (self._rows, *self.frame_shape))

    @cached_property
    def _all_arrays(self) -> dict[str, NDArray[np.float32]]:
        return {name: self._load(name, np.float32, (self._rows, width)) for name, width in self.arrays.items()}

    def _span(self, clip: int, start: int, length: int | None) -> slice:
        if not 0 <= clip < len(self):
            raise StoreError(f"{self.folder} has clips 0 to {len(self) - 1}, not {clip}")
        whole = int(self.lengths[clip])
        stop = whole if length is None else start + length
        if not 0 <= start < stop <= whole:
            raise StoreError(
                f"clip {clip} of {self.folder} has {whole} frames: frames {start} to {stop - 1} are not there"
            )
        row = int(self.starts[clip])
        return slice(row + start, row + stop)

    def _check_sizes(self) -> None:
        for name, size in self._sizes.items():
            path = self.folder / name
            if not path.is_file():
                raise StoreError(f"{path} is missing: make or copy the store again")
            if (found := path.stat().st_size) != size:
                what = "truncated" if found < size else "not the file that was written"
                raise StoreError(
                    f"{path} is {what} ({found:,} bytes, the manifest says {size:,}): make or copy the store again"
                )

    def _load(self, name: str, dtype: type, shape: tuple[int, ...]) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise StoreError(f"{path} cannot be read ({error}): make or copy the store again") from None
        if mapped.dtype != dtype or mapped.shape != shape:
            raise StoreError(
                f"{path} holds {mapped.dtype} {mapped.shape}, the manifest says {np.dtype(dtype)} {shape}: "
                "make the store again"
            )
        return np.asarray(mapped)  # a plain view: slicing np.memmap itself is slow


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
        self._partial = self.folder.with_name(f".{self.folder.name}.partial")
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
        if len(self._frame_shape) != 3 or min(self._frame_shape) < 1:
            raise StoreError(f"frame_shape is {self._frame_shape}, but it must be (height, width, channels)")
        if not all(name.isidentifier() for name in self.arrays) or {"frames", "starts", "lengths"} & set(self.arrays):
            raise StoreError(f"arrays cannot be named {', '.join(self.arrays)}")

    def __len__(self) -> int:
        """Clips appended so far, resumed ones included."""
        return len(self._lengths)

    def __enter__(self) -> ClipWriter:
        self._refuse_existing()
        with ExitStack() as stack:
            self._partial.mkdir(parents=True, exist_ok=True)
            self._journal = stack.enter_context(Journal(self._partial, self._heading, self.resume))
            for entry in self._journal.entries:
                self._lengths += entry["lengths"]
                self.state = entry["state"]
            self._checkpointed = len(self._lengths)
            if not self._lengths:
                for leftover in self._partial.glob("*.npy"):
                    leftover.unlink()
            columns: dict[str, tuple[type, tuple[int, ...]]] = {"frames": (np.uint8, self._frame_shape)}
            columns |= {name: (np.float32, (width,)) for name, width in self.arrays.items()}
            rows = sum(self._lengths)
            self._columns = {
                name: stack.enter_context(Column(self._partial / f"{name}.npy", dtype, row, rows))
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
        self._journal.write({"lengths": self._lengths[self._checkpointed :], "state": state})
        self._checkpointed = len(self._lengths)

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        with self._open:
            if kind is None:
                self._finish()
            elif not self.resume:
                shutil.rmtree(self._partial, ignore_errors=True)

    def _finish(self) -> None:
        if not self._lengths:
            shutil.rmtree(self._partial, ignore_errors=True)
            raise StoreError(f"no clip was written for {self.folder}")
        lengths = np.array(self._lengths, np.int64)
        for name, values in {"starts": np.cumsum(lengths) - lengths, "lengths": lengths}.items():
            with Column(self._partial / f"{name}.npy", np.int64, (), 0) as column:
                column.append(values)
                column.finish()
        for column in self._columns.values():
            column.finish()
        sizes = {name: (self._partial / name).stat().st_size for name in file_names(self.arrays)}
        digests = file_digests(self._partial, sizes)
        manifest = self._heading | {
            "clips": len(lengths),
            "frames": int(lengths.sum()),
            "details": self.details,
            "files": {name: {"bytes": sizes[name], "sha256": digests[name]} for name in sizes},
        }
        with open(self._partial / MANIFEST, "w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        ClipStore(self._partial)  # whole, or it raises
        old = self.folder.with_name(f".{self.folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(old)
        self._partial.rename(self.folder)
        (self.folder / JOURNAL).unlink()
        shutil.rmtree(old, ignore_errors=True)

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


def stores(folder: str | os.PathLike[str]) -> Iterator[ClipStore]:
    """The store in a folder, or the stores of a data set (a folder of stores), train, val and test first.

    Raises:
        StoreError: there is none, or one of them is damaged.
    """
    folder = Path(folder)
    splits = list_splits(folder)
    if (folder / MANIFEST).exists() or not splits:
        yield ClipStore(folder)
        return
    for split in splits:
        yield ClipStore(folder / split)


def _describe(store: ClipStore) -> str:
    height, width, channels = store.frame_shape
    shortest, longest = store.lengths.min(), store.lengths.max()
    span = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
    arrays = ", ".join(f"{name} ({width})" for name, width in store.arrays.items()) or "none"
    size = sum(store._sizes.values()) / 2**20
    return (
        f"{store.folder}: {store.split}, {len(store):,} clips of {span} frames, {height}x{width}x{channels} at "
        f"{store.fps:g} fps, {size:,.1f} MiB\n  source: {store.manifest['source']}\n  arrays: {arrays}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m data.clips", description="Look at or check clip stores.")
    parser.add_argument("command", choices=("info", "verify"), help="info: what is there; verify: compare checksums")
    parser.add_argument("folder", help="a store, or a data set (a folder of stores)")
    options = parser.parse_args(arguments)
    command: Literal["info", "verify"] = options.command
    try:
        for store in stores(options.folder):
            if command == "info":
                print(_describe(store))
            else:
                store.verify()
                print(f"{store.folder}: {len(store._sizes)} files as written")
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
