"""How a program runs and ends: its exit code, the one line that a failure costs, and signals that it notes.

begin()     before the libraries are loaded
run(main)
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from svg.runtime.launched import check_launcher, end_with_launcher, rank, several

SPEAKING_AFTER = 3.0
"""Seconds that a process is silent about an unforeseen error where several share a run: if the cause is another one
that has ended, this one is ended meanwhile by the launcher, and the other's line is the only one."""
LEAVING_WITHIN = 5.0
"""Seconds for what libraries do at a program's end, after a failure."""


def begin() -> None:
    """Call it before importing what takes seconds: from here on Ctrl-C is one line, and a launcher's end is this one's.

    `run` does the second too, and takes over from here.
    """
    end_with_launcher()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave_at_once)


def run(main: Callable[[], int | None], *, memory: str = "") -> NoReturn:
    """Run a program and exit, with one line on stderr for whatever goes wrong.

    What a user can cause (ValueError, OSError) is `error: ...` and exit code 2; what nobody foresaw names the file that
    has the traceback, and is 1, as is memory that runs out; Ctrl-C is 130. SVG_TRACEBACK=1 shows where an error came
    from. Nothing that the program started or left open keeps it from ending.

    Args:
        main: gives the exit code; None is 0.
        memory: what the user can do where memory runs out, as in "lower train.batch_size".
    """
    end_with_launcher()
    if signal.getsignal(signal.SIGINT) is _leave_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        check_launcher()
        code = main() or 0
        sys.stdout.flush()
    except SystemExit:
        raise
    except BrokenPipeError:  # the reader of `train.py --help | head` has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(1)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _interrupted()
        _leave(130)
    except Exception as error:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _end_children()
        _report(error, memory)
        _leave(2 if isinstance(error, (ValueError, OSError)) else 1)
    sys.exit(code)


def _report(error: Exception, memory: str) -> None:
    """Prints the line. Where several processes share the run, only the one whose fault it is lives to do so."""
    foreseen = isinstance(error, (ValueError, OSError))
    who = f" (process {rank()})" if rank() else ""
    if several():
        time.sleep((0 if foreseen else SPEAKING_AFTER) + (2 if rank() else 0))  # the first process speaks for all
    shown = os.environ.get("SVG_TRACEBACK", "") not in ("", "0")
    if foreseen:
        text = _text(error)
    elif _out_of_memory(error):
        text = f"out of memory ({_first_line(error)}): {memory or 'lower what is held at a time'}"
    else:
        text = f"{type(error).__name__}: {_first_line(error)}; the traceback is "
        text += "above" if shown else f"in {_write_traceback()}"
    if shown:
        sys.excepthook(type(error), error, error.__traceback__)
    print(f"error{who}: {text}", file=sys.stderr)


def _text(error: Exception) -> str:
    """An error's text; the system's own as `FILE: what is wrong`."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{os.fsdecode(error.filename)}: {error.strerror.lower()}"
    return str(error)


def _first_line(error: Exception, limit: int = 200) -> str:
    """The first line that says something, cut to `limit` characters."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    return line if len(line) <= limit else line[:limit] + "..."


def _out_of_memory(error: Exception) -> bool:
    """Whether the system, torch's allocator on a CPU or that of an accelerator has no more memory."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    allocator = any(text in str(error) for text in ("can't allocate memory", "not enough memory"))
    return bool(kinds & {"MemoryError", "OutOfMemoryError"}) or (isinstance(error, RuntimeError) and allocator)


def _write_traceback() -> str:
    """Writes the traceback of the exception at hand into the temporary folder, and gives the file's name."""
    import tempfile
    import traceback

    try:
        with tempfile.NamedTemporaryFile("w", prefix="svg-lp-", suffix=".txt", delete=False, encoding="utf-8") as file:
            file.write(f"{sys.orig_argv}\n\n{traceback.format_exc()}")
        return file.name
    except OSError as error:
        return f"no file, since it could not be written ({error}): SVG_TRACEBACK=1 shows it"


def _leave(code: int) -> NoReturn:
    """Ends the program after a failure, whatever its children, threads and libraries are at."""
    _end_children()

    def insist() -> None:
        threading.main_thread().join()  # then Python waits for threads, and for what libraries do at the end
        time.sleep(LEAVING_WITHIN)
        os._exit(code)

    threading.Thread(target=insist, daemon=True).start()
    sys.exit(code)


def _end_children() -> None:
    """Ends what `multiprocessing` started and left, which may ignore SIGTERM, and which Python waits for at its end."""
    multiprocessing = sys.modules.get("multiprocessing")
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's loader raises from it
    for child in multiprocessing.active_children() if multiprocessing else ():
        child.kill()


def _leave_at_once(number: int, frame: object) -> NoReturn:
    """Handles Ctrl-C while libraries load: some turn a KeyboardInterrupt into errors of their own."""
    _interrupted()
    os._exit(130)


def _interrupted() -> None:
    if rank() == 0:
        os.write(2, b"interrupted\n")


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
