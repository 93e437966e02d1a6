"""Kills programs at random moments, runs them again, and compares what they made with an uninterrupted run.

    python -m tests.faults.kill --program robot_push --count 30
    python -m tests.faults.kill                                  # all programs, 5 kills each

Whatever a killed process leaves behind, the same command again must give the same files; and its children end with it.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
"""Seconds within which orphans, and a program that lost a worker, must end; on idle cores it takes under 10."""

TOLD = (1, 2, 128 + signal.SIGKILL)
"""Exit codes of a program that says what happened; the last one says that a process of several was killed."""


@dataclass(frozen=True)
class Victim:
    """A program that is killed: an entry of a table such as `tests.faults.data_victims.VICTIMS`."""

    prepare: Callable[[Path], None]
    """Writes what the program needs into a folder, once."""
    command: Callable[[Path, Path], list[str]]
    """The command, of the prepared folder and of the folder that it fills; the same again carries on."""
    result: Callable[[Path], object]
    """What is compared, of the filled folder."""
    strike: Callable[[subprocess.Popen[str]], str] = lambda process: _kill(process)
    """Kills; gives a text that the program must print if it is to end by itself, with a code of `TOLD`; else ''. It may
    also end as if nothing had been, where it was so near its end that nothing was missing."""
    finished: str = ""
    """What the command again prints if the killed one was done already, with exit code 2."""


def _kill(process: subprocess.Popen[str]) -> str:
    process.kill()
    return ""


@dataclass
class Outcome:
    """How one kill went."""

    after: float
    """Seconds from the start to the kill."""
    done: bool
    """Whether the program had ended before."""
    awaited: str
    """What it had to print and to end with, or '' if it was killed itself."""
    complaint: str
    """What is wrong, or ''."""


def kill_once(victim: Victim, prepared: Path, folder: Path, after: float, expected: object) -> Outcome:
    """Starts a program, kills it after so many seconds, runs it again to its end, and compares."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with open(folder.with_name("printed"), "w+") as printed:
        process = _start(victim.command(prepared, folder), printed)
        try:
            process.wait(after)
            done = True
        except subprocess.TimeoutExpired:
            done = False
        family = _children(process)
        awaited = "" if done else victim.strike(process)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return Outcome(after, done, awaited, f"hangs {PATIENCE:g} s after the kill")
        printed.seek(0)
        text = printed.read()
    if orphans := psutil.wait_procs(family, timeout=PATIENCE)[1]:
        for orphan in orphans:
            orphan.kill()
        return Outcome(after, done, awaited, f"leaves {len(orphans)} processes: {orphans}")
    errors = len(re.findall(r"error(?: \(process \d+\))?: ", text))
    if awaited and code and not (code in TOLD and awaited in text and "Traceback" not in text and errors == 1):
        return Outcome(after, done, awaited, f"exit code {code}, printed: {text[-300:]}")
    again = subprocess.run(
        victim.command(prepared, folder), cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=600
    )
    if again.returncode and not (victim.finished and again.returncode == 2 and victim.finished in again.stderr):
        return Outcome(after, done, awaited, f"the command again ends with {again.returncode}: {again.stderr[-300:]}")
    if (found := victim.result(folder)) != expected:
        return Outcome(after, done, awaited, f"another result: {found}, not {expected}"[:600])
    return Outcome(after, done, awaited, "")


def kills(name: str, victim: Victim, count: int, seed: int = 0) -> list[Outcome]:
    """Kills a program at `count` moments, spread at random over its run; prints what is wrong.

    Those that came too late, because the program had ended, are among the outcomes, but not counted.
    """
    rng = random.Random(f"{name} {seed}")
    with tempfile.TemporaryDirectory(prefix="kill-") as place:
        prepared, whole, folder = (Path(place, part) for part in ("prepared", "whole", "killed"))
        prepared.mkdir()
        whole.mkdir()
        victim.prepare(prepared)
        begun = time.monotonic()
        subprocess.run(
            victim.command(prepared, whole), cwd=ROOT, env=_environment(), check=True, capture_output=True, timeout=600
        )
        lasts = time.monotonic() - begun
        expected = victim.result(whole)
        outcomes: list[Outcome] = []
        in_time = 0
        while in_time < count and len(outcomes) < 3 * count:
            # one in each of `count` equal parts of the run, so that few kills are spread over it too
            after = lasts * (in_time + rng.random()) / count
            outcomes.append(kill_once(victim, prepared, folder, after, expected))
            in_time += not outcomes[-1].done
            if outcomes[-1].done:  # it runs faster than the first time
                lasts = min(lasts, after)
            if outcomes[-1].complaint:
                print(f"{name}: killed after {after:.2f} of {lasts:.2f} s: {outcomes[-1].complaint}", flush=True)
    return outcomes


def _start(command: list[str], printed: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=_environment(),
        stdout=printed,
        stderr=subprocess.STDOUT,
        text=True,  # type: ignore[call-overload]
    )


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def _children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def victims() -> dict[str, Victim]:
    """All programs by name."""
    from tests.faults import data_victims, group_victims, svg_victims

    return {**data_victims.VICTIMS, **svg_victims.VICTIMS, **group_victims.VICTIMS}


def main() -> int:
    """The command line; returns the exit code."""
    table = victims()
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kill", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--program", nargs="*", choices=list(table), default=list(table), help="all by default")
    parser.add_argument("--count", type=int, default=5, help="kills of each program")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wrong = 0
    for name in options.program:
        outcomes = kills(name, table[name], options.count, options.seed)
        bad, late = sum(bool(outcome.complaint) for outcome in outcomes), sum(outcome.done for outcome in outcomes)
        told = sum(bool(outcome.awaited) for outcome in outcomes)
        children = f", {told} of them of a child that the program has to tell of" if told else ""
        print(
            f"{name}: {len(outcomes) - late} kills{children}; {bad} lost, hanging or untold ({late} came too late)",
            flush=True,
        )
        wrong += bad
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
