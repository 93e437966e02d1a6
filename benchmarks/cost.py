"""How the cost of a training step grows with batch, frames, resolution and width, and a rollout's with samples and
horizon.

    python -m benchmarks.cost                           # vgg/BAIR
    python -m benchmarks.cost --precision bf16 --batch 100 50 200 --samples 100 50 200

The first number of each list makes the base point; every other number is a point that differs from the base in that
alone. All points take turns, round by round. Memory is measured apart, of each point in a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.harness import device, interleave, parse, parser, peak_memory, publish, ratio
from benchmarks.train_step import draw, step_of
from svg import likelihoods
from svg.config import ModelConfig
from svg.models.svg_lp import SVG

AXES = {"training": ("batch", "frames", "size", "width"), "rollout": ("samples", "horizon")}
"""What is varied of each."""


@dataclass(frozen=True)
class Point:
    """A training step of `batch` clips of `frames` frames, or a rollout of `samples` futures of one clip."""

    work: str
    backbone: Any
    precision: str
    batch: int
    frames: int
    size: Any
    width: int
    samples: int
    horizon: int

    @property
    def made(self) -> int:
        """Frames that are trained on, or predicted."""
        return self.batch * self.frames if self.work == "training" else self.samples * self.horizon


@cache
def model_of(backbone: Any, size: Any, width: int, training: bool) -> SVG:
    """A model, shared by all points that have it."""
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone, size=size, width=width)
    return SVG(config, likelihoods.build("optimal_sigma", size=(size, size))).to(device()).train(training)


def build(point: Point) -> Callable[[], object]:
    """What is timed of a point."""
    model, bf16 = model_of(point.backbone, point.size, point.width, point.work == "training"), point.precision == "bf16"
    if point.work == "training":
        return step_of(model, model, *draw(point.batch, point.frames, model.config), bf16)
    context = draw(1, model.config.n_past, model.config)[0]

    def rollout() -> None:
        with torch.autocast(context.device.type, torch.bfloat16, enabled=bf16):
            for _ in model.iter_rollouts(context, point.horizon, point.samples):
                pass

    return rollout


def points_of(options: argparse.Namespace, first: dict[str, int]) -> dict[tuple[str, str, int], Point]:
    """Work, what is varied and its value, to the point; `first` has the base's values."""
    points = {}
    for work, axes in AXES.items():
        base = Point(work, options.backbone, options.precision, **first)
        for axis in axes:
            for value in sorted(set(getattr(options, axis))):
                points[work, axis, value] = replace(base, **{axis: value})
    return points


def main() -> None:
    """Measures and publishes."""
    gpu = torch.cuda.is_available()
    made = parser(__doc__)
    made.set_defaults(rounds=3)
    made.add_argument("--backbone", choices=("vgg", "dcgan"), default="vgg", help="[%(default)s]")
    made.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="[%(default)s]")
    lists = {
        "batch": [100, 25, 50, 200] if gpu else [4, 2, 8],
        "frames": [12, 6, 24],
        "size": [64, 128],
        "width": [64, 16, 32],
        "samples": [100, 25, 50, 200] if gpu else [20, 10, 40],
        "horizon": [28, 14, 56] if gpu else [8, 4, 16],
    }
    for name, values in lists.items():
        made.add_argument(
            f"--{name}", type=int, nargs="+", default=values, metavar="N", help="base and others [%(default)s]"
        )
    options = parse(made)
    if not set(options.size) <= {64, 128}:
        made.error(f"--size is {options.size}, but the backbones have 64 and 128")
    first = {name: getattr(options, name)[0] for name in lists}
    points = points_of(options, first)
    distinct = list(dict.fromkeys(points.values()))
    memory = {point: peak_memory(build, point) for point in tqdm(distinct, desc="memory", unit="point")}
    names = {str(number): point for number, point in enumerate(distinct)}
    timed = interleave({name: build(point) for name, point in names.items()}, options.rounds)
    seconds = {point: timed[name] for name, point in names.items()}

    rows = []
    for (work, axis, value), point in points.items():
        spent, most = seconds[point], memory[point]
        row = {
            "": work,
            "varied": axis,
            "to": value,
            "s": round(statistics.median(spent), 3),
            "ms per frame": round(1e3 * statistics.median(spent) / point.made, 2),
            "times the base": ratio(spent, seconds[points[work, axis, first[axis]]]) if value != first[axis] else "1",
        }
        rows.append(row | ({"peak GiB": round(most, 2)} if most is not None else {}))
    base_point = ", ".join(f"{name} {value}" for name, value in first.items())
    note = f"{options.backbone}, {options.precision}; base: {base_point}. "
    kind = (
        "of PyTorch's allocator"
        if gpu
        else "growth of the resident memory of a process that does only this, libraries included"
    )
    publish(f"cost_{options.backbone}", rows, options, f"{note}Memory: {kind}, model and optimiser included.")


if __name__ == "__main__":
    main()
