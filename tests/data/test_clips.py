"""The clip store: what is written is read, half-written or damaged stores never are, and the reason is one line."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import bair_writer, clips
from data.clips import ClipStore, ClipWriter, StoreError, stores
from data.store_sheet import write_sheet
from tests.helpers.disk import files_up_to

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {"frame_shape": (4, 5, 3), "fps": 10, "source": "a test", "split": "train"}


def clip(number: int, length: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    frames = rng.integers(0, 256, (length, 4, 5, 3), np.uint8)
    return {"frames": frames, "actions": rng.normal(size=(length, 4)).astype(np.float32)}


def write(folder: Path, lengths: tuple[int, ...] = (3, 1, 4), **settings: Any) -> ClipStore:
    with ClipWriter(folder, **(SETTINGS | {"arrays": {"actions": 4}} | settings)) as writer:
        for number, length in enumerate(lengths):
            writer.append(**clip(number, length))
    return ClipStore(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], data: st.DataObject
) -> None:
    store = write(tmp_path_factory.mktemp("clips") / "train", tuple(lengths))
    assert len(store) == len(lengths) and store.lengths.tolist() == lengths
    assert store.frame_shape == (4, 5, 3) and store.fps == 10 and store.split == "train"
    number = data.draw(st.integers(0, len(lengths) - 1))
    start = data.draw(st.integers(0, lengths[number] - 1))
    length = data.draw(st.none() | st.integers(1, lengths[number] - start))
    there = slice(start, None if length is None else start + length)
    expected = clip(number, lengths[number])
    np.testing.assert_array_equal(store.frames(number, start, length), expected["frames"][there])
    np.testing.assert_array_equal(store.array("actions", number, start, length), expected["actions"][there])
    np.testing.assert_array_equal(store.gather([number, 0], [start, 0], 1)[0], expected["frames"][start : start + 1])


def test_frames_are_copies(tmp_path: Path) -> None:
    store = write(tmp_path / "train")
    store.frames(0)[:] = 0
    assert store.frames(0).any()


def test_a_store_pickles_as_its_path(tmp_path: Path) -> None:
    store = write(tmp_path / "train", (400, 400))
    store.frames(0)
    pickled = pickle.dumps(store)
    assert len(pickled) < 500
    np.testing.assert_array_equal(pickle.loads(pickled).frames(1), store.frames(1))


def test_the_manifest_says_what_is_there(tmp_path: Path) -> None:
    manifest = write(tmp_path / "train", details={"seed": 3}).manifest
    assert manifest["format"] == "svg-lp clips" and manifest["version"] == 1 and manifest["details"] == {"seed": 3}
    assert manifest["clips"] == 3 and manifest["frames"] == 8 and manifest["arrays"] == {"actions": 4}
    assert set(manifest["files"]) == {"frames.npy", "starts.npy", "lengths.npy", "actions.npy"}
    assert np.load(tmp_path / "train" / "frames.npy").shape == (8, 4, 5, 3)  # plain .npy files


@pytest.mark.parametrize("ask", [(3, 0, None), (-1, 0, None), (0, 1, 3), (0, 3, None), (0, -1, 2), (0, 0, 0)])
def test_what_is_not_there_cannot_be_read(tmp_path: Path, ask: tuple[int, int, int | None]) -> None:
    store = write(tmp_path / "train")
    with pytest.raises(StoreError):
        store.frames(*ask)
    if ask[2] is not None and ask[2] > 0:
        with pytest.raises(StoreError, match="clip 0 of .* has 3 frames"):
            store.gather([0], [ask[1]], ask[2])
    with pytest.raises(StoreError, match="has no array 'speed'; it has actions"):
        store.array("speed", 0)


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ClipWriter(tmp_path / "train", **SETTINGS) as writer:
        writer.append(clip(0)["frames"])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_clips_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no clip was written"), ClipWriter(tmp_path / "train", **SETTINGS):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": np.zeros((3, 4, 5, 3), np.float32)}, "frames are float32"),
        ({"frames": np.zeros((3, 5, 4, 3), np.uint8)}, r"frames are uint8 \(3, 5, 4, 3\)"),
        ({"frames": np.zeros((0, 4, 5, 3), np.uint8)}, "frames are"),
        ({"actions": np.zeros((2, 4))}, r"actions is \(2, 4\)"),
        ({"actions": np.full((3, 4), np.nan)}, "must be finite"),
        ({"speed": np.zeros((3, 1))}, "arrays are"),
    ],
)
def test_a_wrong_clip_is_refused_and_the_store_stays_sound(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with ClipWriter(tmp_path / "train", **SETTINGS, arrays={"actions": 4}) as writer:
        writer.append(**clip(0))
        with pytest.raises(StoreError, match=message):
            writer.append(**(clip(1) | wrong))
        writer.append(**clip(1))
    store = ClipStore(tmp_path / "train")
    assert len(store) == 2
    np.testing.assert_array_equal(store.array("actions", 1), clip(1)["actions"])


@pytest.mark.parametrize("settings", [{"frame_shape": (4, 5)}, {"arrays": {"frames": 3}}, {"arrays": {"../x": 3}}])
def test_wrong_settings_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(StoreError):
        ClipWriter(tmp_path / "train", **(SETTINGS | settings))


def test_an_existing_store_is_replaced_only_when_asked_and_only_by_a_whole_one(tmp_path: Path) -> None:
    old = contents(write(tmp_path / "train").folder)
    with pytest.raises(StoreError, match="exists: delete it, or ask"):
        write(tmp_path / "train")
    with pytest.raises(RuntimeError), ClipWriter(tmp_path / "train", **SETTINGS, overwrite=True) as writer:
        writer.append(clip(0)["frames"])
        assert contents(tmp_path / "train") == old
        raise RuntimeError
    assert contents(tmp_path / "train") == old
    assert len(write(tmp_path / "train", (2, 2), overwrite=True)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_a_folder_of_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(StoreError, match="is not a clip store, so it is left alone"):
        write(tmp_path / "thesis", overwrite=True)
    with pytest.raises(StoreError, match="is not a clip store, so it is left alone"):
        write(tmp_path / "thesis" / "chapter.tex", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_an_empty_folder_and_a_linked_one_are_filled(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "train").symlink_to("disk")
    write(tmp_path / "train")
    assert (tmp_path / "train").is_symlink() and len(ClipStore(tmp_path / "disk")) == 3
    write(tmp_path / "train", (1,), overwrite=True)
    assert (tmp_path / "train").is_symlink() and len(ClipStore(tmp_path / "train")) == 1


@pytest.mark.parametrize("checkpointed", [0, 1, 2, 4])
def test_an_interrupted_writer_is_carried_on(tmp_path: Path, checkpointed: int) -> None:
    """Clips after the last checkpoint are written again; the bytes are those of an uninterrupted writer."""
    settings = SETTINGS | {"arrays": {"actions": 4}, "details": {"sizes": (4, 5)}, "resume": True}
    with pytest.raises(KeyboardInterrupt), ClipWriter(tmp_path / "a", **settings) as writer:
        for number in range(4):
            if number == checkpointed:
                writer.checkpoint({"at": number})
            writer.append(**clip(number, number + 1))
        if checkpointed == 4:
            writer.checkpoint({"at": 4})
        raise KeyboardInterrupt
    assert not (tmp_path / "a").exists()
    with ClipWriter(tmp_path / "a", **settings) as writer:
        assert len(writer) == checkpointed and writer.state == {"at": checkpointed}
        for number in range(checkpointed, 6):
            writer.append(**clip(number, number + 1))
    with ClipWriter(tmp_path / "b", **settings) as writer:
        assert writer.state is None
        for number in range(6):
            writer.append(**clip(number, number + 1))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_killed_writer_is_carried_on(tmp_path: Path) -> None:
    """SIGKILL, with half a line in the journal as a full disk or a power cut might leave it."""
    script = f"""
        import os, signal
        from pathlib import Path
        from tests_clips import SETTINGS, clip
        from data.clips import ClipWriter
        with ClipWriter({str(tmp_path / "train")!r}, **SETTINGS, arrays={{"actions": 4}}, resume=True) as writer:
            for number in range(3):
                writer.append(**clip(number))
                writer.checkpoint()
            writer.append(**clip(3))
            os.kill(os.getpid(), signal.SIGKILL)
    """
    (tmp_path / "tests_clips.py").write_bytes(Path(__file__).read_bytes())
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, env=environment, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    with open(tmp_path / ".train.partial" / "journal.jsonl", "a") as journal:
        journal.write('{"lengths": [3')
    with pytest.raises(StoreError, match="there is no such folder"):
        ClipStore(tmp_path / "train")
    with ClipWriter(tmp_path / "train", **SETTINGS, arrays={"actions": 4}, resume=True) as writer:
        assert len(writer) == 3
        writer.append(**clip(3))
    assert contents(tmp_path / "train") == contents(write(tmp_path / "whole", (3, 3, 3, 3)).folder)


def interrupted(folder: Path, **settings: Any) -> Path:
    with pytest.raises(KeyboardInterrupt), ClipWriter(folder, **(SETTINGS | settings), resume=True) as writer:
        writer.append(clip(0)["frames"])
        writer.checkpoint()
        raise KeyboardInterrupt
    return folder.with_name(f".{folder.name}.partial")


def test_only_the_same_store_is_carried_on(tmp_path: Path) -> None:
    partial = interrupted(tmp_path / "train", details={"camera": "left", "seed": 1})
    changed = SETTINGS | {"fps": 5, "details": {"camera": "right", "seed": 1}, "resume": True}
    with pytest.raises(StoreError, match=r"begun with another camera, fps: delete .*\.partial to start again"):
        ClipWriter(tmp_path / "train", **changed).__enter__()
    with open(partial / "frames.npy", "r+b") as file:
        file.truncate(200)
    with pytest.raises(StoreError, match=r"frames.npy is truncated: delete .*\.partial"):
        ClipWriter(tmp_path / "train", **SETTINGS, details={"camera": "left", "seed": 1}, resume=True).__enter__()


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    partial = interrupted(tmp_path / "train")
    (partial / "journal.jsonl").write_bytes(b"\0\0\0\n")
    with pytest.raises(StoreError, match=r"journal.jsonl is damaged.*: delete .*\.partial"):
        ClipWriter(tmp_path / "train", **SETTINGS, resume=True).__enter__()


def test_what_an_interrupted_writer_left_does_not_get_into_another_store(tmp_path: Path) -> None:
    interrupted(tmp_path / "train")
    (tmp_path / ".train.partial" / "speed.npy").touch()
    assert set(contents(write(tmp_path / "train").folder)) == {
        "manifest.json", "frames.npy", "starts.npy", "lengths.npy", "actions.npy"
    }  # fmt: skip


def test_two_writers_of_one_store(tmp_path: Path) -> None:
    with ClipWriter(tmp_path / "train", **SETTINGS) as writer:
        writer.append(clip(0)["frames"])
        with pytest.raises(StoreError, match="is being written by another process"):
            ClipWriter(tmp_path / "train", **SETTINGS).__enter__()
    assert len(ClipStore(tmp_path / "train")) == 1


def edit(key: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest[key] = value
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return change


def edit_text(change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda folder: (folder / "manifest.json").write_text(change((folder / "manifest.json").read_text()))


def text_in_manifest(old: str, new: str) -> Callable[[Path], object]:
    return edit_text(lambda text: text.replace(old, new))


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else 0


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - 1)


def write_at(name: str, data: bytes, position: int = 0) -> Callable[[Path], None]:
    """Some bytes of a file are others."""

    def change(folder: Path) -> None:
        with open(folder / name, "r+b") as file:
            file.seek(position, os.SEEK_END if position < 0 else os.SEEK_SET)
            file.write(data)

    return change


def replace(name: str, content: np.ndarray | bytes) -> Callable[[Path], None]:
    """Another file, of the very size and SHA-256 that the manifest says."""

    def change(folder: Path) -> None:
        path = folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.save(path, content)
        manifest = json.loads((folder / "manifest.json").read_text())
        entry = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        manifest["files"][name] = entry
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return change


def header(shape: str, descr: str = "'<i8'") -> bytes:
    """A .npy file of three numbers whose header says that."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + np.array([0, 3, 4]).tobytes()


