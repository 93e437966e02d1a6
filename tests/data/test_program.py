"""How the programs of data/ end: one line and an exit code, whatever happens and whatever they are told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data import bair, clips, images, robot_push
from data.program import program
from data.ranges import RANGES, refuse_outside

ROOT = Path(__file__).parents[2]
PROGRAMS = ("bair", "clips", "images", "robot_push", "sawyer_push")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("clip 3 is short"), 2, "error: clip 3 is short\n"),
        (PermissionError(13, "Permission denied", "/set"), 2, "error: /set: permission denied\n"),
        (KeyboardInterrupt(), 130, "interrupted: all is well\n"),
        (MemoryError(), 1, "error: a.program failed: the memory is full; the traceback is in "),
        (KeyError("camera"), 1, "error: a.program failed: KeyError: 'camera'; the traceback is in "),
        (RecursionError("maximum\ndepth"), 1, "error: a.program failed: RecursionError: maximum; the traceback is in "),
    ],
)
def test_every_end_is_a_line(
    error: BaseException, code: int, line: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    @program("a.program", interrupted="all is well")
    def main(arguments: object = None) -> int:
        raise error

    assert main() == code
    told = capsys.readouterr().err
    assert told.startswith(line) and told.count("\n") == 1
    if code == 1:
        log = Path(told.split("the traceback is in ")[1].strip())
        assert log.parent == tmp_path and "in main" in log.read_text() and type(error).__name__ in log.read_text()


@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c_while_libraries_load_is_one_line(name: str, tmp_path: Path) -> None:
    """At the very moment that numpy is imported."""
    (tmp_path / "numpy.py").write_text("print('loading', flush=True)\nimport time\ntime.sleep(60)\n")
    command = [sys.executable, "-m", f"data.{name}", "--help"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == "interrupted: nothing was done\n" and process.returncode == 130


@pytest.mark.parametrize("wait", [0.3, 0.8, 1.6, 2.4])
def test_ctrl_c_in_the_first_seconds(wait: float, tmp_path: Path) -> None:
    """A terminal sends it to the worker processes too, which may be loading libraries."""
    command = [sys.executable, "-m", "data.robot_push", "--out", str(tmp_path / "set"), "--clips", "5000"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in told and told.count("interrupted: nothing was") == 1, told
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(("name", "missing"), [("robot_push", "pymunk"), ("bair", "google_crc32c")])
def test_a_library_that_is_not_installed_is_one_line(tmp_path: Path, name: str, missing: str) -> None:
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError('gone', name={missing!r})")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", f"data.{name}", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (2, f"error: {missing} is not installed: pip install -e '.[data]'\n")


def test_data_can_be_imported_without_fcntl() -> None:
    """As on Windows."""
    code = """
        import sys
        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name in ("fcntl", "resource", "termios"):
                    caller = sys._getframe(1)
                    while caller and "importlib" in caller.f_code.co_filename: caller = caller.f_back
                    if "/data/" in caller.f_code.co_filename: raise ImportError(f"{name} is Unix's")
        sys.modules.pop("fcntl", None)
        sys.meta_path.insert(0, Blocked())
        import data.bair, data.clips, data.images, data.registry, data.robot_push, data.sampling
    """
    code = "\n".join(line.removeprefix("        ") for line in code.splitlines())
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("main", "arguments", "name"),
    [
        (bair.main, ["--source", ""], "--source"),
        (bair.main, ["--out", " "], "--out"),
        (images.main, ["--name", "digits", "--source", ""], "--source"),
        (robot_push.main, ["--out", ""], "--out"),
        (clips.main, ["info", ""], "folder"),
        (robot_push.main, ["--seed", str(2**63)], "seed"),
        (robot_push.main, ["--frames", "1000000"], "frames"),
        (robot_push.main, ["--clips", "1000000001"], "clips"),
        (robot_push.main, ["--workers", "100000"], "workers"),
        (bair.main, ["--workers", "100000"], "workers"),
        (images.main, ["--name", "digits", "--size", "1000000"], "size"),
        (images.main, ["--name", "digits", "--size", "0"], "size"),
        (robot_push.main, ["--clips", "9" * 5000], "--clips"),
        (robot_push.main, ["--clips", "1e9"], "--clips"),
        (robot_push.main, ["--clipz", "3"], "--clipz"),
        (bair.main, ["--camera", "front"], "--camera"),
        (clips.main, ["look", "x"], "look"),
        (clips.main, [], "command"),
    ],
)
def test_options_out_of_range_are_named(
    main, arguments, name, tmp_path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("error: ") and name in told
    assert not list(tmp_path.iterdir())


def test_a_thousand_million_clips_are_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before a list of them is made."""
    begun = time.monotonic()
    assert robot_push.main(["--out", str(tmp_path / "set"), "--clips", "1000000000"]) == 2
    assert "GiB more, but" in capsys.readouterr().err and time.monotonic() - begun < 10


@pytest.mark.parametrize("fps", [float("nan"), float("inf"), 1e-9, 0.0])
def test_rates_that_are_none(fps: float) -> None:
    with pytest.raises(ValueError, match=r"fps is .*, but it must be from 0\.001 to 1,000,000\.0 frames/s"):
        refuse_outside(fps=fps)
    assert 10.0 in RANGES["fps"]
