"""Image VAEs through train.py and eval.py: trained for a few steps, evaluated, and what is refused."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState
from PIL import Image

import eval as evaluation
import svg
import train
from data.images import make

CONFIG = Path(__file__).parents[1] / "configs" / "digits_vae.yaml"
TINY = ["--model.width", "4", "--model.z_dim", "4", "--train.steps", "6", "--train.batch_size", "16"]
TINY += ["--train.eval_every", "3", "--train.eval_clips", "16", "--train.save_every", "6", "--train.log_every", "2"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    return make("digits", tmp_path_factory.mktemp("images") / "digits")


@pytest.fixture
def run(digits, tmp_path, monkeypatch, capsys):
    """Calls a program in this process: run(program, *options) gives its code and what it printed."""

    def call(program: str, *options: str) -> tuple[int, str]:
        for state in (AcceleratorState, PartialState, GradientState):
            state._reset_state()
        if program == "train":
            options = ("--config", str(CONFIG), "--data.path", str(digits), *TINY, *options)
            options = (*options, "--train.out", str(tmp_path / "run"), "--train.trackers")
        monkeypatch.setattr(sys, "argv", [f"{program}.py", *options])
        code = {"train": train, "eval": evaluation}[program].main() or 0
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


PENALTY = ("--objective.options.gradient_penalty", "1")
CASES = {
    "optimal_sigma": (),
    "pixel_sigma": ("--likelihood.name", "pixel_sigma", "--model.posterior", "isotropic", "--objective.beta", "0.5"),
    "bilbo": ("--objective.name", "bilbo", "--likelihood.name", "baggins", "--model.posterior", "constant"),
    "rae": (
        "--objective.name",
        "rae",
        "--objective.options.gradient_penalty",
        "1",
        "--model.posterior",
        "deterministic",
    ),
    "categorical": ("--likelihood.name", "categorical", "--objective.name", "dip_vae", "--model.backbone", "mlp"),
}


@pytest.mark.parametrize("case", CASES)
def test_trained_and_evaluated(run, tmp_path, case):
    code, _ = run("train", *CASES[case])
    assert code == 0
    assert list((tmp_path / "run" / "samples").glob("*.png"))
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 6

    few = ("--eval.clips", "40", "--eval.samples", "2", "--eval.components", "3")
    samplers = ("--eval.samplers", "prior", "floating", "gmm", "second_stage", "--eval.epochs", "1")
    more = {"bilbo": samplers, "categorical": ("--verify",)}.get(case, ())
    code, text = run("eval", "--checkpoint", str(tmp_path / "run"), *few, *more)
    assert code == 0 and "40 images" in text
    out = tmp_path / "run" / "eval"
    found = json.loads((out / "metrics.json").read_text())
    not_verified = found["protocol"]["data"]["not_verified"]
    assert not_verified == ([] if case == "categorical" else ["frames.npy", "label.npy"])
    values = [entry["mean"] for entry in found["images"].values()] + list(found["latents"].values())
    assert all(math.isfinite(value) for value in values)
    assert 0 <= found["latents"]["active_units"] <= 4
    stochastic = "deterministic" not in CASES[case]
    assert ("neg_elbo" in found["images"]) == ("neg_iwae" in found["images"]) == stochastic
    assert ("bits_per_dim" in found["images"]) == stochastic
    assert ("neg_evidence" in found["images"]) == (case in ("optimal_sigma", "bilbo"))
    for name in ("reconstructions", "samples", "interpolations", "latents", "training"):
        assert Image.open(out / f"{name}.png").width > 300
    assert isinstance(svg.load(tmp_path / "run"), svg.VAE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--objective.name", "bilbo"),
            "objective.name bilbo is undefined for this model: .* model.posterior constant",
        ),
        (("--likelihood.name", "baggins"), "likelihood.name baggins is undefined .* model.posterior constant"),
        (("--model.posterior", "deterministic"), "objective.name elbo .* infinite"),
        (("--model.backbone", "vgg"), "model.backbone is 'vgg', but it must be conv or mlp or linear"),
        (("--model.size", "28"), "32x32 pixels and 1 channels, but model.size is 28"),
        (("--data.frames", "2"), "data.frames"),
    ],
)
def test_what_is_undefined_is_refused(run, options, message):
    with pytest.raises(ValueError, match=message):
        run("train", *options)


def test_wrong_evaluations_are_refused(run, tmp_path, digits):
    config = svg.config_from_dict(
        {"model": {"name": "vae", "backbone": "mlp", "size": 32, "prior": "fixed", "channels": 1}}
    )
    svg.build(config).save_pretrained(tmp_path / "model")
    at = ("--checkpoint", str(tmp_path / "model"), "--data.path", str(digits))
    with pytest.raises(ValueError, match="eval.clips is 301, but there are 300 test images"):
        run("eval", *at, "--eval.clips", "301")
    with pytest.raises(ValueError, match="sampler 'flow' is unknown: choose from prior, floating, gmm"):
        run("eval", *at, "--eval.clips", "8", "--eval.samples", "1", "--eval.samplers", "flow")
    with pytest.raises(ValueError, match="--metrics chooses among the metrics of video models"):
        run("eval", *at, "--metrics", "psnr")
    for weights in ("lpips", "fvd", "fid"):
        with pytest.raises(ValueError, match=f"^eval.{weights}_weights: there is no file /nonexistent$"):
            run("eval", *at, f"--eval.{weights}_weights", "/nonexistent")
    with pytest.raises(ValueError, match="is an image model, which is evaluated alone"):
        run("eval", at[0], at[1], at[1])
    with pytest.raises(ValueError, match="python -m data.digits|no data set"):
        run("eval", *at[:2], "--data.path", str(tmp_path / "nothing"))


def test_what_is_measured_is_kept_whatever_becomes_of_the_pictures(run, tmp_path, monkeypatch):
    assert run("train")[0] == 0

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(evaluation.image_figures, "write_all", full)
    with pytest.raises(OSError, match="No space"):
        run("eval", "--checkpoint", str(tmp_path / "run"), "--eval.samples", "2", "--eval.samplers", "prior")
    assert json.loads((tmp_path / "run" / "eval" / "metrics.json").read_text())["images"]["neg_elbo"]
