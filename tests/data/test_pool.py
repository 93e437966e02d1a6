"""Worker processes are started on purpose: new ones, never a fork of a process that may run threads."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from data.clips import ClipWriter

ROOT = Path(__file__).parents[2]
PROGRAM = """
import multiprocessing, sys, threading, warnings
from data.clips import ClipStore
from data.pool import in_order, processes
from data.sampling import Windows, batches, loader

def twice(number):
    return 2 * number

def watch(event, arguments):
    if event == "os.fork":
        raise RuntimeError("a process with threads was forked")

if __name__ == "__main__":
    warnings.simplefilter("error", DeprecationWarning)  # Python 3.12's, of a fork beside threads
    sys.addaudithook(watch)
    multiprocessing.set_start_method("fork")  # the default up to 3.13, on which nothing may depend
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    with processes(2) as pool:
        assert list(in_order(twice, ((number,) for number in range(20)), pool)) == list(range(0, 40, 2))
    with loader(Windows(ClipStore(sys.argv[1]), 3, 0), batches(0, 2, 2), workers=2) as loading:
        assert len(list(loading)) == 2
    try:
        multiprocessing.Process(target=twice, args=(1,)).start()
    except RuntimeError as error:
        print(error)
"""


def test_no_process_is_forked(tmp_path):
    with ClipWriter(tmp_path / "train", frame_shape=(8, 8, 3), fps=10, source="test", split="train") as writer:
        writer.append(np.zeros((6, 8, 8, 3), np.uint8))
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, tmp_path / "program.py", tmp_path / "train"]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "a process with threads was forked\n"  # the watch itself works
