"""Activation checkpointing (train.checkpoint_activations): what a training step saves in memory, and costs in time.

    python -m benchmarks.recompute

The encoder's and decoder's stages are kept for the backward pass, or computed once more in it. Memory is measured in
processes of their own.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

from benchmarks.harness import device, interleave, parse, parser, peak_memory, publish, ratio
from svg import likelihoods
from svg.config import Config, ModelConfig, ObjectiveConfig
from svg.models.svg_lp import SVG
from svg.objective import Objective
from svg.training.optim import adam


def step_of(config: ModelConfig, batch: int, frames: int, bf16: bool, recompute: bool) -> Callable[[], object]:
    """A whole training step."""
    where = device()
    torch.manual_seed(0)
    model = SVG(config, likelihoods.build("optimal_sigma")).to(where)
    model.encoder.recompute = model.decoder.recompute = recompute
    objective = Objective(model, ObjectiveConfig())
    optimizer = adam(objective, Config().train)
    x = torch.randint(0, 256, (batch, frames, 64, 64, 3), dtype=torch.uint8, device=where).permute(0, 1, 4, 2, 3)
    index = torch.arange(batch, device=where)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(where.type, torch.bfloat16, enabled=bf16):
            loss, _ = objective(x, index, 0)
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    """Measures and publishes."""
    made = parser(__doc__)
    made.add_argument("--backbone", choices=("vgg", "dcgan"), default="vgg")
    made.add_argument("--batch", type=int, default=100 if torch.cuda.is_available() else 8)
    made.add_argument("--frames", type=int, default=12)
    made.add_argument("--width", type=int, default=64)
    options = parse(made)
    config = ModelConfig(backbone=options.backbone, width=options.width)
    variants = {
        f"{kept}, {precision}": (config, options.batch, options.frames, precision == "bf16", kept == "computed again")
        for precision in ("float32", "bf16")
        for kept in ("kept", "computed again")
    }
    memory = {name: peak_memory(step_of, *variant) for name, variant in variants.items()}
    seconds = interleave({name: step_of(*variant) for name, variant in variants.items()}, options.rounds)
    rows = []
    for name, spent in seconds.items():
        kept = f"kept, {name.split(', ')[1]}"
        gib, before = memory[name], memory[kept]
        rows.append(
            {
                "stages": name,
                "s/step": round(statistics.median(spent), 3),
                "slower than kept": ratio(spent, seconds[kept]),
                "peak GiB": None if gib is None else round(gib, 2),
                "of kept": None if gib is None or before is None else f"{100 * gib / before:.0f} %",
            }
        )
    note = f"Width {options.width}, batch {options.batch} x {options.frames} frames."
    publish(f"recompute_{options.backbone}", rows, options, note)


if __name__ == "__main__":
    main()
