"""Several stores as one: read, merged, split; what does not fit together is refused by name."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import clips
from data.clips import ClipStore, ClipWriter, JoinedStore, StoreError, merge, split
from data.registry import can_be_made, data_sets, has_split, open_split
from data.sampling import Windows, first_frames


def write(folder: Path, lengths: list[int], first: int = 0, **options: object) -> ClipStore:
    """A store whose frames hold their clip's number."""
    arrays = {"actions": 4, "extra": 1} if options.pop("extra", False) else {"actions": 4}
    settings: dict = {"frame_shape": (4, 6, 3), "fps": 10, "source": "made", "split": folder.name} | options
    with ClipWriter(folder, arrays=arrays, **settings) as writer:
        for clip, length in enumerate(lengths, start=first):
            values = {name: np.full((length, width), clip) for name, width in arrays.items()}
            writer.append(np.full((length, *settings["frame_shape"]), clip, np.uint8), **values)
    return ClipStore(folder)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    for split_name, counts in {"train": ([5, 3, 7], [4, 6]), "test": ([5], [5, 5])}.items():
        write(tmp_path / "a" / split_name, counts[0])
        write(tmp_path / "b" / split_name, counts[1], first=10, extra=True, source="found")
    return tmp_path / "a", tmp_path / "b"


def test_stores_are_read_one_after_another(two: tuple[Path, Path]) -> None:
    one, other = (ClipStore(folder / "train") for folder in two)
    joined = JoinedStore([one, other])
    assert len(joined) == 5 and joined.lengths.tolist() == [5, 3, 7, 4, 6]
    assert joined.arrays == {"actions": 4} and (joined.frame_shape, joined.fps, joined.split) == (
        (4, 6, 3),
        10,
        "train",
    )
    for clip, value in enumerate([0, 1, 2, 10, 11]):
        assert (joined.frames(clip) == value).all() and (joined.array("actions", clip, 1, 2) == value).all()
    order = [4, 0, 3, 3, 2]
    assert joined.gather(order, [1, 0, 2, 0, 4], 2)[:, 0, 0, 0, 0].tolist() == [11, 0, 10, 10, 2]
    copy = pickle.loads(pickle.dumps(joined))
    assert (copy.frames(3) == 10).all()
    assert joined.manifest["source"] == "made + found"
    for name in ("frames.npy", "starts.npy", "lengths.npy"):
        shas = [store.manifest["files"][name]["sha256"] for store in (one, other)]
        assert joined.manifest["files"][name]["sha256"] == "+".join(shas)
    assert "frames.npy" not in joined.verified
    joined.verify()
    assert {"frames.npy", "actions.npy"} <= joined.verified
    for wrong in (5, -1):
        with pytest.raises(StoreError, match="have clips 0 to 4"):
            joined.frames(wrong)
        with pytest.raises(StoreError, match="have clips 0 to 4"):
            joined.gather([wrong], [0], 1)
    with pytest.raises(StoreError, match="frames 4 to 6"):
        joined.gather([3], [4], 3)
    with pytest.raises(StoreError, match="no array 'extra' in common; actions are"):
        joined.array("extra", 3)


def test_windows_come_from_all_stores(two: tuple[Path, Path]) -> None:
    store = open_split(f"{two[0]}, {two[1]}", "train")
    values = Windows(store, 3, seed=0).__getitems__(range(400))["frames"][:, 0, 0, 0, 0].tolist()
    assert set(values) == {0, 1, 2, 10, 11}
    assert sum(value >= 10 for value in values) / 400 == pytest.approx(6 / 15, abs=0.08), "by windows, not by stores"
    batches = list(first_frames(store, range(5), 3, 2))
    assert [value for batch in batches for value in batch["index"].tolist()] == [0, 1, 2, 3, 4]


def test_data_path_is_a_folder_several_or_a_glob(two: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = two
    assert data_sets(a) == [a] and data_sets(f"{a},{b}") == [a, b] and data_sets(f"{b}, {a},") == [b, a]
    assert data_sets(tmp_path / "*") == [a, b]
    assert isinstance(open_split(a, "train"), ClipStore)
    assert len(open_split(tmp_path / "?", "test")) == 3
    assert has_split(f"{a},{b}", "train") and not has_split(f"{a},{b}", "val") and not has_split("", "train")
    assert can_be_made(tmp_path / "new")
    assert not (can_be_made(a) or can_be_made(tmp_path / "n*") or can_be_made(f"{a},{tmp_path / 'new'}"))
    for path, message in (
        (f"{a},{tmp_path / 'none'}", "there is no data set .*none"),
        (str(tmp_path / "n*"), r"n\* matches no folder"),
        (f"{a},{a}", "is named twice"),
        (" , ", "must name a data set's folder, several, or a glob"),
    ):
        with pytest.raises(StoreError, match=message):
            open_split(path, "train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_shape": (8, 6, 3)}, r"frames of \(4, 6, 3\), but .*/c/train frames of \(8, 6, 3\)"),
        ({"fps": 5}, "a frame rate of 10.0, but .* a frame rate of 5.0"),
        ({"split": "val"}, "the split train, but .* the split val"),
    ],
)
def test_stores_that_are_unlike_are_refused(
    two: tuple[Path, Path], tmp_path: Path, options: dict, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "c" / "train", [5], **options)
    with pytest.raises(StoreError, match=message):
        open_split(f"{two[0]},{tmp_path / 'c'}", "train")
    with pytest.raises(StoreError, match=message):
        merge(tmp_path / "out", [two[0] / "train", tmp_path / "c" / "train"])
    assert not (tmp_path / "out").exists()


