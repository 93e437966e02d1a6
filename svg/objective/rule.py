"""What every objective shares: a rule turns a model's outputs into terms and says how much each weighs.

B batch, T frames that are explained, C channels, H W pixels, Z latent. All terms are in nats per frame.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from svg.config import ModelConfig, ObjectiveConfig
from svg.likelihoods.base import Latents
from svg.models.base import Gaussian, Model, Outputs
from svg.noise import Noise

DEQUANTISATION = 1  # noise stream

Terms = dict[str, Tensor]


class Rule:
    """One way to train. A subclass gives `terms`, their weights, and the models that it is undefined for.

    Its options are the keyword arguments of its constructor.

    Args:
        config: beta and its warm-up.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        self.config = config

    @classmethod
    def refusal(cls, model: ModelConfig) -> str | None:
        """Why this objective is undefined for a model, with the remedy; None where it is defined."""
        return None

    def terms(self, model: Model, out: Outputs, noise: Noise, step: int | None) -> Terms:
        """The terms by name, each (B, T): `nll`, `kl` (0 where there is none), and the objective's own.

        Args:
            out: of the model's forward pass.
            noise: of index (B, T), for what an objective draws beyond the posterior's z.
            step: optimiser step; None outside training.
        """
        raise NotImplementedError

    def weights(self, step: int | None) -> Mapping[str, float]:
        """The weight of each term in the loss; terms without one are only logged."""
        return {"nll": 1.0}

    @contextmanager
    def refit(self, model: Model) -> Iterator[None]:
        """Refits what the objective fits in closed form, over the training data seen inside the block."""
        yield

    def beta(self, step: int | None) -> float:
        """The weight of the KL term: it rises linearly to beta over the first `beta_warmup` steps."""
        if step is None or step >= self.config.beta_warmup:
            return self.config.beta
        return self.config.beta * step / self.config.beta_warmup


def nll(model: Model, out: Outputs, noise: Noise, step: int | None) -> Tensor:
    """-log p(x | z), or the likelihood's training objective in its place: (B, T)."""
    told, within = latents(model, out), noise.child(DEQUANTISATION)
    return model.likelihood.loss(out.params, out.target, latents=told, step=step, noise=within)


def latents(model: Model, out: Outputs) -> Latents:
    """What a likelihood may be told of the latents: see svg.likelihoods.Latents."""
    if model.config.posterior != "constant" or out.posterior is None or not isinstance(out.prior, Gaussian):
        return {}
    variance = torch.full_like(out.posterior.mean[0, 0], model.config.posterior_variance)
    return {"offset": out.posterior.mean - out.prior.mean, "variance": variance}


def require_number(option: str, value: float, least: float = 0.0) -> float:
    """`value`, if it is a finite number and not below `least`."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < least:
        raise ValueError(f"objective.options.{option} is {value!r}, but it must be a number, at least {least:g}")
    return float(value)


def valid_options(rule: type[Rule]) -> dict[str, Any]:
    """The options of a rule and their defaults, from its signature."""
    parameters = inspect.signature(rule).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name != "config"}
