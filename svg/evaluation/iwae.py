"""The importance-weighted bound on the log-likelihood (Burda et al. 2016; likelihoods.md, section C).

B clips, T explained frames, C channels, H W pixels, K importance samples, Z latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from svg.likelihoods.distribution import FrameDistribution
from svg.models.base import Model, evaluating
from svg.noise import Noise
from svg.runtime.parallel import double

IMPORTANCE = 3  # noise stream

Score = Callable[[FrameDistribution, Tensor, Noise], Tensor]


def log_density(distribution: FrameDistribution, target: Tensor, noise: Noise) -> Tensor:
    """log p(x | z), (B, T)."""
    return distribution.log_prob(target)


def iwae(
    model: Model,
    frames: Tensor,
    index: Tensor,
    k: int,
    seed: int = 0,
    *,
    score: Score = log_density,
    batch_size: int = 32,
) -> Tensor:
    """logsumexp_k [log p(x | z_k) + log p(z_k) - log q(z_k | x)] - ln K <= log p(x): nats per clip, (B,).

    The weights of a video are those of whole clips, summed over frames before the logsumexp. The bound rises with K in
    expectation; K = 1 is the ELBO with its KL term sampled. One draw of `batch_size` clips is in memory at a time.

    Args:
        frames: uint8 (B, T, C, H, W), as the model's forward pass takes them.
        index: int64 (B,), clip numbers, on which the draws depend.
        k: importance samples K.
        seed: of the draws.
        score: log p(x | z) of (distribution, target, noise); `svg.likelihoods.dequantized_log_prob` bounds that of the
            integers.

    Raises:
        ValueError: k is not positive, or the posterior is deterministic.
    """
    if k < 1:
        raise ValueError(f"k is {k}, but must be at least 1")
    if model.config.posterior == "deterministic":
        raise ValueError("model.posterior deterministic has no density, so that there is no importance-weighted bound")
    with evaluating(model):
        parts = zip(frames.split(batch_size), index.split(batch_size), strict=True)
        return torch.cat([_bound(model, some, ids, k, seed, score) for some, ids in parts])


def _bound(model: Model, frames: Tensor, index: Tensor, k: int, seed: int, score: Score) -> Tensor:
    inferred = model.infer(frames)
    q, p = inferred.posterior, inferred.prior
    times = torch.arange(model.given, frames.shape[1], device=index.device)
    weights = []
    for sample in range(k if q is not None else 1):
        noise = Noise(seed, (index[:, None], torch.tensor(sample, device=index.device), times), IMPORTANCE)
        z: Tensor | None = None
        ratio: Tensor | float = 0.0
        if q is not None and p is not None:
            z = q.sample(noise.normal(model.latent_size).to(q.mean))
            ratio = double(p.log_prob(z)) - double(q.log_prob(z))
        distribution = model.likelihood.distribution(model.generate(inferred, z))
        weights.append((double(score(distribution, inferred.target, noise.child(0))) + ratio).sum(1))
    return torch.stack(weights).logsumexp(0) - math.log(len(weights))
