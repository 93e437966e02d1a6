"""What is minimised. `Objective` is the one module that is trained and that DDP wraps: everything trainable runs
through its `forward`. Each objective is a file with a `Rule` here and a line in the registry.

B batch, T frames that are explained (a window less its first frame; all frames for the image VAE), C channels, H W
pixels, Z latent. All terms are in nats per frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from svg import likelihoods
from svg.config import ModelConfig, ObjectiveConfig
from svg.config.options import shortened
from svg.models.base import Model, to_float
from svg.noise import Noise
from svg.objective.ae import Autoencoder
from svg.objective.bilbo import Bilbo
from svg.objective.dip_vae import DipVae
from svg.objective.elbo import Elbo
from svg.objective.rae import RegularisedAutoencoder
from svg.objective.rule import Rule, valid_options
from svg.objective.wae_mmd import WassersteinAutoencoder

__all__ = ["REGISTRY", "Objective", "why_undefined"]

REGISTRY: dict[str, type[Rule]] = {
    "elbo": Elbo,
    "bilbo": Bilbo,
    "ae": Autoencoder,
    "rae": RegularisedAutoencoder,
    "wae_mmd": WassersteinAutoencoder,
    "dip_vae": DipVae,
}

TRAINING = 2  # noise stream


class Objective(nn.Module):
    """A model and how it is trained.

    Args:
        model: whose likelihood is used.
        config: name, options and beta.
        seed: of the training noise, a pure function of (seed, sample index, frame).

    Raises:
        ValueError: the name or an option is wrong, or the objective is undefined for the model or its likelihood.
    """

    def __init__(self, model: Model, config: ObjectiveConfig, seed: int = 0) -> None:
        super().__init__()
        self.model, self.config, self.seed = model, config, seed
        self.rule = _build(config)
        reason = why_undefined(model.config, config.name, model.likelihood.name)
        if reason:
            raise ValueError(reason)

    def noise(self, index: Tensor, frames: int) -> Noise:
        """The training noise of the explained frames, index (B, T), of clips `index` (B,) of `frames` frames."""
        times = torch.arange(self.model.given, frames, device=index.device)
        return Noise(self.seed, (index[:, None], times), TRAINING)

    def forward(self, frames: Tensor, index: Tensor, step: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise and its terms.

        Args:
            frames: uint8 (B, T, C, H, W), with one frame more where the model conditions on the first.
            index: int64 (B,), which sample of the data order each one is; its noise depends on it.
            step: optimiser step, for what is scheduled.

        Returns:
            Scalar loss (nats per frame) and detached terms, each (B, T): `nll`, `kl`, `mse` of the likelihood's mean
            (x in [0, 1]), and the objective's own.
        """
        noise = self.noise(index, frames.shape[1])
        out = self.model(frames, noise.normal(self.model.latent_size) if self.model.latent_size else None)
        terms = self.rule.terms(self.model, out, noise, step)
        weights = self.rule.weights(step)
        loss = torch.stack([weights[name] * term.mean() for name, term in terms.items() if name in weights]).sum()
        with torch.no_grad():
            mean = self.model.likelihood.distribution(out.params.detach()).mean
            terms["mse"] = (mean - to_float(out.target)).square().mean(dim=(2, 3, 4))
        return loss, {name: term.detach() for name, term in terms.items()}

    @contextmanager
    def refit(self) -> Iterator[None]:
        """Refits what training fitted to its batches, the likelihood's scale and the prior's S^2: every forward pass
        inside the block is counted, in float64, and exact means then replace the running ones.

        To be run over training data in eval mode; then the model's bounds, samples and rollouts use them.
        """
        with self.model.likelihood.refit(), self.rule.refit(self.model):
            yield


def why_undefined(model: ModelConfig, objective: str, likelihood: str) -> str | None:
    """Why an objective can't train a model with a likelihood, in a line that names the options and the remedy.

    Args:
        model: name, prior and posterior are what matters.
        objective, likelihood: names of the registries (aliases too).

    Returns:
        None where the combination is defined.
    """
    head = likelihoods.REGISTRY[likelihoods.ALIASES.get(likelihood, likelihood)]
    reason = REGISTRY[objective].refusal(model)
    if reason:
        return f"objective.name {objective} is undefined for this model: {reason}"
    if "variance" in head.needs and (model.posterior != "constant" or model.prior == "none"):
        reason = "it measures the latents against a constant posterior variance: set model.posterior constant"
    elif "variance" in head.needs and model.prior in ("learned", "mixture"):
        reason = "it measures the prior by its S^2, which a learned log-variance is not: set model.prior learned_mean"
    return reason and f"likelihood.name {likelihood} is undefined for this model: {reason}"


def _build(config: ObjectiveConfig) -> Rule:
    rule = REGISTRY.get(config.name)
    if rule is None:
        raise ValueError(f"objective.name is {shortened(config.name)}, but it must be one of: {', '.join(REGISTRY)}")
    valid = valid_options(rule)
    for option in config.options:
        if option not in valid:
            listed = ", ".join(f"{key}={default!r}" for key, default in valid.items()) or "none"
            raise ValueError(
                f"objective.options.{option} is not an option of {config.name}, whose options are: {listed}"
            )
    return rule(config, **config.options)
