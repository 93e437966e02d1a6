"""A few damaged inputs and kills of each kind; any number by hand (fuzz.py, kill.py)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.faults import damage, data_kinds
from tests.faults.data_victims import VICTIMS, make_training, train, weights
from tests.faults.fuzz import BAD, GOOD
from tests.faults.group_victims import kill_one, two
from tests.faults.kill import ROOT, Victim, kills

QUICK = ("model-config", "frames-png", "gif")
"""Of the kinds that train.py and eval.py read, those that take neither training nor an evaluation."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kinds", "count"), [(data_kinds.KINDS, 2), (QUICK, 1)], ids=["data", "svg"])
def test_damaged_inputs(kinds: Collection[str], count: int) -> None:
    """In a process of its own, which has no threads that a fork could find in the middle of something."""
    command = [sys.executable, "-m", "tests.faults.fuzz", "--kind", *kinds, "--count", str(count), "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=560)
    assert done.returncode == 0 and f"{count * len(kinds)} damaged inputs, 0 to be mended" in done.stdout, done.stdout


JUDGED = """
import os, sys, time
from pathlib import Path
from tests.faults import fuzz
fuzz.LIMIT = 3.0
def last_resort(folder): print("error: it failed; the traceback is in x", file=sys.stderr); return 1
def nameless(folder): print("error: it failed", file=sys.stderr); return 2
def named(folder): print("error: manifest.json is bad", file=sys.stderr); return 2
readers = [lambda folder: time.sleep(60), lambda folder: os.kill(os.getpid(), 11), lambda folder: {}["x"],
    last_resort, nameless, named, lambda folder: 0]
for read in readers:
    kind = fuzz.Kind(print, "train/manifest.json", read, lambda folder: 0, checked=True)
    print(fuzz.judge(kind, Path.cwd(), 1)[0], flush=True)
"""


def test_the_judgement(tmp_path: Path) -> None:
    """The judge tells each outcome from the others."""
    command, environment = [sys.executable, "-c", JUDGED], {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [
        "hang",
        "crash",
        "traceback",
        "line of last resort",
        "refused without a name",
        "refused by name",
        "silent under a checksum",
    ], done.stderr
    assert {*done.stdout.splitlines()} <= {*GOOD, *BAD}


def test_damages_are_reproducible() -> None:
    data = bytes(range(256)) * 8 + b'{"a": 1}'
    for change in damage.TEXT:
        pair = [change(data, np.random.default_rng(3)) for _ in range(2)]
        assert pair[0] == pair[1]


@pytest.mark.parametrize("name", ["robot_push", "bair"])
def test_killed_programs(name: str) -> None:
    outcomes = kills(name, VICTIMS[name], 1, seed=1)
    assert not [outcome.complaint for outcome in outcomes if outcome.complaint]


def test_one_of_two_processes_is_killed() -> None:
    victim = Victim(make_training, two(train), weights, strike=kill_one)
    outcomes = kills("two", victim, 1, seed=1)
    assert not [outcome.complaint for outcome in outcomes if outcome.complaint]


def test_a_killed_evaluation() -> None:
    """Killed training is in tests/test_train.py."""
    command = [sys.executable, "-m", "tests.faults.svg_victims", "eval", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0 and done.stdout.count(": same") == 1, done.stdout + done.stderr


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    make_training(folder)
    return folder


BROKEN = """
import runpy, sys
from svg.objective import Objective
forward, calls = Objective.forward, []
def failing(self, *arguments, **options):
    calls.append(1)
    if len(calls) > 3: raise KeyError("in a step")
    return forward(self, *arguments, **options)
Objective.forward = failing
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_an_exception_in_a_step_ends_training(prepared: Path, tmp_path: Path) -> None:
    """With two loader workers, which end with it."""
    python, *command = train(prepared, tmp_path)
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen([python, "-c", BROKEN, *command], cwd=ROOT, stdout=printed, stderr=printed)
        workers = loader_workers(process)
        assert process.wait(60) in (1, 2)
    assert len(workers) == 2 and not psutil.wait_procs(workers, timeout=30)[1]


def test_a_killed_loader_worker_is_one_line(prepared: Path, tmp_path: Path) -> None:
    command = [*train(prepared, tmp_path), "--train.steps", "1000000"]
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, cwd=ROOT, stdout=printed, stderr=printed)
        workers = loader_workers(process)
        workers[0].kill()
        assert process.wait(30) in (1, 2)
        printed.seek(0)
        text = printed.read()
    assert "error: a loader worker was killed: probably the memory is full; lower data.workers" in text
    assert "Traceback" not in text and not psutil.wait_procs(workers, timeout=30)[1]


def loader_workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The two workers, as soon as there are two."""
    while process.poll() is None:
        children = psutil.Process(process.pid).children()
        workers = [child for child in children if "data.workers" in " ".join(child.cmdline())]
        if len(workers) == 2:
            return workers
        time.sleep(0.02)
    raise AssertionError("it ended before it had two workers")
