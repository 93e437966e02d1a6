"""Any distribution of 256 levels, for each value on its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from svg.likelihoods.base import Likelihood
from svg.likelihoods.discrete import LEVELS, DiscreteDistribution


class Categorical(Likelihood):
    """A softmax over the 256 levels of each value (sigma-VAE, section 3.2 and Table 4).

    The most flexible head and by far the largest: 256 C decoder channels (docs/likelihoods.md has a table of memory).
    It has no options.
    """

    discrete = True
    maps = LEVELS

    def __init__(self, channels: int = 3, size: tuple[int, int] = (64, 64)) -> None:
        super().__init__(channels, size)

    def _distribution(self, params: Tensor) -> CategoricalLevels:
        return CategoricalLevels(params.unflatten(-3, (LEVELS, self.channels)))


class CategoricalLevels(DiscreteDistribution):
    """P(k) = softmax(logits)_k, logits (B, T, 256, C, H, W)."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits.device)
        self.logits = logits

    def log_mass(self, levels: Tensor) -> Tensor:
        if levels.ndim == 0:
            largest, log_sum = self._log_norm
            return self.logits.index_select(-4, levels[None]).squeeze(-4) - largest - log_sum
        shape = (*self.logits.shape[:-4], *self.logits.shape[-3:])
        return _LogMass.apply(self.logits, levels.expand(shape))

    @property
    def mean(self) -> Tensor:
        values = torch.arange(LEVELS, device=self.device, dtype=self.logits.dtype) / 255
        return _per_frame(lambda levels: (levels.softmax(-1) * values).sum(-1), self.logits)

    @property
    def mode(self) -> Tensor:
        return self.logits.argmax(-4) / 255

    @cached_property
    def _log_norm(self) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():  # whoever asks first
            return _log_norm(self.logits)


def _log_norm(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The logsumexp over the levels as a sum of two: the largest logit (without gradient) and the rest, in 0..ln 256.

    Subtracted in turn they lose none of the digits that their sum would: an offset common to all levels cancels.
    """

    def parts(levels: Tensor) -> Tensor:
        largest = levels.detach().amax(-1)
        return torch.stack((largest, (levels - largest.unsqueeze(-1)).logsumexp(-1)))

    largest, log_sum = _per_frame(parts, logits).unbind(-4)
    return largest, log_sum


def _per_frame(reduced: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """A reduction of (C, H, W, 256), a frame at a time to bound memory; adjacent levels are several times as fast."""
    frames = [reduced(frame.movedim(-4, -1).contiguous()) for frame in logits.flatten(0, -5)]
    return torch.stack(frames).unflatten(0, logits.shape[:-4])


class _LogMass(torch.autograd.Function):
    """log softmax(logits)[levels], whose gradient onehot - softmax is the only other tensor of the logits' size."""

    @staticmethod
    def forward(ctx, logits: Tensor, levels: Tensor) -> Tensor:
        largest, log_sum = _log_norm(logits)
        ctx.save_for_backward(logits, levels, largest, log_sum)
        return logits.gather(-4, levels.unsqueeze(-4)).squeeze(-4) - largest - log_sum

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        logits, levels, *norm = ctx.saved_tensors
        grad, grad_logits = grad.unsqueeze(-4), torch.empty_like(logits)
        largest, log_sum = (part.unsqueeze(-4) for part in norm)
        for clip, most, rest, g, out in zip(logits, largest, log_sum, grad, grad_logits, strict=True):
            torch.sub(clip, most, out=out).sub_(rest).exp_().mul_(-g)
        index = levels.unsqueeze(-4)
        return grad_logits.scatter_(-4, index, grad_logits.gather(-4, index) + grad), None
