"""Whether there is memory for what is asked, before it is begun."""

from __future__ import annotations

import psutil


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Raises ValueError where the machine has less free memory than needed.

    Args:
        needed: bytes.
        what: what would take them, the subject of the error.
        remedy: the options to lower.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise ValueError(f"{what} would take {_size(needed)} of memory, and {_size(free)} are free: {remedy}")


def _size(count: int) -> str:
    return f"{count / 2**40:,.1f} TiB" if count >= 2**40 else f"{count / 2**30:,.1f} GiB"
