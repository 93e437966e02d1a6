"""Clips made by several processes, in the order of their jobs (data/workers.py has those that read)."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from data.files import StoreError
from data.program import signals_held

CHUNK = 8
"""Jobs a task of a worker process."""

T = TypeVar("T")


@dataclass(frozen=True)
class Pool:
    """Worker processes."""

    executor: ProcessPoolExecutor
    workers: int


@contextmanager
def processes(workers: int) -> Iterator[Pool | None]:
    """Processes for `in_order`, started at their first job; None, which stands for this process, where it is only one.

    They are spawned, so a script that calls this needs its `if __name__ == "__main__":`. They leave Ctrl-C to this
    process, and end with it.
    """
    if workers == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process that runs torch's threads can hang
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        yield Pool(executor, workers)
    finally:
        executor.shutdown(cancel_futures=True)


def in_order(recipe: Callable[..., T], jobs: Iterable[tuple[Any, ...]], pool: Pool | None) -> Generator[T]:
    """The results of `recipe(*job)`, in the order of the jobs, by processes that run only a little ahead.

    Args:
        recipe: picklable.
        pool: of `processes`. A single chunk of jobs is done in this process.

    Raises:
        StoreError: a process ended unexpectedly.
    """
    jobs = iter(jobs)
    first = list(itertools.islice(jobs, CHUNK))
    if pool is None or len(first) < CHUNK:
        yield from itertools.starmap(recipe, itertools.chain(first, jobs))
        return
    chunks = itertools.chain([first], iter(lambda: list(itertools.islice(jobs, CHUNK)), []))
    pending: deque[Future[list[T]]] = deque()
    try:
        for chunk in chunks:
            with signals_held():  # it starts the processes, which load libraries before they are told to ignore Ctrl-C
                pending.append(pool.executor.submit(_make_chunk, recipe, chunk))
            if len(pending) > 2 * pool.workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool:
        raise StoreError(
            "the processes that simulate ended unexpectedly (out of memory?): --workers 1 does without them"
        ) from None
    finally:
        for future in pending:
            future.cancel()


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _make_chunk(recipe: Callable[..., T], jobs: list[tuple[Any, ...]]) -> list[T]:
    return [recipe(*job) for job in jobs]


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it does, however that happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
