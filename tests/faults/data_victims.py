"""The programs of data/, and the loader's workers under train.py, for kill.py."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from safetensors.numpy import load_file

from data import robot_push
from data.clips import ClipWriter
from tests.faults.kill import Victim


def files(folder: Path, pattern: str = "*") -> dict[str, str]:
    """SHA-256 of every file in a folder; hidden ones, and those in hidden folders, are nobody's."""
    paths = [path.relative_to(folder) for path in folder.rglob(pattern) if path.is_file()]
    shown = sorted(path for path in paths if not any(part.startswith(".") for part in path.parts))
    return {str(path): hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in shown}


def left_behind(folder: Path) -> list[str]:
    """Hidden files and folders."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))


def whole(folder: Path) -> object:
    """What a finished data set has, and that nothing else is left."""
    return files(folder), left_behind(folder)


def nothing(folder: Path) -> None:
    """No preparation."""


def simulate(prepared: Path, folder: Path) -> list[str]:
    """data.robot_push with two workers."""
    sizes = {
        "--clips": "40",
        "--val-clips": "8",
        "--test-clips": "8",
        "--frames": "6",
        "--size": "32",
        "--workers": "2",
    }
    options = [part for pair in sizes.items() for part in pair]
    return [sys.executable, "-m", "data.robot_push", "--out", str(folder / "set"), *options]


def simulate_sawyer(prepared: Path, folder: Path) -> list[str]:
    """data.sawyer_push with two workers."""
    sizes = {"--clips": "20", "--val-clips": "4", "--test-clips": "4", "--frames": "4", "--workers": "2"}
    options = [part for pair in sizes.items() for part in pair]
    return [sys.executable, "-m", "data.sawyer_push", "--out", str(folder / "set"), *options]


def make_records(prepared: Path) -> None:
    """BAIR's layout, simulated."""
    sizes = {"clips": 40, "test_clips": 8, "frames": 4, "size": 32, "workers": 1}
    robot_push.make(prepared / "raw", **sizes, tfrecords=True, progress=False)  # type: ignore[arg-type]


CONVERT = """
import sys, time
from data import bair
from data.clips import ClipWriter
bair.CHECKPOINT = 4
append = ClipWriter.append
def slowly(self, frames, **arrays):
    append(self, frames, **arrays)
    time.sleep(0.03)
ClipWriter.append = slowly
sys.exit(bair.main())
"""
"""data.bair with frequent checkpoints, slowed down: else a kill meets the loading of libraries alone."""


def convert(prepared: Path, folder: Path) -> list[str]:
    """data.bair."""
    return [sys.executable, "-c", CONVERT, "--source", str(prepared / "raw"), "--out", str(folder / "set")]


TINY = """
data: {frames: 4, workers: 2, path: PATH}
model: {backbone: dcgan, width: 2, g_dim: 4, z_dim: 2, rnn_size: 8}
train: {steps: 60, batch_size: 4, warmup: 2, log_every: 5, eval_every: 0, save_every: 20, trackers: []}
"""


def make_training(prepared: Path) -> None:
    """A tiny configuration and its data."""
    rng = np.random.default_rng(0)
    folder = prepared / "data" / "train"
    with ClipWriter(folder, frame_shape=(64, 64, 3), fps=10, source="a test", split="train") as writer:
        for _ in range(5):
            writer.append(rng.integers(0, 256, (6, 64, 64, 3), np.uint8))
    (prepared / "tiny.yaml").write_text(TINY.replace("PATH", str(prepared / "data")))


def train(prepared: Path, folder: Path) -> list[str]:
    """train.py with two loader workers."""
    options = ["--config", str(prepared / "tiny.yaml"), "--train.out", str(folder / "run")]
    return [sys.executable, "train.py", *options]


def weights(folder: Path) -> object:
    """The last checkpoint's weights and optimiser; not the clock."""
    found = {}
    for path in sorted(folder.glob("run/checkpoints/step_00000060/*.safetensors")):
        for name, tensor in load_file(path).items():
            if name != "meter.read_at":
                found[f"{path.name} {name}"] = hashlib.sha256(tensor.tobytes()).hexdigest()
    return found


def kill_a_loader_worker(process: subprocess.Popen[str]) -> str:
    """As the system does where memory is short; as soon as there is one."""
    while process.poll() is None:
        try:
            children = psutil.Process(process.pid).children(recursive=True)
            workers = [child for child in children if "from data.workers" in " ".join(child.cmdline())]
        except psutil.NoSuchProcess:
            continue
        if workers:
            random.choice(workers).kill()
            return "a loader worker was killed"
        time.sleep(0.01)
    return ""


VICTIMS = {
    "robot_push": Victim(nothing, simulate, whole, finished="set exists: choose another folder"),
    "sawyer_push": Victim(nothing, simulate_sawyer, whole),
    "bair": Victim(make_records, convert, whole),
    "loader": Victim(make_training, train, weights, strike=kill_a_loader_worker),
}
