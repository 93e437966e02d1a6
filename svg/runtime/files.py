"""Files that are written whole or not at all, and lines of JSON of which what is whole is read."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

_HERE = re.sub(r"[^\w.-]", "_", socket.gethostname())[:32]
"""This machine, in the names of files that it is writing."""
_WRITING = re.compile(r"\.(\d{1,10})@([\w.-]+)@.+")
_DAY = 24 * 3600.0


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends; after an exception the old file stays.

    The temporary name keeps the suffix, from which writers tell the format. Folders are made as needed, and what killed
    processes were writing in this one is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    temporary = path.with_name(f".{os.getpid()}@{_HERE}@{path.name}")
    try:
        with writing(path, temporary):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Gives the system's errors in the block, such as a full disk, the name of the file that is written.

    Args:
        temporary: what it is called meanwhile.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of `replacing` that nobody writes any more.

    Those of this machine go if their process has ended, those of other machines (the folder may be shared) once
    nothing was written to them for a day. Other files stay.
    """
    with suppress(OSError):  # a folder that can't be listed
        for path in list(folder.iterdir()):
            match = _WRITING.fullmatch(path.name)
            if match:
                with suppress(OSError):  # gone already, or another user's
                    if match[2] == _HERE:
                        over = not psutil.pid_exists(int(match[1]))
                    else:
                        over = time.time() - path.stat().st_mtime > _DAY
                    if over:
                        path.unlink()


def write_json(path: str | Path, value: Any) -> None:
    """Writes plain containers as indented JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def whole_lines(path: str | Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, without those that are damaged or that a killed process left half written.

    A number that is not finite, which earlier versions wrote as NaN, is None.
    """
    objects = []
    for line in Path(path).read_text(encoding="utf-8", errors="replace").split("\n"):
        with suppress(ValueError, RecursionError):
            value = json.loads(line, parse_constant=lambda name: None)
            if isinstance(value, dict):
                objects.append(value)
    return objects


def flush(path: str | Path) -> None:
    """Waits until a file's bytes, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with writing(Path(path)):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
