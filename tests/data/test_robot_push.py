"""The simulated robot: clips are pure functions of their indices, the physics is sound, the command line says what is
wrong, and what is written is read back."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import bair_writer, robot_push
from data.clips import ClipStore, StoreError
from data.robot_push import Clip, make, make_clip
from data.robot_push_render import CAMERAS, PALETTE, render
from data.robot_push_world import BIN, CLEARANCE, FPS, HAND_TOP, Trajectory, hand_outlines, simulate
from data.staging import locked
from data.tfrecord import decode_example, read_records

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"clips": 9, "val_clips": 2, "test_clips": 3, "frames": 4, "size": 32, "progress": False}


@pytest.fixture(scope="module")
def trajectories() -> list[Trajectory]:
    return [simulate(np.random.default_rng(seed), 30, len(PALETTE)) for seed in range(60)]


def corners(outline: np.ndarray, pose: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return outline @ np.array([[cos, sin], [-sin, cos]]) + pose[:2]


def penetration(a: np.ndarray, b: np.ndarray) -> float:
    """How far two convex outlines overlap (m), negative where they are apart: separating axes."""
    depths = []
    for outline in (a, b):
        edges = np.roll(outline, -1, 0) - outline
        normals = np.stack([edges[:, 1], -edges[:, 0]]) / np.linalg.norm(edges, axis=1)
        along_a, along_b = a @ normals, b @ normals
        depths += [(along_a.max(0) - along_b.min(0)).min(), (along_b.max(0) - along_a.min(0)).min()]
    return min(depths)


def digest(clip: Clip) -> str:
    parts = [*clip.frames.values(), clip.actions, clip.positions]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "data.robot_push", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_clip_depends_on_nothing_but_its_indices() -> None:
    first = digest(make_clip(3, "train", 7, cameras=tuple(CAMERAS)))
    make_clip(3, "train", 6)
    assert digest(make_clip(3, "train", 7, cameras=tuple(CAMERAS))) == first
    code = (
        f"from {Path(__file__).stem} import CAMERAS, digest, make_clip; "
        "print(digest(make_clip(3, 'train', 7, cameras=tuple(CAMERAS))))"
    )
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "1"}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == first


def test_splits_seeds_and_indices_give_different_clips() -> None:
    keys = list(itertools.product((0, 1, 2**40), ("train", "val", "test"), (0, 1)))
    assert len({digest(make_clip(*key, frames=2, size=32)) for key in keys}) == len(keys)


def test_a_longer_clip_begins_with_the_shorter_one() -> None:
    short, long = make_clip(0, "val", 5, frames=5), make_clip(0, "val", 5, frames=12)
    assert np.array_equal(long.frames["top"][:5], short.frames["top"])
    assert np.array_equal(long.actions[:5], short.actions)


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("size", [16, 64, 100])
def test_frames(camera: str, size: int) -> None:
    clip = make_clip(0, "train", 0, frames=3, size=size, cameras=(camera,))
    frames = clip.frames[camera]
    assert frames.shape == (3, size, size, 3) and frames.dtype == np.uint8
    assert frames.min() < 60 and frames.max() > 220
    assert clip.actions.shape == (3, 4) and clip.actions.dtype == np.float32
    assert clip.positions.shape == (3, 3) and clip.positions.dtype == np.float32


def test_sizes_show_the_same_scene() -> None:
    small, large = (make_clip(0, "test", 2, frames=1, size=size).frames["top"][0] for size in (32, 128))
    shrunk = cv2.resize(large, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(float) - small).mean() < 4


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**63))
def test_things_stay_in_the_bin_and_apart(seed: int) -> None:
    """Contacts give way by less than half a pixel of a 64-pixel frame (which is 1 cm)."""
    trajectory = simulate(np.random.default_rng(seed), 30, len(PALETTE))
    assert 2 <= len(trajectory.things) <= 4
    for poses, hand in zip(trajectory.poses, trajectory.hand, strict=True):
        placed = [corners(thing.outline, pose) for thing, pose in zip(trajectory.things, poses, strict=True)]
        parts = [corners(outline, hand[[0, 1, 3]]) for outline in hand_outlines()]
        assert max(np.abs(outline).max() for outline in placed + parts) < BIN + 0.004
        pushed = itertools.product(parts, placed) if hand[2] < CLEARANCE else ()
        assert all(penetration(a, b) < 0.004 for a, b in [*itertools.combinations(placed, 2), *pushed])


def test_the_hand_moves_smoothly(trajectories: list[Trajectory]) -> None:
    """About 1 to 3 pixels of a 64-pixel frame at a time, and never a jerk."""
    paths = np.array([trajectory.hand for trajectory in trajectories])
    steps = np.linalg.norm(np.diff(paths[..., :2], axis=1), axis=-1)
    jerks = np.linalg.norm(np.diff(paths[..., :2], n=2, axis=1), axis=-1)
    assert steps.max() < 0.032 and jerks.max() < 0.03
    assert 0.012 < steps.mean() < 0.024
    assert np.abs(np.diff(paths[..., 3], axis=1)).max() < 0.25
    assert np.abs(np.diff(paths[..., 2], axis=1)).max() < 0.03
    assert paths[..., 2].min() >= 0 and CLEARANCE < paths[..., 2].max() <= HAND_TOP


def test_things_move_when_they_are_pushed_and_only_then(trajectories: list[Trajectory]) -> None:
    moved = 0
    for trajectory in trajectories:
        steps = np.linalg.norm(np.diff(trajectory.poses[..., :2], axis=0), axis=-1)
        moved += (steps.sum(0) > 0.01).any()
        assert steps.max(initial=0) < 0.05
        reach = max(np.linalg.norm(outline, axis=1).max() for outline in hand_outlines())
        sizes = [np.linalg.norm(thing.outline, axis=1).max() for thing in trajectory.things]
        for i, size in enumerate(sizes):
            others = [trajectory.poses[:, j, :2] for j in range(len(sizes)) if j != i]
            nearest = np.min(
                [np.linalg.norm(path - trajectory.poses[:, i, :2], axis=-1) for path in others] + [np.full(30, np.inf)],
                axis=0,
            )
            hand = np.linalg.norm(trajectory.hand[:, :2] - trajectory.poses[:, i, :2], axis=-1)
            alone = (hand > reach + size + 0.05) & (nearest > size + max(sizes) + 0.05)
            still = alone[:-2] & alone[1:-1] & alone[2:]
            assert steps[1:, i][still].max(initial=0) < 1e-4
    assert moved > 0.7 * len(trajectories)


def test_the_actions_are_what_the_hand_does(trajectories: list[Trajectory]) -> None:
    """A command that is held for three frames is the hand's velocity, unless it pushes something; it always leads."""
    errors, correlations, turned, turns = [], [], [], []
    for trajectory in trajectories:
        velocity = np.diff(trajectory.hand[:, :3], axis=0) * FPS
        commands = trajectory.actions[:-1, :3]
        turned += [np.diff(trajectory.hand[:, 3]) * FPS]
        turns += [trajectory.actions[:-1, 3]]
        held = np.all([np.all(commands[2:, :2] == commands[2 - lag : -lag, :2], axis=1) for lag in (1, 2)], axis=0)
        errors.append(np.linalg.norm(velocity[2:, :2] - commands[2:, :2], axis=1)[held])
        correlations.append(np.corrcoef(velocity.ravel(), commands.ravel())[0, 1])
    assert np.median(np.concatenate(errors)) < 0.01
    assert np.mean(correlations) > 0.8
    assert np.corrcoef(np.concatenate(turned), np.concatenate(turns))[0, 1] > 0.8


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_arm_is_whole(camera: str, trajectories: list[Trajectory]) -> None:
    """From the upper edge to the hand, one dark and orange shape."""
    for trajectory in trajectories[:12]:
        palm = trajectory.hand[:, :3] + [0, 0, 0.07]
        pixels = (CAMERAS[camera].project(palm)[0] * 64).astype(int)
        for (x, y), frame in zip(pixels, render(trajectory, camera, 64).astype(int), strict=True):
            red, green, blue = np.moveaxis(frame, -1, 0)
            arm = (np.max(frame, axis=-1) < 115) | ((red > blue + 80) & (red > green + 30) & (green > blue + 20))
            _, labels, areas, _ = cv2.connectedComponentsWithStats(arm.astype(np.uint8), connectivity=8)
            hand = labels[y, x]
            assert hand and hand in labels[0]
            assert areas[hand, cv2.CC_STAT_AREA] > 70


