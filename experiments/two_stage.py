"""Uncertainty maps by Lin et al.'s two stages (Figure 3; Table 3's data-set and pixel columns).

Stage 1 learns one sigma for the data set; when its bound stops rising, sigma is frozen, and stage 2 predicts a variance
for each pixel, sigma_i^2 = v_i + sigma_dataset^2/2. The map should be large where the reconstruction is wrong, and the
importance-weighted bound (20 samples, as the paper's) should rise. Beside it stage 1 alone, for as many steps.

scikit-learn's digits (in place of MNIST) and the simulated robot (in place of CelebA), 32 x 32.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from experiments.common import Row, Rows, panels, parse, parser, publish
from experiments.image_vae import build, digits, robot, terms_of, train
from svg.config import TrainConfig
from svg.evaluation.iwae import iwae
from svg.likelihoods.two_stage_sigma import TwoStageSigma
from svg.models.base import evaluating
from svg.objective import Objective
from svg.runtime.program import run as run_program

SHOWN = 8
PUBLISHED = {"digits": ("1307", "6037"), "robot": ("-", "-")}
"""Importance-weighted bounds of one sigma and of the map, on MNIST (nats)."""


def images(name: str, split: str, options: Namespace) -> Tensor:
    """uint8 (N, 1, C, 32, 32)."""
    return digits(split) if name == "digits" else robot(split, options.clips)


def run(name: str, likelihood: str, options: Namespace) -> Row:
    """Trains one likelihood on one data set; bounds, how well sigma fits the error, and a few maps, on test images."""
    frames, val, test = (images(name, split, options) for split in ("train", "val", "test"))
    arguments: dict[str, Any] = {"steps": options.steps // 3} if likelihood == "two_stage_sigma" else {}
    objective = build(likelihood, frames, z_dim=16, **arguments)
    switch: list[int] = []

    def watch(step: int, terms: dict[str, Tensor]) -> None:
        if (step + 1) % max(1, options.steps // 20) == 0:
            bound = terms_of(objective, val[:128])
            objective.model.likelihood.on_validation(step + 1, -bound["nll"] - bound["kl"])
            if not switch and getattr(objective.model.likelihood, "stage", 1) == 2:
                switch.append(step + 1)

    train(objective, frames, TrainConfig(steps=options.steps, batch_size=16, decay="linear"), watch)
    terms = terms_of(objective, test)
    some = test[: options.test_images]
    bound = iwae(objective.model, some, torch.arange(len(some)), k=20).mean().item()
    sigma = objective.model.likelihood.sigma
    assert sigma is not None
    return {
        "elbo": -terms["nll"] - terms["kl"],
        "iwae": bound,
        "mse": terms["mse"],
        "sigma": sigma.item(),
        "switch": switch[0] if switch else None,
    } | maps(objective, test)


def maps(objective: Objective, test: Tensor) -> Row:
    """How sigma and the error agree over the test images, and the first of them: truth, mean, sigma, error."""
    model = objective.model
    with evaluating(model):
        inferred = model.infer(test)
        assert inferred.posterior is not None
        distribution = model.likelihood.distribution(model.generate(inferred, inferred.posterior.mean))
        mean, stddev = distribution.mean, distribution.stddev.expand_as(distribution.mean)
    error = (mean - test / 255).abs()
    pairs = torch.stack((stddev.flatten(), error.flatten()))
    spread_out = stddev.std() > 1e-6
    head = model.likelihood
    frozen = head.log_sigma_dataset.exp().item() if isinstance(head, TwoStageSigma) else None

    picked = torch.linspace(0, len(test) - 1, SHOWN).long()

    def shown(values: Tensor) -> list:
        return np.round(values[picked, 0].movedim(1, -1).numpy(), 3).tolist()

    return {
        "correlation": torch.corrcoef(pairs)[0, 1].item() if spread_out else None,
        "calibration": (error / stddev).square().mean().item(),
        "least": stddev.min().item() / frozen if frozen else None,
        "images": {
            "truth": shown(test / 255),
            "mean": shown(mean),
            "σ": shown(stddev.mean(2, keepdim=True)),
            "|error|": shown(error.mean(2, keepdim=True)),
        },
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Two data sets, two likelihoods."""
    made = parser("two_stage", __doc__)
    made.add_argument("--steps", type=int, default=800, help="of training, both stages together [%(default)s]")
    made.add_argument("--clips", type=int, default=200, help="training clips to simulate, of 8 frames [%(default)s]")
    made.add_argument("--test-images", type=int, default=100, help="for the importance-weighted bound [%(default)s]")
    options = parse(made, argv, quick={"steps": 6, "clips": 2, "test_images": 2})
    rows = Rows(options, 4)
    table, results = [], {}
    for name in PUBLISHED:
        for likelihood, title in (("shared_sigma", "one σ"), ("two_stage_sigma", "two stages")):
            found = rows.get(f"{name} {likelihood}", partial(run, name, likelihood, options))
            results[name, likelihood] = found
            correlation, least = found["correlation"], found["least"]
            table.append(
                {
                    "data": name,
                    "variance": title,
                    "IWAE, K = 20 (nats)": f"{found['iwae']:.0f}",
                    "published (MNIST)": PUBLISHED[name][likelihood == "two_stage_sigma"],
                    "ELBO (nats)": f"{found['elbo']:.0f}",
                    "MSE of a value": f"{found['mse']:.2e}",
                    "σ of the data set": f"{found['sigma']:.4f}",
                    "switch at step": "-" if found["switch"] is None else found["switch"],
                    "correlation of σ and \\|error\\|": "-" if correlation is None else f"{correlation:.2f}",
                    "mean of error²/σ²": f"{found['calibration']:.2f}",
                    "least σ / σ of the data set": "-" if least is None else f"{least:.3f}",
                }
            )
    publish(options, rows, {"Test images, 32 x 32": table}, draw(results))


def draw(results: dict[tuple[str, str], Row]) -> Figure:
    """Truth, reconstruction, sigma and error of a few test images of each data set."""
    figure, axes = panels(2, width=5.6, height=3.1)
    for axis, name in zip(axes, PUBLISHED, strict=True):
        pictures = results[name, "two_stage_sigma"]["images"]
        strips = []
        for kind, values in pictures.items():
            strip = np.concatenate(np.array(values), axis=1)
            if kind in ("σ", "|error|"):
                top = np.quantile(strip, 0.995)
                strip = colormaps["magma"](np.clip(strip[..., 0] / top, 0, 1))[..., :3]
            strips.append(np.broadcast_to(np.clip(strip, 0, 1), (*strip.shape[:2], 3)))
        axis.imshow(np.concatenate(strips), interpolation="nearest")
        axis.set_yticks([16 + 32 * i for i in range(4)], list(pictures))
        axis.set_xticks([])
        axis.grid(False)
        axis.spines[:].set_visible(False)
        axis.set_title(name, fontsize=10)
    return figure


if __name__ == "__main__":
    run_program(main)
