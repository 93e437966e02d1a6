"""Clip stores, read (`data/clips.py` says what they hold).

N clips, T frames of one clip, H W pixels, C channels, K values per frame.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.store_files import MANIFEST, StoreError, file_digests, file_names, list_splits, read_manifest


class ClipStore:
    """A clip store, open for reading.

    Opening reads the manifest and the clip lengths and checks every file's size; the frames are mapped at their first
    use, in each process anew (a store pickles as its path).

    Args:
        folder: the store's folder.

    Attributes:
        sizes: bytes of each of its files.

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
            files = self.manifest["files"]
            self.sizes: dict[str, int] = {name: int(files[name]["bytes"]) for name in file_names(self.arrays)}
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
        digests = file_digests(self.folder, self.sizes)
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
        for name, size in self.sizes.items():
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
