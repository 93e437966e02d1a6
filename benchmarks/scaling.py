"""Training on several processes, measured, and an estimate for more of them than there are.

    python -m benchmarks.scaling                        # 1 and 2 processes on a CPU; 1, 2, 4, ... GPUs
    python -m benchmarks.scaling --within 150 --between 25 --overlap 0.3

Each group of processes is started by `svg.runtime.launch` and trains as train.py does: gloo on CPUs, where each process
has the same number of threads whatever their number; nccl and a GPU for each process where there are GPUs. The groups
take turns, round by round. In weak scaling each process has --batch clips a step, in strong scaling all together have.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.group_step import Group
from benchmarks.harness import parse, parser, publish, ratio
from svg.likelihoods import REGISTRY
from svg.runtime.launched import tied
from svg.runtime.program import run as run_program

ROOT = Path(__file__).parents[1]
ESTIMATED = (8, 16, 32, 64)
"""Processes of the estimate."""
ASSUMED = 200.0
"""GB/s between GPUs of one machine where nothing was measured: about what nccl reaches over NVLink 4."""

Found = dict[int, list[dict[str, Any]]]
"""Processes to what `group_step.measure` gave in each round."""
Table = list[dict[str, Any]]


def ring_bytes(gradient_bytes: float, n: int) -> float:
    """Bytes that each of n processes sends in a ring all-reduce: 2 (n - 1)/n of the buffer (Patarasuk & Yuan 2009)."""
    return 2 * (n - 1) / n * gradient_bytes


def estimate(
    step_s: float, gradient_bytes: float, bandwidth: float, n: int, overlap: float = 0.0, latency: float = 0.0
) -> float:
    """Seconds of a training step of n processes, on paper:

        t = step_s + max(0, c - overlap step_s)
        c = ring_bytes(gradient_bytes, n) / bandwidth + 2 (n - 1) latency

    c is the ring all-reduce: n - 1 exchanges to sum the gradients and n - 1 to hand them out, each of 1/n of them. What
    of it fits behind the backward pass costs nothing.

    Args:
        step_s: seconds that one process alone takes for its share of the batch.
        gradient_bytes: of all gradients together.
        bandwidth: bytes per second of the ring's slowest link.
        n: processes.
        overlap: fraction of `step_s` during which gradients travel while the backward pass goes on.
        latency: seconds of an exchange besides its bytes.

    Raises:
        ValueError: a negative or otherwise impossible value.
    """
    if n < 1 or bandwidth <= 0 or not 0 <= overlap <= 1 or min(step_s, gradient_bytes, latency) < 0:
        raise ValueError("n must be at least 1, bandwidth positive, overlap in [0, 1], and nothing negative")
    reduced = ring_bytes(gradient_bytes, n) / bandwidth + 2 * (n - 1) * latency
    return step_s + max(0.0, reduced - overlap * step_s)


def launch(processes: int, group: Group) -> dict[str, Any]:
    """What the first process of a group found.

    Raises:
        ChildProcessError: the group failed; with the last that it said.
    """
    launcher = ["-m", "svg.runtime.launch", "--processes", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        command = [sys.executable, *launcher, "-m", "benchmarks.group_step", str(result)]
        env = tied(OMP_NUM_THREADS=str(group.threads))
        done = subprocess.run(
            [*command, json.dumps(asdict(group))], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        if done.returncode or not result.exists():
            said = (done.stderr or done.stdout).strip()[-2000:]
            raise ChildProcessError(f"a group of {processes} failed:\n{said}")
        found: dict[str, Any] = json.loads(result.read_text())
    assert found["processes"] == processes
    return found | {"step_s": {int(share): spent for share, spent in found["step_s"].items()}}


def measured(found: Found, batch: int, frames: int) -> Table:
    """Time and efficiency of each group: one process's time over the group's, for the same work of each process."""
    alone = [result["step_s"][batch] for result in found[1]]
    rows = []
    for mode in ("weak", "strong"):
        for n, results in found.items():
            share = batch if mode == "weak" else batch // n
            spent = [result["step_s"][share] for result in results]
            median = statistics.median(spent)
            rows.append(
                {
                    "scaling": mode,
                    "processes": n,
                    "clips a step": n * share,
                    "s/step": round(median, 4),
                    "frames/s": round(n * share * frames / median),
                    "efficiency": ratio(alone, spent if mode == "weak" else [n * seconds for seconds in spent]),
                }
            )
    return rows


def bandwidth(results: list[dict[str, Any]]) -> float | None:
    """GB/s that each process sent in all-reduces of the gradients' size; None for one process."""
    if results[0]["all_reduce_s"] is None:
        return None
    spent = statistics.median(result["all_reduce_s"] for result in results)
    return ring_bytes(results[0]["gradient_bytes"], results[0]["processes"]) / spent / 1e9


