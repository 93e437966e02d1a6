"""A Gaussian whose sigma map, one for all frames, is the best for the batch."""

from __future__ import annotations

from torch import Tensor

from svg.likelihoods.fitted import FittedGaussian


class DiagI(FittedGaussian):
    """sigma_i^2 = mean of r_i^2 over batch and time, + eps: d/2 + (1/2) sum_i ln 2 pi (E[r_i^2] + eps) on average.

    AR-ELBO's Diag-I (equations 46-49). For frames of one size.

    Options:
        eps: added to the variances.
        floor: hard lower bound of log sigma; eps alone bounds it by default, at -6.9.
        decay: of the running mean squared errors that evaluation uses.
        mean: sigmoid or identity.
    """

    sized = True

    def __init__(
        self,
        channels: int = 3,
        size: tuple[int, int] = (64, 64),
        eps: float = 1e-6,
        floor: float | None = None,
        decay: float = 0.99,
        mean: str = "sigmoid",
    ) -> None:
        super().__init__(channels, size, mean, running_shape=(channels, *size), decay=decay, eps=eps, floor=floor)

    def _variance(self, squares: Tensor, batch_mean: Tensor) -> Tensor:
        return batch_mean
