"""How a program ends: its exit code, and the line that a user reads."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def program(body: str, **env: str) -> subprocess.CompletedProcess[str]:
    code = f"import os, signal\nfrom svg.runtime.program import run\ndef main():\n    {body}\nrun(main)"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)


def test_what_a_user_can_cause_is_one_line_and_exit_code_2():
    for body in ("raise ValueError('a is 3')", "raise OSError('a is 3')"):
        result = program(body)
        assert (result.returncode, result.stderr) == (2, "error: a is 3\n")
    assert "error (process 1): a is 3\n" == program("raise ValueError('a is 3')", RANK="1").stderr
    assert "Traceback" in program("raise ValueError('a is 3')", SVG_TRACEBACK="1").stderr


def test_other_endings():
    assert program("pass").returncode == 0
    assert program("return 1").returncode == 1
    result = program("os.kill(os.getpid(), signal.SIGINT)")
    assert (result.returncode, result.stderr) == (130, "interrupted\n")
    result = program("1 / 0")
    assert result.returncode == 1 and "ZeroDivisionError" in result.stderr
