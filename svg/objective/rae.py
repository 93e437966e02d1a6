"""The regularised autoencoder (Ghosh et al. 2020), as AR-ELBO compares with it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from svg.config import ObjectiveConfig
from svg.models.base import Model, Outputs
from svg.noise import Noise
from svg.objective.ae import Autoencoder
from svg.objective.rule import Terms, require_number

PROBE = 0  # noise stream


class RegularisedAutoencoder(Autoencoder):
    """-log p(x | z) + (l2/2) |z|^2 + (gradient_penalty/2) |J|_F^2 at z = mu(x), J the Jacobian of the decoder's mean.

    With a fixed sigma_x, l2 = 1 and gradient_penalty = sigma_z^2/sigma_x^2 this is the ELBO of a posterior N(mu,
    sigma_z^2 I) linearised (AR-ELBO, equation 4, corrected); l2 = 1 alone is its limit sigma_z = 0, the paper's
    deterministic encoding. |J|_F^2 = E|J'v|^2 is estimated with one random sign v for each value.

    Options:
        l2: weight of the latents' energy.
        gradient_penalty: weight of the decoder's smoothness; 0 saves the second backward pass.
    """

    def __init__(self, config: ObjectiveConfig, l2: float = 1.0, gradient_penalty: float = 0.0) -> None:
        super().__init__(config)
        self.l2, self.gradient_penalty = require_number("l2", l2), require_number("gradient_penalty", gradient_penalty)

    def terms(self, model: Model, out: Outputs, noise: Noise, step: int | None) -> Terms:
        assert out.z is not None
        terms = super().terms(model, out, noise, step) | {"l2": 0.5 * out.z.square().sum(-1)}
        if self.gradient_penalty and torch.is_grad_enabled():
            terms["gradient_penalty"] = 0.5 * self.squared_jacobian(model, out, noise)
        return terms

    def squared_jacobian(self, model: Model, out: Outputs, noise: Noise) -> Tensor:
        """An unbiased estimate of |J|_F^2, (B, T)."""
        assert out.z is not None
        mean = model.likelihood.distribution(out.params).mean
        signs = (noise.child(PROBE).uniform(*mean.shape[2:]) - 0.5).sign().to(mean)
        return torch.autograd.grad((signs * mean).sum(), out.z, create_graph=True)[0].square().sum(-1)

    def weights(self, step: int | None) -> Mapping[str, float]:
        return {"nll": 1.0, "l2": self.l2, "gradient_penalty": self.gradient_penalty}
