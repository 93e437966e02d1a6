"""How a program ends: its exit code, and the line that a user reads."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def program(body: str, **env: str) -> subprocess.CompletedProcess[str]:
    code = (
        f"import os, signal\nfrom svg.runtime.program import run\ndef main():\n    {body}\nrun(main, memory='eat less')"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


def test_what_a_user_can_cause_is_one_line_and_exit_code_2():
    for body in ("raise ValueError('a is 3')", "raise OSError('a is 3')"):
        result = program(body)
        assert (result.returncode, result.stderr) == (2, "error: a is 3\n")
    assert "error (process 1): a is 3\n" == program("raise ValueError('a is 3')", RANK="1").stderr
    assert "Traceback" in program("raise ValueError('a is 3')", SVG_TRACEBACK="1").stderr


def test_other_endings():
    assert program("pass").returncode == 0
    assert program("return 1").returncode == 1
    assert program("raise SystemExit(7)").returncode == 7
    result = program("os.kill(os.getpid(), signal.SIGINT)")
    assert (result.returncode, result.stderr) == (130, "interrupted\n")


def test_what_nobody_foresaw_is_one_line_that_names_the_file_with_the_traceback(tmp_path):
    result = program(r"raise RuntimeError('\n  first ' + 'x' * 1000 + '\nsecond')", TMPDIR=str(tmp_path))
    (file,) = tmp_path.iterdir()
    assert result.returncode == 1
    assert result.stderr == f"error: RuntimeError: first {'x' * 194}...; the traceback is in {file}\n"
    assert "in main" in file.read_text() and "second" in file.read_text()
    result = program("1 / 0", TMPDIR=str(tmp_path), SVG_TRACEBACK="1")
    assert result.stderr.splitlines()[0].startswith("Traceback")
    assert result.stderr.splitlines()[-1] == "error: ZeroDivisionError: division by zero; the traceback is above"
    result = program("import tempfile; tempfile.tempdir = '/nowhere'; 1 / 0")
    assert result.returncode == 1 and "no file, since it could not be written" in result.stderr


@pytest.mark.parametrize(
    "body",
    [
        "raise MemoryError",
        "import numpy; numpy.empty(1 << 55)",
        "import torch; torch.empty(1 << 60)",
        "import torch; raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')",
    ],
)
def test_memory_that_runs_out_names_the_remedy(body):
    result = program(body)
    assert result.returncode == 1
    assert result.stderr.startswith("error: out of memory (") and result.stderr.endswith("): eat less\n")
    assert result.stderr.count("\n") == 1


LEFT_OVER = """
    import multiprocessing, threading, time
    def ignore():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    multiprocessing.get_context("fork").Process(target=ignore, daemon=True).start()
    multiprocessing.get_context("fork").Process(target=ignore).start()
    threading.Thread(target=time.sleep, args=(600,)).start()
    time.sleep(1)
    ENDING"""


@pytest.mark.parametrize(
    ("ending", "code"), [("1 / 0", 1), ("raise ValueError('x')", 2), ("os.kill(os.getpid(), signal.SIGINT)", 130)]
)
def test_nothing_left_over_keeps_a_failed_program_from_ending(ending, code):
    began = time.monotonic()
    assert program(LEFT_OVER.replace("ENDING", ending)).returncode == code
    assert time.monotonic() - began < 30


def test_handlers_of_an_exit_run_and_what_was_printed_arrives():
    result = program("import atexit; atexit.register(print, 'left'); print('printed'); 1 / 0")
    assert result.stdout == "printed\nleft\n"


@pytest.mark.parametrize(
    ("program", "module"),
    [(program, module) for program in ("train.py", "eval.py") for module in ("numpy", "torch._C", "accelerate")]
    + [("-m svg.runtime.launch --processes 2 train.py", "psutil._common")],
)
def test_ctrl_c_while_the_libraries_load_is_one_line(program, module):
    """Python names each module that it has loaded; Ctrl-C comes with one that is loaded early or late."""
    command = [sys.executable, "-X", "importtime", *program.split(), "--help"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.rpartition("|")[2].strip().startswith(module):
                process.send_signal(signal.SIGINT)
                break
        rest = [line for line in process.stderr if not line.startswith("import time:")]
    assert (rest, process.returncode) == (["interrupted\n"], 130)


def test_modules_of_programs_change_no_handler_when_they_are_imported():
    code = "import signal, train, eval; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ}, capture_output=True, text=True)
    assert result.stdout == "True\n"
