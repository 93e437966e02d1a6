"""Frames of channels that no picture has, from training to the report: train.py and eval.py as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from data.clips import ClipWriter

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TORCH_HOME": "/nowhere"}
VIDEO = ["--model.backbone", "dcgan", "--model.g_dim", "4", "--model.rnn_size", "8", "--data.frames", "4"]
IMAGES = ["--model.name", "vae", "--model.backbone", "conv", "--model.prior", "fixed", "--data.frames", "1"]
TRAINING = ["--model.width", "2", "--model.z_dim", "2", "--data.workers", "0", "--train.steps", "2"]
TRAINING += ["--train.batch_size", "2", "--train.eval_every", "1", "--train.eval_clips", "2", "--train.save_every", "2"]


def command(program: str, *arguments: object) -> str:
    line = [sys.executable, str(ROOT / program), *map(str, arguments)]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def trained(folder: Path, channels: int, model: list[str]) -> Path:
    """A run of two steps on noise, with a validation and its pictures after each."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        shape, store = (64, 64, channels), folder / "data" / split
        with ClipWriter(store, frame_shape=shape, fps=7, source="noise", split=split) as writer:
            for _ in range(4):
                writer.append(rng.integers(0, 256, (6, *shape), dtype=np.uint8))
    options = ["--model.channels", channels, "--data.path", folder / "data", "--train.out", folder / "run"]
    command("train.py", *options, *model, *TRAINING, "--eval.horizon", 2, "--train.trackers")
    assert len(list((folder / "run" / "samples").iterdir())) == 2
    return folder / "run"


def test_videos_are_trained_measured_and_shown(tmp_path: Path) -> None:
    run = trained(tmp_path, 5, VIDEO)
    shared = ("--checkpoint", run, "--data.path", tmp_path / "data", "--eval.horizon", 3, "--eval.samples", 2)
    said = command("eval.py", *shared, "--eval.gifs", 2, "--refit", 4)
    results = json.loads((run / "eval" / "metrics.json").read_text())
    assert {"psnr", "ssim"} <= results["results"].keys() and results["likelihood"]["name"] == "optimal_sigma"
    assert (run / "eval" / "report.html").is_file() and "report.html" in said
    with Image.open(run / "eval" / "gifs" / "clip_00001.gif") as gif:
        assert gif.n_frames == 5
    command("eval.py", "export", *shared, "--count", 1, "--formats", "png", "npz", "--out", tmp_path / "out")
    (file,) = (tmp_path / "out").glob("*.npz")
    with np.load(file) as arrays:
        assert arrays["futures"].shape == (2, 3, 64, 64, 5) == arrays["sigma"].shape
        assert arrays["truth"].shape == (3, 64, 64, 5)


def test_images_are_trained_measured_and_shown(tmp_path: Path) -> None:
    run = trained(tmp_path, 2, IMAGES)
    command("eval.py", "--checkpoint", run, "--data.path", tmp_path / "data", "--eval.samples", 2)
    assert json.loads((run / "eval" / "metrics.json").read_text())["images"]["neg_elbo"]
    for name in ("reconstructions", "samples", "interpolations"):
        with Image.open(run / "eval" / f"{name}.png") as picture:
            assert picture.mode == "RGB"
