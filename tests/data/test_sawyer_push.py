"""The simulated Sawyer: clips are pure functions of their indices and pass their checks, stores are bit-equal with any
number of workers and after a kill, and what is missing or wrong is said in a line."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data import bair, bair_writer, sawyer_push, sawyer_push_studio
from data.clips import ClipStore, ClipWriter, StoreError, split
from data.sawyer_push import CAMERAS, make
from data.sawyer_push_report import report, shares
from data.sawyer_push_rules import ABSENT, BIN, CENTRE, SLOTS, Unavailable, flies, in_view, leaves, moves
from data.sawyer_push_studio import Clip, Studio, make_clip, studio
from data.sawyer_push_toys import HELD_OUT, TOYS

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"clips": 11, "val_clips": 2, "test_clips": 9, "frames": 3, "progress": False}


@pytest.fixture(scope="module", autouse=True)
def room() -> Studio:
    """Without MuJoCo, its assets or OpenGL these tests are skipped; in CI they fail."""
    try:
        return studio(64)
    except Unavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [make_clip(5, "train", index, cameras=tuple(CAMERAS)) for index in range(12)]


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sawyer") / "one"
    make(out, workers=1, **SMALL)
    return out


def digest(clip: Clip) -> str:
    parts = [*clip.frames.values(), clip.actions, clip.positions, clip.toys, *clip.gripper.values()]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "data.sawyer_push", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=120)


def same_files(one: Path, two: Path) -> bool:
    names = [sorted(path.relative_to(folder) for path in folder.rglob("*.*")) for folder in (one, two)]
    return names[0] == names[1] and all((one / name).read_bytes() == (two / name).read_bytes() for name in names[0])


def test_a_clip_depends_on_nothing_but_its_indices() -> None:
    first = digest(make_clip(3, "train", 7, frames=12, cameras=tuple(CAMERAS)))
    make_clip(3, "train", 6, frames=5)
    assert digest(make_clip(3, "train", 7, frames=12, cameras=tuple(CAMERAS))) == first
    code = (
        f"from {Path(__file__).stem} import CAMERAS, digest, make_clip; "
        "print(digest(make_clip(3, 'train', 7, frames=12, cameras=tuple(CAMERAS))))"
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
        "PYTHONHASHSEED": "1",
    }
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == first


def test_splits_seeds_and_indices_give_different_clips() -> None:
    keys = list(itertools.product((0, 2**40), ("train", "val", "test"), (0, 1)))
    assert len({digest(make_clip(*key, frames=2)) for key in keys}) == len(keys)


def test_what_a_clip_holds(clips: list[Clip]) -> None:
    for clip in clips:
        assert clip.actions.shape == (30, 4) and clip.actions.dtype == np.float32
        assert clip.positions.shape == (30, 3) and clip.toys.shape == (30, 3 * SLOTS)
        for camera in CAMERAS:
            frames, pixels = clip.frames[camera], clip.gripper[camera]
            assert frames.shape == (30, 64, 64, 3) and frames.dtype == np.uint8
            assert frames.max() > 190 and pixels.shape == (30, 2)
            for frame, (x, y) in zip(frames, (pixels * 64).astype(int), strict=True):
                around = frame[max(y - 8, 0) : y + 3, max(x - 5, 0) : x + 6]
                assert around.max(-1).min() < 60, "the gripper, which is dark, is not where gripper_pixel says"


def test_clips_pass_their_checks(clips: list[Clip]) -> None:
    toys = [clip.toys.reshape(-1, SLOTS, 3) for clip in clips]
    assert not any(leaves(path) or flies(path) for path in toys)
    assert np.mean([moves(path) for path in toys]) >= 0.8
    assert all(in_view(pixels).all() for clip in clips for pixels in clip.gripper.values())
    assert all(3 <= (path[0, :, 2] > -0.5).sum() <= SLOTS for path in toys)
    paths = np.array([clip.positions for clip in clips])
    assert np.linalg.norm(np.diff(paths, axis=1), axis=-1).max() < 0.08, "the hand jumps"


def test_the_actions_are_what_the_hand_does(clips: list[Clip]) -> None:
    moved = np.concatenate([np.diff(clip.positions, axis=0).ravel() * 10 for clip in clips])
    commanded = np.concatenate([clip.actions[:-1, :3].ravel() for clip in clips])
    assert np.corrcoef(moved, commanded)[0, 1] > 0.9


def test_clips_do_not_look_alike(clips: list[Clip]) -> None:
    first = np.array([clip.frames["aux1"][0].mean((0, 1)) for clip in clips])
    assert first.std(0).min() > 3, "light and wood vary"
    change = [np.abs(np.diff(clip.frames["aux1"].astype(int), axis=0)).mean() for clip in clips]
    assert min(change) > 0.5, "something moves"


def test_sizes_show_the_same_events() -> None:
    small, large = (make_clip(0, "test", 2, frames=3, size=size) for size in (64, 128))
    assert np.array_equal(small.toys, large.toys) and large.frames["aux1"].shape == (3, 128, 128, 3)
    shrunk = cv2.resize(large.frames["aux1"][2], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(float) - small.frames["aux1"][2]).mean() < 5


def test_rules() -> None:
    still = np.tile(np.array([*CENTRE, 0.03]), (4, SLOTS, 1))
    still[:, 3:] = ABSENT
    assert not (moves(still) or leaves(still) or flies(still))
    for shift, verdicts in (
        ([0.019, 0, 0], (False, False, False)),
        ([0.03, 0, 0], (True, False, False)),
        ([0.13, 0, 0], (True, False, True)),
        ([BIN[0] + 0.01, 0, 0], (True, True, True)),
        ([0, 0, 0.2], (True, True, True)),
    ):
        path = still.copy()
        path[2:, 1] += shift
        assert (moves(path), leaves(path), flies(path)) == verdicts, shift
    assert in_view(np.array([[0.5, 0.5], [1.01, 0.5], [0.5, -0.1], [0.01, 0.5]])).tolist() == [True, False, False, True]
    assert not in_view(np.array([0.01, 0.5]), edge=0.02)


def test_workers_do_not_matter(data_set: Path, tmp_path: Path) -> None:
    make(tmp_path / "two", workers=2, **SMALL)
    assert same_files(data_set, tmp_path / "two")
    store = ClipStore(tmp_path / "two" / "train")
    assert (len(store), store.frame_shape, store.fps, store.split) == (11, (64, 64, 3), 10, "train")
    clip = make_clip(0, "train", 8, frames=3)
    assert np.array_equal(store.frames(8), clip.frames["aux1"])
    assert np.array_equal(store.array("toy_pos", 8), clip.toys)
    assert np.array_equal(store.array("gripper_pixel", 8), clip.gripper["aux1"])
    details = store.manifest["details"]
    assert details["engine"].startswith("mujoco 3") or details["engine"].startswith("mujoco 4")
    assert "OpenGL" in details["renderer"] and details["assets"].startswith("metaworld 3.0.0, sha256 ")


def test_killed_it_is_resumed(data_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    counts = ["--clips", "11", "--val-clips", "2", "--test-clips", "9", "--frames", "3", "--workers", "1"]
    code = (
        "import sys; from data import sawyer_push, sawyer_push_files; sawyer_push_files.CHECKPOINT = 3; "
        f"sys.exit(sawyer_push.main({['--out', str(out), *counts]}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE)
    journal = out / ".train.partial" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr and process.stderr.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "train").exists()
    costs = make(out, workers=1, **SMALL)
    assert 0 < costs.clips < 22
    assert same_files(data_set, out)
    assert make(out, workers=1, **SMALL).clips == 0, "what is whole is left"


def test_what_is_there_is_not_overwritten_unasked(data_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(data_set, out)
    with pytest.raises(StoreError, match="with another seed: choose another --out, or give --overwrite"):
        make(out, seed=1, workers=1, **SMALL)
    with pytest.raises(StoreError, match="with another clips"):
        make(out, workers=1, **(SMALL | {"clips": 10}))
    make(out, workers=1, overwrite=True, **(SMALL | {"clips": 2}))
    assert len(ClipStore(out / "train")) == 2 and len(ClipStore(out / "test")) == 9
    (out / "thesis.tex").touch()
    with pytest.raises(StoreError, match="left alone"):
        make(out, workers=1, **SMALL)


def test_two_runs_do_not_write_the_same_data_set(tmp_path: Path) -> None:
    first = ClipWriter(tmp_path / "out/train", frame_shape=(64, 64, 3), fps=10, source="", split="train", resume=True)
    with first as writer:
        writer.append(np.zeros((2, 64, 64, 3), np.uint8))
        with pytest.raises(StoreError, match="another process"):
            make(tmp_path / "out", workers=1, **SMALL)


def test_a_full_disk_is_noticed_first(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"GiB are free there: make fewer clips \(--clips\)"):
        make(tmp_path / "out", **(SMALL | {"clips": 10**9}))
    assert not list(tmp_path.iterdir())


def test_tfrecords_are_read_as_bairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bair_writer, "RECORDS_PER_FILE", 4)
    counts = SMALL | {"clips": 5, "test_clips": 2, "frames": 2, "tfrecords": True, "workers": 1}
    make(tmp_path / "bair", **counts)
    (tmp_path / "bair/softmotion30_44k/train/traj_4_to_4.tfrecords").unlink()
    assert make(tmp_path / "bair", **counts).clips == 1, "only what is missing is made"
    with pytest.raises(StoreError, match="with another seed"):
        make(tmp_path / "bair", seed=3, **counts)
    for camera, name in CAMERAS.items():
        stores = bair.convert(tmp_path / "bair", tmp_path / name, camera=name)
        assert {split: len(store) for split, store in stores.items()} == {"train": 5, "test": 2}
        clip = make_clip(0, "train", 4, frames=2, cameras=(camera,))
        assert np.array_equal(stores["train"].frames(4), clip.frames[camera])
        assert np.array_equal(stores["train"].array("actions", 4), clip.actions)
        assert np.array_equal(stores["train"].array("endeffector_pos", 4), clip.positions)


def test_held_out_toys_are_in_the_test_split_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Exception):
        pass

    class Nobody:
        def play(self, rng: object, frames: int, kinds: list[str]) -> None:
            raise Asked(kinds)

    monkeypatch.setattr(sawyer_push_studio, "studio", lambda size: Studio(Nobody(), None, {}))  # type: ignore[arg-type]

    def kinds(split: str, held_out: bool) -> set[str]:
        with pytest.raises(Asked) as asked:
            make_clip(0, split, 0, held_out=held_out)
        return set(asked.value.args[0])

    assert kinds("train", False) == kinds("test", False) == set(TOYS)
    assert kinds("train", True) == kinds("val", True) == set(TOYS) - set(HELD_OUT)
    assert kinds("test", True) == set(HELD_OUT)


def test_report(data_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sawyer_push.main(["report", str(data_set)]) == 0
    text = capsys.readouterr().out
    assert text.count("a toy leaves the bin") == 3 and "mujoco" in text and f"{data_set}/train: 11 clips" in text
    share = shares(ClipStore(data_set / "train"))
    assert share["view"] == 1 and share["out"] == share["flying"] == 0 and 3 <= share["toys"] <= 5
    part = report(split(data_set / "train", tmp_path / "split", val=2, test=2)[0])
    assert "mujoco" in part and "takes" not in part
    other = tmp_path / "other"
    with ClipWriter(other, frame_shape=(8, 8, 3), fps=1, source="", split="train") as writer:
        writer.append(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(StoreError, match="has no actions, .*only stores that it made"):
        report(other)
    assert sawyer_push.main(["report", str(tmp_path / "none")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "96"], "invalid choice: 96"),
        (["--clips", "0"], "error: clips is 0, but it must be from 1 to"),
        (["--val-clips", "-3"], "error: val_clips is -3, but it must be from 1 to"),
        (["--frames", "1"], "error: frames is 1, but it must be from 2 to 1,000"),
        (["--seed", "-1"], "error: seed is -1, but it must be from 0 to"),
        (["--workers", "0"], "error: workers is 0, but it must be from 1 to 256"),
        (["--workers", "100000"], "error: workers is 100000"),
        (["--camera", "side"], "invalid choice: 'side'"),
        (["--clips", "1e9"], "invalid int value: '1e9'"),
        (["--clips", "1000000000"], "GiB are free there"),
    ],
)
def test_wrong_options(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sawyer_push.main(["--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_needs_no_mujoco_and_gives_the_defaults() -> None:
    code = "import sys; sys.modules['mujoco'] = None; from data import sawyer_push; sawyer_push.main(['--help'])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    words = " ".join(shown.stdout.split())
    assert shown.returncode == 0 and "(default: 2000)" in words and "(default: aux1)" in words


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"MUJOCO_GL": "abacus"}, "MUJOCO_GL=abacus (invalid value"),
        ({"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/nowhere.json"}, "libegl-mesa0"),
    ],
)
def test_without_opengl_a_line_says_what_to_install(environment: dict[str, str], message: str, tmp_path: Path) -> None:
    result = run("--out", str(tmp_path / "out"), "--clips", "1", **environment)
    assert result.returncode == 2 and message in result.stderr and "apt-get install" in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr


@pytest.mark.parametrize("package", ["mujoco", "metaworld", "fast_simplification"])
def test_without_a_package_a_line_says_what_to_install(package: str, tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys; find = importlib.util.find_spec; "
        f"sys.modules[{package!r}] = None; "
        f"importlib.util.find_spec = lambda name, *a: None if name == {package!r} else find(name, *a); "
        f"from data import sawyer_push; sys.exit(sawyer_push.main(['--out', {str(tmp_path / 'out')!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and package in result.stderr and "pip install 'svg-lp[sim]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr


def test_nothing_of_the_assets_is_copied() -> None:
    spec = importlib.util.find_spec("metaworld")
    assert spec is not None and spec.origin is not None
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    assert not [name for name in tracked.stdout.splitlines() if name.endswith((".stl", ".obj", ".xml"))]
