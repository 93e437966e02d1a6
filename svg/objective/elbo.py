"""The evidence lower bound, with a weight on its KL term (likelihoods.md, section C)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from svg.config import ModelConfig
from svg.models.base import Model, Outputs
from svg.noise import Noise
from svg.objective.rule import Rule, Terms, nll


class Elbo(Rule):
    """E_q[-log p(x | z)] + beta KL(q || p) per frame.

    In SVG-LP both LSTMs read encodings of true frames, so every KL term is that of two Gaussians; a mixture prior's is
    estimated, without bias, by the posterior's own draw, so that the bound stays one. Sums over pixels,
    channels and latents, never means: the published SVG objective, mean squared error + beta KL, is `fixed_gaussian`
    with sigma^2 = beta d/2, divided by its beta.
    """

    @classmethod
    def refusal(cls, model: ModelConfig) -> str | None:
        if model.posterior == "deterministic":
            return "its KL term is infinite: set objective.name ae, rae or wae_mmd, or another posterior"
        return None

    def terms(self, model: Model, out: Outputs, noise: Noise, step: int | None) -> Terms:
        loss = nll(model, out, noise, step)
        return {"nll": loss, "kl": torch.zeros_like(loss) if out.posterior is None else self.kl(model, out)}

    def kl(self, model: Model, out: Outputs) -> Tensor:
        """KL(q || p), (B, T)."""
        assert out.posterior is not None and out.prior is not None
        return out.posterior.kl(out.prior, out.z)

    def weights(self, step: int | None) -> Mapping[str, float]:
        return {"nll": 1.0, "kl": self.beta(step)}
