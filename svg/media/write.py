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
from scipy.spatial import cKDTree

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
        _write_animation(path, frames, fps)
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
    images = _grey_images(frames) if frames.shape[-1] == 1 else _palette_images(frames)
    options: dict[str, Any] = dict(save_all=True, append_images=images[1:], loop=0, disposal=1, optimize=False)
    options["duration"] = [10 * delay for delay in delays]
    with replacing(path) as temporary:
        images[0].save(temporary, format="GIF", **options)


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
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


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


def _grey_images(frames: Frames) -> list[Image.Image]:
    return [Image.fromarray(frame[..., 0]) for frame in frames]


def _palette_images(frames: Frames) -> list[Image.Image]:
    """Frames (T, H, W, 3) in the 255 colours that suit all of them best (one is left for GIF's transparency)."""
    red, green, blue = (frames[..., channel].astype(np.int32) for channel in range(3))
    codes = red << 16 | green << 8 | blue
    counts = np.bincount(codes.ravel(), minlength=1 << 24)
    distinct = np.flatnonzero(counts)
    colours = np.stack((distinct >> 16, distinct >> 8 & 255, distinct & 255), axis=-1).astype(np.float64)
    palette = _palette(frames, colours, counts[distinct])
    nearest = np.zeros(1 << 24, np.uint8)
    nearest[distinct] = cKDTree(palette).query(colours)[1]
    images = [Image.fromarray(frame) for frame in nearest[codes]]
    for image in images:
        image.putpalette(palette.tobytes())
    return images


def _palette(frames: Frames, colours: np.ndarray, counts: np.ndarray, steps: int = 6) -> Frames:
    """At most 255 colours (N, 3): Pillow's median cut, refined by k-means on the distinct colours and their counts."""
    if len(colours) <= 255:
        return colours.astype(np.uint8)
    tall = Image.fromarray(frames.reshape(-1, frames.shape[2], 3))
    centres = np.array(tall.quantize(255, method=Image.Quantize.MEDIANCUT).getpalette(), np.float64).reshape(-1, 3)
    for _ in range(steps):
        nearest = cKDTree(centres).query(colours)[1]
        weight = np.bincount(nearest, counts, len(centres))
        used = weight > 0
        for channel in range(3):
            total = np.bincount(nearest, counts * colours[:, channel], len(centres))
            centres[used, channel] = total[used] / weight[used]
    return np.unique(centres.round().astype(np.uint8), axis=0)