def test_merge_data_sets(two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert clips.main(["merge", "--out", str(out), str(two[0]), str(two[1])]) == 0
    assert "5 clips of 3 to 7 frames" in capsys.readouterr().out
    store, joined = ClipStore(out / "train"), open_split(f"{two[0]},{two[1]}", "train")
    store.verify()
    assert store.lengths.tolist() == joined.lengths.tolist() and store.arrays == {"actions": 4}
    assert all((store.frames(clip) == joined.frames(clip)).all() for clip in range(5))
    assert [part["clips"] for part in store.manifest["details"]["merged"]] == [3, 2]
    assert len(ClipStore(out / "test")) == 3
    assert clips.main(["merge", "--out", str(out), str(two[0]), str(two[1])]) == 2
    assert "exists: choose another --out" in capsys.readouterr().err
    for folders, message in (
        ([two[0]], "two or more"),
        ([two[0], two[1] / "train"], "either stores or data sets"),
        ([two[0] / "train", two[0] / "train"], "named twice"),
        ([two[0], tmp_path / "none"], "no such folder"),
    ):
        with pytest.raises(StoreError, match=message):
            merge(tmp_path / "other", folders)


def test_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "all", [3] * 20)
    arguments = ["split", str(tmp_path / "all"), "--out", str(tmp_path / "out"), "--val", "3", "--test", "5"]
    assert clips.main(arguments) == 0
    parts = {name: ClipStore(tmp_path / "out" / name) for name in ("train", "val", "test")}
    held = {name: [int(store.frames(clip)[0, 0, 0, 0]) for clip in range(len(store))] for name, store in parts.items()}
    assert [len(held[name]) for name in parts] == [12, 3, 5]
    assert sorted(clip for part in held.values() for clip in part) == list(range(20)) and all(
        store.split == name for name, store in parts.items()
    )
    again = split(tmp_path / "all", tmp_path / "again", val=3, test=5)
    assert all(
        (tmp_path / "out" / path.name / "frames.npy").read_bytes() == (path / "frames.npy").read_bytes()
        for path in again
    )
    split(tmp_path / "all", tmp_path / "another", val=3, test=5, seed=1)
    assert (tmp_path / "another/val/frames.npy").read_bytes() != (tmp_path / "out/val/frames.npy").read_bytes()
    capsys.readouterr()
    assert clips.main(arguments) == 2 and "exists" in capsys.readouterr().err
    for numbers, message in (((19, 1), "too few"), ((0, 0), "both 0"), ((-1, 3), "negative")):
        with pytest.raises(StoreError, match=message):
            split(tmp_path / "all", tmp_path / "x", val=numbers[0], test=numbers[1])


def test_a_full_disk_is_noticed_first(two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="GiB are free there: free some, or choose another --out"):
        merge(tmp_path / "out", two)


def test_sheet(two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheets" / "sheet.png"
    arguments = ["sheet", str(two[0] / "train"), "--out", str(out), "--clips", "2", "--frames", "3", "--scale", "2"]
    assert clips.main(arguments) == 0
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (2 * 4 * 2, 3 * 6 * 2, 3) and (sheet[:8] == 0).all() and (sheet[8:] == 2).all()
    capsys.readouterr()
    for option, value in {"--clips": "0", "--scale": "9999", "--out": "x.y"}.items():
        assert clips.main([*arguments, option, value]) == 2 and f"{option} {value}" in capsys.readouterr().err


def test_damage_is_not_copied_under_a_new_checksum(two: tuple[Path, Path], tmp_path: Path) -> None:
    """Neither by merging nor by splitting."""
    path = two[1] / "train" / "frames.npy"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"frames\.npy differs from its checksum"):
        merge(tmp_path / "merged", two)
    with pytest.raises(StoreError, match=r"frames\.npy differs from its checksum"):
        split(two[1] / "train", tmp_path / "parts", val=1, test=0)
    assert not (tmp_path / "merged").exists() and not (tmp_path / "parts").exists()