def traffic(found: Found) -> Table:
    """What the processes send each other in a step."""
    rows = []
    for n, results in found.items():
        first, rate = results[0], bandwidth(results)
        sent = ring_bytes(first["gradient_bytes"], n) / 1e6
        rows.append(
            {
                "processes": n,
                "gradients, MB": round(first["gradient_bytes"] / 1e6, 2),
                "sent by each process, MB": round(sent, 2),
                "their all-reduce, ms": round(sent / rate, 1) if rate else "-",
                "GB/s": round(rate, 2) if rate else "-",
                "BatchNorm buffers, MB": round(first["buffer_bytes"] / 1e6, 3),
                "likelihood's statistics": f"{first['statistics_bytes']} bytes in {first['statistics_calls']}",
            }
        )
    return rows


def links(n: int, per_machine: int, within: float, between: Sequence[float]) -> list[float]:
    """The slowest link (GB/s) of a ring of n processes, for each assumption of what there is between machines."""
    return [within] if n <= per_machine else sorted({min(within, link) for link in between})


def estimated(options: argparse.Namespace, within: float, gradient_bytes: int, alone: dict[int, float]) -> Table:
    """The estimate's rows.

    Args:
        within: GB/s between the processes of one machine.
        alone: share of the batch to seconds of one process alone; strong scaling is estimated where its share is there.
    """
    rows = []
    for n in ESTIMATED:
        for link in links(n, options.per_machine, within, options.between):

            def step(share_s: float, overlap: float, n: int = n, link: float = link) -> float:
                return estimate(share_s, gradient_bytes, link * 1e9, n, overlap, options.latency)

            whole, part = alone[options.batch], alone.get(options.batch // n) if options.batch % n == 0 else None
            rows.append(
                {
                    "processes (estimate)": n,
                    "slowest link, GB/s": round(link, 2),
                    "all-reduce, ms": round(1e3 * step(0.0, 0.0), 2),
                    "weak: efficiency, no overlap": round(whole / step(whole, 0.0), 3),
                    "with overlap": round(whole / step(whole, options.overlap), 3),
                    "strong: clips each": options.batch // n if part else "-",
                    "speed-up, no overlap": round(whole / step(part, 0.0), 2) if part else "-",
                    "speed-up, with overlap": round(whole / step(part, options.overlap), 2) if part else "-",
                }
            )
    return rows


def options_given() -> argparse.Namespace:
    """The command line's, with the defaults that depend on the machine."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    made = parser(__doc__)
    made.set_defaults(rounds=3)
    counts = [n for n in (1, 2, 4, 8) if n <= gpus] if gpus else [1, 2]
    made.add_argument(
        "--processes", type=int, nargs="+", default=counts, metavar="N", help="of each group [%(default)s]"
    )
    made.add_argument("--batch", type=int, default=128 if gpus else 8, help="clips [%(default)s]")
    made.add_argument("--frames", type=int, default=12, help="of a clip [%(default)s]")
    made.add_argument("--size", type=int, choices=(64, 128), default=64, help="pixels [%(default)s]")
    made.add_argument("--backbone", choices=("vgg", "dcgan"), default="vgg", help="[%(default)s]")
    made.add_argument("--width", type=int, default=64, help="of the backbone [%(default)s]")
    made.add_argument(
        "--likelihood", choices=tuple(REGISTRY), default="optimal_sigma", help="[%(default)s]", metavar="NAME"
    )
    made.add_argument("--precision", choices=("no", "bf16"), default="bf16" if gpus else "no", help="[%(default)s]")
    made.add_argument("--steps", type=int, default=3, help="timed in each group and round [%(default)s]")
    add_assumptions(made)
    options = parse(made)
    options.processes = sorted(set(options.processes))
    if options.processes[0] != 1:
        made.error("--processes must have 1, which the others are compared with")
    if gpus and options.processes[-1] > gpus:
        made.error(f"--processes has {options.processes[-1]}, but there are {gpus} GPUs")
    for n in options.processes:
        if options.batch % n:
            made.error(f"--batch is {options.batch}, which {n} processes can't share: take a multiple of it")
    for name in ("within", "step_s", "between"):
        value = getattr(options, name)
        if value is not None and min(value if isinstance(value, list) else [value]) <= 0:
            made.error(f"--{name.replace('_', '-')} must be positive")
    if not 0 <= options.overlap <= 1 or options.latency < 0:
        made.error("--overlap must be in [0, 1], and --latency not negative")
    options.threads = options.threads or max(1, torch.get_num_threads() // options.processes[-1])
    torch.set_num_threads(options.threads)
    return options


def add_assumptions(made: argparse.ArgumentParser) -> None:
    """The estimate's options."""
    paper = made.add_argument_group("the estimate's assumptions")
    paper.add_argument(
        "--within", type=float, metavar="GB/S", help=f"in a machine [as measured here, else {ASSUMED:g}]"
    )
    paper.add_argument(
        "--between",
        type=float,
        nargs="+",
        default=[12.5, 50.0],
        metavar="GB/S",
        help="machines, the network cards of one together [%(default)s: 100 and 400 Gb/s]",
    )
    paper.add_argument("--per-machine", type=int, default=8, metavar="N", help="processes of a machine [%(default)s]")
    paper.add_argument(
        "--overlap", type=float, default=0.5, metavar="PART", help="of a step, which hides traffic [%(default)s]"
    )
    paper.add_argument("--latency", type=float, default=1e-5, metavar="S", help="of an exchange [%(default)s]")
    paper.add_argument(
        "--step-s",
        type=float,
        metavar="S",
        help="of --batch clips on another device, to estimate from [as measured here]",
    )


def main() -> None:
    """Measures, estimates and publishes."""
    options = options_given()
    batch, largest = options.batch, options.processes[-1]
    names = [field.name for field in fields(Group)]
    same = {name: getattr(options, name) for name in names if name != "shares"}
    shares = {n: sorted({batch, batch // n}) for n in options.processes}
    shares[1] = sorted({batch} | {batch // n for n in ESTIMATED if batch % n == 0 and not options.step_s})
    found: Found = {n: [] for n in options.processes}
    with tqdm(total=options.rounds * len(found), unit="group", desc="scaling", dynamic_ncols=True) as bar:
        for _ in range(options.rounds):
            for n, results in found.items():
                results.append(launch(n, Group(shares=shares[n], **same)))
                bar.update()

    one = found[1][0]
    where = "GPU" if torch.cuda.is_available() else f"gloo, threads of each process: {one['threads']}"
    size = f"{options.backbone}, width {options.width}, {options.frames} frames of {options.size} px"
    note = f"{size}, {options.likelihood}, precision {options.precision}; {where}."
    publish("scaling", measured(found, batch, options.frames), options, note)
    text = "A step's traffic; GB/s: what each process sends, by the time of an all-reduce of that size on its own."
    publish("scaling_traffic", traffic(found), options, f"{note} {text}")

    here = None if options.step_s else bandwidth(found[largest])
    within = options.within or here or ASSUMED
    source = "as given" if options.within else f"measured on {largest} processes here" if here else "assumed"
    alone = {share: statistics.median(result["step_s"][share] for result in found[1]) for share in shares[1]}
    if options.step_s:
        alone = {batch: options.step_s}
    origin = "given" if options.step_s else "measured here on one process"
    text = (
        f"AN ESTIMATE, not a measurement (`estimate` in benchmarks/scaling.py), from a step of {alone[batch]:.4g} s "
        f"for {batch} clips, {origin}. Links: {within:.3g} GB/s within a machine of {options.per_machine} ({source}), "
        f"{' or '.join(f'{link:g}' for link in options.between)} GB/s between machines (assumed). "
        f"Overlap {options.overlap:g} of a step, {options.latency * 1e6:g} us an exchange (assumed)."
    )
    publish("scaling_estimate", estimated(options, within, one["gradient_bytes"], alone), options, f"{note} {text}")


if __name__ == "__main__":
    run_program(main)
