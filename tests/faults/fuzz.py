"""Damages the files that the programs read, and judges what the programs make of them.

    python -m tests.faults.fuzz --kind manifest --seed 0 --count 100
    python -m tests.faults.fuzz                                          # all kinds

Each damaged file is read in a forked process, whose libraries are loaded already. Damage number i of a seed is always
the same. Ends with a table and, if anything is to be mended, with exit code 1; `--keep DIR` keeps those files.
"""

from __future__ import annotations

import argparse
import atexit
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.faults.damage import BYTES, Damage

LIMIT = 30.0
"""Seconds after which a reader counts as hanging; sound files take under one."""
MEMORY = 8 << 30
"""Bytes of address space that a reader may take."""


@dataclass(frozen=True)
class Kind:
    """A kind of file, and how it is read: an entry of a table such as `tests.faults.data_kinds.KINDS`."""

    make: Callable[[Path], None]
    """Fills a folder with sound files."""
    target: str
    """The file that is damaged, a path in that folder."""
    read: Callable[[Path], int]
    """Runs the program on the folder; gives its exit code, and prints as the program does."""
    result: Callable[[Path], object]
    """What was made of the files, to be compared with what the sound ones give; called after exit code 0."""
    checked: bool
    """Whether a checksum is promised to cover the file, so that no other result may be accepted."""
    damages: tuple[Damage, ...] = BYTES
    names: str = ""
    """A regular expression for the names that count in a message; by default the damaged file's or its folder's."""


GOOD = ("the same result", "refused by name", "accepted, without a checksum")
BAD = ("refused without a name", "traceback", "line of last resort", "hang", "silent under a checksum", "crash")


def judge(kind: Kind, folder: Path, expected: object) -> tuple[str, str]:
    """What the program makes of a folder, and what it printed."""
    with tempfile.TemporaryFile("w+") as printed:
        pid = os.fork()
        if pid == 0:
            _read(kind, folder, expected, printed.fileno())
        code = _wait(pid)
        printed.seek(0)
        text = printed.read()
    lines = [line for line in re.split(r"[\r\n]+", text) if line.startswith("error: ")]
    if code is None:
        return "hang", text
    if code not in (0, 1, 2, _OTHER, _UNCAUGHT):
        return "crash", text
    if "Traceback (most recent" in text or code == _UNCAUGHT:
        return "traceback", text
    if code == _OTHER:
        return ("silent under a checksum" if kind.checked else "accepted, without a checksum"), text
    if code == 0:
        return "the same result", text
    if " the traceback is in " in text:
        return "line of last resort", text
    names = kind.names or f"{re.escape(Path(kind.target).name)}|{re.escape(Path(kind.target).parent.name)}"
    named = len(lines) == 1 and re.search(names, lines[0].replace(str(folder), ""))
    return ("refused by name" if named else "refused without a name"), text


_OTHER, _UNCAUGHT = 98, 99


def _read(kind: Kind, folder: Path, expected: object, printed: int) -> None:
    """The forked process: never returns."""
    atexit._clear()  # what is cleaned up at an end is the first process's
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    code = _UNCAUGHT
    try:
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        code = kind.read(folder)
        if code == 0 and kind.result(folder) != expected:
            code = _OTHER
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(pid: int) -> int | None:
    """The exit code, negative for a signal; None after killing what hangs."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def fuzz(name: str, kind: Kind, seed: int, count: int, keep: Path | None = None) -> Counter[str]:
    """Judges `count` damages of a kind of file; prints those that are to be mended."""
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        sound = Path(place, "sound")
        sound.mkdir()
        folder = Path(place, "case")
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere), chdir(place):
            kind.make(sound)
            shutil.copytree(sound, folder, symlinks=True)
            os.chdir(folder)
            if kind.read(folder) != 0:
                raise RuntimeError(f"the sound files of {name} are refused")
            expected = kind.result(folder)
        for number in range(count):
            shutil.rmtree(folder)
            shutil.copytree(sound, folder, symlinks=True)
            rng = np.random.default_rng((seed, number, zlib.crc32(name.encode())))
            damage = kind.damages[rng.integers(len(kind.damages))]
            target = folder / kind.target
            target.write_bytes(damage(target.read_bytes(), rng))
            outcome, text = judge(kind, folder, expected)
            outcomes[outcome] += 1
            if outcome in BAD:
                last = [line for line in text.splitlines() if line.strip()][-1:] or [""]
                print(f"{name} --seed {seed}, number {number} ({damage.__name__}): {outcome}: {last[0][:300]}")
                if keep:
                    shutil.copytree(folder, keep / f"{name}-{seed}-{number}", dirs_exist_ok=True, symlinks=True)
    return outcomes


def kinds() -> dict[str, Kind]:
    """All kinds by name."""
    from tests.faults import data_kinds, svg_kinds

    assert not data_kinds.KINDS.keys() & svg_kinds.KINDS.keys()
    return {**data_kinds.KINDS, **svg_kinds.KINDS}


def main() -> int:
    """The command line; returns the exit code."""
    table = kinds()
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kind", nargs="*", choices=list(table), default=list(table), help="all by default")
    parser.add_argument("--seed", type=int, nargs="*", default=[0])
    parser.add_argument("--count", type=int, default=100, help="damaged files of each kind and seed")
    parser.add_argument("--keep", type=Path, help="folder for the files that are to be mended")
    options = parser.parse_args()
    total: dict[str, Counter[str]] = {}
    for name in options.kind:
        total[name] = sum((fuzz(name, table[name], s, options.count, options.keep) for s in options.seed), Counter())
        shown = ", ".join(f"{count} {outcome}" for outcome, count in sorted(total[name].items()))
        print(f"{name}: {sum(total[name].values())} damaged: {shown}", flush=True)
    bad = sum(counts[outcome] for counts in total.values() for outcome in BAD)
    print(f"{sum(sum(counts.values()) for counts in total.values())} damaged inputs, {bad} to be mended")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
