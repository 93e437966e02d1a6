"""Files appear whole or not at all, leave nothing behind, and of lines of JSON what is whole is read."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from svg.media.write import write_video
from svg.runtime import files
from svg.runtime.files import replacing, whole_lines, write_json
from tests.helpers.disk import files_up_to

ROOT = Path(__file__).parents[3]
KILLED = """
import os, signal, sys
from svg.runtime.files import replacing
with replacing(sys.argv[1]) as path:
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"x": 1})
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a" / "b.json") as path:
        assert path.suffix == ".json" and path.parent == tmp_path / "a"
        path.write_text("half")
        _ = 1 / 0
    assert (tmp_path / "a" / "b.json").read_text() == '{\n  "x": 1\n}\n' and len(os.listdir(tmp_path / "a")) == 1


def test_what_a_killed_process_was_writing_is_removed_by_the_next_that_writes_there(tmp_path):
    result = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.gif")], cwd=ROOT)
    assert result.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    assert left.endswith("a.gif")
    with replacing(tmp_path / "b.gif") as path:
        path.write_text("whole")
        write_json(tmp_path / "c.json", {})  # while this process is writing the other
    assert sorted(os.listdir(tmp_path)) == ["b.gif", "c.json"]


def test_the_users_files_and_those_being_written_elsewhere_stay(tmp_path):
    gone = 2**22 + 1  # more than Linux gives
    yours = [".1234.gif", f".{gone}.a.gif", "4@a@b", f".{gone}@{files._HERE}@", f".{gone}x@a@b", ".@a@b", ".hidden"]
    others = [f".{gone}@another-machine@a.gif", f".{os.getppid()}@{files._HERE}@a.gif"]
    old = tmp_path / f".{gone}@a-third-machine@a.gif"
    for name in [*yours, *others, old.name]:
        (tmp_path / name).write_text("")
    os.utime(old, (0, 0))
    files.remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(yours + others)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("size", [100, 5000])
@pytest.mark.parametrize("name", ["a.json", "a.gif", "a.mp4", "a.webp", "a.apng"])
def test_a_full_disk_is_told_with_the_file(tmp_path, name, size):
    """Whoever writes it: Python, Pillow, FFmpeg; and that is all that is told."""
    path, noise = tmp_path / name, np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)
    with files_up_to(size), pytest.raises(OSError) as error:
        write_json(path, "x" * 10_000) if path.suffix == ".json" else write_video(path, noise, 10)
    assert error.value.filename == str(path) and "ile too large" in str(error.value)
    assert not os.listdir(tmp_path)


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"), replacing(tmp_path / "a"):
        (tmp_path / "none").read_text()
    with pytest.raises(OSError, match="^of no number$"), replacing(tmp_path / "a"):
        raise OSError("of no number")


@pytest.mark.parametrize(
    "half", ['{"step": 3, "nll": 1.', '{"step"', "[1]", "3", "\x00\x00", "", "[" * 100_000, '{"step": "\udcff"']
)
def test_lines_that_are_not_whole_are_passed_over(tmp_path, half):
    path = tmp_path / "metrics.jsonl"
    lines = f'{{"step": 1, "nll": NaN}}\n{half}\n{{"step": 2, "kl": null}}\n{half}'
    path.write_bytes(lines.encode("utf-8", "surrogateescape"))
    assert whole_lines(path) == [{"step": 1, "nll": None}, {"step": 2, "kl": None}]
