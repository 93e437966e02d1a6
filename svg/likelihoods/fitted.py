"""Scales fitted to the frames they score, and the running scale that replaces them in evaluation.

B batch, T frames, C channels, H W pixels. A statistic over the batch is the global one, over all processes, and is used
without gradient: the averaged gradients are then the global batch's (svg/runtime/parallel.py).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from svg.likelihoods.base import Latents, Likelihood
from svg.likelihoods.distribution import to_unit
from svg.likelihoods.normal import Normal
from svg.likelihoods.numerics import HALF_LOG_2PI, least_scale
from svg.likelihoods.options import require_at_least, require_floor, require_positive
from svg.noise import Noise
from svg.runtime.parallel import double, global_sum


class RunningMean(nn.Module):
    """The mean of a statistic over training: an exponential moving average without start-up bias, or an exact mean.

    Both the statistic and the constant 1 are averaged; their quotient is Adam's 1 - rho^t bias correction.

    Args:
        shape: shape of the mean; the statistic's other, leading dimensions are averaged over.
        start: the value before any update.
        decay: rho of the average.
    """

    total: Tensor
    weight: Tensor

    def __init__(self, shape: tuple[int, ...], start: float, decay: float) -> None:
        super().__init__()
        self.start, self.decay = start, require_positive("decay", decay, below=1)
        self.register_buffer("total", torch.zeros(shape))
        self.register_buffer("weight", torch.zeros(()))
        self._exact: list[Tensor] | None = None

    @property
    def value(self) -> Tensor:
        """The mean so far."""
        return torch.where(self.weight > 0, self.total / self.weight, self.start)

    @torch.no_grad()
    def update(self, statistic: Tensor) -> Tensor:
        """The mean of (B, T, ..., *shape) over the global batch, after taking it into the average."""
        total, count = global_sum(*self._sums(statistic))
        mean = (total / count).to(statistic.dtype)
        self.total.lerp_(mean.to(self.total), 1 - self.decay)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - self.decay)
        return mean

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Inside the block `count` collects; at its end the exact mean over all processes becomes the value."""
        self._exact = [double(torch.zeros_like(self.total)), double(torch.zeros_like(self.weight))]
        try:
            yield
            total, count = global_sum(*self._exact)
            if count == 0:
                raise ValueError("refit saw no frames: call the objective on training data inside the block")
            self.total.copy_((total / count).to(self.total.dtype))
            self.weight.fill_(1)
        finally:
            self._exact = None

    @torch.no_grad()
    def count(self, statistic: Tensor) -> None:
        """Collects (B, T, ..., *shape), in float64."""
        if self._exact is not None:
            for collected, part in zip(self._exact, self._sums(double(statistic)), strict=True):
                collected += part

    @property
    def counting(self) -> bool:
        """Whether an exact mean is being collected."""
        return self._exact is not None

    def _sums(self, statistic: Tensor) -> tuple[Tensor, Tensor]:
        total = statistic.detach().sum(tuple(range(statistic.ndim - self.total.ndim)))
        return total, total.new_full((), statistic.numel() / total.numel())


class Fitted(Likelihood):
    """A likelihood whose scale is fitted to its target in training and is the running one in evaluation.

    Args:
        running_shape: shape of the running statistic.
        start: the running statistic before any training.
        decay: rho of the running average.
    """

    fits_target = True

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        mean: str,
        *,
        running_shape: tuple[int, ...] = (),
        start: float,
        decay: float,
    ) -> None:
        super().__init__(channels, size, mean)
        self.running = RunningMean(running_shape, start, decay)

    @abstractmethod
    def _statistic(self, params: Tensor, target: Tensor, latents: Latents | None) -> Tensor:
        """What is averaged over training, (B, T, ..., *running_shape)."""

    @contextmanager
    def refit(self) -> Iterator[None]:
        with self.running.exact():
            yield

    def loss(
        self,
        params: Tensor,
        target: Tensor,
        *,
        latents: Latents | None = None,
        step: int | None = None,
        noise: Noise | None = None,
    ) -> Tensor:
        loss = super().loss(params, target, latents=latents, step=step, noise=noise)
        if self.running.counting:
            with torch.no_grad():
                self.running.count(self._statistic(self._full_precision(params), target, latents))
        return loss


class FittedGaussian(Fitted):
    """A Gaussian whose variance is the mean of r^2 + eps over some of the axes of the batch.

    A subclass names the axes by `_variance`. With `eps` in the residual's place too, the objective is (d/2) + (1/2) sum
    ln(2 pi (mean r^2 + eps)) to the last constant (AR-ELBO, equations 40-53). The variance carries no gradient and
    needs none: at the optimum the loss is stationary in it. `floor` bounds its log sigma.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        mean: str,
        *,
        running_shape: tuple[int, ...] = (),
        decay: float,
        eps: float = 0.0,
        floor: float | None = None,
    ) -> None:
        # Before training the variance is that of the uniform distribution on [0, 1].
        super().__init__(channels, size, mean, running_shape=running_shape, start=1 / 12, decay=decay)
        self.eps, self.floor = require_at_least("eps", eps, 0), require_floor(floor)

    @property
    def sigma(self) -> Tensor:
        """Root mean square of the running sigma."""
        return self._bounded(self.running.value).mean().sqrt()

    @abstractmethod
    def _variance(self, squares: Tensor, batch_mean: Tensor) -> Tensor:
        """The fitted variance, from r^2 + eps (B, T, C, H, W) and its mean over the global batch (running_shape)."""

    def _bounded(self, variance: Tensor) -> Tensor:
        return variance.clamp(min=least_scale(self.floor) ** 2)

    def _statistic(self, params: Tensor, target: Tensor, latents: Latents | None = None) -> Tensor:
        return (to_unit(target, params.dtype) - self._link(params)).square() + self.eps

    def _distribution(self, params: Tensor) -> Normal:
        return Normal(self._link(params), 0.5 * self._bounded(self.running.value).log())

    def _training_loss(self, params: Tensor, target: Tensor, latents: Latents | None, step: int | None) -> Tensor:
        squares = self._statistic(params, target)
        variance = self._bounded(self._variance(squares.detach(), self.running.update(squares)))
        return (0.5 * (squares / variance + variance.log()) + HALF_LOG_2PI).sum((-3, -2, -1))
