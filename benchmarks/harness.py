"""What the benchmarks share: variants timed in turn, so that a drifting machine slows all alike; tables and JSON.

`interleave` times variants A B C A B C ...; ratios are taken round by round, and their medians are what is quoted.
`publish` writes NAME.json and NAME.md into docs/performance/, which docs/performance.md shows.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.common import hardware, markdown, today
from svg.files import replacing


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options of every benchmark."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=5, help="timed rounds, after one that is not [%(default)s]")
    made.add_argument("--out", default="docs/performance", help="folder of table and JSON [%(default)s]")
    return made


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


def matmul_ceiling(dtype: torch.dtype, size: int = 4096 if torch.cuda.is_available() else 1536) -> float:
    """FLOP/s of a large square matrix product: what the machine can do at most in this dtype."""
    a, b = (torch.randn(size, size, device=device()).to(dtype) for _ in range(2))
    return 2 * size**3 / min(timed(lambda: a @ b) for _ in range(6))


def publish(name: str, rows: Sequence[Mapping[str, Any]], options: argparse.Namespace, note: str = "") -> None:
    """Writes and prints the table, with the command that was typed."""
    command = shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
    made = {"command": command, "date": today(), "hardware": hardware(), "torch": torch.__version__}
    line = f"`{command}`: {made['hardware']}, torch {made['torch']}, {made['date']}. {note}".rstrip()
    text = f"{markdown(rows)}\n\n{line}\n"
    for suffix, content in ((".json", json.dumps(made | {"rows": list(rows)}, indent=1) + "\n"), (".md", text)):
        with replacing(Path(options.out) / f"{name}{suffix}") as temporary:
            temporary.write_text(content)
    print(text)
