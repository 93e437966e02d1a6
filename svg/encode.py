"""Videos as files: GIF, MP4, animated WebP and PNG, by their suffix.

All last T / fps seconds. MP4 plays everywhere but is lossy; WebP and APNG keep every colour; GIF has 255.

Shapes: T frames, H W pixels, C channels (1 or 3); uint8.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from svg import video
from svg.files import replacing
from svg.video import Frames

VIDEOS = ("gif", "mp4", "webp", "apng")
"""Formats, each its file's suffix."""


def write_video(path: str | Path, frames: Frames, fps: float) -> None:
    """Writes frames (T, H, W, C) as the suffix says: .gif, .mp4, .webp, .apng or (animated) .png.

    Raises:
        ValueError: another suffix, fps not positive, or no PyAV for MP4.
    """
    path = Path(path)
    if not fps > 0:
        raise ValueError(f"fps is {fps}, but it must be positive")
    if frames.shape[-1] == 1:
        frames = np.repeat(frames, 3, axis=-1)
    if path.suffix == ".gif":
        video.write_gif(path, frames, fps)
    elif path.suffix == ".mp4":
        _write_mp4(path, frames, fps)
    elif path.suffix in (".webp", ".apng", ".png"):
        _write_animation(path, frames, fps)
    else:
        raise ValueError(f"{path.name} has a suffix that is none of .gif, .mp4, .webp, .apng, .png")


def milliseconds(length: int, fps: float) -> list[int]:
    """Each frame's delay: whole milliseconds that add up to 1000 length / fps, rounded."""
    ends = [round(1000 * (i + 1) / fps) for i in range(length)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _write_animation(path: Path, frames: Frames, fps: float) -> None:
    """Lossless WebP or APNG, endlessly repeated."""
    images = [Image.fromarray(frame) for frame in frames]
    timing: dict[str, Any] = {"save_all": True, "append_images": images[1:], "loop": 0}
    timing["duration"] = milliseconds(len(frames), fps)
    with replacing(path) as temporary:
        if path.suffix == ".webp":
            lossless: dict[str, Any] = {"lossless": True, "quality": 60, "method": 3, "minimize_size": True}
            images[0].save(temporary, "WEBP", **timing, **lossless)
        else:
            images[0].save(temporary, "PNG", **timing)


def _write_mp4(path: Path, frames: Frames, fps: float) -> None:
    """H.264, of nearly no visible loss; odd sizes are padded by a row or column, which H.264 needs."""
    av = import_av()
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    rate = Fraction(fps).limit_denominator(1001)
    with replacing(path) as temporary, av.open(str(temporary), "w", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("libx264", rate=rate, options={"crf": "12", "preset": "medium"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)


def import_av():
    """PyAV. Raises ValueError where it is not installed."""
    try:
        import av
    except ImportError:
        raise ValueError("video files need PyAV: pip install av") from None
    return av
