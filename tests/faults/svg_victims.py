"""train.py and eval.py, for kill.py."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

import svg
from data.clips import ClipWriter
from svg.config import config_from_dict
from tests.faults.data_victims import files
from tests.faults.kill import Victim

SIZES = "backbone: dcgan, width: 2, g_dim: 4, z_dim: 2, rnn_size: 8"
TINY = f"""
data: {{frames: 4, workers: 0, path: PATH}}
model: {{{SIZES}}}
train: {{steps: 120, batch_size: 4, warmup: 2, ema: 0.9, log_every: 7, eval_every: 20, eval_clips: 3, save_every: 10,
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


def trained(folder: Path) -> object:
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


def evaluated(folder: Path) -> object:
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
