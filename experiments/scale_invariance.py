"""What a rescaling of the data by lambda changes: nothing for BAGGINS (Fyffe, section 5.1 and Figure 6).

The variance of BAGGINS follows the error, so that the loss of data lambda x shifts by exactly d ln lambda and its
gradient stays; so it is for the optimal sigma, which has no information factor. A fixed sigma = 1 is another objective
at every scale. To compare equals, the nets see the data in their first units: encoder(x/lambda), lambda decoder(z), all
in float64 from the same weights and noise. Below that, the same with nets that see lambda x as it is.

scikit-learn's digits, 28 x 28; four dense layers of 200, constant posterior variance 1/100, BILBO (Fyffe's MNIST nets).
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.common import AMBER, BLUE, RED, Row, Rows, panels, parse, parser, publish
from experiments.image_vae import digits, train
from svg import VAE, likelihoods
from svg.config import ModelConfig, ObjectiveConfig, TrainConfig
from svg.likelihoods import Likelihood
from svg.models.base import Gaussian
from svg.objective import Objective
from svg.runtime.program import run as run_program

SCALES = (0.01, 1.0, 100.0)
HEADS: dict[str, dict[str, Any]] = {
    "baggins": {"eps": 1e-30},
    "optimal_sigma": {"floor": None},
    "fixed_gaussian": {"sigma": 1.0},
}
TITLES = {"baggins": "BAGGINS, τ = 1/5", "optimal_sigma": "optimal σ", "fixed_gaussian": "fixed σ = 1"}
SIZE: Literal[28] = 28


class ScaledVAE(VAE):
    """A VAE whose nets work in units `scale` times those of the data."""

    def __init__(self, config: ModelConfig, likelihood: Likelihood, scale: float) -> None:
        super().__init__(config, likelihood)
        self.scale = scale

    def encode(self, frames: Tensor) -> Gaussian:
        return super().encode(frames / self.scale)

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z) * self.scale


def run(name: str, scale: float, options: Namespace, *, rescaled: bool = True) -> Row:
    """Loss and relative squared error (MSE/lambda^2 of a batch) of each step of one training run."""
    torch.manual_seed(0)
    config = ModelConfig(
        name="vae",
        backbone="mlp",
        size=SIZE,
        channels=1,
        width=200,
        z_dim=16,
        prior="fixed",
        posterior="constant",
        posterior_variance=0.01,
    )
    head = likelihoods.build(name, 1, (SIZE, SIZE), mean="identity", **HEADS[name])
    head.in_unit = False
    model = ScaledVAE(config, head, scale if rescaled else 1.0).double()
    objective = Objective(model, ObjectiveConfig(name="bilbo"))
    losses, errors = [], []

    def watch(step: int, terms: dict[str, Tensor]) -> None:
        losses.append(terms["loss"].item())
        errors.append(terms["mse"].mean().item() / scale**2)

    frames = scale * digits("train", SIZE).double() / 255
    schedule = TrainConfig(steps=options.steps, batch_size=64, lr=2e-3, warmup=20, grad_clip=0)
    train(objective, frames, schedule, watch)
    return {"losses": losses, "errors": errors}


def main(argv: Sequence[str] | None = None) -> None:
    """A run for each likelihood and scale; the figure shows what the error does."""
    made = parser("scale_invariance", __doc__)
    made.add_argument("--steps", type=int, default=600, help="of training [%(default)s]")
    options = parse(made, argv, quick={"steps": 5})
    rows = Rows(options, 2 * len(HEADS) * len(SCALES))
    runs = {
        (name, scale, rescaled): rows.get(
            f"{name} {scale}" + ("" if rescaled else " as it is"), partial(run, name, scale, options, rescaled=rescaled)
        )
        for rescaled in (True, False)
        for name in HEADS
        for scale in SCALES
    }
    shift, plain = [], []
    for name in HEADS:
        for scale in SCALES:
            found, reference = (runs[name, s, True]["losses"] for s in (scale, 1.0))
            expected = SIZE**2 * math.log(scale)
            off = [loss - other - expected for loss, other in zip(found, reference, strict=True)]
            shift.append(
                {
                    "likelihood": TITLES[name],
                    "λ": f"{scale:g}",
                    "loss(λ) - loss(1)": f"{found[0] - reference[0]:.3f}",
                    "d ln λ": f"{expected:.3f}",
                    "off by, step 1": f"{off[0]:.1e}",
                    f"off by, step {options.steps}": f"{off[-1]:.1e}",
                    "MSE/λ² at the end": f"{final(runs[name, scale, True]):.5f}",
                }
            )
        errors = {f"λ = {scale:g}": f"{final(runs[name, scale, False]):.4f}" for scale in SCALES}
        plain.append({"likelihood": TITLES[name]} | errors)
    tables = {
        f"The nets see x; the loss is that of λx (d = {SIZE**2}, nats per image)": shift,
        "The nets see λx as it is: MSE/λ² at the end": plain,
    }
    publish(options, rows, tables, draw(runs))


def final(row: Row) -> float:
    """Mean of the last tenth of the steps."""
    last = row["errors"][-max(1, len(row["errors"]) // 10) :]
    return sum(last) / len(last)


def draw(runs: dict[tuple[str, float, bool], Row]) -> Figure:
    """The relative error over training, a panel for each likelihood."""
    figure, axes = panels(3, width=3.8)
    for axis, name in zip(axes, HEADS, strict=True):
        for scale, colour, width in zip(SCALES, (BLUE, RED, AMBER), (6, 3.5, 1), strict=True):
            errors = runs[name, scale, True]["errors"]
            axis.semilogy(errors, color=colour, linewidth=width, label=f"λ = {scale:g}")
        axis.set(title=TITLES[name], xlabel="step", ylim=(1e-2, 0.3))
    axes[0].set_ylabel("MSE / λ²")
    axes[2].legend(frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    run_program(main)
