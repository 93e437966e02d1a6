"""Reads any video as frames for a model, by imageio: a file that FFmpeg reads, or a folder of images, cropped and
resized.

Shapes: T frames, H W pixels, C channels (1 or 3); uint8.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import imageio.v3 as iio
import numpy as np
from PIL import Image

from svg.media import Frames
from svg.media.write import require_av

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
ANIMATIONS = {".webp", ".apng", ".png"}
"""What FFmpeg can't read, or not as an animation."""
MODES = ("1", "L", "P", "RGB")
"""Pillow's names of grey and RGB pictures of 8 bits, at most."""
DEFAULT_FPS = 10.0


@dataclass(frozen=True)
class Clip:
    """Frames of a video."""

    frames: Frames
    """uint8 (T, H, W, C)."""
    fps: float
    start: int
    """Number of the first one in the video."""
    total: int
    """Frames that were looked at: with `last`, all."""


def read_clip(
    path: str | Path,
    length: int,
    *,
    at: Literal["first", "last"] = "first",
    size: int = 64,
    channels: int = 3,
    crop: str = "center",
    grey: bool = False,
    after: int = 0,
) -> Clip:
    """Some consecutive frames of a video, as a model takes them.

    Args:
        path: a video file, a GIF, or a folder of images, which are taken in natural order (frame 2 before frame 10).
        length: how many.
        at: the first of the video, or the last.
        size: their height and width.
        channels: 1 or 3.
        crop: center (the largest square), none (the whole frame, squeezed), or LEFT,TOP,WIDTH,HEIGHT in pixels.
        grey: turn colours into grey for a model of 1 channel.
        after: with `first`, also up to so many frames that follow, the true future.

    Raises:
        ValueError: nothing there, unreadable, too short, of other channels, or a crop outside the frame.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"--video {path} does not exist")
    read = _folder if path.is_dir() else _animation if path.suffix.lower() in ANIMATIONS else _file
    fps, images = read(path)
    fitted = (_fit(image, size, crop, path) for image in images)  # at once, so that large frames aren't kept
    total = 0
    if at == "first":
        kept = list(islice(fitted, length + after))
        total = len(kept)
    else:
        last: deque[Frames] = deque(maxlen=length)
        for frame in fitted:
            last.append(frame)
            total += 1
        kept = list(last)
    if total < length:
        raise ValueError(
            f"{path} has {total} frames, but {length} are needed: lower --eval.context or take a longer video"
        )
    return Clip(_channels(np.stack(kept), channels, grey, path), fps, total - len(kept) if at == "last" else 0, total)


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Files by name, numbers in them by their value."""
    return sorted(
        paths,
        key=lambda path: [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", path.name.lower())],
    )


def _folder(path: Path) -> tuple[float, Iterator[Frames]]:
    files = natural_order(file for file in path.iterdir() if file.suffix.lower() in IMAGES)
    if not files:
        raise ValueError(f"{path} holds no images ({', '.join(sorted(IMAGES))})")

    def images() -> Iterator[Frames]:
        first = None
        for file in files:
            with _reading(file, "an image"), Image.open(file) as opened:  # which says what imageio hides: too large
                mode = opened.mode
            if mode not in MODES:
                raise ValueError(f"{file} has channels {mode}, but grey or RGB of 8 bits are needed: convert it")
            with _reading(file, "an image"):
                image = iio.imread(file, plugin="pillow", index=0, mode="RGB", rotate=True)
            first = first or image.shape
            if image.shape != first:
                found, before = (f"{width}x{height}" for height, width, _ in (image.shape, first))
                raise ValueError(f"{file} has {found} pixels, but those before it {before}")
            yield image

    return DEFAULT_FPS, images()


def _animation(path: Path) -> tuple[float, Iterator[Frames]]:
    with _reading(path, "an animation"):
        Image.open(path).close()  # says of too large a picture what imageio would not
        with iio.imopen(path, "r", plugin="pillow") as opened:
            durations = []
            for index, _ in enumerate(opened.iter()):  # WebP tells the delay of a frame once it is decoded
                durations.append(float(opened.metadata(index=index).get("duration", 0)))
    fps = 1000 * len(durations) / sum(durations) if sum(durations) > 0 else DEFAULT_FPS

    def images() -> Iterator[Frames]:
        with _reading(path, "an animation"):
            yield from iio.imiter(path, plugin="pillow", mode="RGB")

    return fps, images()


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Turns what a reader raises over a file's bytes, which may be anything, into a line that names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning)  # of metadata that is not needed
        try:
            yield
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            most = round((Image.MAX_IMAGE_PIXELS or 0) / 1e6)
            raise ValueError(f"{path} has more than {most} million pixels: scale it down") from None
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            if any(words in reason for words in ("plugin", "given uri", "cannot identify")):
                reason = "it is damaged, or something else"
            raise ValueError(f"{path} can't be read as {what}: {reason}") from None


def _file(path: Path) -> tuple[float, Iterator[Frames]]:
    require_av()
    with _reading(path, "a video"), iio.imopen(path, "r", plugin="pyav") as opened:
        found = opened.metadata(exclude_applied=False)
        height, width = opened.properties(format="rgb24").shape[-3:-1]
    if width * height > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise ValueError(f"{path} has frames of {width}x{height} pixels: scale it down")

    def images() -> Iterator[Frames]:
        with _reading(path, "a video"):
            yield from iio.imiter(path, plugin="pyav", format="rgb24")

    return float(found.get("fps") or DEFAULT_FPS), images()


def _fit(frame: Frames, size: int, crop: str, path: Path) -> Frames:
    """One frame (H, W, 3) cropped and resized (antialiased): uint8 (size, size, 3)."""
    image = Image.fromarray(frame)
    width, height = image.size
    if crop == "none":
        box = (0, 0, width, height)
    elif crop == "center":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
    else:
        numbers = crop.split(",")
        if len(numbers) != 4 or not all(re.fullmatch(r" *[0-9]{1,9} *", number) for number in numbers):
            raise ValueError(f"--crop is {crop[:60]!r}, but it must be center, none or LEFT,TOP,WIDTH,HEIGHT in pixels")
        left, top, wide, high = map(int, numbers)
        box = (left, top, left + wide, top + high)
        if not (wide and high and box[2] <= width and box[3] <= height):
            raise ValueError(f"--crop {crop} lies outside the {width}x{height} pixels of {path}")
    return np.asarray(image.crop(box).resize((size, size), Image.Resampling.LANCZOS))


def _channels(frames: Frames, channels: int, grey: bool, path: Path) -> Frames:
    """Frames (T, H, W, 3) with the model's channels."""
    if channels == 3:
        return frames
    if channels != 1:
        raise ValueError(f"the model takes frames of {channels} channels, which no video has")
    if not grey and int(np.ptp(frames.astype(np.int16), axis=-1).max()) > 8:  # codecs tint grey a little
        raise ValueError(f"{path} is in colour, but the model takes grey frames: --grey converts it")
    weights = np.array([0.299, 0.587, 0.114])  # Rec. 601
    return (frames @ weights).round().astype(np.uint8)[..., None]
