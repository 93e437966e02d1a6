"""What each means is worth on its own: a ladder from the published loop (`naive`) to this project, one rung at a time.

    python -m benchmarks.means                          # vgg/BAIR, batch 8 on a CPU, 100 on a GPU
    python -m benchmarks.means --backbone dcgan

Every rung computes the same (BatchNorm in training mode pools its statistics over more frames, once there is no loop).
The multiply-adds predict a ratio to the rung before, where they change; the other ratio was seen.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import device, interleave, parse, parser, publish, ratio
from benchmarks.naive import NaiveSVG
from benchmarks.train_step import draw, step_of
from svg import likelihoods
from svg.config import ModelConfig
from svg.models.backbones import SkipConv
from svg.models.svg_lp import SVG

TRAINING = {
    "naive": "the published loop",
    "channels-last": "weights and images in channels-last memory",
    "no loop": "all frames in one call, each encoded once",
    "skip halves": "once for each distinct skip frame",
    "folded upsampling": "nearest x2 and 3x3 as a 4x4 transposed convolution",
    "bf16": "autocast of the convolutions",
    "compiled": "torch.compile of encoder and decoder",
}
ROLLOUT = {
    "naive, batched": "the published loop over all samples at once",
    "one context": "encoded once, its skip halves too",
    "folded BatchNorm": "into the convolutions before it",
    "bf16": "autocast of the convolutions",
}


class WholeJoin(SkipConv):
    """The convolution of concat[up, skip] as it is written, for every frame."""

    def skip_half(self, skip: Tensor) -> Tensor:
        return skip

    def forward(self, up: Tensor, skip_half: Tensor) -> Tensor:
        if not self.transposed:
            up = F.interpolate(up, scale_factor=2.0, mode="nearest")
        return self.conv(torch.cat((up, skip_half), dim=1))


class UpsampledJoin(SkipConv):
    """The skip half apart, and the other one as it is written: upsampled, then convolved."""

    def forward(self, up: Tensor, skip_half: Tensor) -> Tensor:
        if self.transposed:
            return super().forward(up, skip_half)
        weight = self.conv.weight[:, : self.up_channels]
        return F.conv2d(F.interpolate(up, scale_factor=2.0, mode="nearest"), weight, padding=1) + skip_half


def build(name: str, options: argparse.Namespace) -> Callable[[], Tensor]:
    """The training step of one of TRAINING."""
    torch.manual_seed(0)
    model = SVG(options.config, likelihoods.build("optimal_sigma")).to(device())
    frames, noise = draw(options.batch, options.frames, options.config)
    net: nn.Module = model
    if name == "naive":
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        frames = frames.contiguous()
    if name in ("naive", "channels-last"):
        net = NaiveSVG(model)
    joins = {"no loop": WholeJoin, "skip halves": UpsampledJoin}
    if name in joins:
        made = [joins[name](join.conv, join.up_channels) for join in model.decoder.joins]  # type: ignore[arg-type]
        model.decoder.joins = nn.ModuleList(made)
    if name == "compiled":
        model.encoder.compile()
        model.decoder.compile()
    return step_of(net, model, frames, noise, bf16=name in ("bf16", "compiled"))


def rollouts(options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """The rungs of ROLLOUT."""
    torch.manual_seed(0)
    model = SVG(options.config, likelihoods.build("optimal_sigma")).to(device()).eval()
    context = torch.randint(0, 256, (1, 2, 3, 64, 64), dtype=torch.uint8, device=device())
    noise = torch.randn(options.samples, 1 + options.horizon, options.config.z_dim, device=device())
    naive = NaiveSVG(model)

    def roll(bf16: bool = False) -> Tensor:
        with torch.autocast(device().type, torch.bfloat16, enabled=bf16):
            return model.rollout(context, options.horizon, options.samples)

    def unfolded() -> Tensor:
        with patch("svg.models.rollout._without_batchnorm", lambda model: model):
            return roll()

    calls = (lambda: naive.rollout(context.expand(options.samples, -1, -1, -1, -1), options.horizon, noise), unfolded)
    return dict(zip(ROLLOUT, (*calls, roll, lambda: roll(bf16=True)), strict=True))


def ladder(steps: Mapping[str, Callable[[], object]], what: Mapping[str, str], rounds: int) -> list[dict[str, Any]]:
    """The table's rows."""
    flops = {}
    for name, step in steps.items():
        if name != "compiled":  # the counter does not see into it
            with FlopCounterMode(display=False) as counter:
                step()
        flops[name] = counter.get_total_flops()
    seconds, names = interleave(steps, rounds), list(steps)
    rows = []
    for before, name in zip([names[0], *names], names, strict=False):
        fewer = flops[before] / flops[name]
        rows.append(
            {
                "rung": name,
                "what it does": what[name],
                "s": round(statistics.median(seconds[name]), 3),
                "TFLOP": round(flops[name] / 1e12, 4),
                "predicted from FLOP": "-" if abs(fewer - 1) < 0.005 else f"{fewer:.2f}",
                "seen": "-" if name == before else ratio(seconds[before], seconds[name]),
                "against the first": ratio(seconds[names[0]], seconds[name]),
            }
        )
    return rows


def main() -> None:
    """Measures and publishes."""
    made = parser(__doc__)
    made.add_argument("--backbone", choices=("vgg", "dcgan"), default="vgg")
    made.add_argument("--batch", type=int, default=100 if torch.cuda.is_available() else 8)
    made.add_argument("--frames", type=int, default=12)
    made.add_argument("--width", type=int, default=64)
    made.add_argument("--samples", type=int, default=100, help="of the rollouts [%(default)s]")
    made.add_argument("--horizon", type=int, default=6, help="of the rollouts, frames [%(default)s]")
    made.add_argument("--no-compile", action="store_true", help="leave out the rung of torch.compile")
    options = parse(made)
    options.config = ModelConfig(backbone=options.backbone, width=options.width)
    skipped = {"compiled"} if options.no_compile else set()
    if options.backbone == "dcgan":
        skipped.add("folded upsampling")  # it has no upsampling to fold
    steps = {name: build(name, options) for name in TRAINING if name not in skipped}
    note = f"Batch {options.batch} x {options.frames} frames."
    publish(f"means_train_{options.backbone}", ladder(steps, TRAINING, options.rounds), options, note)
    note = f"{options.samples} samples x {options.horizon} frames of one clip."
    publish(f"means_rollout_{options.backbone}", ladder(rollouts(options), ROLLOUT, options.rounds), options, note)


if __name__ == "__main__":
    main()
