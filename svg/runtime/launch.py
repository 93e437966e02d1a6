"""Several CPU processes under `accelerate launch --cpu --num_processes N`.

For GPUs, Accelerate starts every process itself. For CPUs it starts one and leaves the others to MPI, without a word
where there is none. Here the one process starts them, as torchrun would, but so that what is printed and the exit code
are the program's own.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time

import psutil


def start_all() -> int | None:
    """Starts N copies of this program where Accelerate was asked for N and started one, and waits for them.

    Returns:
        The exit code of the first one that failed, or 0; None where this process is to do the work.
    """
    count = _processes_wanted()
    if count < 2:
        return None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    command = [sys.executable, *sys.orig_argv[1:]]
    ranks = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count))
    children = [subprocess.Popen(command, env={**os.environ, **shared, **rank}) for rank in ranks]

    def forward(number: int, frame: object) -> None:
        for child in children:
            child.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the children by itself
    while all(child.poll() in (None, 0) for child in children) and any(child.poll() is None for child in children):
        time.sleep(0.1)
    failed = [child.returncode for child in children if child.returncode]
    for child in children:
        child.terminate()
        child.wait()
    return failed[0] if failed else 0


def _processes_wanted() -> int:
    """How many processes `accelerate launch --cpu` was asked for; 0 where this is something else."""
    started = any(name in os.environ for name in ("RANK", "LOCAL_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"))
    if started or os.environ.get("ACCELERATE_USE_CPU", "").lower() not in ("1", "true"):
        return 0
    parent = psutil.Process().parent()
    line = " ".join(parent.cmdline()) if parent else ""
    match = re.search(r"\baccelerate\b.* --num[_-]processes[ =](\d+)\b", line)
    return int(match[1]) if match else 0
