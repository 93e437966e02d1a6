"""The kinds of files that train.py and eval.py read, for fuzz.py."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import accelerate.state
import numpy as np
import torch
import torchvision
from PIL import Image

import eval as evaluate
import svg
import train
from data.clips import ClipWriter
from svg.media.write import write_video
from svg.models.calibrated import Calibration, SigmaMap, Tempering, digest_of
from svg.runtime import program
from tests.faults.damage import TEXT
from tests.faults.fuzz import Kind

SIZES = {"backbone": "dcgan", "width": 2, "g_dim": 4, "z_dim": 2, "rnn_size": 4}
YAML = """# A comment.
data: {frames: 4, workers: 0, path: set}
model: {backbone: dcgan, width: 2, g_dim: 4, z_dim: 2, rnn_size: 4}
likelihood:
  name: optimal_sigma
  options: {floor: -5.0}
train: {out: run, steps: 4, batch_size: 2, warmup: 1, lr: 1e-3, log_every: 1, eval_every: 0, save_every: 2, decay: none}
eval: {horizon: 2, samples: 2}
"""


def call(main: Callable[[], int | None], *arguments: object) -> int:
    """Runs a program as its command line does, and gives its exit code."""
    for state in ("AcceleratorState", "PartialState", "GradientState"):
        getattr(accelerate.state, state)._reset_state()
    sys.argv = ["program", *map(str, arguments)]
    try:
        program.run(main)
    except SystemExit as stop:
        return int(stop.code or 0)


def prepare() -> None:
    """One thread and no noise: the forks must not find a thread pool in the middle of something."""
    torch.set_num_threads(1)
    logging.getLogger("svg").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    os.environ.setdefault("TORCH_HOME", "/nowhere")


def make_set(folder: Path) -> None:
    """A data set `set` of 3 training, 2 validation and 2 test clips."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        writer = ClipWriter(folder / "set" / split, frame_shape=(64, 64, 3), fps=10, source="a test", split=split)
        with writer:
            for _ in range(count):
                writer.append(rng.integers(0, 256, (5, 64, 64, 3), np.uint8))


def make_run(folder: Path) -> None:
    """A run of 4 steps, with the checkpoints of steps 2 and 4, and its YAML file."""
    prepare()
    make_set(folder)
    (folder / "x.yaml").write_text(YAML)
    os.chdir(folder)
    if call(train.main, "--config", "x.yaml") != 0:
        raise RuntimeError("the run that is to be damaged failed")


def resume(folder: Path) -> int:
    """train.py goes on for a step."""
    return call(train.main, "--config", "x.yaml", "--train.steps", 5)


def resumed(folder: Path) -> object:
    """The weights and the log of step 5."""
    weights = (folder / "run/checkpoints/step_00000005/model.safetensors").read_bytes()
    rows = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    return weights, [(row["step"], row.get("neg_elbo")) for row in rows]


def make_model(folder: Path) -> None:
    """A model of `save_pretrained`, frames as PNG files, and videos."""
    prepare()
    torch.manual_seed(0)
    svg.build(svg.config_from_dict({"model": SIZES})).save_pretrained(folder / "model")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 70, 80, 3), np.uint8)
    (folder / "frames").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "frames" / f"frame_{number}.png")
        Image.fromarray(frame).save(folder / "frames" / f"frame_{number}.jpg")
    for name in ("a.gif", "a.mp4", "a.webp"):
        write_video(folder / name, frames, 10)
    os.chdir(folder)


def predict(video: str, model: str = "model") -> Callable[[Path], int]:
    """eval.py predict of a video or folder."""

    def read(folder: Path) -> int:
        options = ("--samples", 1, "--eval.horizon", 2, "--formats", "npz", "--out", "out")
        return call(evaluate.main, "predict", "--checkpoint", model, "--video", video, *options)

    return read


def predicted(folder: Path) -> object:
    """The arrays of the prediction."""
    (path,) = (folder / "out").glob("*.npz")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name].tobytes() for name in arrays}


def make_evaluation(folder: Path) -> None:
    """A model, a data set, and a finished evaluation with its journal."""
    make_model(folder)
    make_set(folder)
    if score(folder) != 0:
        raise RuntimeError("the evaluation that is to be damaged failed")
    (journal,) = (folder / "out").glob("clips.*.jsonl")
    journal.rename(folder / "journal")
    (folder / "journal_name").write_text(journal.name)


def score(folder: Path, *more: object) -> int:
    """eval.py of PSNR on the two test clips."""
    protocol = ("--eval.horizon", 3, "--eval.samples", 2, "--eval.gifs", 0, "--metrics", "psnr", "--out", "out")
    return call(evaluate.main, "--checkpoint", "model", "--data.path", "set", *protocol, *more)


