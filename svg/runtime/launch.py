"""Starts several processes of one program on this machine, as torchrun does, and ends them together.

    python -m svg.runtime.launch --processes 2 train.py --config configs/debug.yaml
    python -m svg.runtime.launch --processes 2 -m benchmarks.group_step ...

What is printed and the exit code are the program's own: where one process fails, its line is all that is said.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, so that Ctrl-C is a line
    from svg.runtime import program as running

    running.begin()

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import psutil

from svg.runtime.launched import end_with_launcher, tied

GRACE = 10.0
"""Seconds that the other processes have once one has failed, to finish the checkpoint they are writing."""


def main() -> int:
    """The command line; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m svg.runtime.launch", description="Start several processes of a program on this machine."
    )
    parser.add_argument("--processes", type=int, required=True, metavar="N", help="how many")
    rest = argparse.REMAINDER
    parser.add_argument("-m", dest="module", nargs=rest, default=[], help="the program's module and its options")
    parser.add_argument("program", nargs=rest, help="or its file and options")
    options = parser.parse_args()
    if options.processes < 1:
        parser.error(f"--processes is {options.processes}: at least 1 is needed")
    program = ["-m", *options.module] if options.module else options.program
    if not program:
        parser.error("the program is missing, as in --processes 2 train.py --config configs/debug.yaml")
    end_with_launcher()
    return start(options.processes, program)


def start(processes: int, program: Sequence[str]) -> int:
    """Runs so many processes of a program and waits for them; signals are passed on to them.

    Once one has failed, the others are ended.

    Args:
        program: what follows `python` on a command line.

    Returns:
        The exit code of the first that failed, 128 + N where signal N killed it; or 0.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, _cores() // processes))),
    }
    children: list[subprocess.Popen[bytes]] = []
    signals: list[int] = []

    def forward(number: int, frame: object) -> None:
        signals.append(number)
        for child in children:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, forward)
    for rank in range(processes):
        variables = tied(**shared, RANK=str(rank), LOCAL_RANK=str(rank))
        # a group of its own, so that a terminal's Ctrl-C comes once: passed on from here
        children.append(subprocess.Popen([sys.executable, *program], env=variables, process_group=0))
    for early in list(signals):  # sent before the last one was there
        children[-1].send_signal(early)

    while all(child.poll() in (None, 0) for child in children) and any(child.poll() is None for child in children):
        time.sleep(0.1)
    failed = next((rank for rank, child in enumerate(children) if child.returncode), None)
    if failed is None:
        return 0
    code = children[failed].returncode
    _end(children)
    if code < 0 and -code not in signals:
        name = signal.Signals(-code).name
        memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        print(f"error: process {failed} was killed ({name}{memory}): the same command goes on with it", file=sys.stderr)
    return code if code > 0 else 128 - code


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends processes whose fellow has failed: those that wait for it are gone at once, those that save in GRACE s."""
    deadline = time.monotonic() + GRACE
    while any(child.poll() is None for child in children) and time.monotonic() < deadline:
        for child in children:
            child.terminate()  # again and again: the first one may be noted by a loop that does not come round
        time.sleep(0.2)
    for child in children:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # with what it started itself
        child.wait()


def _cores() -> int:
    """Cores of the machine that this process may use."""
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return min(cores, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else cores


if __name__ == "__main__":
    sys.exit(main())
