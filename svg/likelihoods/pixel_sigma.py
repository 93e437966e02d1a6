"""A Gaussian whose sigma is a map that the decoder makes."""

from __future__ import annotations

from torch import Tensor

from svg.likelihoods.base import Likelihood
from svg.likelihoods.normal import Normal
from svg.likelihoods.numerics import smooth_floor
from svg.likelihoods.options import require_floor


class PixelSigma(Likelihood):
    """N(mu, sigma^2) with mu and log sigma of every value from the decoder.

    L-VAE's LV-VAE (equation 11); Lin et al. (equation 11); AR-ELBO's trainable Diag-D. Its density is unbounded without
    a floor.

    Options:
        floor: smooth lower bound of log sigma, or none.
        mean: sigmoid or identity.
    """

    maps = 2

    def __init__(
        self,
        channels: int = 3,
        size: tuple[int, int] = (64, 64),
        floor: float | None = -6.0,
        mean: str = "sigmoid",
    ) -> None:
        super().__init__(channels, size, mean)
        self.floor = require_floor(floor)

    def _distribution(self, params: Tensor) -> Normal:
        mean, log_sigma = self._split(params)
        return Normal(self._link(mean), smooth_floor(log_sigma, self.floor))
