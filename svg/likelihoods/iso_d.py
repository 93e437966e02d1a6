"""A Gaussian whose sigma is the best for each frame."""

from __future__ import annotations

from torch import Tensor

from svg.likelihoods.fitted import FittedGaussian


class IsoD(FittedGaussian):
    """sigma^2 of a frame = its mean r^2 + eps: d/2 + (d/2) ln 2 pi (SSE_bt/d + eps) (AR-ELBO's Iso-D, equations 42-45).

    A training objective, not a density: sigma is fitted to the frame that it scores. Evaluation uses the running mean
    of sigma^2 over all frames.

    Options:
        eps: added to the variance.
        floor: hard lower bound of log sigma; eps alone bounds it by default, at -6.9.
        decay: of the running mean squared error that evaluation uses.
        mean: sigmoid or identity.
    """

    normalised = False

    def __init__(
        self,
        channels: int = 3,
        size: tuple[int, int] = (64, 64),
        eps: float = 1e-6,
        floor: float | None = None,
        decay: float = 0.9,
        mean: str = "sigmoid",
    ) -> None:
        super().__init__(channels, size, mean, decay=decay, eps=eps, floor=floor)

    def _variance(self, squares: Tensor, batch_mean: Tensor) -> Tensor:
        return squares.mean((-3, -2, -1), keepdim=True)
