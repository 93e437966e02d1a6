"""Posterior collapse at a large fixed sigma, and at a large fixed posterior variance (AR-ELBO, Tables 1 and 5).

Table 1: sigma_x is fixed, sigma_z^2 is one learned number for all latents. As sigma_x^2 grows, sigma_z^2 grows to 1,
the decoder flattens and the KL term falls to 0; where the aggregate posterior has the prior's moments it is -(d_z/2) ln
sigma_z^2. The deterministic encoder (sigma_z = 0, the same energy |z|^2/2) keeps its information at every sigma_x.

Table 5: sigma_z^2 = s^2 is fixed, sigma_x optimal. Beyond a threshold the latents carry nothing: the MSE is the data's
total variance, the KL term not 0 but that of N(0, s^2 I), (d_z/2)(s^2 - ln s^2 - 1): 26.79 at s^2 = 10, d_z = 8.

scikit-learn's digits, 32 x 32, in place of MNIST, and four dense layers of 200 in place of the paper's nets.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.common import BLUE, GREY, RED, Row, Rows, panels, parse, parser, publish
from experiments.image_vae import build, digits, refit, terms_of, train
from svg import VAE
from svg.config import ObjectiveConfig, TrainConfig
from svg.evaluation.latents import empirical_information, local_smoothness
from svg.models.samplers import collect
from svg.objective import Objective
from svg.runtime.program import run as run_program

Z = 8
NONE = ("-", "-", "-")
PUBLISHED = {
    1.0: NONE,
    0.5: NONE,
    0.0: ("52.74", "0.00", "1.00"),
    -0.2: ("15.15", "10.93", ".0648"),
    -0.3: ("13.08", "12.54", ".0436"),
    -0.5: ("10.18", "15.30", ".0214"),
    -1.0: ("6.70", "21.75", ".00445"),
}
"""log10 sigma_x^2 to MSE, KL and sigma_z^2, on MNIST (Table 1, stochastic encoding)."""
DETERMINISTIC = (0.0, -1.0)
PUBLISHED_CONSTANT = {
    1.0: ("52.74", "26.79"),
    0.9: ("52.74", "19.48"),
    0.8: ("22.96", "134.83"),
    0.0: ("11.71", "112.50"),
}
"""log10 sigma_z^2 to MSE and KL, on MNIST (Table 5)."""


def measure(objective: Objective, options: Namespace) -> Row:
    """Trains, and measures on the training images, as the paper does: sums over an image's d values, nats."""
    frames = digits("train")
    train(objective, frames, TrainConfig(steps=options.steps, batch_size=64, lr=5e-3, decay="linear", grad_clip=100))
    refit(objective, frames)
    terms = terms_of(objective, frames)
    assert isinstance(objective.model, VAE)
    latents = collect(objective.model, frames.split(256))
    deterministic = objective.model.config.posterior == "deterministic"
    return {
        "mse": terms["mse"] * frames[0].numel(),
        "kl": terms["kl"],
        "variance": 0.0 if deterministic else latents.logvar.exp().mean().item(),
        "information": None if deterministic else empirical_information(latents).item(),
        "els": local_smoothness(objective.model, latents.mean[:256]) / Z,
    }


def fixed(exponent: float, posterior: str, options: Namespace) -> Row:
    """A fixed sigma_x^2 = 10^exponent."""
    rule = ObjectiveConfig(name="rae") if posterior == "deterministic" else ObjectiveConfig()
    objective = build(
        "fixed_gaussian",
        digits("train"),
        backbone="mlp",
        width=200,
        z_dim=Z,
        posterior=posterior,  # type: ignore[arg-type]
        objective=rule,
        sigma=10 ** (exponent / 2),
    )
    if posterior == "isotropic":  # Adam moves it by about one learning rate a step
        torch.nn.init.constant_(objective.model.get_parameter("log_variance"), -2)
    return measure(objective, options)


def constant(exponent: float, options: Namespace) -> Row:
    """A fixed sigma_z^2 = 10^exponent under the optimal sigma."""
    objective = build(
        "optimal_sigma",
        digits("train"),
        backbone="mlp",
        width=200,
        z_dim=Z,
        posterior="constant",
        posterior_variance=10**exponent,
    )
    return measure(objective, options)


def total_variance(frames: Tensor) -> float:
    """The sum of the variances of an image's values, in [0, 1] units."""
    return (frames.double() / 255).var(dim=0, correction=0).sum().item()