def link_to_nothing(folder: Path) -> None:
    (folder / "frames.npy").unlink()
    (folder / "frames.npy").symlink_to("elsewhere.npy")


def as_folder(folder: Path) -> None:
    (folder / "frames.npy").unlink()
    (folder / "frames.npy").mkdir()


def as_pipe(folder: Path) -> None:
    (folder / "frames.npy").unlink()
    os.mkfifo(folder / "frames.npy")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "there is no such folder"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), r"it has no manifest\.json"),
    "manifest of something else": (edit("format", "web app"), "some other program's"),
    "manifest is a list": (lambda folder: (folder / "manifest.json").write_text("[1]"), "must be a dict"),
    "manifest cut": (lambda folder: os.truncate(folder / "manifest.json", 40), r"manifest\.json is not JSON"),
    "manifest is binary": (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe\0"), "is not UTF-8"),
    "newer version": (edit("version", 2), "has format version 2, this code reads 1: update"),
    "no counts": (edit("clips", None), r"manifest\.json has clips = null, which must be a whole number"),
    "wrong counts": (edit("clips", 4), r"starts\.npy holds int64 \(3,\), but must hold int64 \(4,\)"),
    "arrays of elsewhere": (edit("arrays", {"../../x": 4}), r"manifest\.json has arrays named '\.\./\.\./x'"),
    "no files": (edit("files", {}), r"manifest\.json has no checksums of actions\.npy, frames\.npy"),
    "files of nothing": (edit("files", {"frames.npy": 3}), r"manifest\.json has files\.frames\.npy = 3, which must be"),
    "counts of 1e999": (text_in_manifest('"clips": 3', '"clips": 1e999'), r"manifest\.json holds 1e999, which is too"),
    "counts of 5000 digits": (text_in_manifest('"clips": 3', f'"clips": {"9" * 5000}'), "holds 9+.*too long a number"),
    "huge counts": (
        text_in_manifest('"clips": 3', f'"clips": {2**63}'),
        r"has clips = .*, which must be a number from",
    ),
    "no rate": (text_in_manifest('"fps": 10.0', '"fps": NaN'), r"manifest\.json holds NaN, which is no JSON number"),
    "rate of nothing": (edit("fps", 1e-9), r"has fps = 1e-09, which must be a number from 0\.001 to"),
    "deep": (edit_text(lambda text: "[" * 100_000), r"manifest\.json is nested too deeply"),
    "deep in details": (edit("details", {"a": deep(900)}), r"manifest\.json is nested too deeply"),
    "a source of no text": (edit("source", 3), r"manifest\.json has source = 3, which must be text"),
    "frames of four sides": (edit("frame_shape", [1, 2, 3, 4]), "has frame_shape = .*, which must be a list of 3"),
    "frames cut": (cut("frames.npy"), r"frames\.npy is truncated \(.* bytes, the manifest says"),
    "actions cut": (cut("actions.npy"), r"actions\.npy is truncated"),
    "frames grown": (lambda folder: os.truncate(folder / "frames.npy", 10**6), "not the file that was written"),
    "frames missing": (lambda folder: (folder / "frames.npy").unlink(), r"frames\.npy is missing"),
    "frames linked to nothing": (link_to_nothing, r"frames\.npy is missing"),
    "frames a folder": (as_folder, r"frames\.npy is missing"),
    "frames a pipe": (as_pipe, r"frames\.npy is missing"),
    "lengths overrun": (replace("lengths.npy", np.array([3, 1, 5])), "do not fit"),
    "lengths empty": (replace("lengths.npy", np.array([3, 0, 4])), "do not fit"),
    "starts negative": (replace("starts.npy", np.array([-1, 3, 4])), "do not fit"),
    "starts of floats": (replace("starts.npy", np.array([0.0, 3, 4])), "holds float64"),
    "starts pickled": (replace("starts.npy", np.array([None, {}, 1], object)), "holds other things than numbers"),
    "starts no array": (replace("starts.npy", b"x" * 152), r"starts\.npy is no \.npy file"),
    "starts cut short": (replace("starts.npy", header("(3,)")[:-1]), r"starts\.npy is truncated"),
    "a start that wraps around": (replace("starts.npy", np.array([2**63 - 1, 3, 4])), "do not fit"),
    "a length that wraps around": (replace("lengths.npy", np.array([2**63 - 1, 1, 4])), "do not fit"),
    "a flipped start": (write_at("starts.npy", b"\1", -24), r"starts\.npy differs from its checksum"),
    "a flipped length": (write_at("lengths.npy", b"\2", -24), r"lengths\.npy differs from its checksum"),
    "header of deep lists": (replace("starts.npy", header("[" * 5000)), "damaged .npy header"),
    "header that ends": (replace("starts.npy", header('(3, """')), "damaged .npy header"),
    "header of huge sides": (replace("starts.npy", header(f"({10**17}, {10**17})")), "holds int64"),
    "header of long sides": (replace("starts.npy", header(f"({'9' * 5000},)")), "damaged .npy header"),
    "header of a strange type": (replace("starts.npy", header("(3,)", "'<q9'")), "damaged .npy header"),
    "header of fields": (replace("starts.npy", header("(3,)", "[('a', '<i8')]")), "damaged .npy header"),
    "frames' header cut": (write_at("frames.npy", b"\0", 30), r"frames\.npy has a damaged .npy header"),
    "frames of another shape": (write_at("frames.npy", b"9", 61), r"frames\.npy holds uint8"),
    "actions' header cut": (write_at("actions.npy", b"\n", 20), r"actions\.npy has a damaged .npy header"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_clear_line(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, message = DAMAGES[damage]
    change(write(tmp_path / "train").folder)
    with pytest.raises(StoreError, match=message) as caught:
        ClipStore(tmp_path / "train")
    assert "\n" not in str(caught.value) and "train" in str(caught.value)
    assert clips.main(["info", str(tmp_path / "train")]) == 2
    assert capsys.readouterr().err == f"error: {caught.value}\n"


def test_a_linked_store_is_read(tmp_path: Path) -> None:
    store = write(tmp_path / "train")
    (tmp_path / "link").symlink_to("train")
    (tmp_path / "train" / "frames.npy").rename(tmp_path / "blob")
    (tmp_path / "train" / "frames.npy").symlink_to(tmp_path / "blob")
    np.testing.assert_array_equal(ClipStore(tmp_path / "link").frames(2), store.frames(2))


def test_a_data_set_is_a_folder_of_stores(tmp_path: Path) -> None:
    for split in ("test", "train", "val"):
        write(tmp_path / split, split=split)
    interrupted(tmp_path / "more")
    assert [store.split for store in stores(tmp_path)] == ["train", "val", "test"]
    with pytest.raises(StoreError, match="it is a data set: open one of train, val, test in it"):
        ClipStore(tmp_path)


def test_info_and_verify(tmp_path: Path) -> None:
    """The commands that a user types."""
    for split in ("train", "test"):
        write(tmp_path / "set" / split, split=split)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "data.clips", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)

    info = run("info", str(tmp_path / "set"))
    assert info.returncode == 0 and "train, 3 clips of 1 to 4 frames, 4x5x3 at 10 fps" in info.stdout
    assert run("verify", str(tmp_path / "set")).stdout.count("4 files as written") == 2
    with open(tmp_path / "set" / "test" / "frames.npy", "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    damaged = run("verify", str(tmp_path / "set"))
    assert damaged.returncode == 2 and "Traceback" not in damaged.stderr
    assert damaged.stderr.startswith("error: ") and "frames.npy differs from its checksum" in damaged.stderr


def test_what_was_verified(tmp_path: Path) -> None:
    store = write(tmp_path / "train")
    assert store.verified == {"starts.npy", "lengths.npy"}
    store.verify()
    assert store.verified == set(store.sizes)


@given(st.data())
def test_no_flipped_bit_of_a_journal_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    partial = interrupted(tmp_path_factory.mktemp("journal") / "train")
    path = partial / "journal.jsonl"
    damaged = bytearray(path.read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 2))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"journal\.jsonl .*delete|begun with another"):
        ClipWriter(partial.with_name("train"), **SETTINGS, resume=True).__enter__()


def test_a_kill_between_the_two_renames_of_an_overwriting_loses_nothing(tmp_path: Path) -> None:
    old = contents(write(tmp_path / "train").folder)
    (tmp_path / "train").rename(tmp_path / ".train.old")
    with pytest.raises(StoreError, match="exists: delete it, or ask"):
        write(tmp_path / "train")
    assert contents(tmp_path / "train") == old


@pytest.mark.parametrize("fps", [float("nan"), float("inf"), 0, 1e-9, "fast"])
def test_rates_that_are_none(tmp_path: Path, fps: Any) -> None:
    with pytest.raises(ValueError, match=r"train has fps|could not convert"):
        ClipWriter(tmp_path / "train", **(SETTINGS | {"fps": fps}))


@pytest.mark.parametrize("name", ["frames.npy", "actions.npy"])
def test_what_changed_while_a_writer_was_interrupted_is_noticed(tmp_path: Path, name: str) -> None:
    settings: dict[str, Any] = SETTINGS | {"arrays": {"actions": 4}, "resume": True}
    with pytest.raises(KeyboardInterrupt), ClipWriter(tmp_path / "train", **settings) as writer:
        writer.append(**clip(0))
        writer.checkpoint()
        writer.append(**clip(1))
        raise KeyboardInterrupt
    write_at(name, b"\0\1\2", 130)(writer.partial)
    with pytest.raises(StoreError, match=rf"{name} is not as it was written: delete .*\.partial to start again"):
        ClipWriter(tmp_path / "train", **settings).__enter__()


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    """The system's error has no name of a file when a write fails."""
    with files_up_to(1000), pytest.raises(OSError) as caught, ClipWriter(tmp_path / "train", **SETTINGS) as writer:
        writer.append(np.zeros((100, 4, 5, 3), np.uint8))
        writer.checkpoint()
    assert caught.value.filename.endswith("frames.npy")
    for size, name in ((50, "journal.jsonl"), (1000, "frames.npy")):  # what is in a buffer is written at the end
        with files_up_to(size), pytest.raises(OSError) as caught, ClipWriter(tmp_path / name, **SETTINGS) as writer:
            for _ in range(200):
                writer.append(np.zeros((1, 4, 5, 3), np.uint8))
        assert caught.value.filename.endswith(name)


def test_so_it_is_with_sheets_and_records(tmp_path: Path) -> None:
    write(tmp_path / "train")
    records = iter([{"0/action": np.zeros(999, np.float32)}])
    with files_up_to(50):
        with pytest.raises(OSError) as caught:
            write_sheet(tmp_path / "train", tmp_path / "sheet.png")
        assert caught.value.filename == str(tmp_path / "sheet.png")
        with pytest.raises(OSError) as caught:
            bair_writer.write_file(tmp_path / "traj_0_to_0.tfrecords", records, 1)
    assert caught.value.filename == str(tmp_path / "traj_0_to_0.tfrecords")
