"""From a clip store to batches: random windows for training, each clip's first frames for evaluation.

What is sampled is a pure function of (seed, sample index), sample index = step * batch_size + position in the global
batch, so the data order survives a resume and doesn't depend on how many workers or processes share the work.

B clips of a batch, T frames, C channels, H W pixels. Frames stay uint8 until they are on the device.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypedDict, cast

import torch
from torch import Tensor

from data.clips import Store, StoreError
from data.windows import WindowReader
from data.workers import Worker


class Batch(TypedDict):
    """What crosses from data to model."""

    frames: Tensor
    """uint8 (B, T, C, H, W), a permuted view of contiguous (B, T, H, W, C)."""
    index: Tensor
    """int64 (B,): the sample index of a training window, the clip of an evaluation."""


class Windows(WindowReader):
    """Random windows of a store, as tensors (`data/windows.py` says which): item i is a pure function of (seed, i)."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """{"frames": uint8 (T, C, H, W), "index": index}"""
        return {"frames": self.__getitems__([index])["frames"][0], "index": index}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A whole batch at once."""
        return _batch(torch.from_numpy(self.read(indices)), indices)


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


class Loader:
    """The batches of `loader`: an iterator, and a context manager that ends its workers.

    Left without `close`, they end with this process or with this object; nothing waits for them.
    """

    def __init__(self, windows: Windows, order: Iterable[list[int]], workers: int) -> None:
        self._windows, self._order = windows, iter(order)
        self._pending: deque[Future[Batch]] = deque()
        self._pinned = torch.cuda.is_available()
        self._workers = [Worker(windows.to_json()) for _ in range(workers)]
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers) if workers else None
        self._end = weakref.finalize(self, _end, self._threads, self._workers)

    def close(self) -> None:
        """Ends the workers; what was read ahead is forgotten, and nothing follows."""
        self._end()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> dict[str, Tensor]:
        """The next `Batch`.

        Raises:
            WorkerError: a worker was killed or failed.
        """
        if not self._end.alive:
            raise StopIteration
        if self._threads is None:
            return cast(dict[str, Tensor], self._windows.__getitems__(next(self._order)))
        for worker in self._workers:
            worker.check()
        while len(self._pending) < _AHEAD * len(self._workers) and (indices := next(self._order, None)):
            shape = (len(indices), self._windows.frames, *self._windows.store.frame_shape)
            self._pending.append(self._threads.submit(_fetch, self._idle, indices, shape, self._pinned))
        if not self._pending:
            self.close()
            raise StopIteration
        return cast(dict[str, Tensor], self._pending.popleft().result())


_AHEAD = 4
"""Batches a worker that are read before they are needed."""


def _fetch(idle: SimpleQueue[Worker], indices: list[int], shape: tuple[int, ...], pinned: bool) -> Batch:
    """A batch that whichever worker is idle reads."""
    frames = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
    worker = idle.get()
    try:
        worker.read_into(indices, frames.numpy().data.cast("B"))
    finally:
        idle.put(worker)
    return _batch(frames, indices)


def _end(threads: ThreadPoolExecutor | None, workers: list[Worker]) -> None:
    for worker in workers:
        worker.kill()  # then no thread waits for it any more
    if threads is not None:
        threads.shutdown(cancel_futures=True)
    for worker in workers:
        worker.close()


def loader(windows: Windows, order: Iterable[list[int]], workers: int = 0) -> Loader:
    """Loads a training run's batches, ahead of their use and into pinned memory where there is a GPU.

    One pass over it is the run, so its workers live as long. They leave Ctrl-C and SIGTERM to the main process, which
    saves first, and end with it (`data/workers.py`).

    Args:
        windows: what is sampled.
        order: sample indices of each batch, from `batches`.
        workers: processes; 0 loads in this one.
    """
    return Loader(windows, order, workers)


def first_frames(
    store: Store, clips: Sequence[int], frames: int, batch_size: int, rank: int = 0, processes: int = 1
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
    return (_batch(torch.from_numpy(store.gather(part, [0] * len(part), frames)), part) for part in parts)


def _batch(frames: Tensor, indices: Sequence[int]) -> Batch:
    """Frames (B, T, H, W, C) as a batch."""
    return {"frames": frames.permute(0, 1, 4, 2, 3), "index": torch.tensor(indices, dtype=torch.int64)}
