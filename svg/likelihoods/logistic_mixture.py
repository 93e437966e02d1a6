"""A mixture of discretised logistics whose channels share the component."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from svg.likelihoods.base import Likelihood
from svg.likelihoods.discrete import LEVELS, DiscreteDistribution, require_integers
from svg.likelihoods.discretized import HALF_BIN, LogisticLevels
from svg.likelihoods.distribution import uniform_like
from svg.likelihoods.numerics import smooth_floor
from svg.likelihoods.options import require_floor, require_within
from svg.noise import Noise


class LogisticMixture(Likelihood):
    """P(pixel) = sum_k pi_k prod_c P(x_c | mu_kc, s_kc), without autoregression over channels (sigma-VAE, appendix C).

    K (1 + 2C) decoder channels: K weights, then the locations, then the log scales, each '(k c)'.

    Options:
        components: K.
        floor: smooth lower bound of log s, or none.
        mean: sigmoid or identity.
    """

    discrete = True

    def __init__(
        self,
        channels: int = 3,
        size: tuple[int, int] = (64, 64),
        components: int = 10,
        floor: float | None = -7.0,
        mean: str = "sigmoid",
    ) -> None:
        super().__init__(channels, size, mean)
        self.components = require_within("components", components, 1, 100)
        self.floor = require_floor(floor)

    @property
    def param_channels(self) -> int:
        return self.components * (1 + 2 * self.channels)

    def _distribution(self, params: Tensor) -> LogisticMixtureLevels:
        weights, rest = params.split((self.components, self.param_channels - self.components), dim=-3)
        location, log_scale = rearrange(rest, "... (p k c) h w -> p ... k c h w", p=2, k=self.components)
        logistics = LogisticLevels(self._link(location), smooth_floor(log_scale, self.floor))
        return LogisticMixtureLevels(weights.log_softmax(-3).unsqueeze(-3), logistics)


class LogisticMixtureLevels(DiscreteDistribution):
    """Weights (B, T, K, 1, H, W), as logarithms, and logistics (B, T, K, C, H, W)."""

    def __init__(self, log_weights: Tensor, logistics: LogisticLevels) -> None:
        super().__init__(log_weights.device)
        self.log_weights, self.logistics = log_weights, logistics

    def log_mass(self, levels: Tensor) -> Tensor:
        """Of each value on its own; the channels of a pixel are dependent."""
        return (self.log_weights + self._component_mass(levels)).logsumexp(-4)

    def unchecked_log_prob(self, x: Tensor) -> Tensor:
        joint = self.log_weights + self._component_mass(require_integers(x)).sum(-3, keepdim=True)
        return joint.logsumexp(-4).sum((-3, -2, -1))

    @property
    def mean(self) -> Tensor:
        return (self.log_weights.exp() * self.logistics.mean).sum(-4)

    @property
    def stddev(self) -> Tensor:
        """From E[(k - a)^2] = sum_{k >= a} (2(k - a) + 1) P(> k) + sum_{k < a} (2(a - k) - 1) P(<= k), a the level next
        to the mean: the tails on either side of it, of which no digits cancel."""
        mean, precision = 255 * self.mean, torch.exp(-self.logistics.log_scale)
        level = torch.round(mean)
        first, width = (HALF_BIN - self.logistics.location) * precision, precision / 255
        total, weights = torch.zeros_like(mean), self.log_weights.exp()
        for k in range(LEVELS - 1):
            side = torch.where(k < level, 1.0, -1.0).unsqueeze(-4)
            tail = (weights * torch.sigmoid(side * (first + k * width))).sum(-4)
            total += (2 * (k - level) + 1).abs() * tail
        return (total - (mean - level).square()).clamp(min=0).sqrt() / 255

    def cdf(self, x: Tensor) -> Tensor:
        values = x.expand(self.logistics.location[..., 0, :, :, :].shape)
        return (self.log_weights.exp() * self.logistics.cdf(values.unsqueeze(-4))).sum(-4)

    def _component_mass(self, levels: Tensor) -> Tensor:
        batch, shape = self.logistics.location.shape[:-4], self.logistics.location.shape[-3:]
        return self.logistics.log_mass(levels.expand(*batch, *shape).unsqueeze(-4))

    def _draw(self, noise: Noise | None) -> Tensor:
        """One component a pixel, then its logistics."""
        which, value = (None, None) if noise is None else (noise.child(0), noise.child(1))
        cdf = self.log_weights.exp().cumsum(-4)
        u = uniform_like(which, cdf[..., 0, :, :, :])
        chosen = (u.unsqueeze(-4) > cdf[..., :-1, :, :, :]).sum(-4, keepdim=True)
        parts = (self.logistics.location, self.logistics.log_scale)
        location, log_scale = (torch.take_along_dim(part, chosen, -4).squeeze(-4) for part in parts)
        return LogisticLevels(location, log_scale).sample(value)
