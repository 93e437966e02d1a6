"""Pictures and videos as arrays: read from files, arranged in panels, written to files.

T frames, H W pixels, C channels: 1 or 3 in what is shown; `pictures` makes that of any.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

Frames = np.ndarray[Any, np.dtype[np.uint8]]
"""A video, uint8 (T, H, W, C)."""


def pictures(x: Tensor) -> Frames:
    """Frames (..., C, H, W), uint8 or float in [0, 1], as one looks at them: uint8 arrays (..., H, W, 1 or 3).

    One channel is grey; of more, the first three are red, green and blue. Others are not shown, and of two channels
    blue is black.
    """
    x = x if x.dtype == torch.uint8 else (255 * x.float()).round().to(torch.uint8)
    shown = x[..., :3, :, :]
    if shown.shape[-3] == 2:
        shown = torch.cat((shown, torch.zeros_like(shown[..., :1, :, :])), dim=-3)
    return shown.movedim(-3, -1).cpu().numpy()


def check_video(frames: Frames) -> None:
    """Raises ValueError unless frames are uint8 (T, H, W, C), C 1 or 3, and not empty."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] not in (1, 3) or 0 in frames.shape:
        raise ValueError(f"a video is uint8 (T, H, W, C) with C 1 or 3, not {frames.dtype} {frames.shape}")
