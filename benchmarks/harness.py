"""What the benchmarks share: variants timed in turn, so that a drifting machine slows all alike; tables and JSON.

`interleave` times variants A B C A B C ...; ratios are taken round by round, and their medians are what is quoted.
`publish` writes NAME.json and NAME.md into docs/performance/; docs/performance.md shows the tables between its marks
`<!-- NAME -->` and `<!-- /NAME -->`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from experiments.common import hardware, markdown, today, update_page
from svg.runtime.allocator import keep_freed_memory
from svg.runtime.files import replacing


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options of every benchmark; `parse` reads them."""
    formatter = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(description=description, formatter_class=formatter, allow_abbrev=False)
    made.add_argument("--rounds", type=int, default=5, help="timed rounds, after one that is not [%(default)s]")
    made.add_argument("--threads", type=int, help="of PyTorch on a CPU [as PyTorch chooses]")
    made.add_argument("--out", default="docs/performance", help="folder of table and JSON [%(default)s]")
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line's options, their threads set; exits where a number of things is not positive."""
    options = made.parse_args()
    for name, value in vars(options).items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and not isinstance(number, bool) and number < 1:
                made.error(f"--{name.replace('_', '-')} is {number}, but it must be at least 1")
    if options.threads:
        torch.set_num_threads(options.threads)
    if device().type == "cpu":
        keep_freed_memory()  # as train.py and eval.py do; for every variant
    return options


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call, the device's work included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleave(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant in each round; the first round warms up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(rounds + 1):
        for name, call in variants.items():
            spent = timed(call)
            if round_:
                seconds[name].append(spent)
    return seconds


def ratio(slow: Sequence[float], fast: Sequence[float]) -> str:
    """How many times faster, round by round: median (least to most)."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


@torch.no_grad()
def ceiling(dtype: torch.dtype) -> tuple[float, str]:
    """FLOP/s that the machine reaches at most in this dtype, and in what: the best of a large matrix product and large
    channels-last convolutions, which may be other libraries' (on a CPU: MKL and oneDNN)."""
    where = device()
    side, images = (4096, 512) if where.type == "cuda" else (1536, 8)
    a, b = (torch.randn(side, side, device=where).to(dtype) for _ in range(2))
    x, w1, w3 = (
        torch.randn(shape, device=where).to(dtype).contiguous(memory_format=torch.channels_last)
        for shape in ((images, 256, 16, 16), (256, 256, 1, 1), (256, 256, 3, 3))
    )
    calls: dict[str, tuple[int, Callable[[], object]]] = {
        "matrix product": (2 * side**3, lambda: a @ b),
        "1x1 convolution": (2 * x.numel() * 256, lambda: F.conv2d(x, w1)),
        "3x3 convolution": (2 * x.numel() * 256 * 9, lambda: F.conv2d(x, w3, padding=1)),
    }
    seconds = interleave({name: call for name, (_, call) in calls.items()}, 10)
    return max((flops / min(seconds[name]), name) for name, (flops, _) in calls.items())


def peak_memory(build: Callable[..., Callable[[], object]], *arguments: Any) -> float | None:
    """The most memory that a variant takes, model and data included (GiB): it is built and called twice in a process
    of its own.

    On a GPU it is what PyTorch's allocator handed out, on a CPU the growth of the process's resident memory, which
    only Linux tells (VmHWM): elsewhere None.

    Args:
        build: a module's function, which makes the variant from the arguments.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_here, torch.get_num_threads(), build, *arguments).result()


def _peak_here(threads: int, build: Callable[..., Callable[[], object]], *arguments: Any) -> float | None:
    torch.set_num_threads(threads)
    if device().type == "cpu":
        keep_freed_memory()
    before = _resident("VmRSS")
    call = build(*arguments)
    for _ in range(2):
        call()
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    after = _resident("VmHWM")
    return None if before is None or after is None else after - before


def _resident(name: str) -> float | None:
    """This process's resident memory now (VmRSS) or at most (VmHWM), in GiB. Unlike getrusage's, it is not the parent's
    where that was larger."""
    status = Path("/proc/self/status")
    found = re.search(rf"{name}:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 2**20 if found else None


def publish(name: str, rows: Sequence[Mapping[str, Any]], options: argparse.Namespace, note: str = "") -> None:
    """Writes and prints the table, with the command that was typed, and puts it into docs/performance.md."""
    command = shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
    made = {"command": command, "date": today(), "hardware": hardware(), "torch": torch.__version__}
    line = f"`{command}`: {made['hardware']}, torch {made['torch']}, {made['date']}. {note}".rstrip()
    text = f"{markdown(rows)}\n\n{line}\n"
    for suffix, content in ((".json", json.dumps(made | {"rows": list(rows)}, indent=1) + "\n"), (".md", text)):
        with replacing(Path(options.out) / f"{name}{suffix}") as temporary:
            temporary.write_text(content)
    update_page(Path(options.out).with_suffix(".md"), name, text)
    print(text)
