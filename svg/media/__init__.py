"""Pictures and videos as arrays: read from files, arranged in panels, written to files.

T frames, H W pixels, C channels (1 or 3).
"""

from __future__ import annotations

from typing import Any

import numpy as np

Frames = np.ndarray[Any, np.dtype[np.uint8]]
"""A video, uint8 (T, H, W, C)."""


def check_video(frames: Frames) -> None:
    """Raises ValueError unless frames are uint8 (T, H, W, C), C 1 or 3, and not empty."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] not in (1, 3) or 0 in frames.shape:
        raise ValueError(f"a video is uint8 (T, H, W, C) with C 1 or 3, not {frames.dtype} {frames.shape}")
