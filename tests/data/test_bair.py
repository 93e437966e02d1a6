"""BAIR's converter: tar or folder, any feature order, any damage named, and a kill costs nothing but time."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import bair, robot_push
from data.clips import ClipStore, ClipWriter, StoreError
from data.tfrecord import RecordError, encode_example, write_record

ROOT = Path(__file__).parents[2]
FILES = {"train": ("0_to_2", "3_to_5", "256_to_258", "512_to_514"), "test": ("0_to_2",)}
"""Three records each."""


def features(number: int, steps: int = 4, side: int = 4) -> dict[str, Any]:
    """A record as the data set has it."""
    rng = np.random.default_rng(number)
    record: dict[str, Any] = {}
    for t in range(steps):
        for camera in bair.CAMERAS:
            record[f"{t}/{camera}/encoded"] = rng.bytes(side * side * 3)
        record[f"{t}/action"] = rng.normal(size=4).astype(np.float32)
        record[f"{t}/endeffector_pos"] = rng.normal(size=3).astype(np.float32)
    return record


def write(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for record in records:
            write_record(file, encode_example(record))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder that holds the data set, its features in shuffled order."""
    shuffle = random.Random(0)
    number = 0
    for split, names in FILES.items():
        for name in names:
            records = []
            for _ in range(3):
                items = list(features(number).items())
                shuffle.shuffle(items)
                records.append(dict(items))
                number += 1
            write(tmp_path / "raw" / "softmotion30_44k" / split / f"traj_{name}.tfrecords", records)
    return tmp_path / "raw"


@pytest.fixture
def tar(source: Path, tmp_path: Path) -> Path:
    """The same in a tar, in another order, with what macOS adds."""
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for file in sorted(source.rglob("*.tfrecords"), reverse=True):
            tar.add(file, file.relative_to(source))
            extra = tarfile.TarInfo(str((file.parent / f"._{file.name}").relative_to(source)))
            tar.addfile(extra)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def record_file(source: Path, name: str = "train/traj_3_to_5.tfrecords") -> Path:
    return source / "softmotion30_44k" / name


def offsets(path: Path) -> list[int]:
    """Where each record begins, and the end."""
    file = bair.RecordFile(path, 0, path.stat().st_size, "")
    return [0, *(record.end for record in file.records())]


def flip(path: Path, position: int) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 4
    path.write_bytes(damaged)


@pytest.mark.parametrize("camera", bair.CAMERAS)
@pytest.mark.parametrize("workers", [1, 3])
def test_every_record_is_in_its_split(source: Path, tmp_path: Path, camera: str, workers: int) -> None:
    stores = bair.convert(source, tmp_path / "out", camera=camera, workers=workers)
    numbers = {"train": [0, 1, 2, 3, 4, 5, 9, 10, 11], "val": [6, 7, 8], "test": [12, 13, 14]}
    assert list(stores) == ["train", "val", "test"]
    for split, store in stores.items():
        assert store.split == split and len(store) == len(numbers[split]) and store.frame_shape == (4, 4, 3)
        for clip, number in enumerate(numbers[split]):
            record = features(number)
            raw = b"".join(record[f"{t}/{camera}/encoded"] for t in range(4))
            assert store.frames(clip).tobytes() == raw
            for name, key in (("actions", "action"), ("endeffector_pos", "endeffector_pos")):
                np.testing.assert_array_equal(store.array(name, clip), [record[f"{t}/{key}"] for t in range(4)])
        store.verify()


def test_tar_and_folders_give_the_same_bytes(source: Path, tar: Path, tmp_path: Path) -> None:
    stores = [
        contents(bair.convert(place, tmp_path / f"out{number}")["train"].folder)
        for number, place in enumerate((tar, source, source / "softmotion30_44k"))
    ]
    assert stores[0] == stores[1] == stores[2]


def test_the_simulated_robot_in_bairs_layout(tmp_path: Path) -> None:
    """What `--tfrecords` writes is read back, frame by frame."""
    robot_push.make(tmp_path / "raw", clips=3, test_clips=2, frames=5, workers=1, tfrecords=True, progress=False)
    for name, camera in (("top", "image_aux1"), ("oblique", "image_main")):
        stores = bair.convert(tmp_path / "raw", tmp_path / camera, camera=camera)
        assert {split: len(store) for split, store in stores.items()} == {"train": 3, "test": 2}
        clip = robot_push.make_clip(0, "test", 1, frames=5, cameras=(name,))
        np.testing.assert_array_equal(stores["test"].frames(1), clip.frames[name])
        np.testing.assert_array_equal(stores["test"].array("actions", 1), clip.actions)
        np.testing.assert_array_equal(stores["test"].array("endeffector_pos", 1), clip.positions)


