"""Every likelihood in an image VAE: errors on digits (AR-ELBO, Table 3), bits per dimension on the robot (sigma-VAE,
Table 4).

Digits are scikit-learn's, 32 x 32: the paper's objectives and their trainable twins by MSE and KL (17 grey levels make
bits/dim meaningless there). The robot's are 32 x 32 frames of the simulation, 256 levels and three channels: all
likelihoods in bits/dim on test frames, the bound on the discrete log-likelihood that section B of the specification
defines (densities are scored with uniform dequantisation; what was fitted to training batches is refitted on the
training set and frozen). MNIST, CelebA and CIFAR have to be downloaded, FID needs Inception's weights: not run here.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from experiments.common import AMBER, BLUE, GREY, RED, Row, Rows, panels, parse, parser, publish
from experiments.image_vae import bits_per_dim, build, digits, refit, robot, terms_of, train
from svg import VAE
from svg.config import ObjectiveConfig, TrainConfig
from svg.evaluation.latents import active_units
from svg.models.samplers import collect
from svg.runtime.program import run as run_program

Head = tuple[str, dict[str, Any]]

DIGITS: dict[str, tuple[Head, str]] = {
    "fixed σ = 1 (VAE)": (("fixed_gaussian", {"sigma": 1.0}), "20.25"),
    "Iso-I (optimal σ)": (("optimal_sigma", {}), "4.40"),
    "trainable Iso-I (shared σ)": (("shared_sigma", {}), "4.28"),
    "Iso-D": (("iso_d", {}), "4.31"),
    "trainable Iso-D": (("trainable_iso_d", {}), "-"),
    "Diag-I": (("diag_i", {}), "5.35"),
    "trainable Diag-I": (("trainable_diag_i", {}), "-"),
    "Diag-D": (("diag_d", {}), "6.80"),
    "trainable Diag-D (per pixel)": (("pixel_sigma", {}), "-"),
}
"""Title to likelihood and published MSE on MNIST."""

ROBOT: dict[str, tuple[Head, str]] = {
    "categorical": (("categorical", {}), "10673"),
    "bitwise categorical": (("bitwise_categorical", {}), "-"),
    "mixture of disc. logistics": (("logistic_mixture", {}), "-"),
    "disc. logistic": (("discretized_logistic", {}), "11103"),
    "disc. Gaussian": (("discretized_gaussian", {}), "11117"),
    "optimal σ": (("optimal_sigma", {}), "11120"),
    "shared σ": (("shared_sigma", {}), "-"),
    "fixed σ = 0.1": (("fixed_gaussian", {"sigma": 0.1}), "-"),
    "fixed σ = 1 (Gaussian VAE)": (("fixed_gaussian", {"sigma": 1.0}), "15131"),
    "Iso-D": (("iso_d", {}), "-"),
    "Diag-I": (("diag_i", {}), "-"),
    "Diag-D": (("diag_d", {}), "-"),
    "trainable Iso-D": (("trainable_iso_d", {}), "-"),
    "trainable Diag-I": (("trainable_diag_i", {}), "-"),
    "per pixel (trainable Diag-D)": (("pixel_sigma", {}), "-"),
    "BAGGINS (constant posterior, BILBO)": (("baggins", {}), "-"),
    "Student-t": (("student_t", {}), "-"),
    "Laplace": (("laplace", {}), "-"),
    "Beta": (("beta", {}), "-"),
    "continuous Bernoulli": (("continuous_bernoulli", {}), "-"),
}
"""Title to likelihood and published -log p on CIFAR (nats; the table's columns disagree: for the ordering only)."""


DISCRETE = ("categorical", "bitwise_categorical", "logistic_mixture", "discretized_logistic", "discretized_gaussian")


def digits_row(head: Head, options: Namespace) -> Row:
    """MSE (sum over the image), KL and active units on test digits."""
    frames, test = digits("train"), digits("test")
    objective = build(head[0], frames, backbone="mlp", width=200, z_dim=16, **head[1])
    train(objective, frames, TrainConfig(steps=options.digit_steps, batch_size=64))
    refit(objective, frames)
    terms = terms_of(objective, test)
    assert isinstance(objective.model, VAE)
    active = active_units(collect(objective.model, test.split(256)).mean)
    return {"mse": terms["mse"] * test[0].numel(), "kl": terms["kl"], "active": active}


def robot_row(head: Head, options: Namespace) -> Row:
    """Bits/dim, MSE of a value, KL and training speed on frames of the robot."""
    frames, test = robot("train", options.clips), robot("test", options.clips)
    name, likelihood_options = head
    if name == "baggins":
        objective = build(
            name, frames, z_dim=20, posterior="constant", objective=ObjectiveConfig(name="bilbo"), **likelihood_options
        )
    else:
        objective = build(name, frames, z_dim=20, **likelihood_options)
    start = time.process_time()
    train(objective, frames, TrainConfig(steps=options.steps, batch_size=options.batch))
    seconds = time.process_time() - start
    refit(objective, frames)
    terms = terms_of(objective, test, batch_size=32)
    return {
        "bits": bits_per_dim(objective, test, batch_size=32),
        "mse": terms["mse"],
        "kl": terms["kl"],
        "ms": 1000 * seconds / options.steps,
        "channels": objective.model.likelihood.param_channels,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """A row for each likelihood on each data set."""
    made = parser("likelihoods", __doc__)
    made.add_argument("--steps", type=int, default=250, help="of training on the robot [%(default)s]")
    made.add_argument("--batch", type=int, default=16, help="frames of a batch there [%(default)s]")
    made.add_argument("--clips", type=int, default=200, help="training clips to simulate, of 8 frames [%(default)s]")
    made.add_argument("--digit-steps", type=int, default=800, help="of training on digits [%(default)s]")
    options = parse(made, argv, quick={"steps": 2, "batch": 2, "clips": 2, "digit_steps": 2})
    rows = Rows(options, len(DIGITS) + len(ROBOT))
    small = {
        title: rows.get(f"digits {title}", partial(digits_row, head, options)) for title, (head, _) in DIGITS.items()
    }
    large = {title: rows.get(f"robot {title}", partial(robot_row, head, options)) for title, (head, _) in ROBOT.items()}
    order = sorted(large, key=lambda title: large[title]["bits"])
    errors = [
        {
            "objective": title,
            "MSE": f"{found['mse']:.2f}",
            "KL": f"{found['kl']:.1f}",
            "active latents of 16": found["active"],
            "published MSE (MNIST)": DIGITS[title][1],
            "FID": None,
        }
        for title, found in small.items()
    ]
    bits = [
        {
            "likelihood": title,
            "bits/dim": f"{large[title]['bits']:.3f}",
            "MSE of a value": f"{large[title]['mse']:.2e}",
            "KL": f"{large[title]['kl']:.1f}",
            "decoder channels": large[title]["channels"],
            "CPU ms a step": f"{large[title]['ms']:.0f}",
            "published -log p (CIFAR)": ROBOT[title][1],
        }
        for title in order
    ]
    tables = {
        "Digits, 32 x 32 (test images, sums over an image)": errors,
        f"The simulated robot, 32 x 32 x 3 (test frames; {options.steps} steps of {options.batch})": bits,
    }
    publish(options, rows, tables, draw(small, large, order))


def draw(small: dict[str, Row], large: dict[str, Row], order: list[str]) -> Figure:
    """MSE against KL on digits; bits/dim on the robot."""
    figure, (left, right) = panels(2, width=5.4, height=4.6)
    for title, row in small.items():
        left.plot(row["kl"], row["mse"], "o", color=AMBER if title.startswith("trainable") else RED)
        left.annotate(title, (row["kl"], row["mse"]), xytext=(5, 3), textcoords="offset points", fontsize=7)
    left.set(xlabel="KL (nats)", ylabel="MSE (sum over the image)", title="digits (amber: trainable)", yscale="log")
    left.margins(x=0.4, y=0.1)
    discrete = [title for title in order if ROBOT[title][0][0] in DISCRETE]
    colours = [BLUE if title in discrete else GREY for title in order]
    right.barh(range(len(order)), [large[title]["bits"] for title in order], color=colours)
    right.set_yticks(range(len(order)), order, fontsize=8)
    right.invert_yaxis()
    right.set(xlabel="bits/dim on test frames (blue: discrete)", title="simulated robot")
    return figure


if __name__ == "__main__":
    run_program(main)
