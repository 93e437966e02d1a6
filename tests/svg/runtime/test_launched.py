"""A process that another one started ends with it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session=True, stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline(), flush=True)
time.sleep(600)
"""


def orphan(body: str, **env: str) -> psutil.Process:
    """A process that has said that it is up and whose parent was killed then."""
    code = f"import os, signal, sys, time\n{body}\nprint('up', flush=True)\ntime.sleep(600)"
    command = [sys.executable, "-c", PARENT, code]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | env, stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline().split()[0]))
        parent.kill()
    return child


def gone(process: psutil.Process, within: float = 30) -> bool:
    end = time.monotonic() + within
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        time.sleep(0.05)
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


END = "from svg.runtime.launched import end_with_parent\n"


@pytest.mark.parametrize(
    "body",
    [
        END + "end_with_parent()",
        END + "sys.platform = 'darwin'; end_with_parent()",
        END + "signal.signal(signal.SIGTERM, signal.SIG_IGN); end_with_parent(patience=1)",
        END + "end_with_parent(2**22 + 1)",  # gone before the kernel was asked
    ],
    ids=["kernel", "thread", "stubborn", "late"],
)
def test_a_child_ends_when_its_parent_is_killed(body):
    if sys.platform != "linux" and "kernel" in body:
        pytest.skip("the kernel's way is Linux's")
    if "2**22" in body:  # ends before it is up
        done = subprocess.run([sys.executable, "-c", f"import time, sys\n{body}\ntime.sleep(60)"], cwd=ROOT)
        assert done.returncode == -15
        return
    assert gone(orphan(body))


def test_sigterm_comes_once():
    """A second one could meet a program that has saved and is about to end."""
    body = (
        "count = []\nsignal.signal(signal.SIGTERM, lambda *_: count.append(1))\n" + END + "end_with_parent(patience=60)"
    )
    wait = (
        "\nprint('up', flush=True)\ntime.sleep(1); time.sleep(2)\nos._exit(0) if len(count) == 1 else time.sleep(600)"
    )
    assert gone(orphan(body + wait))


BEGIN = "from svg.runtime import program\nprogram.begin()"


def test_a_program_ends_with_its_launcher_alone():
    for name in ("TORCHELASTIC_RUN_ID", "ACCELERATE_USE_CPU"):
        assert gone(orphan(BEGIN, **{name: "False"}))
    own = orphan(BEGIN)
    assert not gone(own, within=2)
    own.kill()


def test_a_child_that_is_tied_ends_with_its_parent():
    """Its own children need not: the variable goes on to them, but it is not their parent's."""
    grandchild = f"import time\n{BEGIN}\nprint('up', flush=True)\ntime.sleep(600)"
    child = PARENT.replace("import", f"{BEGIN}; import", 1)
    parent = PARENT.replace("stdout=", "env=tied(), stdout=").replace("sys.argv[1]]", "*sys.argv[1:]]")
    command = [sys.executable, "-c", f"from svg.runtime.launched import tied\n{parent}", child, grandchild]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        numbers = [int(word) for word in re.findall(r"\d+", process.stdout.readline())]
        process.kill()
    tied, own = (psutil.Process(number) for number in numbers)
    assert gone(tied)
    assert not gone(own, within=2)
    own.kill()


def test_accelerate_on_cpus_is_refused_with_the_command_that_works(tmp_path):
    (tmp_path / "program.py").write_text(
        "from svg.runtime import program\nprogram.run(lambda: print('trains', flush=True))"
    )
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--cpu"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    for options, refused in ((("--num_processes", "2"), True), (("--num_processes", "1"), False)):
        command = [*accelerate, *options, str(tmp_path / "program.py"), "--steps", "3"]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        line = (
            "error: accelerate launch --cpu starts one process, whatever --num_processes says. For N of them: "
            f"python -m svg.runtime.launch --processes N {tmp_path}/program.py --steps 3"
        )
        assert (line in done.stderr.splitlines(), done.stdout == "trains\n") == (refused, not refused)
