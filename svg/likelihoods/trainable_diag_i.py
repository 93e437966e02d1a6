"""A Gaussian whose sigma map, one for all frames, is a parameter."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from svg.likelihoods.base import Likelihood
from svg.likelihoods.normal import Normal
from svg.likelihoods.numerics import smooth_floor
from svg.likelihoods.options import require_floor, require_positive


class TrainableDiagI(Likelihood):
    """N(mu, sigma^2) with a learned map log sigma (C, H, W) (AR-ELBO's trainable Diag-I). For frames of one size.

    Options:
        init: sigma at the start.
        floor: smooth lower bound of log sigma, or none.
        lr_scale: learning rate of log sigma in multiples of the network's.
        mean: sigmoid or identity.
    """

    sized = True

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
        self.log_sigma = nn.Parameter(torch.full((channels, *size), math.log(require_positive("init", init))))
        self.floor = require_floor(floor)
        self.lr_scale = require_positive("lr_scale", lr_scale)

    @property
    def sigma(self) -> Tensor:
        """Root mean square over the map."""
        return smooth_floor(self.log_sigma.detach(), self.floor).exp().square().mean().sqrt()

    def _distribution(self, params: Tensor) -> Normal:
        return Normal(self._link(params), smooth_floor(self.log_sigma, self.floor))