def score_again(folder: Path) -> int:
    """The same with the damaged journal in place."""
    (folder / "out" / (folder / "journal_name").read_text()).write_bytes((folder / "journal").read_bytes())
    return score(folder)


def scored(folder: Path) -> object:
    """The numbers of metrics.json."""
    return json.loads((folder / "out" / "metrics.json").read_text())["results"]


def make_weights(folder: Path) -> None:
    """What `make_evaluation` makes without the evaluation, and random weights of AlexNet."""
    make_model(folder)
    make_set(folder)
    torch.manual_seed(0)
    state = torchvision.models.alexnet(weights=None).features.state_dict()
    torch.save({f"features.{name}": value.half().float() for name, value in state.items()}, folder / "alexnet.pth")


def make_calibrated(folder: Path) -> None:
    """What `make_evaluation` makes without the evaluation, and a calibration of the model."""
    make_model(folder)
    make_set(folder)
    radii = {level: torch.linspace(1, 2, 3) for level in (0.5, 0.9)}
    fitted = {"weights": digest_of(svg.load(folder / "model").state_dict())}
    calibration = Calibration(2, 2, torch.ones(3), 0.9, Tempering(1.2, 0.5), SigmaMap(3), radii, fitted)
    calibration.save(folder / "model" / "calibration")


def calibrated(folder: Path) -> object:
    """The numbers of the calibrated futures too."""
    return scored(folder), json.loads((folder / "out" / "calibrated" / "metrics.json").read_text())["results"]


def perceive(folder: Path) -> int:
    """eval.py with LPIPS."""
    return score(folder, "--metrics", "lpips", "--eval.lpips_weights", "alexnet.pth", "--eval.clips", 1)


def parse(folder: Path) -> int:
    """train.py of a YAML file whose run is finished."""
    return call(train.main, "--config", "x.yaml")


def _of_run(target: str, names: str, checked: bool = True, text: bool = False) -> Kind:
    damages: dict[str, Sequence] = {"damages": TEXT} if text else {}
    return Kind(make_run, target, resume, resumed, checked, names=names, **damages)  # type: ignore[arg-type]


GROUPS = r"x\.yaml|run |(data|model|likelihood|objective|train|eval)\.|set"
NEWEST = "run/checkpoints/step_00000004"
KINDS: dict[str, Kind] = {
    "yaml": Kind(make_run, "x.yaml", parse, lambda folder: 0, False, TEXT, GROUPS),
    "checkpoint-manifest": _of_run(f"{NEWEST}/manifest.json", "manifest|step_0", text=True),
    "checkpoint-config": _of_run(f"{NEWEST}/config.json", "config|step_0", text=True),
    "training.json": _of_run(f"{NEWEST}/training.json", "training|step_0", text=True),
    "training.safetensors": _of_run(f"{NEWEST}/training.safetensors", "training|step_0"),
    "checkpoint-weights": _of_run(f"{NEWEST}/model.safetensors", "model|step_0"),
    "metrics.jsonl": _of_run("run/metrics.jsonl", "metrics", checked=False, text=True),
    "named-weights": Kind(
        lambda folder: (make_run(folder), make_model(folder))[1],
        f"{NEWEST}/model.safetensors",
        predict("a.gif", NEWEST),
        predicted,
        True,
        names="model.safetensors",
    ),
    "model-config": Kind(make_model, "model/config.json", predict("a.gif"), predicted, True, TEXT, "model"),
    "model-weights": Kind(make_model, "model/model.safetensors", predict("a.gif"), predicted, True, names="model"),
    "frames-png": Kind(make_model, "frames/frame_1.png", predict("frames"), predicted, False, names="frame"),
    "frames-jpg": Kind(make_model, "frames/frame_1.jpg", predict("frames"), predicted, False, names="frame"),
    "gif": Kind(make_model, "a.gif", predict("a.gif"), predicted, False),
    "mp4": Kind(make_model, "a.mp4", predict("a.mp4"), predicted, False),
    "webp": Kind(make_model, "a.webp", predict("a.webp"), predicted, False),
    "evaluation-journal": Kind(make_evaluation, "journal", score_again, scored, True, TEXT, r"clips\.|clip "),
    "calibration-values": Kind(
        make_calibrated, "model/calibration/calibration.json", score, calibrated, False, TEXT, "calibration"
    ),
    "calibration-tensors": Kind(
        make_calibrated, "model/calibration/calibration.safetensors", score, calibrated, True, names="calibration"
    ),
    "lpips-weights": Kind(make_weights, "alexnet.pth", perceive, scored, False, names="alexnet|lpips"),
}