@pytest.mark.parametrize(
    ("position", "reason", "lost"),
    [
        (2, "is corrupt: its length fails its checksum", 2),
        (9, "is corrupt: its length fails its checksum", 2),
        (200, "is corrupt: it fails its checksum", 1),
        (-1, "is corrupt: it fails its checksum", 1),
    ],
)
def test_a_corrupt_record_is_named_or_left_out(
    source: Path, tmp_path: Path, position: int, reason: str, lost: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """In length, its checksum, payload and its checksum; a lost length costs the rest of the file."""
    path = record_file(source)
    at = offsets(path)
    flip(path, at[1] + position if position >= 0 else at[2] + position)
    text = f"train/traj_3_to_5.tfrecords: record 1 at byte {at[1]:,} {reason}"
    arguments = ["--source", str(source), "--out", str(tmp_path / "out")]

    assert bair.main(arguments) == 2
    error = capsys.readouterr().err
    assert f"error: {text}\n" in error and "--skip-corrupt" in error and "Traceback" not in error
    assert not (tmp_path / "out" / "train").exists()

    assert bair.main([*arguments, "--skip-corrupt"]) == 0
    assert f"left out, as --skip-corrupt asked (1):\n  {text}\n" in capsys.readouterr().err
    train = ClipStore(tmp_path / "out" / "train")
    assert train.manifest["details"]["dropped"] == [text] and len(train) == 9 - lost
    numbers = [0, 1, 2, 3, *([5] if lost == 1 else []), 9, 10, 11]
    for clip, number in enumerate(numbers):
        assert train.frames(clip)[0].tobytes() == features(number)["0/image_aux1/encoded"]


@pytest.mark.parametrize("first", [True, False])
def test_a_truncated_file(source: Path, tmp_path: Path, first: bool) -> None:
    path = record_file(source, "train/traj_0_to_2.tfrecords" if first else "train/traj_512_to_514.tfrecords")
    at = offsets(path)
    os.truncate(path, at[3] - 5)
    with pytest.raises(RecordError, match=rf"{path.name}: record 2 at byte {at[2]:,} is truncated"):
        bair.convert(source, tmp_path / "out")
    assert len(bair.convert(source, tmp_path / "out", skip_corrupt=True)["train"]) == 8


def test_a_first_record_that_is_corrupt(source: Path, tmp_path: Path) -> None:
    """The frame size is then learnt from the next."""
    flip(record_file(source, "train/traj_0_to_2.tfrecords"), 100)
    with pytest.raises(RecordError, match="record 0 at byte 0 is corrupt"):
        bair.convert(source, tmp_path / "out")
    assert len(bair.convert(source, tmp_path / "out", skip_corrupt=True)["train"]) == 8


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"2/image_aux1/encoded": None}, r"has no 2/image_aux1/encoded"),
        ({f"{t}/action": None for t in range(4)}, r"has no 0/action, 1/action, 2/action \.\.\."),
        ({"1/endeffector_pos": np.zeros(4, np.float32)}, "has values of endeffector_pos that are not 3 finite numbers"),
        ({"1/action": np.full(4, np.nan, np.float32)}, "has values of action that are not 4 finite numbers"),
        ({"1/action": b"text"}, "has values of action"),
        ({"3/image_aux1/encoded": bytes(47)}, "has image_aux1 frames that are not raw, square RGB images of one size"),
        ({"0/image_aux1/encoded": b""}, "has image_aux1 frames that are not"),
        ({"0/image_aux1/encoded": np.zeros(48, np.float32)}, "has image_aux1 frames that are not"),
    ],
)  # fmt: skip
def test_a_record_that_lacks_something(source: Path, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = record_file(source)
    odd = {key: value for key, value in (features(4) | change).items() if value is not None}
    write(path, [features(3), odd, features(5)])
    with pytest.raises(RecordError, match=rf"traj_3_to_5\.tfrecords: record 1 at byte [\d,]+ {reason}"):
        bair.convert(source, tmp_path / "out")
    assert len(bair.convert(source, tmp_path / "out", skip_corrupt=True)["train"]) == 8


def test_a_payload_that_is_no_example(source: Path, tmp_path: Path) -> None:
    with open(record_file(source), "wb") as file:
        write_record(file, b"\xff" * 9)
    with pytest.raises(RecordError, match=r"record 0 at byte 0 is not a tf\.train\.Example"):
        bair.convert(source, tmp_path / "out")


@pytest.mark.parametrize("appended", [0, 1, 4, 5, 8])
def test_a_killed_conversion_is_carried_on(tar: Path, tmp_path: Path, appended: int) -> None:
    """SIGKILL after some clips, a corrupt record before them; the stores are those of an uninterrupted run."""
    flip(tar, tarfile.open(tar).getmember("softmotion30_44k/train/traj_0_to_2.tfrecords").offset_data + 100)
    script = f"""
        import os, signal
        from data import bair
        from data.clips import ClipWriter
        bair.CHECKPOINT = 2
        append, clips = ClipWriter.append, []
        def dying(self, frames, **arrays):
            append(self, frames, **arrays)
            clips.append(frames)
            if len(clips) > {appended}:
                os.kill(os.getpid(), signal.SIGKILL)
        ClipWriter.append = dying
        bair.convert({str(tar)!r}, {str(tmp_path / "out")!r}, skip_corrupt=True)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    bair.convert(tar, tmp_path / "out", skip_corrupt=True)
    bair.convert(tar, tmp_path / "whole", skip_corrupt=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert ClipStore(tmp_path / "out" / "train").manifest["details"]["dropped"]


def test_what_was_written_before_an_error_is_not_written_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = record_file(source, "train/traj_512_to_514.tfrecords")
    sound = path.read_bytes()
    flip(path, 100)
    with pytest.raises(RecordError):
        bair.convert(source, tmp_path / "out")
    path.write_bytes(sound)  # the file was got again
    appended = []
    append = ClipWriter.append

    def counted(self: ClipWriter, *arguments: Any, **arrays: Any) -> None:
        appended.append(self.folder.name)
        append(self, *arguments, **arrays)

    monkeypatch.setattr(ClipWriter, "append", counted)
    assert len(bair.convert(source, tmp_path / "out")["train"]) == 9
    assert appended == ["train"] * 3 + ["val"] * 3 + ["test"] * 3


def test_another_source_or_camera_is_not_mixed_in(source: Path, tmp_path: Path) -> None:
    flip(record_file(source), 100)
    with pytest.raises(RecordError):
        bair.convert(source, tmp_path / "out")
    with pytest.raises(StoreError, match=r"\.train\.partial was begun with another camera: delete"):
        bair.convert(source, tmp_path / "out", camera="image_main", skip_corrupt=True)
    record_file(source).unlink()
    with pytest.raises(StoreError, match="begun with another source_bytes"):
        bair.convert(source, tmp_path / "out")


def test_what_is_there_is_left(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    before = contents(bair.convert(source, out)["val"].folder)
    shutil.rmtree(out / "train")
    bair.convert(source, out)
    assert contents(out / "val") == before and len(ClipStore(out / "train")) == 9
    shutil.rmtree(source)  # not needed any more
    assert bair.main(["--source", str(source), "--out", str(out), "--download"]) == 0
    assert bair.main(["--source", str(source), "--out", str(out), "--camera", "image_main"]) == 2
    assert "is there, with camera image_aux1, not image_main: choose another --out" in capsys.readouterr().err


def test_a_truncated_tar(tar: Path, tmp_path: Path) -> None:
    """It breaks off in the last file, the test clips."""
    last = tarfile.open(tar).getmember("softmotion30_44k/test/traj_0_to_2.tfrecords")
    os.truncate(tar, last.offset_data + last.size // 2)
    with pytest.raises(
        ValueError, match=r"set\.tar is truncated in .*test/traj_0_to_2\S* \([\d,]+ bytes; BAIR's has 32,274,964,480\)"
    ):
        bair.convert(tar, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    stores = bair.convert(tar, tmp_path / "out", skip_corrupt=True)
    assert len(stores["test"]) == 1
    assert stores["test"].manifest["details"]["dropped"][0].endswith("is truncated")


def headers(tar: Path) -> list[int]:
    """Where the header of each file begins."""
    with tarfile.open(tar) as opened:
        return [member.offset for member in opened.getmembers()]


def sizes(stores: dict[str, ClipStore]) -> dict[str, int]:
    return {split: len(store) for split, store in stores.items()}


@pytest.mark.parametrize("damage", ["flip", "zeros", "cut", "cut in the end", "one block of zeros"])
def test_a_tar_that_is_damaged_between_its_files(
    tar: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is made of it; with --skip-corrupt it is told what is missing, and a sound tar makes it good."""
    sound = tar.read_bytes()
    at = headers(tar)[4]
    end = (len(sound.rstrip(b"\0")) + 511) // 512 * 512
    changed = {
        "flip": sound[: at + 20] + bytes([sound[at + 20] ^ 4]) + sound[at + 21 :],
        "zeros": sound[:at] + bytes(512) + sound[at + 512 :],
        "cut": sound[:at],
        "cut in the end": sound[: end + 100],
        "one block of zeros": sound[: end + 512],
    }[damage]
    tar.write_bytes(changed)
    place = at if len(damage) < 6 else end
    arguments = ["--source", str(tar), "--out", str(tmp_path / "out")]
    assert bair.main(arguments) == 2
    told = capsys.readouterr().err
    assert f"error: {tar} " in told and f" at byte {place:,}: " in told and "--skip-corrupt" in told
    assert not (tmp_path / "out").exists()

    assert bair.main([*arguments, "--skip-corrupt"]) == 0
    assert f"at byte {place:,}" in capsys.readouterr().err
    made = sizes(bair.finished(tmp_path / "out", "image_aux1"))
    whole = {"train": 9, "val": 3, "test": 3}
    assert (made == whole) == (place == end)

    tar.write_bytes(sound)
    assert bair.main(arguments) == 0
    stores = bair.finished(tmp_path / "out", "image_aux1")
    assert sizes(stores) == whole and not any(store.manifest["details"]["source_damage"] for store in stores.values())
    bair.convert(tar, tmp_path / "anew")
    for split in whole:
        assert contents(tmp_path / "out" / split) == contents(tmp_path / "anew" / split)


def test_a_flipped_header_costs_one_file(tar: Path, tmp_path: Path) -> None:
    """What follows it is found again."""
    flip(tar, headers(tar)[2] + 130)
    assert sum(sizes(bair.convert(tar, tmp_path / "out", skip_corrupt=True)).values()) == 12


def test_a_tar_that_ends_in_zeros(tar: Path, tmp_path: Path) -> None:
    """As a download into a file that was given its size first leaves it."""
    size = tar.stat().st_size
    os.truncate(tar, headers(tar)[4])
    os.truncate(tar, size + (2 << 20))
    with pytest.raises(ValueError, match=r"set\.tar is truncated or damaged at byte"):
        bair.convert(tar, tmp_path / "out")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names(source: Path, tmp_path: Path, form: int) -> None:
    with tarfile.open(tmp_path / "long.tar", "w", format=form) as tar:
        tar.add(source, "a/" * 70)
    assert sizes(bair.convert(tmp_path / "long.tar", tmp_path / "out")) == {"train": 9, "val": 3, "test": 3}


def test_a_record_file_that_ends_between_records(source: Path, tmp_path: Path) -> None:
    path = record_file(source)
    os.truncate(path, offsets(path)[2])
    text = "train/traj_3_to_5.tfrecords has 2 records, but its name says 3"
    with pytest.raises(RecordError, match=text):
        bair.convert(source, tmp_path / "out")
    stores = bair.convert(source, tmp_path / "out", skip_corrupt=True)
    assert stores["train"].manifest["details"]["dropped"] == [text]


def test_what_was_dropped_is_made_good(source: Path, tmp_path: Path) -> None:
    """By the same command once the file is sound; while it is not, the store is left."""
    path = record_file(source)
    flip(path, 100)
    bair.convert(source, tmp_path / "out", skip_corrupt=True)
    before = (tmp_path / "out" / "train" / "frames.npy").stat().st_ino
    bair.convert(source, tmp_path / "out", skip_corrupt=True)
    assert (tmp_path / "out" / "train" / "frames.npy").stat().st_ino == before
    flip(path, 100)
    stores = bair.convert(source, tmp_path / "out")
    assert sizes(stores) == {"train": 9, "val": 3, "test": 3} and not stores["train"].manifest["details"]["dropped"]


def test_an_interrupted_conversion_that_dropped_is_not_carried_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(record_file(source), 100)
    flip(record_file(source, "train/traj_512_to_514.tfrecords"), 9)
    monkeypatch.setattr(bair, "CHECKPOINT", 1)
    with monkeypatch.context() as patch:
        patch.setattr(ClipWriter, "_finish", lambda writer: writer.append(None))
        with pytest.raises(AttributeError):
            bair.convert(source, tmp_path / "out", skip_corrupt=True)
    with pytest.raises(StoreError, match=r"\.train\.partial was begun with --skip-corrupt, and left records out"):
        bair.convert(source, tmp_path / "out")


@pytest.mark.parametrize("change", [{"position": [0, 0]}, {"dropped": 3}, {"position": [99, 0, 0]}, {"position": "x"}])
def test_a_journal_of_wrong_types(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """Even under a sound checksum."""
    checkpoint = ClipWriter.checkpoint

    def wrong(writer: ClipWriter, state: Any = None) -> None:
        checkpoint(writer, state | change)
        raise KeyboardInterrupt

    monkeypatch.setattr(bair, "CHECKPOINT", 2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ClipWriter, "checkpoint", wrong)
        bair.convert(source, tmp_path / "out")
    with pytest.raises(StoreError, match=r"\.train\.partial.journal\.jsonl .*delete .*\.train\.partial to start again"):
        bair.convert(source, tmp_path / "out")


def test_sources_that_are_something_else(source: Path, tmp_path: Path) -> None:
    def refused(place: Path, message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            bair.convert(place, tmp_path / "out")
        assert "\n" not in str(caught.value) and str(place) in str(caught.value)

    refused(tmp_path / "nowhere.tar", "does not exist: give --source .* or add --download")
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as packed:
        packed.add(source, "softmotion30_44k")
    refused(tmp_path / "set.tar.gz", "is not an uncompressed tar")
    (tmp_path / "empty.tar").touch()
    refused(tmp_path / "empty.tar", "is not an uncompressed tar")
    (tmp_path / "photos").mkdir()
    refused(tmp_path / "photos", r"has no train/traj_\*_to_\*\.tfrecords")


def test_files_without_a_record(source: Path, tmp_path: Path) -> None:
    for path in source.rglob("train/traj_256*"):
        os.truncate(path, 0)
    with pytest.raises(ValueError, match=r"train/traj_256_to_258\.tfrecords has 0 records, but its name says 3"):
        bair.convert(source, tmp_path / "out")


def test_a_small_disk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 4000}))
    with pytest.raises(ValueError, match=r"out needs 0\.00 GiB more, but 0\.00 GiB are free there: free some"):
        bair.convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(tar: Path, tmp_path: Path) -> None:
    """As a user types it; other counts than the published ones are a warning."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "data.bair", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)

    made = run("--source", str(tar), "--out", str(tmp_path / "out"))
    assert made.returncode == 0 and f"{tmp_path / 'out' / 'train'}: 9 clips" in made.stdout
    assert "warning: 12 train and val clips; the published data set has 43,264" in made.stderr
    assert "warning: 3 test clips; the published data set has 256" in made.stderr
    refused = run("--source", str(tar), "--out", str(tmp_path / "out2"), "--workers", "0")
    assert refused.returncode == 2 and refused.stderr == "error: workers is 0, but it must be from 1 to 1,024\n"


def test_download_comes_first(tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def arrive(url: str, path: Path, size: int, sha256: str) -> None:
        asked.append((url, size, sha256))
        shutil.copy(tar, path)

    monkeypatch.setattr(bair, "download", arrive)
    assert bair.main(["--source", str(tmp_path / "got.tar"), "--out", str(tmp_path / "out"), "--download"]) == 0
    assert asked == [(bair.URL, bair.SIZE, bair.SHA256)]


def test_an_interrupted_command_says_how_to_go_on(
    tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bair, "convert", interrupt)
    assert bair.main(["--source", str(tar), "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "interrupted: the same command carries on\n"
