"""The Wasserstein autoencoder with a maximum mean discrepancy (Tolstikhin et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from svg.config import ModelConfig, ObjectiveConfig
from svg.models.base import Model, Outputs
from svg.noise import Noise
from svg.objective.rule import Rule, Terms, nll, require_number
from svg.runtime.parallel import global_gather

DRAWS = 0  # noise stream
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class WassersteinAutoencoder(Rule):
    """-log p(x | z) + weight MMD^2(z, N(0, I)), for a deterministic or a random encoder.

    The kernel is inverse multiquadratic, k(a, b) = sum_s c/(c + |a - b|^2), c = 2 Z s over seven scales s; the unbiased
    estimator over the global batch may be negative.

    Options:
        weight: of MMD^2; the published weights (10 to 100) are for a reconstruction cost of |x - mu|^2, that is for
            `fixed_gaussian` with sigma^2 = 1/2.
    """

    def __init__(self, config: ObjectiveConfig, weight: float = 100.0) -> None:
        super().__init__(config)
        self.weight = require_number("weight", weight)

    @classmethod
    def refusal(cls, model: ModelConfig) -> str | None:
        if model.name != "vae":
            return "it is a baseline of the image VAE: set model.name vae, or objective.name elbo or bilbo"
        return None

    def terms(self, model: Model, out: Outputs, noise: Noise, step: int | None) -> Terms:
        assert out.z is not None
        loss = nll(model, out, noise, step)
        draws = noise.child(DRAWS).normal(model.latent_size).to(out.z)
        penalty = mmd(out.z.flatten(0, 1), draws.flatten(0, 1))
        return {"nll": loss, "kl": torch.zeros_like(loss), "mmd": penalty.view_as(loss)}

    def weights(self, step: int | None) -> Mapping[str, float]:
        return {"nll": 1.0, "mmd": self.weight}


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """Inverse multiquadratic kernel of (N, Z) and (M, Z): (N, M)."""
    squares = (a[:, None] - b).square().sum(-1)
    bases = [2 * a.shape[1] * scale for scale in SCALES]
    return sum((base / (base + squares) for base in bases), torch.zeros_like(squares))


def mmd(z: Tensor, draws: Tensor) -> Tensor:
    """Each sample's share of the unbiased MMD^2 between z and draws, (N, Z) each: (N,).

    Over all processes together the shares' mean is MMD^2, and so is its gradient: the other samples are held fixed, and
    the pairs of z, which depend on z twice, count twice in the gradient.
    """
    all_z, all_draws = global_gather(z), global_gather(draws)
    count = len(all_z)
    if count < 2:
        return torch.zeros_like(z[:, 0])
    itself = kernel(z[:1], z[:1]).detach()[0, 0]
    pairs = (kernel(z, all_z).sum(1) - itself) / (count - 1)
    prior_pairs = (kernel(draws, all_draws).sum(1) - itself) / (count - 1)
    cross = 2 * kernel(z, all_draws).mean(1)
    return 2 * pairs - pairs.detach() + prior_pairs - cross
