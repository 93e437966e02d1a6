"""Videos as files: GIF, MP4, animated WebP and PNG, by their suffix, all written by imageio.

All last T / fps seconds. MP4 plays everywhere but is lossy; WebP and APNG keep every colour; GIF has 255.

Shapes: T frames, H W pixels, C channels (1 or 3); uint8.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from PIL import Image

from svg.media import Frames, check_video
from svg.runtime.files import replacing

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
        write_gif(path, frames, fps)
    elif path.suffix == ".mp4":
        _write_mp4(path, frames, fps)
    elif path.suffix in (".webp", ".apng", ".png"):
        check_video(frames)
        lossless = {"lossless": True, "quality": 60, "method": 3, "minimize_size": True}
        _write_animation(path, frames, milliseconds(len(frames), fps), lossless if path.suffix == ".webp" else {})
    else:
        raise ValueError(f"{path.name} has a suffix that is none of .gif, .mp4, .webp, .apng, .png")


def milliseconds(length: int, fps: float) -> list[int]:
    """Each frame's delay: whole milliseconds that add up to 1000 length / fps, rounded."""
    ends = [round(1000 * (i + 1) / fps) for i in range(length)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def write_gif(path: str | Path, frames: Frames, fps: float) -> None:
    """Write an endlessly repeating GIF that lasts T / fps seconds.

    GIF delays are whole centiseconds and viewers slow those below two down, so each frame's delay is the difference of
    rounded times, and above 50 frames per second frames are left out. All frames share one palette, without dithering:
    still parts don't flicker, and grey videos lose nothing.

    Args:
        frames: uint8 (T, H, W, C) with C 1 or 3.
        fps: frames per second.

    Raises:
        ValueError: frames of another type or shape, or fps not positive.
    """
    check_video(frames)
    shown, delays = gif_timing(len(frames), fps)
    frames = frames[shown]
    options: dict[str, Any] = {"disposal": 1, "optimize": False}
    if frames.shape[-1] == 3:
        frames, options["palette"] = _in_palette(frames)
    _write_animation(Path(path), frames.reshape(frames.shape[:3]), [10 * delay for delay in delays], options)


def gif_timing(length: int, fps: float) -> tuple[list[int], list[int]]:
    """Which frames a GIF shows, and each one's delay in centiseconds; the delays add up to length / fps, rounded."""
    if not fps > 0:
        raise ValueError(f"fps is {fps}, but it must be positive")
    total = max(round(100 * length / fps), 2)
    count = min(length, total // 2)
    shown = [i * length // count for i in range(count)]
    ends = [round((i + 1) * total / count) for i in range(count)]
    return shown, [end - start for start, end in zip([0, *ends], ends, strict=False)]


def write_png(path: str | Path, image: Frames) -> None:
    """Write one uint8 image (H, W, C) with C 1 or 3."""
    check_video(image[None])
    _write_pictures(Path(path), image[..., 0] if image.shape[-1] == 1 else image, ".png", {})


def _write_animation(path: Path, frames: Frames, delays: list[int], options: dict[str, Any]) -> None:
    """Frames (T, H, W) or (T, H, W, 3), each for so many milliseconds, endlessly repeated."""
    extension = ".png" if path.suffix == ".apng" else path.suffix
    timing = {"duration": delays, "loop": 0}
    _write_pictures(path, frames, extension, {"is_batch": True, **timing, **options})


def _write_pictures(path: Path, frames: Frames, extension: str, options: dict[str, Any]) -> None:
    """Made in memory: where the disk is full, imageio would try once more when its writer is deleted, and fail."""
    content: Any = iio.imwrite("<bytes>", frames, plugin="pillow", extension=extension, **options)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _write_mp4(path: Path, frames: Frames, fps: float) -> None:
    """H.264, of nearly no visible loss; odd sizes are padded by a row or column, which H.264 needs."""
    require_av()
    from imageio.plugins.pyav import PyAVPlugin

    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    options = {"movflags": "faststart"}
    with replacing(path) as temporary:
        file = iio.imopen(temporary, "w", plugin=PyAVPlugin, options=options)
        try:
            file.init_video_stream("libx264", fps=fps, pixel_format="yuv420p")
            file._video_stream.options = {"crf": "12", "preset": "medium"}  # type: ignore[union-attr]  # no public way
            for frame in frames:
                file.write_frame(np.ascontiguousarray(frame))
            file.close()
        except BaseException:
            file.close = lambda: None  # type: ignore[method-assign]  # its deletion would write once more, and fail
            raise


def require_av() -> None:
    """Raises ValueError where PyAV, by which imageio reads and writes video files, is not installed."""
    if find_spec("av") is None:
        raise ValueError("video files need PyAV: pip install av")


def _in_palette(frames: Frames) -> tuple[Frames, bytes]:
    """Frames (T, H, W, 3) in the 255 colours that suit all of them best (one is left for GIF's transparency): Pillow's
    median cut, refined by its k-means, without which small things lose their colour.

    Returns:
        uint8 (T, H, W, 1), numbers of colours, and the colours' bytes.
    """
    tall = Image.fromarray(frames.reshape(-1, frames.shape[2], 3))
    found = tall.quantize(255, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    return np.asarray(found).reshape(*frames.shape[:3], 1), bytes(found.getpalette() or [])