def largest_eigenvalue(frames: Tensor) -> float:
    """Of the images' covariance: a linear decoder collapses where sigma_x^2 is above it."""
    return torch.linalg.eigvalsh(torch.cov(frames.flatten(1).double().T / 255, correction=0))[-1].item()


def main(argv: Sequence[str] | None = None) -> None:
    """A row for each variance."""
    made = parser("collapse", __doc__)
    made.add_argument("--steps", type=int, default=1000, help="of training [%(default)s]")
    options = parse(made, argv, quick={"steps": 3})
    rows = Rows(options, len(PUBLISHED) + len(DETERMINISTIC) + len(PUBLISHED_CONSTANT))
    learned = {x: rows.get(f"sigma_x {x}", partial(fixed, x, "isotropic", options)) for x in PUBLISHED}
    blunt = {x: rows.get(f"deterministic {x}", partial(fixed, x, "deterministic", options)) for x in DETERMINISTIC}
    given = {x: rows.get(f"sigma_z {x}", partial(constant, x, options)) for x in PUBLISHED_CONSTANT}
    table_1 = [
        {
            "log10 σx²": f"{x:.1f}",
            "MSE": f"{found['mse']:.2f}",
            "KL": f"{found['kl']:.2f}",
            "σz²": f"{found['variance']:.3g}",
            "-(dz/2) ln σz²": f"{-Z / 2 * math.log(found['variance']):.2f}",
            "I(x; z), at least": f"{found['information']:.2f}",
            "ELS/dz": f"{found['els']:.3g}",
            "published MSE": PUBLISHED[x][0],
            "published KL": PUBLISHED[x][1],
            "published σz²": PUBLISHED[x][2],
        }
        for x, found in learned.items()
    ]
    table_2 = [
        {"log10 σx²": f"{x:.1f}", "MSE": f"{found['mse']:.2f}", "ELS/dz": f"{found['els']:.3g}"}
        for x, found in blunt.items()
    ]
    table_5 = [
        {
            "log10 σz²": f"{x:.1f}",
            "MSE": f"{found['mse']:.2f}",
            "KL": f"{found['kl']:.2f}",
            "(dz/2)(s² - ln s² - 1)": f"{Z / 2 * (10**x - x * math.log(10) - 1):.2f}",
            "I(x; z), at least": f"{found['information']:.2g}",
            "published MSE": PUBLISHED_CONSTANT[x][0],
            "published KL": PUBLISHED_CONSTANT[x][1],
        }
        for x, found in given.items()
    ]
    variance, eigenvalue = total_variance(digits("train")), largest_eigenvalue(digits("train"))
    data = f"digits: total variance {variance:.2f}, log10 of the largest eigenvalue {math.log10(eigenvalue):.2f}"
    tables = {
        f"Fixed σx, learned σz² ({data}; the bound on I(x; z) is at most ln N; published: MNIST)": table_1,
        "The same with a deterministic encoder": table_2,
        "Fixed σz², optimal σx": table_5,
    }
    publish(options, rows, tables, draw(learned, blunt, given, variance))


def draw(learned: dict, blunt: dict, given: dict, variance: float) -> Figure:
    """MSE and KL against sigma_x^2, and against a fixed sigma_z^2."""
    figure, (left, middle, right) = panels(3, width=3.9)
    left.plot(list(learned), [row["mse"] for row in learned.values()], "o-", color=RED, label="learned σz²")
    left.plot(list(blunt), [row["mse"] for row in blunt.values()], "s--", color=GREY, label="deterministic")
    left.axhline(variance, color=BLUE, linewidth=1, linestyle=":", label="total variance")
    left.set(xlabel="log10 σx²", ylabel="MSE (sum over the image)")
    left.legend(frameon=False, fontsize=8)
    middle.plot(list(learned), [row["kl"] for row in learned.values()], "o-", color=RED, label="KL")
    matched = [-Z / 2 * math.log(row["variance"]) for row in learned.values()]
    middle.plot(list(learned), matched, ":", color=BLUE, label="-(dz/2) ln σz²")
    middle.set(xlabel="log10 σx²", ylabel="KL (nats)")
    middle.legend(frameon=False, fontsize=8)
    exponents = sorted(given)
    right.plot(exponents, [given[x]["kl"] for x in exponents], "o-", color=RED, label="KL")
    formula = [Z / 2 * (10**x - x * math.log(10) - 1) for x in exponents]
    right.plot(exponents, formula, ":", color=BLUE, label="that of N(0, s² I)")
    right.set(xlabel="log10 σz², fixed", ylabel="KL (nats)")
    right.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    run_program(main)
