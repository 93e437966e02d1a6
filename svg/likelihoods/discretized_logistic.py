"""A discretised logistic distribution with one learned scale."""

from __future__ import annotations

from torch import Tensor

from svg.likelihoods.discretized import DiscretizedLikelihood, LogisticLevels


class DiscretizedLogistic(DiscretizedLikelihood):
    """256 bins of a logistic distribution, C channels of locations and one learned scale s (sigma-VAE, Table 4).

    Options:
        init: s at the start, in [0, 1] units; the standard deviation is s pi/sqrt(3).
        floor: smooth lower bound of log s, or none.
        lr_scale: learning rate of log s in multiples of the network's.
        mean: sigmoid or identity.
    """

    def _distribution(self, params: Tensor) -> LogisticLevels:
        return LogisticLevels(*self._location_and_scale(params))
