"""A Gaussian whose one sigma is the best for the batch."""

from __future__ import annotations

from torch import Tensor

from svg.likelihoods.fitted import FittedGaussian


class OptimalSigma(FittedGaussian):
    """N(mu, sigma^2) with sigma^2 = mean of r^2 over batch, time, channels and pixels: NLL = (d/2)(ln(2 pi sigma^2) +
    1) on average.

    sigma-VAE's optimal sigma; AR-ELBO's Iso-I (equations 8a, 9, 40, 41).

    Options:
        floor: hard lower bound of log sigma, or none.
        decay: of the running mean squared error that evaluation uses.
        mean: sigmoid or identity.
    """

    def __init__(
        self,
        channels: int = 3,
        size: tuple[int, int] = (64, 64),
        floor: float | None = -6.0,
        decay: float = 0.9,
        mean: str = "sigmoid",
    ) -> None:
        super().__init__(channels, size, mean, decay=decay, floor=floor)

    def _variance(self, squares: Tensor, batch_mean: Tensor) -> Tensor:
        return batch_mean
