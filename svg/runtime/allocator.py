"""How memory that was freed is kept for the next step, on CPUs."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Lets the process keep what it frees, from now on.

    glibc gives blocks above 32 MiB back to the system at once, and each step pays for their pages anew: a sixth of a
    training step (docs/performance.md). The process then stays as large as it has been. Without glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
