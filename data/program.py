"""What the programs of data/ share: ranges of their numbers, folders they are given, and how they end.

    @program("data.robot_push", interrupted="nothing was written")
    def main(arguments: Sequence[str] | None = None) -> int: ...

Only the standard library is imported here: this is loaded before everything else.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

Main = Callable[..., int]


def program(name: str, interrupted: str) -> Callable[[Main], Main]:
    """Decorates a command line's main function, so that every end is an exit code and at most two lines.

    0 is success, 2 what a user can cause, 130 Ctrl-C (with the text `interrupted`), 1 anything unforeseen, whose
    traceback goes to a file that the line names.
    """

    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def run(arguments: Sequence[str] | None = None) -> int:
            _end_of_loading()
            try:
                return main(arguments)
            except BrokenPipeError:  # the reader of `... info | head` has gone
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 1
            except (ValueError, OSError) as error:
                print(f"error: {_text(error)}", file=sys.stderr)
                return 2
            except KeyboardInterrupt:
                print(f"interrupted: {interrupted}", file=sys.stderr)
                return 130
            except Exception as error:
                print(f"error: {name} failed: {_unforeseen(error)}", file=sys.stderr)
                return 1

        return run

    return decorate


class Parser(argparse.ArgumentParser):
    """A parser of a command line, whose errors are lines as all others."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message.removeprefix("argument "))


def folder(text: str) -> Path:
    """The type of an option that is a file or a folder; no text is not the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty, but must name a file or a folder")
    return Path(text)


def quiet_while_loading() -> None:
    """Until the decorated main function begins, Ctrl-C is one line, whatever library is just being imported, and so is
    a library that is not installed."""
    sys.excepthook = _not_installed
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted_while_loading)


@contextmanager
def signals_held() -> Iterator[None]:
    """Processes started in the block are born with Ctrl-C and SIGTERM blocked, which go to all processes of a terminal
    or a job: the main one decides what follows. They come to this process when the block ends."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interrupted_while_loading(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"interrupted: nothing was done\n")
    os._exit(130)


def _not_installed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An exception that nobody caught: of a missing library the one line."""
    if not isinstance(error, ModuleNotFoundError):
        return sys.__excepthook__(kind, error, trace)
    print(f"error: {error.name} is not installed: pip install -e '.[data]'", file=sys.stderr, flush=True)
    os._exit(2)


def _end_of_loading() -> None:
    sys.excepthook = sys.__excepthook__
    if signal.getsignal(signal.SIGINT) is _interrupted_while_loading:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _text(error: Exception) -> str:
    """An error's text; the system's own as `FILE: what is wrong`."""
    if isinstance(error, OSError) and error.strerror:
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if name is not None]
        return f"{' and '.join(names)}: {error.strerror.lower()}" if names else error.strerror.lower()
    return str(error)


def _unforeseen(error: Exception) -> str:
    """What is told of an error that nobody thought of."""
    lines = str(error).strip().splitlines()
    reason = "the memory is full" if isinstance(error, MemoryError) else type(error).__name__
    if lines and not isinstance(error, MemoryError):
        reason += f": {lines[0][:200]}"
    try:
        handle, path = tempfile.mkstemp(prefix="svg-lp-", suffix=".log")
        with open(handle, "w", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
    except OSError:
        traceback.print_exception(error)
        return reason
    return f"{reason}; the traceback is in {path}"
