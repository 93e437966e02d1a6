"""GIFs last as long as they should and show what they were given; borders and grids are where they belong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from svg.media import write
from svg.media.panels import BLUE, GREEN, RED, Panel, comparison_panels, filmstrip, future_panel, grid


def noise_video(length: int = 5, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (length, 8, 12, channels), dtype=np.uint8)


def read_gif(path: Path) -> tuple[np.ndarray, list[int]]:
    """Frames (T, H, W, 3) and the delay of each in milliseconds."""
    with Image.open(path) as image:
        frames = [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
    return np.stack([frame for frame, _ in frames]), [delay for _, delay in frames]


@given(st.integers(1, 200), st.floats(0.5, 240))
def test_gif_timing_adds_up_and_is_even(length: int, fps: float) -> None:
    shown, delays = write.gif_timing(length, fps)
    assert len(shown) == len(delays) and shown[0] == 0 and shown == sorted(set(shown)) and shown[-1] < length
    assert sum(delays) == max(round(100 * length / fps), 2)
    assert min(delays) >= 2 and max(delays) - min(delays) <= 1


@pytest.mark.parametrize("fps", [7, 10, 12, 30, 60])
@pytest.mark.parametrize("channels", [1, 3])
def test_gif_lasts_as_long_as_the_video(tmp_path: Path, fps: float, channels: int) -> None:
    frames = noise_video(30, channels)
    frames[10:15] = frames[10]  # equal neighbours, which Pillow merges into one longer frame
    write.write_gif(tmp_path / "a.gif", frames, fps)
    assert sum(read_gif(tmp_path / "a.gif")[1]) == pytest.approx(1000 * 30 / fps, abs=5)


def test_grey_gif_is_lossless(tmp_path: Path) -> None:
    frames = noise_video(channels=1)
    write.write_gif(tmp_path / "a.gif", frames, 10)
    np.testing.assert_array_equal(read_gif(tmp_path / "a.gif")[0], frames.repeat(3, axis=-1))


def test_gif_with_few_colours_is_lossless(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (100, 3), dtype=np.uint8)
    frames = colours[np.random.default_rng(2).integers(0, 100, (6, 16, 16))]
    write.write_gif(tmp_path / "a.gif", frames, 10)
    np.testing.assert_array_equal(read_gif(tmp_path / "a.gif")[0], frames)


def test_still_parts_of_a_gif_do_not_flicker(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    frames = np.repeat(ramp[None], 8, axis=0)
    frames[:, 40:] = rng.integers(0, 256, (8, 24, 64, 3), dtype=np.uint8)
    write.write_gif(tmp_path / "a.gif", frames, 10)
    shown, _ = read_gif(tmp_path / "a.gif")
    assert (shown[:, :40] == shown[:1, :40]).all()


def test_small_bright_things_keep_their_colour(tmp_path: Path) -> None:
    """A few pure green pixels in a video of very many browns and greys."""
    rng = np.random.default_rng(0)
    frames = (120 + 60 * rng.random((8, 64, 64, 1)) + 30 * rng.random((8, 64, 64, 3))).astype(np.uint8)
    frames[:, 30:34, 30:34] = (10, 220, 20)
    write.write_gif(tmp_path / "a.gif", frames, 10)
    shown = read_gif(tmp_path / "a.gif")[0][:, 30:34, 30:34].astype(int)
    assert np.abs(shown - (10, 220, 20)).max() <= 8


def test_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.gif"
    write.write_gif(path, noise_video(), 10)
    old = path.read_bytes()

    def stop(self: Image.Image, file: IO[bytes], **_: object) -> None:
        file.write(b"half")
        file.flush()
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        write.write_gif(path, noise_video(seed=1), 10)
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["a.gif"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 3])
def test_grid_shows_each_panel_in_its_border(channels: int, scale: int) -> None:
    panels = [Panel("", noise_video(3, channels, seed), [GREEN, BLUE, RED]) for seed in range(5)]
    shown = grid(panels, scale=scale, columns=2)
    for panel in panels:
        large = panel.frames.repeat(scale, axis=1).repeat(scale, axis=2)
        height, width = large.shape[1:3]
        windows = np.lib.stride_tricks.sliding_window_view(shown[..., 0], (height, width), axis=(1, 2))
        (place,) = np.argwhere((windows == large[:, None, None, ..., 0]).all(axis=(0, 3, 4)))
        top, left = place
        inside = shown[:, top : top + height, left : left + width]
        np.testing.assert_array_equal(inside, np.broadcast_to(large, inside.shape))
        for edge in (shown[:, top - 1, left], shown[:, top, left + width], shown[:, top + height, left]):
            assert [tuple(colour) for colour in edge.tolist()] == [GREEN, BLUE, RED]


def test_comparison_borders_tell_context_truth_and_prediction() -> None:
    context, truth, samples = noise_video(2), noise_video(4), np.stack([noise_video(4, seed=s) for s in range(3)])
    panels = comparison_panels(context, truth, samples[1], samples, "best of 3")
    assert [panel.caption for panel in panels] == ["context", "truth", "best of 3", "sample 1", "sample 2", "sample 3"]
    assert [panel.colours[0] for panel in panels] == [GREEN] * 6
    assert [panel.colours[2] for panel in panels] == [GREEN, BLUE, RED, RED, RED, RED]
    np.testing.assert_array_equal(panels[0].frames[2:], np.repeat(context[-1:], 4, axis=0))
    np.testing.assert_array_equal(panels[1].frames, np.concatenate((context, truth)))


def test_filmstrip_shows_the_chosen_times(tmp_path: Path) -> None:
    panels = [future_panel("a", noise_video(2), noise_video(4, seed=1)), Panel("b", noise_video(6), [BLUE] * 6)]
    strip = filmstrip(panels, times=[0, 2, 5])
    assert strip.shape[1] < filmstrip(panels).shape[1]
    write.write_png(tmp_path / "a.png", strip)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), strip)
    windows = np.lib.stride_tricks.sliding_window_view(strip[..., 0], (8, 12))
    for panel in panels:
        for time in range(6):
            found = (windows == panel.frames[time, ..., 0]).all(axis=(2, 3)).any()
            assert found == (time in (0, 2, 5))


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 4), np.uint8)]
)
def test_wrong_videos_are_refused(tmp_path: Path, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        write.write_gif(tmp_path / "a.gif", bad, 10)
    with pytest.raises(ValueError, match="fps"):
        write.write_gif(tmp_path / "a.gif", noise_video(), 0)
    with pytest.raises(ValueError, match="one shape"):
        grid([Panel("", noise_video(2), [RED] * 2), Panel("", noise_video(3), [RED] * 3)])
    with pytest.raises(ValueError, match="colours"):
        Panel("", noise_video(2), [RED])
