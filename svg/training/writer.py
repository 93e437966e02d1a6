"""Checkpoints written while training goes on."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from svg import checkpoint
from svg.checkpoint import Checkpoint, CheckpointError

log = logging.getLogger("svg")


class Writer:
    """Saves the checkpoints of a run while it goes on: a thread writes them, one at a time.

        with Writer(run, keep) as writer:
            writer.save(saved)

    What goes wrong in the thread is raised by the next `check` or `save`, or when the block ends. However that comes
    about, it waits for what is being written; if an exception ends it, an error of the last write is only logged.

    Args:
        run, keep: as `svg.checkpoint.save`.
    """

    def __init__(self, run: Path, keep: int) -> None:
        self.run, self.keep = run, keep
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[Path] | None = None

    def save(self, saved: Checkpoint) -> None:
        """Starts to write a snapshot of a checkpoint, after the one before it is written."""
        self._wait()
        self._writing = self._thread.submit(checkpoint.save, self.run, saved.snapshot(), self.keep)

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
