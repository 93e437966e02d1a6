"""Every likelihood trains SVG-LP on the simulated robot: one table, with the published objective's betas beside it.

Each row is a real run of train.py and eval.py with the same seed, data, model and schedule; only the likelihood
differs. The published objective, mean squared error + beta KL, is `fixed_gaussian` with sigma^2 = beta d/2 and beta 1
(likelihoods.md, notation): its betas 1e-8 to 1e-4 are sigmas .0078 to .78 for d = 12,288. The best beta and optimal
sigma are repeated with other seeds.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.common import BLUE, GREY, RED, Row, Rows, panels, parse, parser, publish, spread
from svg import likelihoods
from svg.runtime.launched import tied
from svg.runtime.program import run as run_program

LONG = (
    "optimal_sigma",
    "shared_sigma",
    "pixel_sigma",
    "two_stage_sigma",
    "diag_i",
    "laplace",
    "student_t",
    "discretized_logistic",
)
"""Heads that are trained for --steps; the others for --short-steps."""
BETAS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
VALUES = 3 * 64 * 64
SEEDS = (1, 2)
BAGGINS = ("--objective.name", "bilbo", "--model.posterior", "constant", "--model.prior", "learned_mean")
MODEL = ("--model.backbone", "dcgan", "--model.width", "16", "--model.z_dim", "16", "--train.batch_size", "8")


COLUMNS = ("best-of-10 PSNR (dB)", "SSIM", "diversity", "KL (nats/frame)", "bits/dim", "s/step", "peak GiB")
METRICS = ("--metrics", "psnr", "ssim", "likelihood")


def extra(name: str, options: Namespace) -> list[str]:
    """What a head needs beside its name."""
    if name == "baggins":
        return list(BAGGINS)
    if name == "two_stage_sigma":  # stage 2 from half of the steps on, whatever the bound still gains
        quarter = max(1, options.steps // 4)
        switch = ["--likelihood.options.steps", str(2 * quarter), "--likelihood.options.gain", "1e3"]
        return [*switch, "--train.eval_every", str(quarter)]
    if name == "scheduled_sigma":
        return ["--likelihood.options.schedule", str(folder("optimal_sigma", options))]
    return []


def published(beta: float) -> list[str]:
    """The options of the published objective at that beta."""
    return ["--likelihood.name", "fixed_gaussian", "--likelihood.options.sigma", f"{math.sqrt(beta * VALUES / 2):.6g}"]


def folder(name: str, options: Namespace) -> Path:
    """The run of a row."""
    return Path(options.rows) / "video" / name.replace(" ", "_").replace(",", "")


def call(command: list[str]) -> float:
    """Runs a program to its end; its peak memory in GiB (its own, without the loader's processes).

    Raises:
        ValueError: it failed; the last line of what it said.
    """
    line, pipe = [sys.executable, *command], subprocess.PIPE
    process = subprocess.Popen(line, env=tied(), stdout=subprocess.DEVNULL, stderr=pipe, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise ValueError(f"{' '.join(command[:3])} failed: {said.strip().splitlines()[-1] if said.strip() else status}")
    return usage.ru_maxrss / 2**20


def run(name: str, steps: int, likelihood: Sequence[str], options: Namespace, seed: int = 0) -> Row:
    """Trains and evaluates one row."""
    out = folder(name, options)
    train = ["train.py", "--config", "configs/robot_push.yaml", "--train.out", str(out), "--train.steps", str(steps)]
    train += [*MODEL, "--train.seed", str(seed), "--train.log_every", "10", "--train.eval_every", str(steps)]
    memory = call([*train, "--train.warmup", str(min(100, steps // 2)), *likelihood])
    call(["eval.py", "--checkpoint", str(out), "--eval.samples", "10", "--eval.clips", str(options.clips), *METRICS])
    log = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    entry = json.loads((out / "eval" / "metrics.json").read_text())
    return {"steps": steps, "seconds": log[-1]["seconds"] / steps, "memory": memory, **measured(entry)}


def measured(entry: dict[str, Any]) -> Row:
    """The table's columns from metrics.json."""
    psnr, ssim = (entry["results"][name]["best"]["mean"] for name in ("psnr", "ssim"))
    bound = entry["likelihood"]
    full = bound["lengths"][max(bound["lengths"], key=int)] if "lengths" in bound else {}
    return {
        "psnr": psnr,
        "ssim": ssim,
        "diversity": entry["ensemble"]["diversity"]["mean"],
        "kl": full["kl"]["mean"] if full else None,
        "bits": full["bits_per_dim"]["mean"] if full else bound["missing"],
        "copy": entry["results"]["psnr"]["copy_last"]["mean"],
    }


def table_row(name: str, row: Row) -> Row:
    """A row as it is read; one that has no numbers was not run."""
    label = {"likelihood": f"`{name}`" if name in likelihoods.REGISTRY else name}
    if row["psnr"] is None:
        return label | dict.fromkeys(("steps", *COLUMNS))
    bits = row["bits"]
    return label | {
        "steps": row["steps"],
        "best-of-10 PSNR (dB)": round(row["psnr"], 2),
        "SSIM": round(row["ssim"], 4),
        "diversity": f"{row['diversity']:.4f}",
        "KL (nats/frame)": "-" if row["kl"] is None else f"{row['kl']:.2f}",
        "bits/dim": bits if isinstance(bits, str) else f"{bits:.3f}",
        "s/step": f"{row['seconds']:.3f}",
        "peak GiB": f"{row['memory']:.1f}",
    }


def figure(main: dict[str, Row], betas: dict[float, Row]) -> Figure:
    """PSNR, diversity and KL against beta, with optimal sigma as a line."""
    drawn, axes = panels(3)
    titles = {"psnr": "best-of-10 PSNR (dB)", "diversity": "diversity of samples", "kl": "KL (nats a frame)"}
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        axis.semilogx(list(betas), [row[key] for row in betas.values()], "o-", color=GREY, label="published, by beta")
        if "optimal_sigma" in main:
            axis.axhline(main["optimal_sigma"][key], color=BLUE, label="optimal sigma, untuned")
        if key == "psnr":
            axis.axhline(next(iter(betas.values()))["copy"], color=RED, linestyle=":", label="copy last frame")
        axis.set(xlabel="beta (published units)", title=title)
    axes[0].legend(frameon=False, fontsize=8)
    return drawn


def main(argv: Sequence[str] | None = None) -> None:
    """Computes the rows that are missing and publishes the tables."""
    made = parser("video", __doc__)
    made.add_argument("--steps", type=int, default=900, help="of the main rows [%(default)s]")
    made.add_argument("--short-steps", type=int, default=150, help="of the other likelihoods [%(default)s]")
    made.add_argument("--clips", type=int, default=32, help="test clips of each evaluation [%(default)s]")
    options = parse(made, argv, {"steps": 4, "short_steps": 2, "clips": 1})

    short = [name for name in likelihoods.REGISTRY if name not in (*LONG, "fixed_gaussian")]
    rows = Rows(options, len(LONG) + len(BETAS) + 2 * len(SEEDS) + len(short))

    def get(name: str, steps: int, likelihood: Sequence[str], seed: int = 0) -> Row:
        label = name if seed == 0 else f"{name}, seed {seed}"
        return rows.get(label, lambda: run(label, steps, likelihood, options, seed))

    def head(name: str) -> list[str]:
        return ["--likelihood.name", name, *extra(name, options)]

    first = get("optimal_sigma", options.steps, head("optimal_sigma"))
    betas = {beta: get(f"published, beta {beta:.0e}", options.steps, published(beta)) for beta in BETAS}
    long = {"optimal_sigma": first} | {name: get(name, options.steps, head(name)) for name in LONG[1:]}
    best = max(betas, key=lambda beta: betas[beta]["psnr"])
    contest = {
        "optimal_sigma": ([first], head("optimal_sigma")),
        f"published, beta {best:.0e}": ([betas[best]], published(best)),
    }
    for name, (found, likelihood) in contest.items():
        found += [get(name, options.steps, likelihood, seed) for seed in SEEDS]
    others = {name: get(name, options.short_steps, head(name)) for name in short}

    columns = {"psnr": ("PSNR (dB)", 2), "ssim": ("SSIM", 4), "kl": ("KL", 2), "bits": ("bits/dim", 3)}
    seeds = [
        {"three seeds": name}
        | {title: spread([row[key] for row in found], digits) for key, (title, digits) in columns.items()}
        for name, (found, _) in contest.items()
    ]
    tables = {
        "Likelihoods": [table_row(name, row) for name, row in long.items()],
        "The published objective": [
            table_row(f"beta {beta:.0e}, sigma {math.sqrt(beta * VALUES / 2):.4f}", row) for beta, row in betas.items()
        ],
        "The best two over three seeds": seeds,
        "The other likelihoods, briefly": [table_row(name, row) for name, row in others.items()],
    }
    publish(options, rows, tables, figure(long, betas))


if __name__ == "__main__":
    run_program(main)
