"""Scaling: the estimate's formula, and the command on two processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import scaling
from benchmarks.scaling import estimate, links, ring_bytes
from svg import likelihoods
from svg.config import ModelConfig
from svg.models.svg_lp import SVG

ROOT = Path(__file__).parents[2]


def test_the_estimate_is_step_and_ring_all_reduce():
    assert ring_bytes(100.0, 2) == 100
    assert ring_bytes(100.0, 8) == 175
    # 8 processes send 175 MB at 50 MB/s, 3.5 s; 14 exchanges take 0.7 s more.
    assert estimate(2.0, 100e6, 50e6, 8) == pytest.approx(5.5, rel=1e-12)
    assert estimate(2.0, 100e6, 50e6, 8, latency=0.05) == pytest.approx(6.2, rel=1e-12)
    assert estimate(2.0, 100e6, 50e6, 8, overlap=0.25, latency=0.05) == pytest.approx(5.7, rel=1e-12)


@given(
    st.floats(0, 10),
    st.floats(0, 1e9),
    st.floats(1e6, 1e12),
    st.integers(1, 64),
    st.floats(0, 1),
    st.floats(0, 1e-3),
)
def test_more_processes_or_less_overlap_never_take_less_time(step_s, gradients, bandwidth, n, overlap, latency):
    seconds = estimate(step_s, gradients, bandwidth, n, overlap, latency)
    assert step_s <= seconds <= estimate(step_s, gradients, bandwidth, n, 0.0, latency)
    assert seconds <= estimate(step_s, gradients, bandwidth, n + 1, overlap, latency) * (1 + 1e-12)
    assert estimate(step_s, gradients, bandwidth, 1, overlap, latency) == step_s


@pytest.mark.parametrize(
    "wrong", [{"n": 0}, {"bandwidth": 0.0}, {"overlap": 1.5}, {"overlap": -0.1}, {"latency": -1.0}, {"step_s": -1.0}]
)
def test_an_impossible_estimate_is_refused(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        estimate(**({"step_s": 1.0, "gradient_bytes": 1.0, "bandwidth": 1.0, "n": 2} | wrong))


def test_a_ring_is_as_fast_as_its_slowest_link():
    assert links(8, 8, 200.0, [12.5, 50.0]) == [200]
    assert links(16, 8, 200.0, [50.0, 12.5]) == [12.5, 50]
    assert links(16, 8, 1.0, [12.5, 50.0]) == [1]


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "benchmarks.scaling", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


def test_two_processes_are_measured(tmp_path):
    sizes = ("--backbone", "dcgan", "--width", 2, "--frames", 3, "--batch", 16, "--steps", 1, "--rounds", 1)
    done = command(*sizes, "--processes", 1, 2, "--within", 100, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    found = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("scaling", "scaling_traffic")}
    rows = found["scaling"]["rows"]
    assert [(row["scaling"], row["processes"], row["clips a step"]) for row in rows] == [
        ("weak", 1, 16),
        ("weak", 2, 32),
        ("strong", 1, 16),
        ("strong", 2, 16),
    ]
    assert all(row["s/step"] > 0 for row in rows)
    assert rows[0]["efficiency"] == "1.00 (1.00-1.00)"

    model = SVG(ModelConfig(backbone="dcgan", width=2), likelihoods.build("optimal_sigma"))
    megabytes = 4e-6 * sum(parameter.numel() for parameter in model.parameters())
    one, two = found["scaling_traffic"]["rows"]
    assert one["gradients, MB"] == two["gradients, MB"] == two["sent by each process, MB"] == round(megabytes, 2)
    assert two["GB/s"] >= 0 and two["their all-reduce, ms"] > 0
    assert two["likelihood's statistics"] == "16 bytes in 1"  # r^2 and the count, float64

    written = json.loads((tmp_path / "scaling_estimate.json").read_text())
    text = (tmp_path / "scaling_estimate.md").read_text()
    assert "AN ESTIMATE, not a measurement" in text and "processes (estimate)" in text
    rows = written["rows"]
    assert [row["processes (estimate)"] for row in rows] == [8, 16, 16, 32, 32, 64, 64]
    assert [row["slowest link, GB/s"] for row in rows] == [100, 12.5, 50, 12.5, 50, 12.5, 50]
    assert [row["strong: clips each"] for row in rows] == [2, 1, 1, "-", "-", "-", "-"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (("--processes", 2), "--processes must have 1"),
        (("--batch", 3), "--batch is 3"),
        (("--overlap", 2), "--overlap"),
        (("--between", 0), "--between must be positive"),
    ],
)
def test_wrong_options_are_named(wrong, named, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scaling", "--batch", "2", "--processes", "1", "2", *map(str, wrong)])
    with pytest.raises(SystemExit) as exit_:
        scaling.options_given()
    assert exit_.value.code == 2
    assert named in capsys.readouterr().err


def test_a_group_that_fails_says_why(tmp_path):
    done = command(
        "--processes", 1, "--batch", 2, "--frames", 1, "--width", 2, "--backbone", "dcgan", "--out", tmp_path
    )
    assert done.returncode == 2
    assert "error: a group of 1 failed:\nerror: 1 frames are too few" in done.stderr and "Traceback" not in done.stderr
