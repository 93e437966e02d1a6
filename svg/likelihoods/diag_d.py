"""A Gaussian whose sigma is the best for each single value."""

from __future__ import annotations

from torch import Tensor

from svg.likelihoods.fitted import FittedGaussian


class DiagD(FittedGaussian):
    """sigma^2 of a value = its r^2 + eps: d/2 + (1/2) sum_i ln 2 pi (r_i^2 + eps) (AR-ELBO's Diag-D, equations 50-53).

    A training objective, not a density: sigma is fitted to the value that it scores, and unbounded without eps.
    Evaluation uses the running mean of each pixel's sigma^2 over all frames. For frames of one size.

    Options:
        eps: added to the variances.
        floor: hard lower bound of log sigma; eps alone bounds it by default, at -6.9.
        decay: of the running mean squared errors that evaluation uses.
        mean: sigmoid or identity.
    """

    normalised = False
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
        return squares
