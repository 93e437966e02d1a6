"""The other benchmarks' commands, at tiny sizes."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import likelihoods, train_step

ROOT = Path(__file__).parents[2]


def published(out: Path, name: str, *arguments: object) -> list[dict]:
    """The rows of `python -m benchmarks.NAME`, whose one result is in a folder."""
    line = [sys.executable, "-m", f"benchmarks.{name}", "--rounds", "1", "--threads", "1", "--out", str(out)]
    done = subprocess.run([*line, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (result,) = out.glob("*.json")
    written = json.loads(result.read_text())
    assert written["command"].startswith(f"python -m benchmarks.{name} --rounds 1")
    return written["rows"]


@pytest.mark.parametrize("backbone", ["vgg", "dcgan"])
@pytest.mark.parametrize("name", train_step.VARIANTS)
def test_each_variant_of_the_training_step_learns(name, backbone):
    step = train_step.build(name, Namespace(backbone=backbone, width=4, batch=2, frames=3))
    first = step().item()
    for _ in range(4):
        last = step().item()
    assert last < first


def test_cost_has_a_row_for_each_point(tmp_path):
    sizes = ("--backbone", "dcgan", "--batch", 2, 3, "--frames", 3, "--size", 64, "--width", 2)
    rows = published(tmp_path, "cost", *sizes, "--samples", 1, "--horizon", 1)
    assert [(row[""], row["varied"], row["to"]) for row in rows] == [
        ("training", "batch", 2),
        ("training", "batch", 3),
        ("training", "frames", 3),
        ("training", "size", 64),
        ("training", "width", 2),
        ("rollout", "samples", 1),
        ("rollout", "horizon", 1),
    ]
    assert all(row["s"] > 0 and row["ms per frame"] > 0 for row in rows)
    assert [row["times the base"] == "1" for row in rows] == [True, False, *[True] * 5]


def test_rollouts_of_dcgan(tmp_path):
    rows = published(tmp_path, "rollout", "--backbone", "dcgan", "--samples", 2, "--horizon", 1, "--one-by-one", 1)
    assert [row[""] for row in rows] == ["naive", "naive, batched", "svg-lp, float32", "svg-lp, bf16"]


def test_checkpoints_in_the_loop_and_in_the_background(tmp_path):
    rows = published(tmp_path, "checkpoint", "--width", 4)
    assert [row[""] for row in rows] == ["in the loop", "in the background"]
    assert all(row["training stands still (s)"] > 0 for row in rows)


def test_stages_computed_again_are_measured_in_both_precisions(tmp_path):
    rows = published(tmp_path, "recompute", "--backbone", "dcgan", "--batch", 2, "--frames", 3, "--width", 4)
    ways = [f"{way}, {precision}" for precision in ("float32", "bf16") for way in ("kept", "computed again")]
    assert [row["stages"] for row in rows] == ways


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["gaussiann"], "gaussiann is unknown: choose from"), (["optimal_sigma", "--clips", "-1"], "must be at least 1")],
)
def test_the_likelihoods_benchmark_refuses_what_it_cannot_measure(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["likelihoods.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        likelihoods.main()
    assert stop.value.code == 2 and message in capsys.readouterr().err
