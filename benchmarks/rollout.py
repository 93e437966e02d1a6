"""Rollouts against the published loop: samples x horizon frames of a few contexts.

    python -m benchmarks.rollout                        # 1 clip x 100 samples x 28 frames, vgg/BAIR
    python -m benchmarks.rollout --clips 256            # the whole protocol, on a GPU

`naive` draws the samples as the published script does: one after another through the per-frame loop, the context
encoded anew for each; "naive, batched" gives it all samples as one batch.
"""

from __future__ import annotations

import statistics

import torch

from benchmarks.harness import device, interleave, parse, parser, publish, ratio
from benchmarks.naive import NaiveSVG
from svg import likelihoods
from svg.config import ModelConfig
from svg.models.svg_lp import SVG


def main() -> None:
    """Measures and publishes."""
    made = parser(__doc__)
    made.add_argument("--backbone", choices=("vgg", "dcgan"), default="vgg")
    made.add_argument("--clips", type=int, default=1)
    made.add_argument("--samples", type=int, default=100)
    made.add_argument("--horizon", type=int, default=28)
    made.add_argument(
        "--one-by-one", type=int, default=5, help="samples that the unbatched loop is timed on [%(default)s]"
    )
    options = parse(made)
    config, where = ModelConfig(backbone=options.backbone), device()
    torch.manual_seed(0)
    model = SVG(config, likelihoods.build("optimal_sigma")).to(where).eval()
    naive = NaiveSVG(model)
    context = torch.randint(0, 256, (options.clips, 2, 3, 64, 64), dtype=torch.uint8, device=where)
    horizon, samples = options.horizon, options.samples
    noise = torch.randn(options.clips * samples, 1 + horizon, config.z_dim, device=where)

    def one_by_one() -> None:
        for _ in range(options.one_by_one):
            naive.rollout(context, horizon, noise[: options.clips])

    def bf16() -> None:
        with torch.autocast(where.type, torch.bfloat16):
            for _ in model.iter_rollouts(context, horizon, samples):
                pass

    variants = {
        "naive": one_by_one,
        "naive, batched": lambda: naive.rollout(context.repeat_interleave(samples, 0), horizon, noise),
        "svg-lp, float32": lambda: [None for _ in model.iter_rollouts(context, horizon, samples)],
        "svg-lp, bf16": bf16,
    }
    seconds = interleave(variants, options.rounds)
    seconds["naive"] = [spent * samples / options.one_by_one for spent in seconds["naive"]]
    frames = options.clips * samples * horizon
    rows = [
        {
            "": name,
            "s": round(statistics.median(spent), 2),
            "frames/s": round(frames / statistics.median(spent)),
            "against naive": ratio(seconds["naive"], spent),
            "against naive, batched": ratio(seconds["naive, batched"], spent),
        }
        for name, spent in seconds.items()
    ]
    size = f"{options.clips} clips x {samples} samples x {horizon} frames"
    note = f"{size}; naive is timed on {options.one_by_one} samples and scaled up."
    publish(f"rollout_{options.backbone}", rows, options, note)


if __name__ == "__main__":
    main()
