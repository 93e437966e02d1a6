"""A linear VAE with the optimal sigma is probabilistic PCA: it reaches the analytic sigma^2 and likelihood.

For a linear decoder the best ELBO over encoders is log p(x), whose maximum over decoders is Tipping & Bishop's (1999):
sigma^2 is the mean of the d - n discarded eigenvalues of the data's covariance, and

    log p = -(1/2) [d ln 2 pi + sum_{j <= n} ln lambda_j + (d - n) ln sigma^2 + d]    nats per image.

The loss is the project's own, on sigma points: the n + 1 corners of a simplex, scaled to the mean and variance of q,
give E_q[r^2] exactly where the decoder is linear (svg.likelihoods.optimal_sigma sees them as n + 1 frames). Adam and
then L-BFGS minimise it over the whole data set in float64. Beside it: the same model as train.py trains it, with one
draw of z and mini-batches.

N images, n latents, C channels, H W pixels, d = C H W.
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

from experiments.common import BLUE, GREY, RED, Row, Rows, panels, parse, parser, publish
from experiments.image_vae import train
from svg import VAE, likelihoods
from svg.config import ModelConfig, ObjectiveConfig, TrainConfig
from svg.objective import Objective
from svg.runtime.program import run as run_program

LATENTS = (1, 2, 4)
SIZE: Literal[28] = 28
SIGNAL, NOISE = 10, 0.1


def images(n: int) -> Tensor:
    """Sums of ten random smooth patterns of falling strength, and noise of standard deviation 0.1: (N, 1, 1, H, W)."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(SIGNAL, 1, 7, 7, generator=generator, dtype=torch.float64)
    patterns = torch.nn.functional.interpolate(patterns, SIZE, mode="bilinear").flatten(1)
    patterns, _ = torch.linalg.qr(patterns.T)
    strength = 3.0 * 0.7 ** torch.arange(SIGNAL, dtype=torch.float64)
    z = torch.randn(n, SIGNAL, generator=generator, dtype=torch.float64)
    noise = NOISE * torch.randn(n, SIZE**2, generator=generator, dtype=torch.float64)
    return ((z * strength) @ patterns.T + noise).view(n, 1, 1, SIZE, SIZE)


def analytic(x: Tensor, n: int) -> tuple[float, float]:
    """sigma^2 and mean log p of PPCA's maximum likelihood with n latents."""
    covariance = torch.cov(x.flatten(1).T, correction=0)
    eigenvalues = torch.linalg.eigvalsh(covariance).flip(0)
    d, variance = len(eigenvalues), eigenvalues[n:].mean()
    log_p = -0.5 * (d * math.log(2 * math.pi) + eigenvalues[:n].log().sum() + (d - n) * variance.log() + d)
    return variance.item(), log_p.item()


def linear_vae(n: int, seed: int = 0) -> VAE:
    """The project's image VAE with affine nets, the optimal sigma and an unbounded mean."""
    torch.manual_seed(seed)
    config = ModelConfig(name="vae", backbone="linear", size=SIZE, channels=1, z_dim=n, prior="fixed")
    head = likelihoods.build("optimal_sigma", 1, (SIZE, SIZE), mean="identity", floor=None)
    head.in_unit = False
    model = VAE(config, head)
    with torch.no_grad():  # near the origin, from where no plateau is in the way
        model.decoder.get_parameter("0.weight").mul_(0.1)
        model.logvar.weight.zero_()
    return model


def exact_loss(model: VAE, x: Tensor) -> Tensor:
    """The negative ELBO per image with E_q taken exactly, by sigma points."""
    posterior = model.encode(x)
    n = model.latent_size
    basis, _ = torch.linalg.qr(torch.ones(n + 1, 1).to(x), mode="complete")
    corners = math.sqrt(n + 1) * basis[:, 1:]  # of mean 0 and covariance I
    z = posterior.mean + corners * torch.exp(0.5 * posterior.logvar)
    nll = model.likelihood.loss(model.decode(z), x.expand(-1, n + 1, -1, -1, -1))
    return nll.mean() + posterior.kl(model.prior).mean()


