"""The disentangled inferred prior (Kumar et al. 2018), which Lin et al. compare with."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from svg.config import ModelConfig, ObjectiveConfig
from svg.models.base import Model, Outputs
from svg.noise import Noise
from svg.objective.elbo import Elbo
from svg.objective.rule import Terms, require_number
from svg.runtime.parallel import global_mean


class DipVae(Elbo):
    """The negative ELBO + off_diagonal sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2.

    C is the covariance over the global batch of the posterior means (kind i), or of the latents themselves, Cov(mu) +
    E[Sigma] (kind ii).

    Options:
        kind: i or ii.
        off_diagonal, diagonal: the weights lambda_od and lambda_d.
    """

    def __init__(
        self, config: ObjectiveConfig, kind: str = "i", off_diagonal: float = 10.0, diagonal: float = 100.0
    ) -> None:
        super().__init__(config)
        if kind not in ("i", "ii"):
            raise ValueError(f"objective.options.kind is {kind!r}, but it must be i or ii")
        self.kind = kind
        self.off_diagonal = require_number("off_diagonal", off_diagonal)
        self.diagonal = require_number("diagonal", diagonal)

    @classmethod
    def refusal(cls, model: ModelConfig) -> str | None:
        if model.name != "vae":
            return "it is a baseline of the image VAE: set model.name vae, or objective.name elbo or bilbo"
        return super().refusal(model)

    def terms(self, model: Model, out: Outputs, noise: Noise, step: int | None) -> Terms:
        terms = super().terms(model, out, noise, step)
        return terms | {"dip": self.penalty(out).expand_as(terms["nll"])}

    def penalty(self, out: Outputs) -> Tensor:
        """How far C is from the identity, a scalar."""
        assert out.posterior is not None
        covariance = self.covariance(out.posterior.mean.flatten(0, 1))
        if self.kind == "ii":
            covariance = covariance + global_mean(out.posterior.logvar.exp(), (0, 1)).diag()
        variances = covariance.diagonal()
        off_diagonal = covariance.square().sum() - variances.square().sum()
        return self.off_diagonal * off_diagonal + self.diagonal * (variances - 1).square().sum()

    @staticmethod
    def covariance(mean: Tensor) -> Tensor:
        """Cov(mu) over the global batch, (Z, Z), of means (N, Z)."""
        centred = mean - global_mean(mean, (0,)).detach()  # to which C is stationary
        return global_mean(centred[:, :, None] * centred[:, None], (0,))

    def weights(self, step: int | None) -> Mapping[str, float]:
        return {**super().weights(step), "dip": 1.0}