def test_workers_do_not_matter(tmp_path: Path) -> None:
    make(tmp_path / "one", workers=1, **SMALL)
    make(tmp_path / "two", workers=2, **SMALL)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 3 * 6
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in files)
    store = ClipStore(tmp_path / "two" / "train")
    assert (len(store), store.frame_shape, store.fps, store.split) == (9, (32, 32, 3), FPS, "train")
    clip = make_clip(0, "train", 8, frames=4, size=32)
    assert np.array_equal(store.frames(8), clip.frames["top"])
    assert np.array_equal(store.array("actions", 8), clip.actions)
    assert np.array_equal(store.array("endeffector_pos", 8), clip.positions)


def test_command_line(tmp_path: Path) -> None:
    out = tmp_path / "robot"
    counts = ["--clips", "2", "--val-clips", "1", "--test-clips", "1", "--frames", "2", "--size", "32"]
    made = run("--out", str(out), *counts, "--camera", "oblique", "--seed", "4")
    assert made.returncode == 0 and "4/4" in made.stderr, made.stderr
    expected = make_clip(4, "test", 0, frames=2, size=32, cameras=("oblique",)).frames["oblique"]
    assert np.array_equal(ClipStore(out / "test").frames(0), expected)
    again = run("--out", str(out), *counts)
    assert again.returncode == 2 and f"error: {out} exists" in again.stderr and "--overwrite" in again.stderr
    replaced = run("--out", str(out), *counts, "--overwrite", "--workers", "1")
    assert replaced.returncode == 0, replaced.stderr
    assert not np.array_equal(ClipStore(out / "test").frames(0), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["robot"]


def test_help_gives_the_defaults() -> None:
    shown = run("--help")
    words = " ".join(shown.stdout.split())
    assert shown.returncode == 0 and "(default: 1500)" in words and "(default: top)" in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "8"], "error: size is 8, but it must be from 16 to 512 pixels"),
        (["--clips", "0"], "error: clips is 0, but it must be from 1 to 1,000,000,000"),
        (["--seed", "-1"], "error: seed is -1, but it must be from 0 to"),
        (["--workers", "0"], "error: workers is 0"),
        (["--camera", "side"], "invalid choice: 'side'"),
        (["--clips", "many"], "invalid int value: 'many'"),
    ],
)
def test_wrong_options(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert robot_push.main(["--out", str(tmp_path / "robot"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_other_peoples_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match="not a simulated data set"):
        make(tmp_path, overwrite=True, **SMALL)
    assert (tmp_path / "thesis.tex").exists()


def test_a_full_disk_is_noticed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(StoreError, match="GiB are free there: free some"):
        make(tmp_path / "robot", **SMALL)


def test_an_interruption_leaves_the_old_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "robot"
    make(out, workers=1, **SMALL)

    def interrupted(seed: int, split: str, index: int, **options: object) -> Clip:
        if split == "test":
            raise KeyboardInterrupt
        return make_clip(1, split, index, frames=4, size=32)

    monkeypatch.setattr(robot_push, "make_clip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(out, workers=1, overwrite=True, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["robot"]
    assert np.array_equal(ClipStore(out / "train").frames(0), make_clip(0, "train", 0, frames=4, size=32).frames["top"])


def test_two_runs_do_not_write_the_same_data_set(tmp_path: Path) -> None:
    with locked(tmp_path / "robot"):
        with pytest.raises(StoreError, match="another process"):
            make(tmp_path / "robot", **SMALL)


def test_tfrecords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bair_writer, "RECORDS_PER_FILE", 4)
    make(tmp_path / "bair", workers=1, tfrecords=True, **SMALL)
    folder = tmp_path / "bair" / "softmotion30_44k"
    names = {split.name: sorted(path.name for path in split.iterdir()) for split in folder.iterdir()}
    assert names == {
        "train": ["traj_0_to_3.tfrecords", "traj_4_to_7.tfrecords", "traj_8_to_8.tfrecords"],
        "test": ["traj_0_to_2.tfrecords"],
    }
    records = list(read_records(folder / "train" / "traj_4_to_7.tfrecords"))
    assert len(records) == 4
    features = decode_example(records[1])
    clip = make_clip(0, "train", 5, frames=4, size=32, cameras=("top", "oblique"))
    assert len(features) == 4 * 4
    for t in range(4):
        assert features[f"{t}/image_aux1/encoded"] == clip.frames["top"][t].tobytes()
        assert features[f"{t}/image_main/encoded"] == clip.frames["oblique"][t].tobytes()
        assert np.array_equal(features[f"{t}/action"], clip.actions[t])
        assert np.array_equal(features[f"{t}/endeffector_pos"], clip.positions[t])
