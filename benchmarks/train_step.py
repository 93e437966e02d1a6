"""One optimiser step against the published per-frame loop (`naive`): time, frames/s, memory, MFU.

    python -m benchmarks.train_step                     # vgg/BAIR, batch 8 on a CPU, 100 on a GPU
    python -m benchmarks.train_step --backbone dcgan --batch 16

All variants start from the same weights and take the same frames; forward, backward and Adam are timed, in turn.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import device, interleave, matmul_ceiling, parser, publish, ratio
from benchmarks.naive import NaiveSVG
from svg import likelihoods
from svg.config import ModelConfig
from svg.model import SVG


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


def main() -> None:
    """Measures and publishes."""
    made = parser(__doc__)
    made.add_argument("--backbone", choices=("vgg", "dcgan"), default="vgg")
    made.add_argument("--batch", type=int, default=100 if torch.cuda.is_available() else 8)
    made.add_argument("--frames", type=int, default=12)
    made.add_argument("--width", type=int, default=64)
    options = made.parse_args()
    config = ModelConfig(backbone=options.backbone, width=options.width)
    where, shape = device(), (options.batch, options.frames, 64, 64, 3)
    torch.manual_seed(0)
    ours = SVG(config, likelihoods.build("optimal_sigma")).to(where)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, device=where).permute(0, 1, 4, 2, 3)
    noise = torch.randn(options.batch, options.frames - 1, config.z_dim, device=where)

    steps = {}
    for name, bf16 in (("float32", False), ("bf16", True)):
        published = copy.deepcopy(ours).to(memory_format=torch.contiguous_format)
        steps[f"naive, {name}"] = step_of(NaiveSVG(published), published, frames.contiguous(), noise, bf16)
        model = copy.deepcopy(ours)
        steps[f"svg-lp, {name}"] = step_of(model, model, frames, noise, bf16)
    flops, memory = {}, {}
    for name, step in steps.items():
        if where.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with FlopCounterMode(display=False) as counter:
            step()
        flops[name] = counter.get_total_flops()
        memory[name] = torch.cuda.max_memory_allocated() / 2**30 if where.type == "cuda" else None
    seconds = interleave(steps, options.rounds)
    ceilings = {"float32": matmul_ceiling(torch.float32), "bf16": matmul_ceiling(torch.bfloat16)}

    rows = []
    for name, spent in seconds.items():
        median, precision = statistics.median(spent), name.split(", ")[1]
        row = {
            "": name,
            "s/step": round(median, 3),
            "frames/s": round(options.batch * options.frames / median),
            "TFLOP": round(flops[name] / 1e12, 3),
            "MFU": f"{100 * flops[name] / median / ceilings[precision]:.0f} %",
            "against naive float32": ratio(seconds["naive, float32"], spent),
            "against naive, same precision": ratio(seconds[f"naive, {precision}"], spent),
        }
        rows.append(row | ({"peak GiB": round(memory[name], 1)} if memory[name] is not None else {}))
    ceiling = ", ".join(f"{name} {value / 1e12:.2f}" for name, value in ceilings.items())
    note = f"Batch {options.batch} x {options.frames} frames; matmul ceilings in TFLOP/s: {ceiling}."
    publish(
        f"train_step_{options.backbone}",
        rows,
        options,
        note,
    )


if __name__ == "__main__":
    main()
