"""Does bf16 train as well as float32? The same runs of train.py in both, to the same validation bound.

    python -m benchmarks.precision                      # simulated robot, dcgan of width 16, three seeds

Each run is kept in --runs and is resumed or skipped by the same command.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from benchmarks.harness import parse, parser, publish
from svg.runtime.launched import tied

MODEL = ("--model.backbone", "dcgan", "--model.width", "16", "--model.z_dim", "16", "--train.batch_size", "8")


def train(precision: str, seed: int, steps: int, runs: Path) -> dict[str, float]:
    """The last line of the log of a run."""
    out = runs / f"precision_{precision}_{seed}_{steps}"
    command = [sys.executable, "train.py", "--config", "configs/robot_push.yaml", "--train.out", str(out), *MODEL]
    command += ["--train.precision", precision, "--train.seed", str(seed), "--train.steps", str(steps)]
    command += ["--train.eval_every", str(steps), "--train.eval_clips", "128"]
    done = subprocess.run(command, env=tied(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])


def main() -> None:
    """Trains, compares and publishes."""
    made = parser(__doc__)
    made.set_defaults(rounds=3)
    made.add_argument("--steps", type=int, default=400, help="of each run [%(default)s]")
    made.add_argument("--runs", default="runs/benchmarks", help="folder of the runs [%(default)s]")
    options = parse(made)
    pairs = [(precision, seed) for seed in range(options.rounds) for precision in ("no", "bf16")]
    logs: dict[str, list[dict[str, float]]] = {"no": [], "bf16": []}
    for precision, seed in tqdm(pairs, desc="runs", unit="run"):
        logs[precision].append(train(precision, seed, options.steps, Path(options.runs)))

    rows = []
    for precision, name in (("no", "float32"), ("bf16", "bf16 autocast")):
        row: dict[str, object] = {"": name, "seeds": options.rounds}
        for key, title in (("val_bits_per_dim", "bits/dim"), ("val_kl", "KL (nats/frame)"), ("val_psnr", "PSNR (dB)")):
            values = [log[key] for log in logs[precision]]
            row[title] = f"{statistics.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"
        rows.append(row)
    bits = [[log["val_bits_per_dim"] for log in logs[precision]] for precision in ("no", "bf16")]
    differences = ", ".join(f"{half - full:+.3f}" for full, half in zip(*bits, strict=True))
    note = f"{options.steps} steps, 128 validation clips; mean (least-most)."
    publish("precision", rows, options, f"{note} bf16 minus float32 of the same seed, bits/dim: {differences}.")


if __name__ == "__main__":
    main()
