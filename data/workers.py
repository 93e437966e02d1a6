"""Processes that read windows of a clip store ahead of their use.

A worker is a new interpreter with two pipes: sample indices go in, the bytes of their frames come out. It is neither
forked (the main process runs threads, of torch and of CUDA, whose locks a fork may copy while they are held; Python
3.12 warns of it, and 3.14 forks no more by default) nor one of multiprocessing's, whose spawn and forkserver import the
main program again: torch and all, measured 3 s and 330 MB a worker, where this one loads numpy, in 0.2 s and 40 MB.

What follows from it: nothing is shared that a killed worker could leave locked; there is no shared memory, of which
containers have 64 MB; and a worker ends when its pipe does, that is with its parent, however that ends, on any system.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, Any

from data.files import StoreError
from data.program import signals_held

_REPLY = struct.Struct("<?Q")
"""Whether it is frames (else the text of an error), and the bytes that follow."""
_PIPE = 1 << 20
"""Bytes that a pipe holds, where the system lets one choose."""
_CODE = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from data.workers import serve; serve()"


class WorkerError(StoreError):
    """A loader worker that was killed or failed; the text is the line that a user reads."""


class Worker:
    """One process that reads windows; a thread at a time may ask it.

    Args:
        arguments: of the `WindowReader` that it makes, as `to_json` gives them.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        command = [sys.executable, "-I", "-c", _CODE, path]
        with signals_held():
            self.process = _popen(command)
        self._arguments = arguments

    def read_into(self, indices: Sequence[int], buffer: memoryview) -> None:
        """Fills a buffer with the frames of these windows.

        Raises:
            WorkerError: the worker was killed, or failed.
        """
        requests, replies = self.process.stdin, self.process.stdout
        assert requests is not None and replies is not None
        try:
            requests.write(json.dumps({**self._arguments, "indices": list(indices)}).encode() + b"\n")
            requests.flush()
            header = _read(replies, _REPLY.size)
            sound, size = _REPLY.unpack(header)
            if not sound:
                raise WorkerError(_read(replies, size).decode())
            if size != buffer.nbytes:
                raise WorkerError(f"a loader worker read {size:,} bytes instead of {buffer.nbytes:,}")
            at = 0
            while at < size:
                count = replies.readinto(buffer[at:])  # type: ignore[attr-defined]
                if not count:
                    raise EOFError
                at += count
        except (OSError, EOFError, ValueError) as error:
            if isinstance(error, WorkerError):
                raise
            raise WorkerError(self._why_it_ended()) from None

    def check(self) -> None:
        """Raises WorkerError if the process has ended."""
        if self.process.poll() is not None:
            raise WorkerError(self._why_it_ended())

    def kill(self) -> None:
        """Ends the process at once; it holds nothing that could be lost."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Closes the pipes of a process that was ended."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def _why_it_ended(self) -> str:
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return "a loader worker no longer answers: lower data.workers, or set it to 0"
        if code == -getattr(signal, "SIGKILL", 9):
            return "a loader worker was killed: probably the memory is full; lower data.workers or train.batch_size"
        what = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return f"a loader worker ended {what}: see what it printed, or set data.workers to 0"


def serve() -> None:
    """The worker's side: answers requests until their pipe ends."""
    from data.windows import WindowReader

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = sys.stdin.buffer, open(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever prints does not get between the replies
    reader: WindowReader | None = None
    for line in requests:
        request: dict[str, Any] = json.loads(line)
        try:
            if reader is None:
                reader = WindowReader.from_json(request)
            frames = reader.read(request["indices"])
            sound, reply = True, frames.data.cast("B")
        except Exception as error:
            text = str(error) if isinstance(error, StoreError) else f"a loader worker failed: {error!r}"
            sound, reply = False, memoryview(text.encode())
        try:
            for part in (memoryview(_REPLY.pack(sound, reply.nbytes)), reply):
                while part:
                    part = part[replies.write(part) :]
        except BrokenPipeError:  # the parent has gone
            return


def _popen(command: list[str]) -> subprocess.Popen[bytes]:
    """With large pipes, unless the system says that there are too many of them."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
    try:
        return subprocess.Popen(command, **pipes, pipesize=_PIPE)
    except PermissionError:
        return subprocess.Popen(command, **pipes)


def _read(file: IO[bytes], size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        if not (part := file.read(size - len(parts))):
            raise EOFError
        parts += part
    return parts
