"""Bounded aggregate information sampling: a Gaussian whose variance follows from how much information a batch's latents
hold."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from svg.likelihoods.base import Latents
from svg.likelihoods.distribution import to_unit
from svg.likelihoods.fitted import Fitted
from svg.likelihoods.normal import Normal
from svg.likelihoods.numerics import least_scale
from svg.likelihoods.options import require_floor, require_positive
from svg.runtime.parallel import global_mean


class Baggins(Fitted):
    """T_bt = t_bt I, t_bt = tau (SSE_bt + eps)/u, u = tr(Sigma^-1 S^2) = sum_j (1 + M_j/Sigma_j) (Fyffe, equations
    28-30).

    Sigma is the constant posterior variance, M_j the mean over batch and time of (posterior mean - prior mean)_j^2, z
    sampled. Rescaling the data by lambda shifts the loss by d ln lambda. A training objective, not a density: t is
    fitted to the frame that it scores. Evaluation uses tau E[SSE]/E[u], the same over training [O].

    Options:
        tau: information factor; the paper shows 1/5 and 1.
        eps: added to the SSE of a frame.
        floor: hard lower bound of log sigma = (1/2) ln t; eps alone bounds it by default.
        decay: of the running means that evaluation uses.
        mean: sigmoid or identity.
    """

    normalised = False
    needs = ("offset", "variance")

    def __init__(
        self,
        channels: int = 3,
        size: tuple[int, int] = (64, 64),
        tau: float = 0.2,
        eps: float = 1e-6,
        floor: float | None = None,
        decay: float = 0.9,
        mean: str = "sigmoid",
    ) -> None:
        super().__init__(channels, size, mean, running_shape=(2,), start=1.0, decay=decay)
        self.tau, self.eps = require_positive("tau", tau), require_positive("eps", eps)
        self.floor = require_floor(floor)

    @property
    def sigma(self) -> Tensor:
        return self._running_variance().sqrt()

    def _running_variance(self) -> Tensor:
        """tau E[SSE]/E[u]; tau before training."""
        sse, information = self.running.value
        return self._variance(sse, information)

    def _variance(self, sse: Tensor, information: Tensor) -> Tensor:
        """t, of sums of squares and u."""
        return (self.tau * sse / information).clamp(min=least_scale(self.floor) ** 2)

    def _distribution(self, params: Tensor) -> Normal:
        return Normal(self._link(params), 0.5 * self._running_variance().log())

    def _terms(self, params: Tensor, target: Tensor, latents: Latents | None) -> tuple[Tensor, Tensor]:
        """SSE + eps, and each frame's part of u: both (B, T)."""
        if latents is None or any(name not in latents for name in self.needs):
            raise ValueError(
                "likelihood.name is baggins, which measures the latents against a constant posterior variance: set "
                "model.posterior constant, or choose another likelihood"
            )
        sse = (to_unit(target, params.dtype) - self._link(params)).square().sum((-3, -2, -1)) + self.eps
        offset, variance = latents["offset"].to(params.dtype), latents["variance"].to(params.dtype)
        return sse, (1 + offset.square() / variance).sum(-1)

    def _statistic(self, params: Tensor, target: Tensor, latents: Latents | None) -> Tensor:
        return torch.stack(self._terms(params, target, latents), dim=-1)

    def _training_loss(self, params: Tensor, target: Tensor, latents: Latents | None, step: int | None) -> Tensor:
        sse, information = self._terms(params, target, latents)
        self.running.update(torch.stack((sse, information), dim=-1))
        t = self._variance(sse, global_mean(information))
        return 0.5 * (sse / t + math.prod(target.shape[-3:]) * torch.log(2 * math.pi * t))
