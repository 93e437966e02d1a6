"""eval.py calibrate, and an evaluation after it, from the command line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import eval as program
import svg
from data.clips import ClipWriter
from svg import checkpoint
from svg.evaluation import calibrate
from svg.runtime.program import run as run_program

SIZES = {"backbone": "dcgan", "width": 2, "g_dim": 4, "z_dim": 2, "rnn_size": 4}
HORIZON, SAMPLES = 3, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set and, in `model`, a random model whose configuration names it."""
    folder = tmp_path_factory.mktemp("calibrate")
    rng = np.random.default_rng(0)
    for split, clips in (("train", 3), ("val", 10), ("test", 3)):
        with ClipWriter(folder / "data" / split, frame_shape=(64, 64, 3), fps=7, source="noise", split=split) as writer:
            for _ in range(clips):
                writer.append(rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8))
    torch.manual_seed(0)
    config = svg.config_from_dict(
        {
            "model": SIZES,
            "likelihood": {"name": "optimal_sigma"},
            "data": {"path": "data", "frames": 4},
            "eval": {"horizon": HORIZON, "samples": SAMPLES, "gifs": 1},
        }
    )
    model = svg.build(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    checkpoint.write_model(folder / "model", config.to_dict(), model.state_dict())
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user is in a folder with the data set and a copy of the model."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", "/nowhere")
    for name, value in {"TAUS": (2.0,), "RHOS": (), "MAP_STEPS": 5, "MAP_BATCH": 2}.items():
        monkeypatch.setattr(calibrate, name, value)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The program in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["eval.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run_program(program.main)
    assert isinstance(stop.value.code, int)
    return stop.value.code


LEVELS = ("--levels", "0.5", "0.8")


def test_calibrate_then_evaluate(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "calibrate", "--checkpoint", "model", *LEVELS) == 0
    said = capsys.readouterr().out
    assert "model: calibrated by 10 clips of data/val" in said and "radius of the 0.8 interval" in said
    model = svg.load("model")
    assert isinstance(model, svg.SVG) and model.calibration is not None
    assert (model.calibration.context, model.calibration.horizon, model.calibration.samples) == (2, HORIZON, SAMPLES)
    assert set(model.calibration.fitted["data"]) == {"val", "train"}

    assert run(monkeypatch, "--checkpoint", "model", "--out", "out") == 0
    said = capsys.readouterr().out
    own, calibrated = (json.loads((Path("out") / part / "metrics.json").read_text()) for part in (".", "calibrated"))
    assert [own["name"], calibrated["name"]] == ["model", "model, calibrated"]
    assert own["protocol"]["calibrated"] is None
    assert calibrated["protocol"]["calibrated"] == model.calibration.digest
    assert "likelihood" in own and "likelihood" not in calibrated and "intervals" not in own
    assert set(calibrated["intervals"]) == {"0.5", "0.8"}
    assert len(calibrated["intervals"]["0.8"]["frames"]) == HORIZON
    page = Path("out/report.html").read_text()
    for text in ("model, calibrated", "sigma/error", "Uncertainty over error"):
        assert text in page
    assert "model, calibrated" in said

    # the share inside is that of the intervals that a user gets
    frames = np.stack([np.load("data/test/frames.npy")[6 * clip : 6 * clip + 5] for clip in range(3)])
    truth = torch.from_numpy(frames).permute(0, 1, 4, 2, 3)
    _, _, (lower, upper) = model.rollout(truth[:, :2], HORIZON, SAMPLES, seed=0, calibrated=True, interval=0.8)
    inside = ((truth[:, 2:] / 255 >= lower) & (truth[:, 2:] / 255 <= upper)).double().mean((0, 2, 3, 4))
    assert calibrated["intervals"]["0.8"]["frames"] == pytest.approx(inside.tolist(), abs=1e-3)

    # again: everything is taken from the journals; and without the calibrated futures
    assert run(monkeypatch, "--checkpoint", "model", "--out", "out") == 0
    assert "kept 3 of 3 clips" in capsys.readouterr().out
    assert run(monkeypatch, "--checkpoint", "model", "--out", "plain", "--calibrated", "false") == 0
    assert not Path("plain/calibrated").exists()

    # a horizon that it was not fitted to: said, and measured without
    assert run(monkeypatch, "--checkpoint", "model", "--out", "long", "--eval.horizon", "4") == 0
    assert "model calibrated is left out: the calibration is of 3 predicted frames" in capsys.readouterr().out
    assert not Path("long/calibrated").exists()


def test_a_damaged_calibration_is_refused_and_made_again(monkeypatch, capsys):
    Path("model/calibration").mkdir()
    Path("model/calibration/calibration.json").write_text('{"format": 1}')
    assert run(monkeypatch, "--checkpoint", "model", "--out", "out") == 2
    assert "model/calibration/calibration.json is damaged" in capsys.readouterr().err
    assert run(monkeypatch, "--checkpoint", "model", "--out", "out", "--calibrated", "false", "--metrics", "psnr") == 0
    assert run(monkeypatch, "calibrate", "--checkpoint", "model", *LEVELS) == 0
    model = svg.load("model")
    assert isinstance(model, svg.SVG) and model.calibration is not None


def test_the_calibration_of_a_run_lies_beside_its_checkpoints(tmp_path, monkeypatch):
    place = Path("run/checkpoints/step_00000007")
    place.parent.mkdir(parents=True)
    shutil.copytree("model", place)
    assert run(monkeypatch, "calibrate", "--checkpoint", place, *LEVELS, "--clips", "8") == 0
    assert sorted(path.name for path in Path("run/calibration/step_00000007").iterdir()) == [
        "calibration.json",
        "calibration.safetensors",
    ]
    model = svg.load(place)
    assert isinstance(model, svg.SVG) and model.calibration is not None
    assert model.calibration.fitted["clips"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--checkpoint", "model"), "an interval of level 0.9 needs 18 validation clips"),
        (("--checkpoint", "model", "--levels", "1.5"), "--levels: the level of an interval is 1.5"),
        (("--checkpoint", "model", "--clips", "1"), "--clips is 1"),
        (("--checkpoint", "model", *LEVELS, "--eval.samples", "1"), "at least 2 futures"),
        (("--checkpoint", "model", *LEVELS, "--eval.horizon", "9"), "--eval.horizon 4 is the most"),
        (("--checkpoint", "model", *LEVELS, "--eval.context", "1"), "--eval.context 2"),
        (("--checkpoint", "model", *LEVELS, "--data.path", "nowhere"), "there is no data set nowhere"),
        (("--checkpoint", "nothing"), "nothing does not exist"),
        ((), "--checkpoint is required"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, "calibrate", *arguments) == 2
    line = capsys.readouterr().err.strip().split("\n")[-1]
    assert message in line
    assert not Path("model/calibration").exists()


def test_without_validation_clips(monkeypatch, capsys):
    shutil.rmtree("data/val")
    assert run(monkeypatch, "calibrate", "--checkpoint", "model", *LEVELS) == 2
    assert "data has no split val; it has: train, test" in capsys.readouterr().err
