"""A Gaussian whose sigma, one a frame, comes from the decoder."""

from __future__ import annotations

from torch import Tensor

from svg.likelihoods.base import Likelihood
from svg.likelihoods.normal import Normal
from svg.likelihoods.numerics import smooth_floor
from svg.likelihoods.options import require_floor


class TrainableIsoD(Likelihood):
    """N(mu, sigma^2) with log sigma of a frame = spatial mean of one extra decoder channel (AR-ELBO's trainable Iso-D).

    Options:
        floor: smooth lower bound of log sigma, or none.
        mean: sigmoid or identity.
    """

    def __init__(
        self,
        channels: int = 3,
        size: tuple[int, int] = (64, 64),
        floor: float | None = -6.0,
        mean: str = "sigmoid",
    ) -> None:
        super().__init__(channels, size, mean)
        self.floor = require_floor(floor)

    @property
    def param_channels(self) -> int:
        return self.channels + 1

    def _distribution(self, params: Tensor) -> Normal:
        mean, raw = params.split((self.channels, 1), dim=-3)
        log_sigma = raw.mean((-3, -2, -1), keepdim=True)
        return Normal(self._link(mean), smooth_floor(log_sigma, self.floor))
