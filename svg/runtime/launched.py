"""What a process that was started by another one knows and owes it: it ends when that one does.

subprocess.Popen(command, env=tied())       a program of ours that ends with this process
end_with_parent()                           the same, said by the child itself
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import sys
import threading
import time

PATIENCE = 15.0
"""Seconds that a process has for its last checkpoint once its parent has gone."""
LAUNCHER = "SVG_LAUNCHER"
"""Variable that holds the process number of whoever started this process, and with whom it ends."""
_LAUNCHERS = (LAUNCHER, "TORCHELASTIC_RUN_ID", "ACCELERATE_USE_CPU")
"""Variables that say a launcher started this process: ours, torchrun's (also Accelerate's for several GPUs), and that
of Accelerate's for one process."""
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""Variables that Accelerate takes a process's number from: torchrun's and MPI's."""
_PR_SET_PDEATHSIG = 1
"""linux/prctl.h."""

_watched = False


def rank() -> int:
    """This process's number among those of one run; 0 is the first, or the only one."""
    return int(os.environ.get("RANK", "0"))


def several() -> bool:
    """Whether other processes share this run."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def tied(**more: str) -> dict[str, str]:
    """Variables for a child that is to end with this process, if it is a program of ours: `os.environ` and `more`."""
    return {**os.environ, **more, LAUNCHER: str(os.getpid())}


def end_with_launcher() -> None:
    """Has this process end with its launcher, where one started it: accelerate, torchrun, `svg.runtime.launch`, `tied`.

    A process that a person or a shell started is left alone: it may outlive a terminal on purpose.
    """
    global _watched
    if _watched or not any(name in os.environ for name in _LAUNCHERS):
        return
    launcher = int(os.environ.get(LAUNCHER, os.getppid()))
    if launcher != os.getppid():
        import psutil  # not before it is needed: Ctrl-C is one line from `program.begin` on

        if psutil.pid_exists(launcher):
            return  # the variable was handed down to a grandchild
    _watched = True
    end_with_parent(launcher)


def end_with_parent(parent: int | None = None, patience: float = PATIENCE) -> None:
    """Has this process end when its parent has ended, however that came: SIGTERM at once, SIGKILL `patience` later.

    On Linux the kernel sends the SIGTERM, elsewhere a thread that watches the parent does. On Windows nothing happens.

    Args:
        parent: the parent's process number, where it is known from elsewhere than `os.getppid()` at this moment.
        patience: seconds between the signals, for a program that notes SIGTERM and saves.
    """
    if sys.platform == "win32":
        return
    parent = parent or os.getppid()
    by_kernel = sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) == 0
    if os.getppid() != parent:  # it ended before the kernel was asked
        by_kernel = False

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if not by_kernel:  # one SIGTERM only: a second one could meet a program that has saved and is about to end
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end_with_parent", daemon=True).start()


def check_launcher() -> None:
    """Raises ValueError where several processes were asked for and the launcher started one.

    `accelerate launch --cpu --num_processes 2` does so without a word: it leaves the others to MPI, and no variable
    holds their number. MASTER_PORT says that there should be some.
    """
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true")
    if on_cpu and "MASTER_PORT" in os.environ and not any(name in os.environ for name in _RANKS):
        command = shlex.join(sys.orig_argv[1:])
        raise ValueError(
            "accelerate launch --cpu starts one process, whatever --num_processes says. For N of them: "
            f"python -m svg.runtime.launch --processes N {command}"
        )
