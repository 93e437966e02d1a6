"""Anybody's videos: the right frames, cropped as told, and one line for what can't be used."""

from __future__ import annotations

import wave
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from svg.media import read
from svg.media.read import natural_order, read_clip
from svg.media.write import write_video


def steps(length: int = 12, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame t is grey 10 t."""
    return np.stack([np.full((height, width, 3), 10 * t, np.uint8) for t in range(length)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images 1 to 12, without leading zeros."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for t, frame in enumerate(steps()):
        Image.fromarray(frame).save(folder / f"frame{t + 1}.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


def levels(frames: np.ndarray) -> list[int]:
    return [round(value / 10) for value in frames.mean(axis=(1, 2, 3))]


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp", ".apng", "folder"])
def test_first_and_last_frames(tmp_path: Path, folder: Path, suffix: str) -> None:
    path = folder
    if suffix != "folder":
        path = tmp_path / f"video{suffix}"
        write_video(path, steps(), 8)
    first = read_clip(path, 3, after=4)
    assert first.frames.shape == (7, 64, 64, 3) and levels(first.frames) == list(range(7)) and first.start == 0
    last = read_clip(path, 3, at="last")
    assert levels(last.frames) == [9, 10, 11] and (last.start, last.total) == (9, 12)
    assert levels(read_clip(path, 1, at="last").frames) == [11]
    assert levels(read_clip(path, 10, after=8).frames) == list(range(12))  # as many as there are
    assert first.fps == pytest.approx(10 if suffix == "folder" else 8, rel=0.05)


def test_natural_order() -> None:
    names = ["frame10.png", "frame9.png", "Frame1.png", "a2b10.png", "a2b9.png"]
    found = [path.name for path in natural_order(map(Path, names))]
    assert found == ["a2b9.png", "a2b10.png", "Frame1.png", "frame9.png", "frame10.png"]


def test_crops(tmp_path: Path) -> None:
    """Left half black, right half white, 48 x 64."""
    frames = steps(2)
    frames[:, :, :32], frames[:, :, 32:] = 0, 255
    for index, frame in enumerate(frames):
        (tmp_path / "f").mkdir(exist_ok=True)
        Image.fromarray(frame).save(tmp_path / "f" / f"{index}.png")
    path = tmp_path / "f"
    assert read_clip(path, 2, crop="0,0,32,48").frames.max() == 0
    assert read_clip(path, 2, crop="32,0,32,48").frames.min() == 255
    centre = read_clip(path, 2, size=48).frames
    assert (centre[:, :, :22] == 0).all() and (centre[:, :, 26:] == 255).all()
    assert 0.45 < (read_clip(path, 2, crop="none").frames > 127).mean() < 0.55


def test_grey(folder: Path) -> None:
    assert levels(read_clip(folder, 3, channels=1).frames) == [0, 1, 2]
    colour = steps(12)
    colour[..., 0] = 255
    for t, frame in enumerate(colour):
        Image.fromarray(frame).save(folder / f"frame{t + 1}.png")
    with pytest.raises(ValueError, match="in colour, but the model takes grey frames: --grey"):
        read_clip(folder, 3, channels=1)
    assert read_clip(folder, 3, channels=1, grey=True).frames.shape == (3, 64, 64, 1)


def test_what_is_wrong_is_said(tmp_path: Path, folder: Path) -> None:
    cases: list[tuple[Path, dict, str]] = [
        (tmp_path / "none.mp4", {}, "does not exist"),
        (folder, {"length": 13}, "has 12 frames, but 13 are needed"),
        (folder, {"crop": "0,0,65,4"}, "--crop 0,0,65,4 lies outside the 64x48 pixels"),
        (folder, {"crop": "middle"}, "must be center, none or LEFT"),
        (folder, {"crop": f"0,0,{'9' * 5000},4"}, "^--crop is '0,0,9{56}', but it must be center, none or LEFT"),
        (folder, {"channels": 4}, "4 channels"),
        (tmp_path, {}, "holds no images"),
    ]
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    cases.append((text, {}, "can't be read as a video"))
    for path, options, message in cases:
        with pytest.raises(ValueError, match=message):
            read_clip(path, **{"length": 2, **options})
    Image.fromarray(np.zeros((48, 64, 4), np.uint8), "RGBA").save(folder / "frame2.png")
    with pytest.raises(ValueError, match=r"frame2.png has channels RGBA"):
        read_clip(folder, 3)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "frame2.png")
    with pytest.raises(ValueError, match=r"frame2.png has 9x9 pixels, but those before it 64x48"):
        read_clip(folder, 3)
    (folder / "frame2.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"frame2.png can't be read as an image"):
        read_clip(folder, 3)


def test_what_is_no_video_is_said_in_plain_words(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    (tmp_path / "sound.wav").rename(tmp_path / "sound.mp4")
    for name, content in (("empty.mp4", b""), ("text.mp4", b"no video"), ("text.webp", b"no picture")):
        (tmp_path / name).write_bytes(content)
    for name in ("sound.mp4", "empty.mp4", "text.mp4", "text.webp"):
        kind = "an animation" if name.endswith("webp") else "a video"
        with pytest.raises(ValueError, match=f"{name} can't be read as {kind}: it is damaged, or something else"):
            read_clip(tmp_path / name, 2)


def test_a_photograph_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    """EXIF orientation 6: the picture's right side was up."""
    frame = np.zeros((48, 48, 3), np.uint8)
    frame[:, 24:] = 255
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(frame).save(tmp_path / "1.jpg", exif=exif, quality=95)
    shown = read_clip(tmp_path, 1, size=48).frames[0]
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "1.jpg")))
    assert np.abs(shown.astype(int) - upright).max() <= 2
    assert shown[:20].mean() < 10 and shown[28:].mean() > 245


@pytest.mark.parametrize("most", [1000, 2000])
@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp", ".apng", "folder"])
def test_frames_too_large_are_refused_by_name(
    tmp_path: Path, folder: Path, monkeypatch, suffix: str, most: int
) -> None:
    """Before they are decoded; these have 3,072 pixels."""
    path = folder
    if suffix != "folder":
        path = tmp_path / f"video{suffix}"
        write_video(path, steps(), 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(ValueError, match=rf"(video\{suffix}|frame1\.png) has .*pixels: scale it down$"):
        read_clip(path, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".webp", "folder"])
def test_frames_are_resized_as_they_are_read(tmp_path: Path, folder: Path, monkeypatch, suffix: str) -> None:
    """However large a video's are, there are never many of them."""
    path, seen, alive = folder, [], []
    if suffix != "folder":
        path = tmp_path / f"video{suffix}"
        write_video(path, steps(), 8)
    fit = read._fit

    def counted(image, *rest):
        seen.append(weakref.ref(image))
        alive.append(sum(one() is not None for one in seen))
        return fit(image, *rest)

    monkeypatch.setattr(read, "_fit", counted)
    for at in ("first", "last"):
        assert len(read_clip(path, 12, at=at).frames) == 12
    assert len(alive) == 24 and max(alive) <= 2


def test_a_damaged_video_is_named(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8), 10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(ValueError, match=r"video.mp4"):
        read_clip(path, 20)
