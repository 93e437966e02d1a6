"""train.py and eval.py in two processes, for kill.py: their launcher is killed, one of the two, or a loader worker."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.faults import svg_victims
from tests.faults.data_victims import kill_a_loader_worker
from tests.faults.kill import Victim

Command = Callable[[Path, Path], list[str]]


def two(program: Command, *more: str) -> Command:
    """The command of a program in two processes, with more options."""

    def command(prepared: Path, folder: Path) -> list[str]:
        python, *rest = program(prepared, folder)
        return [python, "-m", "svg.runtime.launch", "--processes", "2", *rest, *more]

    return command


def trained(folder: Path) -> object:
    """As of one process, but of its checkpoints the last one only: a killed launcher has the processes save first."""
    rows, files, checkpoints, left = svg_victims.trained(folder)
    kept = {name: digest for name, digest in files.items() if checkpoints[-1] in name or name.endswith(".gif")}
    return rows, kept, checkpoints[-1], left


def evaluated(folder: Path) -> object:
    """As of one process, but that the clips' records come in any order."""
    entry, files, report, left = svg_victims.evaluated(folder)
    journals = {name for name in files if name.endswith(".jsonl")}
    pictures = {name: digest for name, digest in files.items() if name not in journals}
    records = {name: sorted((folder / "out" / name).read_text().splitlines()) for name in sorted(journals)}
    return entry, pictures, records, report, left


def kill_one(process: subprocess.Popen[str]) -> str:
    """One of the two processes; before there are two, the launcher."""
    try:
        both = [child for child in psutil.Process(process.pid).children() if child.environ().get("RANK")]
    except psutil.Error:
        both = []
    if len(both) < 2:
        process.kill()
        return ""
    random.choice(both).kill()
    return "was killed (SIGKILL"


train = two(svg_victims.train, "--data.workers", "1")
evaluate = two(svg_victims.evaluate)
VICTIMS = {
    "train-launcher": Victim(svg_victims.make_set, train, trained),
    "train-one": Victim(svg_victims.make_set, train, trained, strike=kill_one),
    "train-loader": Victim(svg_victims.make_set, train, trained, strike=kill_a_loader_worker),
    "eval-launcher": Victim(svg_victims.make_set, evaluate, evaluated),
    "eval-one": Victim(svg_victims.make_set, evaluate, evaluated, strike=kill_one),
}
