"""From a clip store to batches: random windows for training, each clip's first frames for evaluation.

What is sampled is a pure function of (seed, sample index), sample index = step * batch_size + position in the global
batch, so the data order survives a resume and doesn't depend on how many workers or processes share the work.

B clips of a batch, T frames, C channels, H W pixels. Frames stay uint8 until they are on the device.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.clips import ClipStore, StoreError


class Batch(TypedDict):
    """What crosses from data to model."""

    frames: Tensor
    """uint8 (B, T, C, H, W), a permuted view of contiguous (B, T, H, W, C)."""
    index: Tensor
    """int64 (B,): the sample index of a training window, the clip of an evaluation."""


class Windows(Dataset):
    """Random windows of a store, each window of each clip equally likely: item i is a pure function of (seed, i).

    Args:
        store: the clips; those with fewer than `frames` frames are never drawn.
        frames: the window's length T.
        seed: not negative.

    Raises:
        StoreError: no clip is long enough.
    """

    def __init__(self, store: ClipStore, frames: int, seed: int) -> None:
        self.store, self.frames, self.seed = store, frames, seed
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

    def __getitem__(self, index: int) -> dict[str, Any]:
        """{"frames": uint8 (T, C, H, W), "index": index}"""
        return {"frames": self.__getitems__([index])["frames"][0], "index": index}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A whole batch at once, which is what a DataLoader asks for; it needs no collating."""
        clips, starts = self.draw(indices)
        return _batch(self.store.gather(clips, starts, self.frames), indices)


def batches(
    start_step: int, steps: int, batch_size: int, accumulate: int = 1, rank: int = 0, processes: int = 1
) -> Iterator[list[int]]:
    """Sample indices of this process's micro-batches, from step `start_step` to step `steps` - 1.

    A step's micro-batches, one after another, each rank by rank, are the positions 0..batch_size-1, so that the global
    batch is the same for any `accumulate` and `processes`.

    Args:
        steps: steps of the whole run.
        batch_size: clips per step, over all processes and micro-batches together.
        accumulate: micro-batches per step; each is one list.

    Raises:
        ValueError: the batch can't be divided evenly.
    """
    parts = accumulate * processes
    if batch_size % parts:
        raise ValueError(
            f"train.batch_size is {batch_size}, which {parts} parts ({processes} processes x train.accumulate "
            f"{accumulate}) cannot share evenly: make it a multiple of {parts}"
        )
    size = batch_size // parts
    first_positions = [(micro * processes + rank) * size for micro in range(accumulate)]
    return (
        list(range(step * batch_size + first, step * batch_size + first + size))
        for step in range(start_step, steps)
        for first in first_positions
    )


def loader(windows: Windows, order: Iterable[list[int]], workers: int = 0) -> DataLoader:
    """Loads a training run's batches, ahead of their use and in pinned memory where there is a GPU.

    One pass over it is the run, so its workers live as long. They leave Ctrl-C and SIGTERM to the main process, which
    saves first, and end with it.

    Args:
        windows: what is sampled.
        order: sample indices of each batch, from `batches`.
        workers: processes; 0 loads in this one.
    """
    return DataLoader(
        windows,
        batch_sampler=order,  # type: ignore[arg-type]
        collate_fn=_already_a_batch,  # type: ignore[arg-type]
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_leave_signals,
        generator=torch.Generator(),  # of no use here, but the global one would be advanced
        pin_memory=torch.cuda.is_available(),
        # workers only copy bytes, so a fork is safe, and starts in no time; macOS has to start anew
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )


def first_frames(
    store: ClipStore, clips: Sequence[int], frames: int, batch_size: int, rank: int = 0, processes: int = 1
) -> Iterator[Batch]:
    """Each clip's first frames, in order; of the clips this process has every `processes`-th, from the `rank`-th on.

    Args:
        clips: which clips; `index` of a batch holds them.
        frames: T, from frame 0.
        batch_size: clips of a batch; the last one may have fewer.

    Raises:
        StoreError: a clip of any process is shorter, or not there.
    """
    for clip in clips:
        if not 0 <= clip < len(store):
            raise StoreError(f"{store.folder} has clips 0 to {len(store) - 1}, not {clip}")
        if store.lengths[clip] < frames:
            raise StoreError(
                f"clip {clip} of {store.folder} has {store.lengths[clip]} frames, but {frames} are needed "
                "(the context and eval.horizon, or data.frames in training): lower it"
            )
    own = list(clips)[rank::processes]
    parts = (own[first : first + batch_size] for first in range(0, len(own), batch_size))
    return (_batch(store.gather(part, np.zeros(len(part), np.int64), frames), part) for part in parts)


def _batch(frames: NDArray[np.uint8], indices: Sequence[int]) -> Batch:
    """Frames (B, T, H, W, C) as a batch."""
    return {
        "frames": torch.from_numpy(frames).permute(0, 1, 4, 2, 3),
        "index": torch.tensor(indices, dtype=torch.int64),
    }


def _already_a_batch(batch: Batch) -> Batch:
    return batch


def _leave_signals(worker: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
