"""Videos as files: every format lasts as long, and those that are lossless lose nothing."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from svg.media import pictures
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


def test_pictures_show_the_first_three_channels() -> None:
    """Grey stays grey; of two channels blue is black; floats are rounded to levels."""
    x = torch.arange(2 * 5 * 3 * 4, dtype=torch.uint8).view(2, 5, 3, 4)
    for channels in (3, 4, 5):
        assert np.array_equal(pictures(x[:, :channels]), x[:, :3].permute(0, 2, 3, 1).numpy())
    assert np.array_equal(pictures(x[:, :1]), x[:, :1].permute(0, 2, 3, 1).numpy())
    two = pictures(x[:, :2])
    assert np.array_equal(two[..., :2], x[:, :2].permute(0, 2, 3, 1).numpy()) and not two[..., 2].any()
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert pictures(torch.tensor([0.0, 0.5, 1.0], dtype=dtype).view(1, 1, 3))[0, :, 0].tolist() == [0, 128, 255]
    assert pictures(torch.zeros(6, 2, 5, 3, 4)).shape == (6, 2, 3, 4, 3)
