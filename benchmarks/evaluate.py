"""What an evaluation costs for each 1,000 predicted frames: rollouts, PSNR and SSIM, at 64x64.

python -m benchmarks.evaluate                       # 1 clip x 20 samples x 28 frames, vgg/BAIR
python -m benchmarks.evaluate --clips 256 --samples 100          # the whole protocol, on a GPU
"""

from __future__ import annotations

import statistics

import torch

from benchmarks.harness import device, interleave, parse, parser, publish
from svg import likelihoods
from svg.config import ModelConfig
from svg.metrics import psnr, ssim
from svg.models.svg_lp import SVG


def main() -> None:
    """Measures and publishes."""
    made = parser(__doc__)
    made.add_argument("--backbone", choices=("vgg", "dcgan"), default="vgg")
    made.add_argument("--clips", type=int, default=1)
    made.add_argument("--samples", type=int, default=20)
    made.add_argument("--horizon", type=int, default=28)
    options = parse(made)
    where = device()
    torch.manual_seed(0)
    model = SVG(ModelConfig(backbone=options.backbone), likelihoods.build("optimal_sigma")).to(where).eval()
    videos = torch.randint(0, 256, (options.clips, 2 + options.horizon, 3, 64, 64), dtype=torch.uint8, device=where)
    context, truth = videos[:, :2], videos[:, 2:]
    drawn = model.rollout(context, options.horizon, min(options.samples, 20))
    shares = options.samples / drawn.shape[1]

    def rollouts() -> None:
        for _ in model.iter_rollouts(context, options.horizon, options.samples):
            pass

    seconds = interleave(
        {"rollouts": rollouts, "PSNR": lambda: psnr(drawn, truth), "SSIM": lambda: ssim(drawn, truth)}, options.rounds
    )
    thousands = options.clips * options.samples * options.horizon / 1000
    rows = []
    for name, spent in seconds.items():
        whole = statistics.median(spent) * (1 if name == "rollouts" else shares)
        rows.append({"": name, "s per 1,000 frames": round(whole / thousands, 3)})
    rows.append({"": "together", "s per 1,000 frames": round(sum(row["s per 1,000 frames"] for row in rows), 3)})
    note = f"{options.backbone}, {options.clips} clips x {options.samples} samples x {options.horizon} frames."
    publish("evaluate", rows, options, note)


if __name__ == "__main__":
    main()