def optimised(x: Tensor, n: int, iterations: int) -> tuple[float, float]:
    """sigma^2 and ELBO after Adam and L-BFGS on the exact loss.

    The variance of q, which is the same for all x in a linear model, is learned as such: its head's weights stay 0.
    """
    model = linear_vae(n).double()
    model.logvar.weight.requires_grad_(False)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    start = torch.optim.Adam(learned, lr=1e-2)
    finish = torch.optim.LBFGS(
        learned,
        max_iter=iterations,
        history_size=50,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-9,
        tolerance_change=0,
    )

    def closure() -> Tensor:
        model.zero_grad()
        loss = exact_loss(model, x)
        loss.backward()
        return loss

    for _ in range(200):
        start.step(closure)
    finish.step(closure)
    return measured(model, x)


def measured(model: VAE, x: Tensor) -> tuple[float, float]:
    """sigma^2 and ELBO over all images, exactly."""
    model.double()
    with torch.no_grad(), model.eval().likelihood.refit():
        exact_loss(model, x)
    with torch.no_grad():
        sigma = model.likelihood.sigma
        assert sigma is not None
        return sigma.item() ** 2, -exact_loss(model, x).item()


def trained(x: Tensor, n: int, steps: int) -> tuple[float, float]:
    """sigma^2 and ELBO after Adam on single draws of z, as train.py does it; both then measured exactly."""
    config = TrainConfig(steps=steps, lr=3e-3, warmup=100, final_lr=0.01, batch_size=128, grad_clip=0)
    model = linear_vae(n)
    train(Objective(model, ObjectiveConfig()), x.float(), config)
    return measured(model, x)


def row(n: int, options: Namespace) -> Row:
    """Analytic, optimised and trained: [sigma^2, log p or ELBO] of each."""
    x = images(options.images)
    return {
        "analytic": analytic(x, n),
        "optimised": optimised(x, n, options.iterations),
        "trained": trained(x, n, options.steps),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """A row for each number of latents."""
    made = parser("ppca", __doc__)
    made.add_argument("--images", type=int, default=256, help="N [%(default)s]")
    made.add_argument("--iterations", type=int, default=800, help="of L-BFGS, after 200 of Adam [%(default)s]")
    made.add_argument("--steps", type=int, default=2000, help="of mini-batches [%(default)s]")
    options = parse(made, argv, quick={"images": 60, "iterations": 20, "steps": 20})
    rows = Rows(options, len(LATENTS))
    results = {n: rows.get(f"{n} latents", partial(row, n, options)) for n in LATENTS}
    table = []
    for n, found in results.items():
        (variance, log_p), (reached, elbo), (near, bound) = found["analytic"], found["optimised"], found["trained"]
        table.append(
            {
                "n": n,
                "σ², analytic": f"{variance:.8f}",
                "σ², exact E_q": f"{reached:.8f}",
                "σ², Adam": f"{near:.5f}",
                "log p, analytic": f"{log_p:.4f}",
                "ELBO, exact E_q": f"{elbo:.4f}",
                "ELBO, Adam": f"{bound:.1f}",
            }
        )
    publish(options, rows, {f"A linear VAE on {SIZE} x {SIZE} images (nats per image)": table}, draw(results, options))


def draw(results: dict[int, Row], options: Namespace) -> Figure:
    """The spectrum and the sigma^2 of each number of latents; ELBO against log p."""
    figure, (left, right) = panels(2)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(images(options.images).flatten(1).T, correction=0)).flip(0)[:40]
    left.semilogy(range(1, 41), eigenvalues, ".", color=GREY, label="eigenvalues of the data's covariance")
    styles: dict[str, tuple[str, str, int]] = {"analytic": (BLUE, "o", 9), "optimised": (RED, "x", 7)}
    for name, (colour, marker, size) in styles.items():
        label = {"analytic": "analytic", "optimised": "linear VAE, exact E_q"}[name]
        points: dict[str, Any] = {
            "color": colour,
            "marker": marker,
            "markersize": size,
            "linestyle": "none",
            "fillstyle": "none",
        }
        left.plot(list(results), [found[name][0] for found in results.values()], label=f"σ², {label}", **points)
        right.plot(list(results), [found[name][1] for found in results.values()], label=label, **points)
    left.set(xlabel="eigenvalue, or number of latents n", ylabel="variance")
    left.legend(frameon=False, fontsize=8)
    right.set(xlabel="number of latents n", ylabel="log p(x), ELBO (nats per image)")
    right.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    run_program(main)
