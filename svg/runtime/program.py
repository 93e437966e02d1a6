"""How a program runs and ends: its exit code, the one line that a user's mistake costs, and signals that it notes.

run(main)
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from svg.runtime.launch import start_all


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a program and exit: what a user can cause is one `error:` line and exit code 2, Ctrl-C is 130.

    SVG_TRACEBACK=1 shows where an error came from.
    """
    try:
        code = start_all()
        if code is None:
            code = main() or 0
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of `train.py --help | head` has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except (ValueError, OSError) as error:
        if os.environ.get("SVG_TRACEBACK", "") not in ("", "0"):
            traceback.print_exc()
        rank = os.environ.get("RANK", "0")
        if rank != "0":
            time.sleep(2)  # a launcher ends this process if the first one fails too, and speaks for all
        print(f"error: {_text(error)}" if rank == "0" else f"error (process {rank}): {_text(error)}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def _text(error: Exception) -> str:
    """An error's text; the system's own as `FILE: what is wrong`."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{os.fsdecode(error.filename)}: {error.strerror.lower()}"
    return str(error)


class Stop:
    """Notes SIGINT and SIGTERM instead of obeying them, so that a loop can end where it suits.

    A second Ctrl-C is obeyed at once (within a second it is the first one, told twice: by terminal and launcher).

    with Stop() as stop:
        while not stop.number: ...
    """

    def __init__(self) -> None:
        self.number = 0
        """The signal that has come, or 0."""
        self._since = 0.0

    def _note(self, number: int, frame: object) -> None:
        if number == signal.SIGINT == self.number and time.monotonic() - self._since > 1:
            raise KeyboardInterrupt
        if not self.number:
            self.number, self._since = number, time.monotonic()

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
