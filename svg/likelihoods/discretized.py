"""Continuous distributions cut into 256 bins: level k has the mass between (k - 1/2)/255 and (k + 1/2)/255, 0 and 255
the tails.

B batch, T frames, C channels, H W pixels. Salimans et al. 2017 (PixelCNN++), section 2.1; sigma-VAE, appendix C.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus
from torch.special import ndtr

from svg.likelihoods.base import Likelihood
from svg.likelihoods.discrete import DiscreteDistribution
from svg.likelihoods.distribution import normal_like, uniform_like
from svg.likelihoods.numerics import HALF_LOG_2PI, log1mexp, log_ndtr, smooth_floor
from svg.likelihoods.options import require_floor, require_positive
from svg.noise import Noise

HALF_BIN = 1 / 510


class DiscretizedLikelihood(Likelihood):
    """C decoder channels and one learned scale. Options: see the subclasses."""

    discrete = True

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
        self.log_scale = nn.Parameter(torch.tensor(math.log(require_positive("init", init))))
        self.floor = require_floor(floor)
        self.lr_scale = require_positive("lr_scale", lr_scale)

    @property
    def sigma(self) -> Tensor:
        """The scale."""
        return smooth_floor(self.log_scale.detach(), self.floor).exp()

    def _location_and_scale(self, params: Tensor) -> tuple[Tensor, Tensor]:
        return self._link(params), smooth_floor(self.log_scale, self.floor)


class DiscretizedLevels(DiscreteDistribution):
    """Bins of location + scale * (a standard variable): location (..., C, H, W), log_scale broadcasts to it."""

    def __init__(self, location: Tensor, log_scale: Tensor) -> None:
        super().__init__(location.device)
        self.location, self.log_scale = location, log_scale

    @abstractmethod
    def log_mass(self, levels: Tensor) -> Tensor: ...

    @abstractmethod
    def _cdf(self, z: Tensor) -> Tensor:
        """The standard variable's CDF."""

    @abstractmethod
    def _cdf_integral(self, z: Tensor) -> Tensor:
        """The integral of that CDF up to z."""

    @abstractmethod
    def _standard_draw(self, noise: Noise | None) -> Tensor: ...

    @property
    def mean(self) -> Tensor:
        """E[clip(Y, 0, 1)] of the continuous variable Y, in closed form.

        The mean of the levels is the midpoint rule for it; they differ by less than a tenth of a grey level at the
        default floors.
        """
        scale = self.log_scale.exp()
        upper, lower = self.location / scale, (self.location - 1) / scale
        exact = scale * (self._cdf_integral(upper) - self._cdf_integral(lower))
        simpson = (self._cdf(upper) + 4 * self._cdf((upper + lower) / 2) + self._cdf(lower)) / 6
        return torch.where(scale > 4, simpson, exact)  # for a wide distribution the difference would lose its digits

    def cdf(self, x: Tensor) -> Tensor:
        """The continuous variable's CDF at the upper end of x's bin; 1 from the last bin on."""
        levels = torch.floor(255 * (x + 1e-6))
        below = self._cdf(self._standardised(levels)[2])
        return torch.where(levels < 0, 0.0, torch.where(levels >= 255, 1.0, below))

    def _standardised(self, levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Centre, lower and upper end of the levels' bins, in units of the scale."""
        precision = torch.exp(-self.log_scale)
        centre = levels.to(self.location.dtype) / 255 - self.location
        return centre * precision, (centre - HALF_BIN) * precision, (centre + HALF_BIN) * precision

    def _draw(self, noise: Noise | None) -> Tensor:
        value = self.location + self.log_scale.exp() * self._standard_draw(noise)
        return torch.round(255 * value).clamp(0, 255) / 255


class LogisticLevels(DiscretizedLevels):
    """Bins of a logistic distribution."""

    def log_mass(self, levels: Tensor) -> Tensor:
        """ln[sigmoid(upper) - sigmoid(lower)] = ln sigmoid(upper) + ln sigmoid(-lower) + ln(1 - exp(lower - upper))."""
        _, lower, upper = self._standardised(levels)
        below, above = logsigmoid(upper), logsigmoid(-lower)  # ln P(X <= upper end), ln P(X > lower end)
        log_width = torch.log(-torch.expm1(-2 * HALF_BIN * torch.exp(-self.log_scale)))
        return torch.where(levels == 0, below, torch.where(levels == 255, above, below + above + log_width))

    def _cdf(self, z: Tensor) -> Tensor:
        return z.sigmoid()

    def _cdf_integral(self, z: Tensor) -> Tensor:
        return softplus(z)

    def _standard_draw(self, noise: Noise | None) -> Tensor:
        return torch.logit(uniform_like(noise, self.location))


class GaussianLevels(DiscretizedLevels):
    """Bins of a Gaussian."""

    def log_mass(self, levels: Tensor) -> Tensor:
        """ln[Phi(upper) - Phi(lower)] in the left tail, or its mirror image; for a narrow bin its width times the
        density."""
        centre, lower, upper = self._standardised(levels)
        first, last = levels == 0, levels == 255
        tail = first | last
        width = 2 * HALF_BIN * torch.exp(-self.log_scale)
        narrow = (width * (1 + centre.abs()) < 0.05) & ~tail
        mid, thin = torch.where(narrow, centre, 0.0), torch.where(narrow, width, 0.0)
        curvature = torch.log1p((mid.square() - 1) * thin.square() / 24)
        density = -0.5 * mid.square() - HALF_LOG_2PI + math.log(2 * HALF_BIN) - self.log_scale + curvature

        mirrored = last | (lower > 0) & ~first
        log_high = log_ndtr(torch.where(mirrored, -lower, upper))
        log_low = log_ndtr(torch.where(mirrored, -upper, lower))
        interval = log_high + log1mexp(torch.where(tail | narrow, -1.0, log_low - log_high))
        return torch.where(tail, log_high, torch.where(narrow, density, interval))

    def _cdf(self, z: Tensor) -> Tensor:
        return ndtr(z)

    def _cdf_integral(self, z: Tensor) -> Tensor:
        return z * ndtr(z) + torch.exp(-0.5 * z.square() - HALF_LOG_2PI)

    def _standard_draw(self, noise: Noise | None) -> Tensor:
        return normal_like(noise, self.location)


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
