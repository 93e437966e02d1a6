"""Videos as files: every format lasts as long, and those that are lossless lose nothing."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from svg.media.write import milliseconds, write_video


def noise(length: int = 12, height: int = 31, width: int = 20, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (length, height, width, channels), dtype=np.uint8)


def seconds(path: Path) -> float:
    if path.suffix == ".mp4":
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            return float(stream.duration * stream.time_base)
    with Image.open(path) as image:
        return sum(frame.load() and frame.info["duration"] for frame in ImageSequence.Iterator(image)) / 1000


@pytest.mark.parametrize("fps", [7, 10, 29.97])
@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".webp", ".apng", ".png"])
def test_every_format_lasts_as_long(tmp_path: Path, suffix: str, fps: float) -> None:
    path = tmp_path / f"video{suffix}"
    write_video(path, noise(), fps)
    assert seconds(path) == pytest.approx(12 / fps, abs=0.006)


def test_milliseconds_add_up() -> None:
    assert sum(milliseconds(30, 7)) == round(30_000 / 7) and set(milliseconds(30, 7)) == {142, 143}


@pytest.mark.parametrize("suffix", [".webp", ".apng"])
def test_true_colour_loses_nothing(tmp_path: Path, suffix: str) -> None:
    frames = noise()
    write_video(tmp_path / f"video{suffix}", frames, 10)
    with Image.open(tmp_path / f"video{suffix}") as image:
        found = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])
    np.testing.assert_array_equal(found, frames)


def test_mp4_of_odd_size_is_nearly_the_same(tmp_path: Path) -> None:
    frames = np.stack([np.full((31, 21, 1), 20 * t, np.uint8) for t in range(10)])
    write_video(tmp_path / "video.mp4", frames, 25)
    with av.open(str(tmp_path / "video.mp4")) as file:
        found = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    assert found.shape == (10, 32, 22, 3)
    assert np.abs(found[:, :31, :21].astype(int) - frames).max() <= 3


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none of .gif, .mp4"):
        write_video(tmp_path / "video.avi", noise(), 10)
    with pytest.raises(ValueError, match="fps is 0"):
        write_video(tmp_path / "video.mp4", noise(), 0)
    assert not list(tmp_path.iterdir())
