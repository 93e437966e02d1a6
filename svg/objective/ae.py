"""The plain autoencoder, the baseline of the papers' tables."""

from __future__ import annotations

import torch

from svg.config import ModelConfig
from svg.models.base import Model, Outputs
from svg.noise import Noise
from svg.objective.rule import Rule, Terms, nll


class Autoencoder(Rule):
    """-log p(x | z) at z = mu(x), nothing else."""

    @classmethod
    def refusal(cls, model: ModelConfig) -> str | None:
        if model.name != "vae":
            return "it is a baseline of the image VAE: set model.name vae, or objective.name elbo or bilbo"
        if model.posterior != "deterministic":
            return "it draws no latents, so that variances would get no gradient: set model.posterior deterministic"
        return None

    def terms(self, model: Model, out: Outputs, noise: Noise, step: int | None) -> Terms:
        loss = nll(model, out, noise, step)
        return {"nll": loss, "kl": torch.zeros_like(loss)}
