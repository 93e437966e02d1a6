"""Where a training step's time goes, by kind of operation: `naive` and this project side by side.

python -m benchmarks.breakdown                      # vgg/BAIR, batch 8 on a CPU, 100 on a GPU
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness import device, parse, parser, publish
from benchmarks.train_step import VARIANTS, build

KINDS = {
    "convolutions, backward": ("convolution_backward",),
    "convolutions, forward": ("convolution", "conv_"),
    "BatchNorm": ("batch_norm", "BatchNorm"),
    "LeakyReLU": ("leaky_relu", "LeakyRelu"),
    "pooling and upsampling": ("max_pool2d", "MaxPool2D", "upsample", "Upsample"),
    "LSTMs": ("rnn", "lstm"),
    "Adam": ("adam", "Adam"),
    "concatenation and copies": ("cat", "copy_", "clone", "contiguous", "index", "select", "slice", "Slice"),
    "sums, fills and the rest": ("",),
}
"""Kind to what an operation's name contains; the first that fits counts."""


def kind(name: str) -> str:
    """The kind of an operation."""
    return next(kind for kind, parts in KINDS.items() if any(part in name for part in parts))


def shares(step: Callable[[], object]) -> tuple[float, dict[str, float]]:
    """Seconds of a step, and of each kind of operation."""
    step()
    on_gpu = device().type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    with profile(activities=activities) as profiled:
        step()
        if on_gpu:
            torch.cuda.synchronize()
    seconds = dict.fromkeys(KINDS, 0.0)
    for event in profiled.key_averages():
        seconds[kind(event.key)] += (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
    return sum(seconds.values()), seconds


def main() -> None:
    """Profiles and publishes."""
    made = parser(__doc__)
    made.add_argument("--backbone", choices=("vgg", "dcgan"), default="vgg")
    made.add_argument("--batch", type=int, default=100 if torch.cuda.is_available() else 8)
    made.add_argument("--frames", type=int, default=12)
    made.add_argument("--width", type=int, default=64)
    options = parse(made)
    rows: list[dict[str, object]] = [{"": name} for name in ("s", *KINDS)]
    for variant in VARIANTS:
        total, seconds = shares(build(variant, options))
        for row, value in zip(rows, (total, *seconds.values()), strict=True):
            row[variant] = f"{value:.2f}" if row[""] == "s" else f"{value:.2f} ({100 * value / total:.0f} %)"
    note = f"Batch {options.batch} x {options.frames} frames; self time of one step under PyTorch's profiler, seconds."
    publish(f"breakdown_{options.backbone}", rows, options, note)


if __name__ == "__main__":
    main()
