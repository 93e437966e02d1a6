"""Whether this tree computes the same numbers, bit for bit, as another commit: what a refactoring must show.

    python -m tests.same_numbers COMMIT

Both trees compute, on this machine and from the same seeds, losses and gradients (all backbones, several likelihoods
and objectives, the image VAE), rollouts and reconstructions, a training run, and an evaluation's records. This tree
also resumes a checkpoint that the other wrote, and evaluates its model. Of the two trees only what users call is used:
`svg.build`, `svg.objective.Objective`, `model.rollout`, train.py and eval.py.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"width": 4, "g_dim": 16, "z_dim": 4, "rnn_size": 16}
CASES: dict[str, dict[str, Any]] = {
    "vgg": {"model": {"backbone": "vgg"}},
    "vgg_128": {"model": {"backbone": "vgg", "size": 128}},
    "dcgan": {"model": {"backbone": "dcgan"}},
    "fixed_prior": {"model": {"backbone": "dcgan", "prior": "fixed", "skip_frame": "previous"}},
    "deterministic": {"model": {"backbone": "dcgan", "prior": "none", "skip_frame": "published"}},
    "shared_sigma": {"model": {"backbone": "dcgan"}, "likelihood": {"name": "shared_sigma"}},
    "logistic_mixture": {"model": {"backbone": "dcgan"}, "likelihood": {"name": "logistic_mixture"}},
    "discretized_gaussian": {"model": {"backbone": "dcgan"}, "likelihood": {"name": "discretized_gaussian"}},
    "discretized_logistic": {"model": {"backbone": "dcgan"}, "likelihood": {"name": "discretized_logistic"}},
    "bilbo": {
        "model": {"backbone": "dcgan", "prior": "learned_mean", "posterior": "constant"},
        "objective": {"name": "bilbo"},
    },
    "vae": {"model": {"name": "vae", "backbone": "conv", "size": 32, "prior": "fixed"}},
    "vae_rae": {
        "model": {"name": "vae", "backbone": "mlp", "size": 28, "prior": "fixed", "posterior": "deterministic"},
        "objective": {"name": "rae"},
    },
}
TRAIN = (
    *("--config", "configs/debug.yaml", "--train.trackers", "--train.eval_every", "6", "--train.save_every", "6"),
    *("--train.log_every", "3", "--train.ema", "0.9"),
)
EVALUATE = ("--eval.clips", "2", "--eval.samples", "3", "--eval.gifs", "1", "--iwae", "2", "--refit", "4")


def main() -> int:
    """Compares, and gives 1 where anything differs."""
    parser = argparse.ArgumentParser(description="Compare this tree's numbers with another commit's, bit for bit.")
    parser.add_argument("commit", help="the commit to compare with")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        different = list(compare(options.commit, Path(folder)))
    print("\n".join(different) or f"every number equals {options.commit}'s")
    return 1 if different else 0


def probe(path: str) -> None:
    """Writes losses, gradients, rollouts and reconstructions of the tree on the Python path: safetensors."""
    import torch
    from safetensors.torch import save_file

    import svg
    from svg.objective import Objective

    found = {}
    for name, groups in CASES.items():
        torch.manual_seed(0)
        config = svg.config_from_dict({**groups, "model": SMALL | groups["model"]})
        model: Any = svg.build(config)
        size, channels = config.model.size, config.model.channels
        length = 1 if config.model.name == "vae" else 6
        generator = torch.Generator().manual_seed(1)
        frames = torch.randint(0, 256, (2, length, channels, size, size), dtype=torch.uint8, generator=generator)
        loss, terms = Objective(model, config.objective, 3)(frames, torch.arange(2), 5)
        loss.backward()
        found[f"{name}/loss"] = loss.detach()
        found |= {f"{name}/{term}": value for term, value in terms.items()}
        found |= {f"{name}/{key}": p.grad for key, p in model.named_parameters() if p.grad is not None}
        model.eval()
        if config.model.name == "vae":
            found |= {f"{name}/sample": model.sample(3, 7), f"{name}/reconstruct": model.reconstruct(frames)}
            continue
        futures, stddev = model.rollout(frames[:, :3], 3, 2, 7, stddev=True)
        found |= {f"{name}/futures": futures, f"{name}/stddev": stddev}
        found[f"{name}/draws"] = model.rollout(frames[:, :2], 3, 2, 7, draw=True, clip_ids=torch.tensor([5, 2]))
        found[f"{name}/reconstruct"] = model.reconstruct(frames, 2, 2, seed=7)
    save_file({name: value.contiguous().clone() for name, value in found.items()}, path)


def compare(commit: str, folder: Path) -> Iterator[str]:
    """A line for each thing that differs."""
    before, probes = folder / "before", {}
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(before, filter="data")
    trees = {"before": before, "after": ROOT}
    data = folder / "data"
    run(ROOT, "-m", "data.robot_push", "--out", str(data), "--clips", "8", "--val-clips", "4", "--test-clips", "4")
    for name, tree in trees.items():
        probes[name] = folder / f"{name}.safetensors"
        run(tree, "-c", f"import runpy; runpy.run_path({__file__!r})['probe']({str(probes[name])!r})")
        out = str(folder / f"{name}_run")
        run(tree, "train.py", *TRAIN, "--data.path", str(data), "--train.out", out, "--train.steps", "12")
        run(tree, "eval.py", "--checkpoint", out, "--data.path", str(data), *EVALUATE)
    yield from different_tensors("losses, gradients, rollouts", probes["before"], probes["after"])
    yield from different_runs("a run", folder / "before_run", folder / "after_run")
    yield from different_records("its evaluation", folder / "before_run", folder / "after_run")

    # A checkpoint of the other tree, resumed and evaluated by each.
    shutil.rmtree(folder / "before_run" / "eval")
    for name, tree in trees.items():
        out = folder / f"{name}_resumed"
        shutil.copytree(folder / "before_run", out)
        run(tree, "train.py", *TRAIN, "--data.path", str(data), "--train.out", str(folder / f"{name}_resumed"),
            "--train.steps", "18", "--train.decay", "cosine")  # fmt: skip
        run(tree, "eval.py", "--checkpoint", str(out), "--data.path", str(data), *EVALUATE)
    yield from different_runs("a resumed run", folder / "before_resumed", folder / "after_resumed")
    yield from different_records("its evaluation", folder / "before_resumed", folder / "after_resumed")


def run(tree: Path, *arguments: str) -> None:
    """Runs Python in a tree, on one thread, whose sums do not depend on the machine's load."""
    env = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, *arguments], cwd=tree, env=env, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(arguments)} in {tree} failed:\n{result.stdout}{result.stderr}")
    print(f"{tree.name}: {' '.join(arguments)}"[:110], flush=True)


