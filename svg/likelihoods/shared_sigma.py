"""A Gaussian whose one sigma is a parameter."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from svg.likelihoods.base import Likelihood
from svg.likelihoods.normal import Normal
from svg.likelihoods.numerics import hard_floor
from svg.likelihoods.options import require_floor, require_positive


class SharedSigma(Likelihood):
    """N(mu, sigma^2) with log sigma learned by gradient descent.

    sigma-VAE's shared sigma; L-VAE's LS-VAE (equation 10); Lin et al.'s stage 1 (equation 9); AR-ELBO's trainable Iso-I
    (equation 7).

    Options:
        init: sigma at the start; the papers start at 1.
        floor: hard lower bound of log sigma, or none.
        lr_scale: log sigma's learning rate in multiples of the network's; Adam moves it by about one learning rate a
            step.
        mean: sigmoid or identity.
    """

    def __init__(
        self,
        channels: int = 3,
        size: tuple[int, int] = (64, 64),
        init: float = 1.0,
        floor: float | None = -6.0,
        lr_scale: float = 30.0,
        mean: str = "sigmoid",
    ) -> None:
        super().__init__(channels, size, mean)
        self.log_sigma = nn.Parameter(torch.tensor(math.log(require_positive("init", init))))
        self.floor = require_floor(floor)
        self.lr_scale = require_positive("lr_scale", lr_scale)

    @property
    def sigma(self) -> Tensor:
        return hard_floor(self.log_sigma.detach(), self.floor).exp()

    def _distribution(self, params: Tensor) -> Normal:
        return Normal(self._link(params), hard_floor(self.log_sigma, self.floor))
