"""Freed memory is kept: taking it again costs no page faults."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from svg.runtime.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def fill():
    torch.ones(2**25)  # 128 MiB
for _ in range(20):  # until the heap has settled
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept():
    assert faults("keep") < faults("not") / 10