def different_tensors(what: str, before: Path, after: Path) -> Iterator[str]:
    """The tensors of two safetensors files that are not the same bits."""
    from safetensors.torch import load_file

    a, b = load_file(before), load_file(after)
    for name in sorted(a.keys() ^ b.keys()):
        yield f"{what}: {name} is only {'before' if name in a else 'after'}"
    for name in sorted(a.keys() & b.keys()):
        if a[name].dtype != b[name].dtype or a[name].numpy().tobytes() != b[name].numpy().tobytes():
            yield f"{what}: {name} differs"
    print(f"{what}: {len(a)} tensors compared")


def different_runs(what: str, before: Path, after: Path) -> Iterator[str]:
    """What differs of two runs: weights and training state of each checkpoint, and the log but for its speeds."""
    steps = sorted(path.name for path in (before / "checkpoints").iterdir())
    if steps != sorted(path.name for path in (after / "checkpoints").iterdir()):
        yield f"{what}: its checkpoints differ"
        return
    for step in steps:
        for file in ("model.safetensors", "training.safetensors"):
            one, other = (run / "checkpoints" / step / file for run in (before, after))
            yield from different_tensors(f"{what}, {step}/{file}", one, other)
    logs = [[json.loads(line) for line in (run / "metrics.jsonl").open()] for run in (before, after)]
    timed = ("seconds", "per_s", "time")
    cleaned = [[{k: v for k, v in row.items() if not any(t in k for t in timed)} for row in log] for log in logs]
    if cleaned[0] != cleaned[1]:
        yield f"{what}: metrics.jsonl differs"


def different_records(what: str, before: Path, after: Path) -> Iterator[str]:
    """What differs of two evaluations: the records of the clips, and the numbers of metrics.json."""
    for kind in ("clips", "bounds"):
        files = [sorted((run / "eval").glob(f"{kind}.*.jsonl")) for run in (before, after)]
        lines = [[json.loads(line) for file in some for line in file.read_text().splitlines()[1:]] for some in files]
        records = [[{k: v for k, v in line.items() if k != "crc32"} for line in some] for some in lines]
        if records[0] != records[1]:
            yield f"{what}: the records of {kind} differ"
        print(f"{what}: {len(records[0])} records of {kind} compared")
    numbers = [json.loads((run / "eval" / "metrics.json").read_text()) for run in (before, after)]
    for name in ("results", "ensemble", "calibration", "likelihood"):
        if numbers[0].get(name) != numbers[1].get(name):
            yield f"{what}: {name} of metrics.json differs"


if __name__ == "__main__":
    sys.exit(main())
