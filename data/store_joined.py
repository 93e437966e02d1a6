"""Several clip stores, read as one: the clips of the first, then those of the second, and so on.

N clips of all stores, T frames of one clip, H W pixels, C channels, K values per frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.files import StoreError
from data.store_reader import ClipStore


class JoinedStore:
    """Clip stores of one split, frame size and rate, with a ClipStore's methods.

    Args:
        stores: at least one, each from another folder.

    Attributes:
        folder: the folders, for messages.
        frame_shape, fps, split: as all stores have them.
        arrays: width of each per-frame array that all stores have.
        lengths: frames of each clip (N,).
        manifest: source, split, frame_shape and the files' checksums, those of all stores joined by `+`.

    Raises:
        StoreError: a folder is named twice, or the stores differ in frame size, rate or split.
    """

    def __init__(self, stores: Sequence[ClipStore]) -> None:
        self.stores = list(stores)
        first = self.stores[0]
        check_alike(self.stores)
        self.folder = Path(", ".join(str(store.folder) for store in self.stores))
        self.frame_shape, self.fps, self.split = first.frame_shape, first.fps, first.split
        common = set.intersection(*(set(store.arrays.items()) for store in self.stores))
        self.arrays = {name: width for name, width in first.arrays.items() if (name, width) in common}
        self.lengths: NDArray[np.int64] = np.concatenate([store.lengths for store in self.stores])
        self._firsts = np.cumsum([0, *(len(store) for store in self.stores)])
        self.manifest: dict[str, Any] = {
            "source": " + ".join(dict.fromkeys(str(store.manifest["source"]) for store in self.stores)),
            "split": self.split,
            "frame_shape": list(self.frame_shape),
            "files": {
                name: {"sha256": "+".join(store.manifest["files"][name]["sha256"] for store in self.stores)}
                for name in ("frames.npy", "starts.npy", "lengths.npy")
            },
        }

    def __reduce__(self) -> tuple[type[JoinedStore], tuple[list[ClipStore]]]:
        return type(self), (self.stores,)

    def __len__(self) -> int:
        """Number of clips N."""
        return len(self.lengths)

    def frames(self, clip: int, start: int = 0, length: int | None = None) -> NDArray[np.uint8]:
        """Frames of one clip, a copy: uint8 (T, H, W, C); from `start` on, all that follow or `length` of them.

        Raises:
            StoreError: there is no such clip, or it has no such frames.
        """
        store, own = self._find(clip)
        return store.frames(own, start, length)

    def array(self, name: str, clip: int, start: int = 0, length: int | None = None) -> NDArray[np.float32]:
        """A per-frame array of one clip, a copy: float32 (T, K).

        Raises:
            StoreError: a store has no such array, or there is no such clip, or it has no such frames.
        """
        if name not in self.arrays:
            raise StoreError(f"{self.folder} have no array {name!r} in common; {', '.join(self.arrays) or 'none'} are")
        store, own = self._find(clip)
        return store.array(name, own, start, length)

    def gather(self, clips: ArrayLike, starts: ArrayLike, length: int) -> NDArray[np.uint8]:
        """A window of each of several clips, a copy: uint8 (len(clips), length, H, W, C).

        Raises:
            StoreError: as `frames` does.
        """
        clips, starts = np.asarray(clips, np.int64), np.asarray(starts, np.int64)
        windows = np.empty((len(clips), length, *self.frame_shape), np.uint8)
        for clip in clips[(clips < 0) | (clips >= len(self))]:
            self._find(int(clip))
        numbers = np.searchsorted(self._firsts, clips, side="right") - 1
        for number in np.unique(numbers):
            mine = numbers == number
            windows[mine] = self.stores[number].gather(clips[mine] - self._firsts[number], starts[mine], length)
        return windows

    @property
    def verified(self) -> frozenset[str]:
        """The files that were compared with their checksums, in every store."""
        return frozenset.intersection(*(frozenset(store.verified) for store in self.stores))

    def verify(self) -> None:
        """Compares every file's SHA-256 with the manifests, under a progress bar.

        Raises:
            StoreError: a file's bytes are not those that were written.
        """
        for store in self.stores:
            store.verify()

    def _find(self, clip: int) -> tuple[ClipStore, int]:
        if not 0 <= clip < len(self):
            raise StoreError(f"{self.folder} have clips 0 to {len(self) - 1}, not {clip}")
        number = int(np.searchsorted(self._firsts, clip, side="right")) - 1
        return self.stores[number], clip - int(self._firsts[number])


Store = ClipStore | JoinedStore
"""What training and evaluation read."""


def parts(store: Store) -> list[ClipStore]:
    """The stores that a store joins; itself, where it is one."""
    return store.stores if isinstance(store, JoinedStore) else [store]


def check_alike(stores: Sequence[ClipStore]) -> None:
    """Refuse stores that cannot be one.

    Raises:
        StoreError: a folder is named twice, or two stores differ in frame size, rate or split; both are named.
    """
    first = stores[0]
    seen: set[Path] = set()
    for store in stores:
        if store.folder.resolve() in seen:
            raise StoreError(f"{store.folder} is named twice: its clips would count twice")
        seen.add(store.folder.resolve())
        for name, title in (("frame_shape", "frames of"), ("fps", "a frame rate of"), ("split", "the split")):
            one, other = getattr(first, name), getattr(store, name)
            if one != other:
                raise StoreError(
                    f"{first.folder} has {title} {one}, but {store.folder} {title} {other}: only stores that are "
                    "alike can be read as one"
                )
