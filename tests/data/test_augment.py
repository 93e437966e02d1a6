"""Augmentation: one draw a window, a pure function of seed and sample index, off by default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.augment import Augmentation
from data.clips import ClipStore, ClipWriter
from data.sampling import Windows

ALL = Augmentation(crop=3, flip=True, colour=0.3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    folder = tmp_path_factory.mktemp("augment") / "train"
    rng = np.random.default_rng(0)
    with ClipWriter(folder, frame_shape=(12, 10, 3), fps=10, source="test", split="train") as writer:
        for _ in range(4):
            writer.append(rng.integers(0, 256, (8, 12, 10, 3), np.uint8))
    return ClipStore(folder)


def window(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(30, 200, (5, 12, 10, 3), np.uint8)


def test_it_is_off_by_default(store: ClipStore) -> None:
    assert not Augmentation() and ALL
    plain, off = Windows(store, 4, 1), Windows(store, 4, 1, Augmentation())
    assert bool((plain.__getitems__(range(9))["frames"] == off.__getitems__(range(9))["frames"]).all())


def test_a_window_does_not_depend_on_its_batch(store: ClipStore) -> None:
    windows = Windows(store, 4, 1, ALL)
    together = windows.__getitems__(range(20))["frames"]
    for index in (0, 7, 19):
        assert bool((windows[index]["frames"] == together[index]).all())
    assert not bool((together == Windows(store, 4, 1).__getitems__(range(20))["frames"]).all())
    other = Windows(store, 4, 2, ALL)
    assert ALL.apply(window(), 1, 3).tobytes() != ALL.apply(window(), other.seed, 3).tobytes()


def test_all_frames_of_a_window_change_alike() -> None:
    """A window of the same frame over and over stays that."""
    still = np.repeat(window()[:1], 5, 0)
    for index in range(20):
        changed = ALL.apply(still, 0, index)
        assert changed.dtype == np.uint8 and changed.shape == still.shape and changed.flags["C_CONTIGUOUS"]
        assert (changed == changed[:1]).all()


def test_a_crop_moves_the_picture() -> None:
    frames = window()
    seen = set()
    for index in range(300):
        moved = Augmentation(crop=2).apply(frames, 0, index)
        shifts = [
            (y, x)
            for y in range(-2, 3)
            for x in range(-2, 3)
            if (moved[:, 2:-2, 2:-2] == frames[:, 2 + y : 10 + y, 2 + x : 8 + x]).all()
        ]
        assert len(shifts) == 1
        seen.add(shifts[0])
    assert len(seen) == 25


def test_a_flip_is_a_mirror_image_half_the_time_and_never_with_actions() -> None:
    frames, flip = window(), Augmentation(flip=True)
    changed = [flip.apply(frames, 0, index) for index in range(200)]
    mirrored = [bool((one == frames[:, :, ::-1]).all()) for one in changed]
    assert all(was or (one == frames).all() for was, one in zip(mirrored, changed, strict=True))
    assert 70 < sum(mirrored) < 130
    assert all((flip.apply(frames, 0, index, actions=True) == frames).all() for index in range(50))


def test_colours_stay_in_range() -> None:
    frames = window()
    means = [Augmentation(colour=0.3).apply(frames, 0, index).mean() for index in range(50)]
    assert np.std(means) > 5 and abs(np.mean(means) - frames.mean()) < 12
    grey = np.arange(256, dtype=np.uint8)[None, :, None, None].repeat(3, -1)
    for index in range(20):
        ramp = Augmentation(colour=0.9).apply(grey, 0, index)[0, :, 0].astype(int)
        assert (np.diff(ramp, axis=0) >= 0).all(), "brighter stays brighter"


@pytest.mark.parametrize(
    ("values", "message"), [({"crop": -1}, "augment_crop is -1"), ({"colour": 1.0}, "augment_colour is 1.0")]
)
def test_wrong_values(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**values)  # type: ignore[arg-type]


def test_train_py_augments_the_training_windows_alone(store: ClipStore, tmp_path: Path) -> None:
    import train
    from svg.config import config_from_dict

    config = config_from_dict({"data": {"frames": 4, "augment_flip": True, "augment_colour": 0.2}})
    windows = train.make_windows(config, {"train": store, "val": store})
    assert windows["train"].augmentation == Augmentation(flip=True, colour=0.2)
    assert not windows["val"].augmentation
    with pytest.raises(ValueError, match=r"data\.augment_crop is -1"):
        config_from_dict({"data": {"augment_crop": -1}})
