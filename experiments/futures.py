"""How the prior and the training windows make futures more or less alike: SVG-LP on both simulated robots, three seeds.

Each row is a real run of train.py and eval.py with the demo's network, schedule and steps; only the prior, or the
windows' length at as many frames a step, differs. Rows are chosen among by *validation* clips. Spread is that of the
futures' means, sqrt(1 + 1/S) of it over the error of their mean: 1 where futures alone are as uncertain as the truth.
"""

from __future__ import annotations

import json
import statistics
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.common import BLUE, GREEN, GREY, RED, VIOLET, Row, Rows, panels, parse, parser, publish, spread
from experiments.video import call
from svg.runtime.program import run as run_program

MIXTURE = ("--model.prior", "mixture", "--model.prior_components")
LONG = ("--data.frames", "20", "--train.batch_size", "5")
VARIANTS: dict[str, tuple[str, ...]] = {
    "learned": (),
    "mixture, K = 8": (*MIXTURE, "8"),
    "mixture, K = 8, 20 frames": (*MIXTURE, "8", *LONG),
    "learned, 20 frames": LONG,
    "mixture, K = 1": (*MIXTURE, "1"),
    "mixture, K = 4": (*MIXTURE, "4"),
    "mixture, K = 16": (*MIXTURE, "16"),
}
"""What differs from the demo's configuration."""
CONFIGS = {"robot_push": "configs/robot_push.yaml", "sawyer_push": "configs/sawyer_push_demo.yaml"}
FRAMES = (5, 10, 20, 28)
"""Predicted frames at which futures are compared with their error."""
TINY = (
    *("--model.width", "4", "--model.g_dim", "16", "--model.rnn_size", "16", "--train.steps", "3"),
    *("--train.warmup", "1", "--train.eval_every", "3", "--train.eval_clips", "2"),
)
"""Of --quick."""


def run(data: str, variant: str, seed: int, options: Namespace) -> Row:
    """Trains and evaluates one row."""
    name = f"{data}, {variant}, seed {seed}"
    out = Path(options.rows) / "futures" / name.replace(", ", "-").replace(" = ", "").replace(" ", "_")
    train = ["train.py", "--config", CONFIGS[data], "--train.out", str(out), "--train.seed", str(seed)]
    quick = options.clips == 1
    call([*train, *VARIANTS[variant], *(TINY if quick else ())])
    protocol = ["--eval.samples", str(options.samples), "--eval.clips", str(options.clips), "--split", "val"]
    call(["eval.py", "--checkpoint", str(out), *protocol, "--metrics", "psnr", "likelihood", "calibration"])
    entry = json.loads((out / "eval_val" / "metrics.json").read_text())
    psnr, found = entry["results"]["psnr"], entry["calibration"]
    lengths = entry["likelihood"]["lengths"]
    shortest = lengths[min(lengths, key=int)]
    log = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {
        "best": psnr["best"]["mean"],
        "mean": psnr["mean"]["mean"],
        "posterior": psnr["posterior"]["mean"],
        "copy": psnr["copy_last"]["mean"],
        "futures": [found["futures"][frame - 1] / found["error"][frame - 1] for frame in FRAMES],
        "energy": entry["ensemble"]["energy"]["mean"],
        "kl": lengths[max(lengths, key=int)]["kl"]["mean"],
        "bits": shortest["bits_per_dim"]["mean"],
        "minutes": log[-1]["seconds"] / 60,
    }


def table_row(variant: str, rows: Sequence[Row]) -> Row:
    """Means over seeds, ± their standard deviation."""
    columns = {"best": "best of N (dB)", "mean": "mean sample (dB)", "posterior": "posterior (dB)"}
    shown = {title: spread([row[key] for row in rows], 2) for key, title in columns.items()}
    for place, frame in enumerate(FRAMES):
        shown[f"futures/error, frame {frame}"] = spread([row["futures"][place] for row in rows], 2)
    shown |= {
        "energy score": spread([row["energy"] for row in rows], 4),
        "KL (nats/frame)": spread([row["kl"] for row in rows], 1),
        "bits/dim": spread([row["bits"] for row in rows], 3),
        "minutes": f"{statistics.fmean(row['minutes'] for row in rows):.0f}",
        "seeds": str(len(rows)),
    }
    return {"prior": variant, **shown}


def figure(found: dict[str, dict[str, list[Row]]]) -> Figure:
    """Futures over error against the horizon, a panel a data set, a line a variant."""
    drawn, axes = panels(len(found))
    colours = (GREY, BLUE, RED, VIOLET, GREEN, "#8aa9cf", "#1d4477")
    for axis, (data, variants) in zip(axes, found.items(), strict=True):
        for colour, (variant, rows) in zip(colours, variants.items(), strict=False):
            values = [statistics.fmean(row["futures"][place] for row in rows) for place in range(len(FRAMES))]
            axis.plot(FRAMES, values, "o-", color=colour, label=variant)
        axis.axhline(1, color=GREY, linestyle=":")
        axis.set(xlabel="predicted frame", title=data, ylim=(0, 1.1))
    axes[0].set_ylabel("futures / error")
    axes[0].legend(frameon=False, fontsize=8)
    return drawn


def main(argv: Sequence[str] | None = None) -> None:
    """Computes the rows that are missing and publishes the tables."""
    made = parser("futures", __doc__)
    made.set_defaults(choosing=("data", "variants", "seeds"))
    made.add_argument("--clips", type=int, default=64, help="validation clips of each evaluation [%(default)s]")
    made.add_argument("--samples", type=int, default=10, help="futures of each clip [%(default)s]")
    made.add_argument("--data", nargs="+", choices=CONFIGS, default=list(CONFIGS), help="data sets [all]")
    made.add_argument("--variants", type=int, default=len(VARIANTS), help="of the table, the first so many [all]")
    made.add_argument("--seeds", type=int, default=3, help="seeds of each row [%(default)s]")
    options = parse(made, argv, {"clips": 1, "samples": 2, "data": ["robot_push"], "variants": 2, "seeds": 1})
    variants = list(VARIANTS)[: options.variants]
    rows = Rows(options, len(options.data) * len(variants) * options.seeds)
    found: dict[str, dict[str, list[Row]]] = {data: {name: [] for name in variants} for data in options.data}
    for seed in range(options.seeds):
        for variant in variants:
            for data in options.data:
                key = f"{data}, {variant}, seed {seed}"
                found[data][variant].append(rows.get(key, lambda: run(data, variant, seed, options)))  # noqa: B023
    tables = {data: [table_row(name, of) for name, of in found[data].items()] for data in options.data}
    publish(options, rows, tables, figure(found))


if __name__ == "__main__":
    run_program(main)
