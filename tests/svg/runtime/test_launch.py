"""Several processes of one program: what is printed and the exit code are as if it were one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import os, signal, sys, time
from svg.runtime import program

def main():
    rank, world = os.environ["RANK"], os.environ["WORLD_SIZE"]
    BODY

program.run(main)
"""


@pytest.fixture
def launch(tmp_path):
    """Starts processes of a program whose main has a body; stdout and stderr are one pipe."""

    def start(body: str, processes: int, *options: str) -> subprocess.Popen[str]:
        (tmp_path / "program.py").write_text(PROGRAM.replace("BODY", body))
        command = [sys.executable, "-m", "svg.runtime.launch", "--processes", str(processes)]
        env = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
        line = [*command, *(options or (str(tmp_path / "program.py"),))]
        return subprocess.Popen(
            line, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return start


SAY = "os.write(1, f'{rank} of {world}\\n'.encode())"
GATHER = """import torch
    import torch.distributed as dist
    dist.init_process_group("gloo")
    dist.barrier()
    if rank == "FAILING":
        RAISE
    dist.barrier()"""
WAIT = """with program.Stop() as stop:
        os.write(1, b"up\\n")
        while not stop.number:
            time.sleep(0.01)
    time.sleep(0.5)
    return 128 + stop.number"""


@pytest.mark.parametrize("options", [(), ("-m", "program")])
def test_all_processes_are_started(launch, options):
    process = launch(SAY, 3, *options)
    assert sorted(process.communicate()[0].splitlines()) == ["0 of 3", "1 of 3", "2 of 3"]
    assert process.returncode == 0


def test_one_that_fails_ends_the_others_and_gives_the_exit_code(launch):
    process = launch("sys.exit(5) if rank == '1' else time.sleep(100)", 3)
    assert process.communicate(timeout=60)[0] == ""
    assert process.returncode == 5


def test_one_that_is_killed_is_one_line(launch):
    process = launch("os.kill(os.getpid(), signal.SIGKILL) if rank == '1' else time.sleep(100)", 3)
    line = "error: process 1 was killed (SIGKILL, as the system does when memory runs out): the same command goes on"
    assert process.communicate(timeout=60)[0].startswith(line)
    assert process.returncode == 128 + signal.SIGKILL


def test_one_that_does_not_end_is_killed(tmp_path):
    (tmp_path / "program.py").write_text(
        "import os, signal, sys, time\n"
        "sys.exit(5) if os.environ['RANK'] == '0' else signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "time.sleep(600)"
    )
    start = "from svg.runtime import launch; launch.GRACE = 1.0; raise SystemExit(launch.start(2, ['program.py']))"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", start], cwd=tmp_path, env=env, timeout=60).returncode == 5


def test_an_error_of_all_is_said_once(launch):
    process = launch("raise ValueError('no such thing')", 3)
    assert process.communicate()[0] == "error: no such thing\n"
    assert process.returncode == 2


@pytest.mark.parametrize(
    ("failing", "error", "line", "code"),
    [
        ("0", "raise ValueError('the disk is full')", "error: the disk is full", 2),
        ("1", "raise ValueError('the disk is full')", "error (process 1): the disk is full", 2),
        ("0", "raise RuntimeError('bug')", "error: RuntimeError: bug; the traceback is in ", 1),
        ("1", "os.kill(os.getpid(), signal.SIGKILL)", "error: process 1 was killed (SIGKILL", 137),
    ],
)
def test_an_error_of_one_ends_those_that_wait_for_it(launch, failing, error, line, code):
    """The others fail too then, since they lose a peer; that is not said."""
    process = launch(GATHER.replace("FAILING", failing).replace("RAISE", error), 2)
    output = process.communicate(timeout=90)[0]
    (said,) = [text for text in output.splitlines() if not text.startswith("[Gloo]")]  # which says who is connected
    assert said.startswith(line)
    assert process.returncode == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_reach_all(launch, number, code):
    process = launch(WAIT, 2)
    assert [process.stdout.readline() for _ in range(2)] == ["up\n"] * 2
    process.send_signal(number)
    assert process.communicate(timeout=60)[0] == ""
    assert process.returncode == code


def test_a_killed_launcher_leaves_nothing_running(launch):
    process = launch(WAIT, 2)
    assert [process.stdout.readline() for _ in range(2)] == ["up\n"] * 2
    ranks = psutil.Process(process.pid).children()
    process.kill()
    _, left = psutil.wait_procs(ranks, timeout=30)
    assert len(ranks) == 2 and not left


def test_a_signal_while_processes_start(launch):
    process = launch(WAIT, 2)
    time.sleep(0.3)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode in (143, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "text"), [(("--processes", "0", "train.py"), "at least 1"), (("--processes", "2"), "is missing")]
)
def test_its_own_options_are_checked(arguments, text):
    command = [sys.executable, "-m", "svg.runtime.launch", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and text in done.stderr
