"""A contact sheet of a clip store: a clip a row, time from left to right.

H W pixels, C channels.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from data.files import StoreError, writing
from data.store_reader import ClipStore

MOST_PIXELS = 40_000_000
"""Pixels of the largest sheet."""


def write_sheet(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], *, clips: int = 12, frames: int = 8, scale: int = 1
) -> Path:
    """Write a picture of clips that are spread evenly over a store, at frames that are spread evenly over each.

    Args:
        folder: a store of 1 or 3 channels.
        out: the picture; its ending says the format (.png, .jpg, ...).
        clips, frames: rows and columns at most.
        scale: pixels of the sheet a pixel of a frame.

    Raises:
        StoreError: the store is missing or damaged, its frames are no pictures, or a number is out of range.
    """
    store, out = ClipStore(folder), Path(out)
    height, width, channels = store.frame_shape
    if channels not in (1, 3):
        raise StoreError(f"{store.folder} has frames of {channels} channels, which are no pictures")
    if min(clips, frames, scale) < 1 or clips * frames * scale**2 * height * width > MOST_PIXELS:
        raise StoreError(
            f"--clips {clips}, --frames {frames} and --scale {scale} must be at least 1, and the sheet have at most "
            f"{MOST_PIXELS:,} pixels"
        )
    if out.suffix.lower() not in Image.registered_extensions():
        raise StoreError(f"--out {out} has no ending of a picture's format, such as .png")
    rows = []
    for clip in np.unique(np.linspace(0, len(store) - 1, clips).astype(int)):
        times = np.linspace(0, store.lengths[clip] - 1, frames).astype(int)
        rows.append(np.concatenate(list(store.frames(int(clip))[times]), 1))
    sheet = np.concatenate(rows)
    picture = Image.fromarray(sheet if channels == 3 else sheet[..., 0])
    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out):
        picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(out)
    return out
