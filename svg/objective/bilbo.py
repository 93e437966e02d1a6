"""The batch information lower bound: a constant posterior variance and a prior that floats with the batch (Fyffe)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from svg.config import ModelConfig
from svg.models.base import Gaussian, Model, Outputs
from svg.objective.elbo import Elbo


class Bilbo(Elbo):
    """E[-log p(x | z)] + (1/2) sum_j ln(1 + M_j/Sigma_j), M_j = E[(mu - m)_j^2] over the global batch and time (Fyffe,
    equations 4, 23, 24).

    Sigma is the constant posterior variance; the prior N(m, S^2) has the S^2 = Sigma + M that is best for the batch.
    The KL terms are written with that S^2 held fixed: their mean is the closed form, and so is its gradient, over any
    number of processes. m is 0 (the image VAE, SVG-FP) or a learned prior's mean (SVG-LP, this project's extension).

    The batch's own S^2 is optimistic, so evaluation and sampling use the running one, or the exact one of `refit`.
    """

    @classmethod
    def refusal(cls, model: ModelConfig) -> str | None:
        if model.prior == "none":
            return "without latents there is no prior to fit: set model.prior learned_mean or fixed"
        if model.posterior != "constant":
            return (
                "the prior's S^2 has no closed form unless the posterior's variance is constant: "
                "set model.posterior constant"
            )
        if model.prior in ("learned", "mixture"):
            return (
                "a learned prior log-variance leaves no free S^2 to fit to the batch: "
                "set model.prior learned_mean (or fixed), or objective.name elbo"
            )
        return None

    def kl(self, model: Model, out: Outputs) -> Tensor:
        assert out.posterior is not None and isinstance(out.prior, Gaussian)
        squares = (out.posterior.mean - out.prior.mean).square() + model.config.posterior_variance
        prior = out.prior
        if model.training:
            logvar = model.prior_variance.update(squares).log()
            prior = Gaussian(out.prior.mean, logvar.expand_as(out.prior.mean))
        else:
            model.prior_variance.count(squares)
        return out.posterior.kl(prior)

    @contextmanager
    def refit(self, model: Model) -> Iterator[None]:
        with model.prior_variance.exact():
            yield
