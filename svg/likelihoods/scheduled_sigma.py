"""A Gaussian whose sigma follows a schedule, such as one that a learned sigma took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svg.config.options import shortened
from svg.likelihoods.base import Latents, Likelihood
from svg.likelihoods.normal import Normal
from svg.likelihoods.options import LARGEST
from svg.runtime.files import whole_lines

Schedule = str | Mapping[Any, float] | Sequence[Sequence[float]]


class ScheduledSigma(Likelihood):
    """N(mu, sigma(step)^2): replays a recorded sigma as a fixed one (L-VAE, appendix A.2).

    Log sigma is linear between the given steps and constant outside them. Evaluation uses the sigma of the last
    training step. The schedule is part of the weights: a checkpoint does not need the file again.

    Options:
        schedule: {step: sigma}, [[step, sigma], ...], or the path of a run or of its metrics.jsonl.
        mean: sigmoid or identity.
    """

    paths = ("schedule",)
    of_any_length = ("steps", "log_sigmas")
    steps: Tensor
    log_sigmas: Tensor
    log_sigma: Tensor

    def __init__(
        self,
        channels: int = 3,
        size: tuple[int, int] = (64, 64),
        schedule: Schedule = ((0, 1.0),),
        mean: str = "sigmoid",
    ) -> None:
        super().__init__(channels, size, mean)
        self.schedule = schedule
        pairs = _read(schedule)
        self.register_buffer("steps", torch.tensor([step for step, _ in pairs], dtype=torch.long))
        self.register_buffer("log_sigmas", torch.tensor([math.log(sigma) for _, sigma in pairs]))
        self.register_buffer("log_sigma", self.log_sigmas[:1].sum())

    @property
    def sigma(self) -> Tensor:
        return self.log_sigma.exp()

    def _at(self, step: int) -> Tensor:
        """Log sigma at a step, found without waiting for the device."""
        last = len(self.steps) - 1
        after = torch.searchsorted(self.steps, step, right=True).clamp(min(1, last), last)
        before = (after - 1).clamp(min=0)
        since, until = self.steps.take(before), self.steps.take(after)
        part = ((step - since) / (until - since).clamp(min=1)).clamp(0, 1)
        return torch.lerp(self.log_sigmas.take(before), self.log_sigmas.take(after), part)

    def _distribution(self, params: Tensor) -> Normal:
        if not len(self.steps):
            raise ValueError(
                f"likelihood.options.schedule is {shortened(self.schedule)}, but there is no such run or file"
            )
        return Normal(self._link(params), self.log_sigma.clone())

    def _training_loss(self, params: Tensor, target: Tensor, latents: Latents | None, step: int | None) -> Tensor:
        if step is not None and len(self.steps):
            self.log_sigma.copy_(self._at(step))
        return -self._distribution(params).unchecked_log_prob(target)

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any) -> None:
        """Takes the stored schedule, whatever its length."""
        for name in self.of_any_length:
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=self.log_sigma.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _read(schedule: Schedule) -> list[tuple[int, float]]:
    """Sorted (step, sigma); empty if the file does not exist, since a checkpoint may bring the schedule instead."""
    try:
        if isinstance(schedule, str):
            path = Path(schedule) / "metrics.jsonl" if Path(schedule).is_dir() else Path(schedule)
            if not path.is_file():
                return []
            lines = [line for line in whole_lines(path) if line.get("sigma") is not None]
            entries: Any = [(line["step"], line["sigma"]) for line in lines]
        else:
            entries = schedule.items() if isinstance(schedule, Mapping) else schedule
        pairs = sorted({int(step): float(sigma) for step, sigma in entries}.items())
        if not pairs or any(not (0 <= step < 2**62 and 0 < sigma <= LARGEST) for step, sigma in pairs):
            raise ValueError
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        rule = "hold steps with a sigma above 0 each: {step: sigma}, [[step, sigma], ...], or a run that logged sigma"
        raise ValueError(f"likelihood.options.schedule is {shortened(schedule)}, but it must {rule}") from None
    return pairs
