"""Random windows of a clip store, drawn and read with numpy alone, which is all that a loader worker loads.

B windows of a batch, T frames, H W pixels, C channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.augment import Augmentation
from data.files import StoreError
from data.store_joined import JoinedStore, Store, parts
from data.store_reader import ClipStore


class WindowReader:
    """Windows of a store, each window of each clip equally likely: number i is a pure function of (seed, i).

    Args:
        store: the clips; those with fewer than `frames` frames are never drawn.
        frames: the window's length T.
        seed: not negative.
        augmentation: how windows are changed; by default they are not.

    Raises:
        StoreError: no clip is long enough.
    """

    def __init__(self, store: Store, frames: int, seed: int, augmentation: Augmentation | None = None) -> None:
        self.store, self.frames, self.seed = store, frames, seed
        self.augmentation = augmentation or Augmentation()
        self._before = np.concatenate(([0], np.cumsum(np.maximum(store.lengths - frames + 1, 0))))  # each clip's first
        if not self._before[-1]:
            longest = store.lengths.max()
            raise StoreError(
                f"data.frames is {frames}, but the longest clip of {store.folder} has {longest} frames: "
                f"lower data.frames to at most {longest}"
            )

    def draw(self, indices: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Clip and first frame of the windows with these sample indices, int64 (B,) each."""
        # 64 random bits modulo the count: uneven by less than 2^-40 for any data set that fits on a disk
        bits = [np.random.SeedSequence((self.seed, index)).generate_state(1, np.uint64)[0] for index in indices]
        windows = (np.array(bits, np.uint64) % np.uint64(self._before[-1])).astype(np.int64)
        clips = np.searchsorted(self._before, windows, side="right") - 1
        return clips, windows - self._before[clips]

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Frames (B, T, H, W, C) of the windows with these sample indices."""
        clips, starts = self.draw(indices)
        windows = self.store.gather(clips, starts, self.frames)
        if self.augmentation:
            for position, index in enumerate(indices):
                windows[position] = self.augmentation.apply(windows[position], self.seed, index)
        return windows

    def to_json(self) -> dict[str, Any]:
        """The arguments, for another process; its `from_json` reads the same windows."""
        folders = [str(store.folder.absolute()) for store in parts(self.store)]
        augmentation = dataclasses.asdict(self.augmentation)
        return {"folders": folders, "frames": self.frames, "seed": self.seed, "augmentation": augmentation}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> WindowReader:
        """The reader that `to_json` describes."""
        stores = [ClipStore(folder) for folder in values["folders"]]
        store = stores[0] if len(stores) == 1 else JoinedStore(stores)
        return WindowReader(store, values["frames"], values["seed"], Augmentation(**values["augmentation"]))
