"""Several CPU processes where Accelerate starts one; a script of its name stands in for it."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]
LAUNCHER = "import os, subprocess, sys\nsys.exit(subprocess.call([sys.executable, *sys.argv[-1:]]))"
PROGRAM = """
import os, sys, time
from svg.runtime import program

def main():
    rank, world = os.environ.get("RANK", "none"), os.environ.get("WORLD_SIZE", "none")
    BODY

program.run(main)
"""


@pytest.fixture
def launch(tmp_path):
    """Starts a program whose main has a body, as `accelerate launch OPTIONS program.py` does."""

    def start(body: str, *options: str, **env: str) -> subprocess.Popen[str]:
        (tmp_path / "accelerate").write_text(LAUNCHER)
        (tmp_path / "program.py").write_text(PROGRAM.replace("BODY", body))
        command = [sys.executable, str(tmp_path / "accelerate"), "launch", *options, str(tmp_path / "program.py")]
        variables = os.environ | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"} | env
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=variables, stdout=pipe, stderr=subprocess.STDOUT, text=True)

    return start


SAY = "os.write(1, f'{rank} of {world}\\n'.encode())"


@pytest.mark.parametrize("options", [("--num_processes", "3"), ("--num-processes=3", "--cpu")])
def test_all_processes_are_started(launch, options):
    process = launch(SAY, *options)
    assert sorted(process.communicate()[0].splitlines()) == ["0 of 3", "1 of 3", "2 of 3"]
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("options", "env"),
    [
        (("--num_processes", "1"), {}),
        ((), {}),
        (("--num_processes", "3"), {"ACCELERATE_USE_CPU": "false"}),
        (("--num_processes", "3"), {"OMPI_COMM_WORLD_RANK": "0"}),
    ],
)
def test_one_process_is_left_alone(launch, options, env):
    assert launch(SAY, *options, **env).communicate()[0] == "none of none\n"


def test_one_that_fails_ends_the_others_and_gives_the_exit_code(launch):
    process = launch("sys.exit(5) if rank == '1' else time.sleep(100)", "--num_processes", "3")
    process.communicate(timeout=60)
    assert process.returncode == 5


def test_an_error_of_all_is_said_once(launch):
    process = launch("raise ValueError('no such thing')", "--num_processes", "3")
    assert process.communicate()[0] == "error: no such thing\n"
    assert process.returncode == 2


def test_sigterm_reaches_all(launch):
    body = """with program.Stop() as stop:
        os.write(1, b"up\\n")
        while not stop.number:
            time.sleep(0.01)
    return 128 + stop.number"""
    process = launch(body, "--num_processes", "2")
    assert [process.stdout.readline() for _ in range(2)] == ["up\n"] * 2
    (supervisor,) = psutil.Process(process.pid).children()
    supervisor.terminate()
    assert process.communicate(timeout=60)[0] == ""
    assert process.returncode == 143
