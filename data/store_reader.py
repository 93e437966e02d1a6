"""Clip stores, read (`data/clips.py` says what they hold).

N clips, T frames of one clip, H W pixels, C channels, K values per frame.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.files import StoreError, check_npy, map_npy, naming, read_npy
from data.store_files import MANIFEST, file_digests, file_names, list_splits, read_manifest

_AGAIN = "make or copy the store again"


class ClipStore:
    """A clip store, open for reading.

    Opening reads the manifest and the clips' starts and lengths, whose checksums it compares, and checks every file's
    size; the frames are mapped at their first
    use, in each process anew (a store pickles as its path).

    Args:
        folder: the store's folder.

    Attributes:
        sizes: bytes of each of its files.
        verified: the files whose every byte was compared with its SHA-256, by this object: at first the small ones,
            starts.npy and lengths.npy; after `verify` all.

    Raises:
        StoreError: the store is missing, damaged, foreign or of a newer version.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.frame_shape = tuple(self.manifest["frame_shape"])
        self.fps = float(self.manifest["fps"])
        self.split = self.manifest["split"]
        self.arrays = self.manifest["arrays"]
        self.sizes = {name: self.manifest["files"][name]["bytes"] for name in file_names(self.arrays)}
        self.verified: frozenset[str] = frozenset()
        self._columns: dict[str, tuple[type, tuple[int, ...]]] = {
            "frames": (np.uint8, (self.manifest["frames"], *self.frame_shape)),
            **{name: (np.float32, (self.manifest["frames"], width)) for name, width in self.arrays.items()},
        }
        self._check_files()
        self.starts = self._read("starts")
        self.lengths = self._read("lengths")
        frames = self.manifest["frames"]
        inside = (self.lengths >= 1) & (self.lengths <= frames) & (self.starts >= 0)
        if not (inside & (self.starts <= frames - self.lengths)).all():  # a sum could wrap around
            raise StoreError(f"{self.folder}: starts.npy and lengths.npy do not fit frames.npy: {_AGAIN}")

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
        if not inside.all() or (starts > self.lengths[clips] - length).any():
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
        damaged = [name for name in digests if digests[name] != self.manifest["files"][name]["sha256"]]
        if damaged:
            raise StoreError(
                f"{self.folder}: {', '.join(f'{name} differs from its checksum' for name in damaged)}: "
                "make or copy the store again"
            )
        self.verified = frozenset(digests)

    @cached_property
    def _all_frames(self) -> NDArray[np.uint8]:
        return self._map("frames")

    @cached_property
    def _all_arrays(self) -> dict[str, NDArray[np.float32]]:
        return {name: self._map(name) for name in self.arrays}

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

    def _check_files(self) -> None:
        """Sizes and headers."""
        for name, size in self.sizes.items():
            path = self.folder / name
            if not path.is_file():
                raise StoreError(f"{path} is missing: make or copy the store again")
            if (found := path.stat().st_size) != size:
                what = "truncated" if found < size else "not the file that was written"
                raise StoreError(
                    f"{path} is {what} ({found:,} bytes, the manifest says {size:,}): make or copy the store again"
                )
        for name, (dtype, shape) in self._columns.items():
            with self._naming(name) as path:
                check_npy(path, dtype, shape)

    def _read(self, name: str) -> NDArray[np.int64]:
        """A column of a number a clip, compared with its checksum."""
        with self._naming(name) as path:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != self.manifest["files"][path.name]["sha256"]:
                raise ValueError("differs from its checksum")
            self.verified |= {path.name}
            return read_npy(data, np.int64, (self.manifest["clips"],))

    def _map(self, name: str) -> NDArray[Any]:
        """A column of a row a frame."""
        with self._naming(name) as path:
            return map_npy(path, *self._columns[name])

    @contextmanager
    def _naming(self, column: str) -> Iterator[Path]:
        """The file of a column, which whatever is wrong with it in the block is told with."""
        path = self.folder / f"{column}.npy"
        with naming(path, _AGAIN):
            yield path


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
