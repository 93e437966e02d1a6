"""The data sets that the user has named to a program on this machine: train.py notes them, eval.py asks.

A model's stored configuration may name any folder. One that the user has named before is theirs to evaluate on; another
counts only where they name it. The list is a file in the user's cache, a path a line; without it nothing is lost.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

LARGEST = 2**20
"""Bytes of the list, at most: then it begins anew."""


def note(path: str | Path) -> None:
    """Notes a folder that the user has named; where the cache can't be written, nothing happens."""
    line = os.path.abspath(path)
    if "\n" in line or was_named(path):
        return
    with suppress(OSError):
        file = _file()
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.stat().st_size > LARGEST:
            file.unlink()
        with file.open("a", encoding="utf-8") as lines:
            lines.write(f"{line}\n")


def was_named(path: str | Path) -> bool:
    """Whether the user has named a folder before."""
    try:
        return os.path.abspath(path) in _file().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False


def _file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "svg-lp" / "data_sets"
