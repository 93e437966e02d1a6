"""What is minimised. `Objective` is the one module that is trained and that DDP wraps: everything trainable runs
through its `forward`.

B batch, T frames that are explained (a window less its first frame), C channels, H W pixels, Z latent. All terms are
in nats per frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from svg.config import ObjectiveConfig
from svg.model import SVG, Outputs, to_float
from svg.noise import Noise

TRAINING = 2  # noise stream


class Objective(nn.Module):
    """Negative ELBO(beta) = E_q[-log p(x | z)] + beta KL(q || p) per frame (likelihoods.md, section C; SVG-LP's form).

    Both LSTMs read encodings of true frames, so every KL term is analytic. Sums over pixels, channels and latents,
    never means.

    Args:
        model: whose likelihood is used.
        config: name and beta.
        seed: of the training noise, a pure function of (seed, sample index, frame).
    """

    def __init__(self, model: SVG, config: ObjectiveConfig, seed: int = 0) -> None:
        super().__init__()
        if config.name not in REGISTRY:
            raise ValueError(f"objective.name is {config.name!r}; known are: {', '.join(REGISTRY)}")
        self.model, self.config, self.seed = model, config, seed

    def noise(self, index: Tensor, frames: int) -> Tensor | None:
        """Standard normals (B, frames-1, Z) for the samples `index` (B,)."""
        if not self.model.latent_size:
            return None
        steps = torch.arange(1, frames, device=index.device)
        return Noise(self.seed, (index[:, None], steps), TRAINING).normal(self.model.latent_size)

    def forward(self, frames: Tensor, index: Tensor, step: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise and its terms.

        Args:
            frames: uint8 (B, T+1, C, H, W).
            index: int64 (B,), which sample of the data order each one is; its noise depends on it.
            step: optimiser step, for what is scheduled.

        Returns:
            Scalar loss (nats per frame) and detached terms, each (B, T): `nll`, `kl`, and `mse` of the likelihood's
            mean (x in [0, 1]).
        """
        out = self.model(frames, self.noise(index, frames.shape[1]))
        terms = REGISTRY[self.config.name](self, out, step)
        loss = (terms["nll"] + self.config.beta * terms["kl"]).mean()
        with torch.no_grad():
            mean = self.model.likelihood.distribution(out.params.detach()).mean
            terms["mse"] = (mean - to_float(out.target)).square().mean(dim=(2, 3, 4))
        return loss, {name: term.detach() for name, term in terms.items()}


def elbo(objective: Objective, out: Outputs, step: int | None) -> dict[str, Tensor]:
    """The two terms of the ELBO, each (B, T)."""
    latents = {"z": out.z, "posterior": out.posterior, "prior": out.prior}
    nll = objective.model.likelihood.loss(out.params, out.target, latents=latents, step=step)
    if out.posterior is None or out.prior is None:
        return {"nll": nll, "kl": torch.zeros_like(nll)}
    return {"nll": nll, "kl": out.posterior.kl(out.prior)}


REGISTRY = {"elbo": elbo}
