"""A Gaussian whose sigma is given."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from svg.likelihoods.base import Likelihood
from svg.likelihoods.normal import Normal
from svg.likelihoods.options import require_positive


class FixedGaussian(Likelihood):
    """N(mu, sigma^2) with a fixed sigma: -log p = SSE/(2 sigma^2) + d ln sigma + (d/2) ln 2 pi (L-VAE's F-VAE).

    sigma^2 = 1 and 1/2 are what a plain squared error implies; the published SVG objective, mean squared error + beta
    KL, is sigma^2 = beta d/2 up to its scale.

    Options:
        sigma: standard deviation, in [0, 1] units.
        mean: sigmoid or identity.
    """

    log_sigma: Tensor

    def __init__(
        self, channels: int = 3, size: tuple[int, int] = (64, 64), sigma: float = 1.0, mean: str = "sigmoid"
    ) -> None:
        super().__init__(channels, size, mean)
        log_sigma = torch.tensor(math.log(require_positive("sigma", sigma)))
        self.register_buffer("log_sigma", log_sigma, persistent=False)

    @property
    def sigma(self) -> Tensor:
        return self.log_sigma.exp()

    def _distribution(self, params: Tensor) -> Normal:
        return Normal(self._link(params), self.log_sigma)
