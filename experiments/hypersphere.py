"""Above which sigma a Gaussian decoder gives up a hypersphere: the exact radius that it learns (L-VAE, Theorem 1).

Data are uniform on the sphere of radius R in D dimensions, nets and latent space arbitrarily powerful, so that p(x) is
the mixture of N(mu, sigma^2 I) over mu uniform on a sphere of radius r. Its likelihood is stationary where

    r = R I_{D/2}(k) / I_{D/2-1}(k),    k = r R / sigma^2

(I: modified Bessel functions). As I_v/I_{v-1} rises from 0 like k/(2v) and bends down, r = 0 is the only solution, and
the manifold is lost, unless R > sigma sqrt(D). The theorem's sigma >= R/sqrt(D - 1) is sufficient, not necessary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import brentq, minimize_scalar

from experiments.common import AMBER, BLUE, GREEN, GREY, RED, Row, Rows, panels, parse, parser, publish
from svg.runtime.program import run as run_program

RADII = (1.0, 1.4, 1.5, 2.0, 3.0, 5.0, 10.0)
DIMENSIONS = (2, 3, 10, 100, 3072)


def bessel_ratio(order: float, k: float) -> float:
    """I_order(k)/I_{order-1}(k) for k > 0, of any size: backward recurrence, each step of which shrinks the error."""
    start = order + 60 + 2 * k
    ratio = 0.0
    for v in np.arange(math.ceil(start - order), -1, -1.0) + order:
        ratio = 1 / (2 * v / k + ratio)
    return ratio


def optimal_radius(dimension: int, radius: float, sigma: float) -> float:
    """The radius r of the decoder's sphere that maximises the likelihood of data on a sphere of that radius."""
    if radius <= sigma * math.sqrt(dimension):
        return 0.0

    def excess(r: float) -> float:
        return radius * bessel_ratio(dimension / 2, r * radius / sigma**2) / r - 1

    return brentq(excess, 1e-9 * radius, radius, xtol=1e-14, rtol=1e-14)


def log_likelihood(r: np.ndarray, dimension: int, radius: float, sigma: float, points: int = 2001) -> np.ndarray:
    """log p(x) of a point of the data's sphere for decoder spheres of radius r, less its value at r = 0.

    Equation 8 by quadrature over the angle between x and mu: independent of the Bessel functions.
    """
    angle = np.linspace(0, math.pi, points)
    weight = np.sin(angle) ** (dimension - 2)
    exponent = (r[:, None] * radius * (np.cos(angle) - 1)) / sigma**2
    mean = np.trapezoid(weight * np.exp(exponent), angle, axis=1) / np.trapezoid(weight, angle)
    return np.log(mean) + r * radius / sigma**2 - r**2 / (2 * sigma**2)


def likeliest_radius(dimension: int, radius: float, sigma: float) -> float:
    """The maximum of `log_likelihood` over r."""
    found = minimize_scalar(
        lambda r: -log_likelihood(np.array([r]), dimension, radius, sigma)[0],
        bounds=(0, radius),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return found.x


def threshold(dimension: int, part: float = 1e-4) -> float:
    """R/sigma at which r is that part of R; the limit at part 0 is where r leaves 0."""

    def excess(ratio: float) -> float:
        return bessel_ratio(dimension / 2, part * ratio**2) / part - 1

    return brentq(excess, math.sqrt(dimension) / 2, 2 * math.sqrt(dimension), xtol=1e-12)


def main(argv: Sequence[str] | None = None) -> None:
    """Tables of radii and thresholds; figure of both."""
    options = parse(parser("hypersphere", __doc__), argv, quick={})
    rows = Rows(options, len(RADII) + len(DIMENSIONS))
    radii = [rows.get(f"R {radius}", partial(radius_row, radius)) for radius in RADII]
    thresholds = [rows.get(f"D {dimension}", partial(threshold_row, dimension)) for dimension in DIMENSIONS]
    tables = {
        "Radius r that the decoder learns at D = 2, sigma = 1": radii,
        "R/sigma above which the manifold is kept": thresholds,
    }
    publish(options, rows, tables, draw())


def radius_row(radius: float) -> Row:
    """The two ways to the radius at D = 2, sigma = 1."""
    exact, quadrature = optimal_radius(2, radius, 1.0), likeliest_radius(2, radius, 1.0)
    return {"R": radius, "r, exact": f"{exact:.4f}", "r, largest likelihood (8)": f"{quadrature:.4f}"}


def threshold_row(dimension: int) -> Row:
    """The theorem's threshold and the exact one."""
    published, exact = math.sqrt(dimension - 1), math.sqrt(dimension)
    found = {"published, sqrt(D-1)": published, "exact, sqrt(D)": exact, "found (r = R/10000)": threshold(dimension)}
    return {"D": dimension} | {name: f"{value:.5f}" for name, value in found.items()}


def draw() -> Figure:
    """Left: r/R over R/(sigma sqrt D). Right: the likelihood over r at D = 2."""
    figure, (left, right) = panels(2)
    colours = (BLUE, GREEN, AMBER, RED, GREY)
    ratios = np.concatenate((np.linspace(0.7, 1, 2), 1 + np.linspace(0, 1, 60) ** 2 * 1.5))
    for dimension, colour in zip(DIMENSIONS[:-1], colours[:-1], strict=True):
        radii = [optimal_radius(dimension, ratio * math.sqrt(dimension), 1.0) for ratio in ratios]
        left.plot(ratios, radii / (ratios * math.sqrt(dimension)), color=colour, label=f"D = {dimension}")
    left.axvline(math.sqrt(1 / 2), color=BLUE, linewidth=1, linestyle=":")
    left.annotate("published\nfor D = 2", (math.sqrt(1 / 2) + 0.02, 0.8), fontsize=8, color=BLUE)
    left.set(xlabel="R / (σ √D)", ylabel="learned radius r / R", ylim=(-0.03, 1.03))
    left.legend(frameon=False, fontsize=9, loc="lower right")

    r = np.linspace(0, 3, 200)
    for radius, colour in zip((1.0, 1.4, 1.5, 2.0, 2.5), colours, strict=True):
        values = log_likelihood(r, 2, radius, 1.0)
        right.plot(r, values, color=colour, label=f"R = {radius:g}")
        best = optimal_radius(2, radius, 1.0)
        right.plot(best, log_likelihood(np.array([best]), 2, radius, 1.0), "o", color=colour, markersize=5)
    right.set(xlabel="decoder's radius r  (D = 2, σ = 1)", ylabel="log p(x), less that of r = 0", ylim=(-1.5, 1.4))
    right.legend(frameon=False, fontsize=9, loc="lower left")
    return figure


if __name__ == "__main__":
    run_program(main)
