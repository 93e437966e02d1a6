"""A discretised Gaussian with one learned sigma."""

from __future__ import annotations

from torch import Tensor

from svg.likelihoods.discretized import DiscretizedLikelihood, GaussianLevels


class DiscretizedGaussian(DiscretizedLikelihood):
    """256 bins of a Gaussian, C channels of locations and one learned sigma (sigma-VAE, Table 4).

    Options:
        init: sigma at the start, in [0, 1] units.
        floor: smooth lower bound of log sigma, or none.
        lr_scale: learning rate of log sigma in multiples of the network's.
        mean: sigmoid or identity.
    """

    def _distribution(self, params: Tensor) -> GaussianLevels:
        return GaussianLevels(*self._location_and_scale(params))
