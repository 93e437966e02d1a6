"""One optimiser step against the published per-frame loop (`naive`): time, frames/s, memory, MFU.

    python -m benchmarks.train_step                     # vgg/BAIR, batch 8 on a CPU, 100 on a GPU
    python -m benchmarks.train_step --backbone dcgan --batch 16

All variants start from the same weights and take the same frames; forward, backward and Adam are timed, in turn. The
memory is measured apart, of each variant in a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import ceiling, device, interleave, parse, parser, peak_memory, publish, ratio
from benchmarks.naive import NaiveSVG
from svg import likelihoods
from svg.config import ModelConfig
from svg.models.svg_lp import SVG

VARIANTS = ("naive, float32", "svg-lp, float32", "naive, bf16", "svg-lp, bf16")


def step_of(net: nn.Module, model: SVG, frames: Tensor, noise: Tensor, bf16: bool) -> Callable[[], Tensor]:
    """A whole training step of a forward pass over the model's weights."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=bf16):
            out = net(frames, noise)
        loss = (model.likelihood.loss(out.params, out.target) + out.posterior.kl(out.prior)).mean()
        loss.backward()
        optimizer.step()
        return loss

    return step


def draw(batch: int, frames: int, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Frames uint8 (B, T, C, H, W), in memory as in the store, and the noise (B, T-1, Z) of a training step."""
    shape = (batch, frames, config.size, config.size, config.channels)
    made = torch.randint(0, 256, shape, dtype=torch.uint8).permute(0, 1, 4, 2, 3)
    return made.to(device()), torch.randn(batch, frames - 1, config.z_dim).to(device())


def build(name: str, options: argparse.Namespace) -> Callable[[], Tensor]:
    """The training step of one of VARIANTS."""
    config = ModelConfig(backbone=options.backbone, width=options.width)
    torch.manual_seed(0)
    model = SVG(config, likelihoods.build("optimal_sigma")).to(device())
    frames, noise = draw(options.batch, options.frames, config)
    bf16 = name.endswith("bf16")
    if name.startswith("svg-lp"):
        return step_of(model, model, frames, noise, bf16)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return step_of(NaiveSVG(model), model, frames.contiguous(), noise, bf16)


def main() -> None:
    """Measures and publishes."""
    made = parser(__doc__)
    made.add_argument("--backbone", choices=("vgg", "dcgan"), default="vgg")
    made.add_argument("--batch", type=int, default=100 if torch.cuda.is_available() else 8)
    made.add_argument("--frames", type=int, default=12)
    made.add_argument("--width", type=int, default=64)
    options = parse(made)
    if options.batch < 2:
        made.error("--batch must be at least 2: naive's BatchNorm sees one frame of each clip at a time")

    memory = {name: peak_memory(build, name, options) for name in VARIANTS}
    steps = {name: build(name, options) for name in VARIANTS}
    flops = {}
    for name, step in steps.items():
        with FlopCounterMode(display=False) as counter:
            step()
        flops[name] = counter.get_total_flops()
    seconds = interleave(steps, options.rounds)
    ceilings = {"float32": ceiling(torch.float32), "bf16": ceiling(torch.bfloat16)}

    rows = []
    for name, spent in seconds.items():
        median, precision, most = statistics.median(spent), name.split(", ")[1], memory[name]
        row = {
            "": name,
            "s/step": round(median, 3),
            "frames/s": round(options.batch * options.frames / median),
            "TFLOP": round(flops[name] / 1e12, 4),
            "MFU": f"{100 * flops[name] / median / ceilings[precision][0]:.0f} %",
            "against naive float32": ratio(seconds["naive, float32"], spent),
            "against naive, same precision": ratio(seconds[f"naive, {precision}"], spent),
        }
        rows.append(row | ({"peak GiB": round(most, 2)} if most is not None else {}))
    found = ", ".join(f"{name} {value / 1e12:.2f} ({what})" for name, (value, what) in ceilings.items())
    note = f"Batch {options.batch} x {options.frames} frames; ceilings of MFU in TFLOP/s: {found}."
    publish(f"train_step_{options.backbone}", rows, options, note)


if __name__ == "__main__":
    main()
