"""train.py and eval.py, for kill.py; and by themselves, in forks of a process that has the libraries already:

python -m tests.faults.svg_victims train --count 3
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import eval as eval_program
import svg
import train as train_program
from data.clips import ClipWriter
from svg.config import config_from_dict
from tests.faults.data_victims import files
from tests.faults.kill import Victim
from tests.faults.svg_kinds import call, prepare

SIZES = "backbone: dcgan, width: 2, g_dim: 4, z_dim: 2, rnn_size: 8"
TINY = f"""
data: {{frames: 4, workers: 0, path: PATH}}
model: {{{SIZES}}}
train: {{steps: 60, batch_size: 4, warmup: 2, ema: 0.9, log_every: 7, eval_every: 20, eval_clips: 3, save_every: 10,
  trackers: []}}
eval: {{horizon: 3, gifs: 1}}
"""
CLOCK = ("seconds", "frames_per_s")


def make_set(prepared: Path) -> None:
    """A configuration, its data of three splits, and a model."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        folder = prepared / "data" / split
        with ClipWriter(folder, frame_shape=(64, 64, 3), fps=10, source="a test", split=split) as writer:
            for _ in range(8):
                writer.append(rng.integers(0, 256, (6, 64, 64, 3), np.uint8))
    (prepared / "tiny.yaml").write_text(TINY.replace("PATH", str(prepared / "data")))
    torch.manual_seed(0)
    sizes = {"backbone": "dcgan", "width": 4, "g_dim": 16, "z_dim": 4, "rnn_size": 16}
    svg.build(config_from_dict({"data": {"frames": 5}, "model": sizes})).save_pretrained(prepared / "model")


def train(prepared: Path, folder: Path) -> list[str]:
    """train.py, which saves and validates often, not when it logs."""
    options = ["--config", str(prepared / "tiny.yaml"), "--train.out", str(folder / "run")]
    return [sys.executable, "train.py", *options]


def trained(folder: Path) -> tuple[Any, dict[str, str], list[str], list[str]]:
    """Weights, optimiser and pictures by their bytes, the log but for its speeds, and that nothing else is left."""
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    rows = [{name: value for name, value in json.loads(line).items() if name not in CLOCK} for line in lines]
    found = {name: digest for name, digest in files(folder / "run").items() if name.endswith((".safetensors", ".gif"))}
    return rows, found, sorted(os.listdir(folder / "run/checkpoints")), _left(folder)


def evaluate(prepared: Path, folder: Path) -> list[str]:
    """eval.py of rollouts, likelihood, importance samples and calibration."""
    options = ["--data.path", str(prepared / "data"), "--eval.horizon", "3", "--eval.samples", "4", "--eval.gifs", "2"]
    options += ["--metrics", "psnr", "ssim", "--refit", "8", "--iwae", "3", "--out", str(folder / "out")]
    return [sys.executable, "eval.py", "--checkpoint", str(prepared / "model"), *options]


def evaluated(folder: Path) -> tuple[Any, dict[str, str], bool, list[str]]:
    """The journals and pictures by their bytes, metrics.json, and that nothing else is left."""
    found = {name: digest for name, digest in files(folder / "out").items() if name.endswith((".jsonl", ".gif"))}
    entry = json.loads((folder / "out/metrics.json").read_text())
    entry.pop("run", None)
    return entry, found, (folder / "out/report.html").exists(), _left(folder)


def _left(folder: Path) -> list[str]:
    """Hidden files and folders, but for locks."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*") if path.name != ".lock")


VICTIMS = {
    "train": Victim(make_set, train, trained),
    "eval": Victim(make_set, evaluate, evaluated),
}


def forked(name: str, prepared: Path, folder: Path, after: float | None = None) -> int:
    """Runs a program in a fork, and kills it after so many seconds; gives its exit code, negative if it was killed."""
    pid = os.fork()
    if pid == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        main = {"train": train_program.main, "eval": eval_program.main}[name]
        os._exit(call(main, *VICTIMS[name].command(prepared, folder)[2:]))
    if after is not None:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kills(name: str, prepared: Path, folder: Path, count: int, rng: random.Random) -> int:
    """Kills a program so many times, each time in a new folder, and gives how often something was lost."""
    result, lost = VICTIMS[name].result, 0
    begun = time.monotonic()
    code = forked(name, prepared, folder)
    lasts, expected = time.monotonic() - begun, result(folder) if code == 0 else None
    for number in range(count):
        shutil.rmtree(folder)
        after = lasts * (number + rng.random()) / count  # one in each of as many equal parts of the run
        killed = forked(name, prepared, folder, after)
        code = forked(name, prepared, folder)
        same = code == 0 and result(folder) == expected
        outcome = "same" if same else "lost"
        print(f"{name}: {after:.2f} of {lasts:.2f} s, {killed}, then {code}: {outcome}", flush=True)
        lost += not same
    return lost


def main() -> int:
    """The command line; gives 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.svg_victims")
    parser.add_argument("programs", nargs="+", choices=list(VICTIMS))
    parser.add_argument("--count", type=int, default=1, help="kills of each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    prepare()
    with tempfile.TemporaryDirectory(prefix="kill-") as place:
        prepared = Path(place, "prepared")
        prepared.mkdir()
        make_set(prepared)
        lost = [kills(name, prepared, Path(place, name), options.count, rng) for name in options.programs]
    return 1 if any(lost) else 0


if __name__ == "__main__":
    sys.exit(main())
