"""How fast sigma converges: the optimal against the shared, learned one (sigma-VAE, Figure 5).

The optimal sigma is right from the first step; a learned log sigma has to travel, by about one learning rate a step
(lr_scale = 1, the paper's), or faster with a learning rate of its own (the default of svg.likelihoods.shared_sigma).
sigma = 1 stays, and is what a plain squared error implies.

32 x 32 frames of the simulated robot in place of SVHN; sigma-VAE's convolutional nets, narrower (16).
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from experiments.common import AMBER, BLUE, GREY, RED, Row, Rows, panels, parse, parser, publish
from experiments.image_vae import bits_per_dim, build, refit, robot, terms_of, train
from svg.config import TrainConfig
from svg.runtime.program import run as run_program

HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "optimal σ": ("optimal_sigma", {}),
    "shared σ, learned (lr_scale 1)": ("shared_sigma", {"lr_scale": 1.0}),
    "shared σ, learned (default lr_scale)": ("shared_sigma", {}),
    "σ = 1": ("fixed_gaussian", {"sigma": 1.0}),
}
COLOURS = dict(zip(HEADS, (RED, BLUE, AMBER, GREY), strict=True))


def run(title: str, options: Namespace) -> Row:
    """ln sigma, the root mean squared error and the loss of each step; bits/dim on test frames."""
    name, likelihood_options = HEADS[title]
    frames = robot("train", options.clips)
    objective = build(name, frames, z_dim=20, **likelihood_options)
    history: list[tuple[float, float, float]] = []

    def watch(step: int, terms: dict[str, Tensor]) -> None:
        error = 0.5 * math.log(terms["mse"].mean().item())
        sigma = objective.model.likelihood.sigma
        assert sigma is not None
        # The optimal sigma of a step is that batch's error; the likelihood's own is the running one.
        history.append((error if name == "optimal_sigma" else sigma.log().item(), error, terms["loss"].item()))

    train(objective, frames, TrainConfig(steps=options.steps, batch_size=options.batch, decay="none"), watch)
    refit(objective, frames)
    test = robot("test", options.clips)
    terms = terms_of(objective, test)
    return {
        "history": [[round(value, 4) for value in values] for values in history],
        "bits_per_dim": bits_per_dim(objective, test),
        "mse": terms["mse"],
        "kl": terms["kl"],
    }


def steps_to_converge(row: Row, within: float = 0.1) -> int | None:
    """The first step from which ln sigma stays as near as that to its batch's root mean squared error, on average over
    ten steps."""
    gaps = [abs(log_sigma - error) for log_sigma, error, _ in row["history"]]
    means = [sum(gaps[i : i + 10]) / len(gaps[i : i + 10]) for i in range(0, len(gaps), 10)]
    late = [i for i, gap in enumerate(means) if gap > within]
    first = 10 * (late[-1] + 1) if late else 0
    return None if late and late[-1] == len(means) - 1 else first


def main(argv: Sequence[str] | None = None) -> None:
    """A run for each sigma; the figure is the paper's."""
    made = parser("convergence", __doc__)
    made.add_argument("--steps", type=int, default=500, help="of training [%(default)s]")
    made.add_argument("--batch", type=int, default=16, help="images of a batch [%(default)s]")
    made.add_argument("--clips", type=int, default=200, help="training clips to simulate, of 8 frames [%(default)s]")
    options = parse(made, argv, quick={"steps": 12, "batch": 4, "clips": 2})
    rows = Rows(options, len(HEADS))
    results = {title: rows.get(title, partial(run, title, options)) for title in HEADS}
    table = []
    for title, found in results.items():
        steps = steps_to_converge(found)
        table.append(
            {
                "sigma": title,
                "steps until ln σ is within 0.1 of ln RMSE": "never" if steps is None else str(steps),
                "ln σ at the end": f"{found['history'][-1][0]:.3f}",
                "bits/dim (test)": f"{found['bits_per_dim']:.3f}",
                "MSE per value (test)": f"{found['mse']:.2e}",
                "KL (nats)": f"{found['kl']:.1f}",
            }
        )
    title = "32 x 32 frames of the simulated robot (published: Figure 5, no table)"
    publish(options, rows, {title: table}, draw(results))


def draw(results: dict[str, Row]) -> Figure:
    """ln sigma and the loss over training."""
    figure, (left, right) = panels(2)
    for title, row in results.items():
        log_sigmas, _, losses = zip(*row["history"], strict=True)
        left.plot(log_sigmas, color=COLOURS[title], linewidth=1.3, label=title)
        right.plot([loss / 3072 for loss in losses], color=COLOURS[title], linewidth=1, label=title)
    left.set(xlabel="step", ylabel="ln σ")
    left.legend(frameon=False, fontsize=8)
    right.set(xlabel="step", ylabel="negative ELBO (nats per value)", ylim=(-2.2, 1.4))
    return figure


if __name__ == "__main__":
    run_program(main)
