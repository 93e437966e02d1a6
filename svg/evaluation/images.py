"""What is measured of a trained image VAE, image by image and over its latents.

B images of a batch, N of them in all, C channels, H W pixels, Z latent, d = C H W. All is nats per image unless it says
otherwise. Densities have their scales frozen (likelihoods.md, section C): refit before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from svg.evaluation.iwae import iwae
from svg.evaluation.latents import (
    active_units,
    aggregate_divergence,
    empirical_information,
    evidence,
    expected_gap,
    has_one_sigma,
    local_smoothness,
)
from svg.likelihoods import bits_per_dim, dequantized_log_prob
from svg.metrics import Interval
from svg.metrics.fid import FID, MISSING, ImageFeatures, fid
from svg.models import samplers
from svg.models.base import Gaussian, evaluating, to_float
from svg.models.samplers import GaussianMixture, Sampler
from svg.models.vae import VAE
from svg.noise import Noise
from svg.objective import Objective

EVALUATION = 9  # noise stream
JACOBIANS = 64
"""Images at which the decoder's Jacobian is taken: the first ones."""
FID_BATCH = 256
LARGEST_DETERMINANT = 64
"""Latents up to which the evidence is computed."""

Batch = Mapping[str, Any]
"""`frames` uint8 (B, T, C, H, W) and `index` int64 (B,)."""

ROWS = {
    "neg_elbo": "-ELBO (nats)",
    "nll": "  -log p(x | z)",
    "kl": "  KL",
    "bits_per_dim": "bits/dim, at most",
    "neg_iwae": "-IWAE-{k} (nats)",
    "iwae_bits_per_dim": "IWAE-{k} bits/dim, at most",
    "neg_evidence": f"-log p(x), linearised, of {JACOBIANS} images",
    "sse": "squared error, z = mu",
    "sse_sampled": "squared error, z ~ q",
}
"""What is measured of each image, and how it is called: what is in nats is a -log p or a bound on it, the lower the
better."""

LATENT_ROWS = {
    "active_units": "active units",
    "information": "I(x; z), at least, on average (nats)",
    "information_estimate": "  before min(., KL, ln N)",
    "information_cap": "  what caps it: ln N, N images",
    "posterior_variance": "mean posterior variance",
    "aggregate_kl": "KL(aggregate posterior || prior)",
    "aggregate_kl_spread": "  its standard deviation over runs",
    "expected_gap_0.01": "expected gap, s^2 = 0.01",
    "expected_gap_0.001": "expected gap, s^2 = 0.001",
    "els": "expected local smoothness",
    "els_per_latent": "  divided by the latents",
    "sigma": "sigma",
}
"""What is measured over all images, and how it is called."""


@dataclass
class Report:
    """The numbers of an evaluation."""

    images: dict[str, dict[str, float]]
    """Per measure of `ROWS`: mean over the images, and half the width of its 95 % interval."""
    latents: dict[str, float]
    """What is measured over all images."""
    samplers: dict[str, Sampler] = field(default_factory=dict)
    fid: dict[str, FID] = field(default_factory=dict)
    """Of the reconstructions, of interpolations and of each sampler's images, against the test images."""


def refit(objective: Objective, batches: Iterable[Batch]) -> None:
    """Exact scales and S^2 over training images, where training fitted them to its batches."""
    with evaluating(objective), objective.refit():
        for batch in batches:
            objective(batch["frames"], batch["index"])


def measure_images(model: VAE, batches: Iterable[Batch], k: int, seed: int) -> dict[str, Tensor]:
    """The measures of `ROWS` that the model has, each float64 (N,)."""
    found: dict[str, list[Tensor]] = {}
    for batch in batches:
        for name, values in _measure(model, batch["frames"], batch["index"], k, seed).items():
            found.setdefault(name, []).append(values.double().cpu().flatten())
    return {name: torch.cat(parts) for name, parts in found.items()}


def _measure(model: VAE, frames: Tensor, index: Tensor, k: int, seed: int) -> dict[str, Tensor]:
    images = frames.flatten(0, 1)[:, None]  # each frame an image of its own
    index = (index[:, None] * frames.shape[1] + torch.arange(frames.shape[1], device=index.device)).flatten()
    noise = Noise(seed, (index[:, None],), EVALUATION)
    x, dims = to_float(images), math.prod(images.shape[2:])
    with evaluating(model):
        inferred = model.infer(images)
        q, p = inferred.posterior, inferred.prior
        assert q is not None and p is not None
        found = {"sse": _sse(model.distribution(q.mean).mean, x)}
        if model.config.posterior == "deterministic":
            return found
        z = q.sample(noise.normal(model.latent_size).to(q.mean))
        distribution = model.distribution(z)
        nll, kl = -distribution.log_prob(images), q.kl(p)
        found |= {"neg_elbo": nll + kl, "nll": nll, "kl": kl, "sse_sampled": _sse(distribution.mean, x)}
        found["neg_iwae"] = -iwae(model, images, index, k, seed)
        if distribution.support != "binary":
            exact = -dequantized_log_prob(distribution, images, noise.child(0))
            found["bits_per_dim"] = torch.as_tensor(bits_per_dim(exact + kl, dims))
            bound = iwae(model, images, index, k, seed, score=dequantized_log_prob)
            found["iwae_bits_per_dim"] = torch.as_tensor(bits_per_dim(-bound, dims))
    return found


def measure_evidence(model: VAE, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """-log p(x), linearised, of the first images, where it is defined and its determinant small."""
    if model.config.posterior == "deterministic" or model.latent_size > LARGEST_DETERMINANT:
        return {}
    frames = torch.cat([batch["frames"].flatten(0, 1)[:JACOBIANS, None] for batch in batches])[:JACOBIANS]
    with evaluating(model):
        return {"neg_evidence": -evidence(model, frames)} if has_one_sigma(model) else {}


def _sse(mean: Tensor, x: Tensor) -> Tensor:
    return (mean - x).square().sum((-3, -2, -1))


def measure_latents(model: VAE, latents: Gaussian, mixture: GaussianMixture | None, seed: int) -> dict[str, float]:
    """The diagnostics of section E, of the posteriors (N, Z) of the test images."""
    device = model.mean.weight.device
    found: dict[str, float] = {"active_units": active_units(latents.mean)}
    if model.config.posterior != "deterministic":
        with torch.no_grad():
            prior = Gaussian(model.prior.mean[0].cpu(), model.prior.logvar[0].cpu())
        kl = latents.kl(prior).mean().item()
        estimate = empirical_information(latents).item()
        cap = math.log(len(latents.mean))
        found |= {"information": min(estimate, kl, cap), "information_estimate": estimate, "information_cap": cap}
        found["posterior_variance"] = latents.logvar.exp().mean().item()
        if mixture is not None:
            found["aggregate_kl"], found["aggregate_kl_spread"] = aggregate_divergence(mixture, prior)
    mean = latents.mean.to(device)
    with evaluating(model):
        for s2 in (1e-2, 1e-3):
            found[f"expected_gap_{s2:g}"] = expected_gap(model, mean, s2, seed)
        found["els"] = local_smoothness(model, mean[:JACOBIANS])
    found["els_per_latent"] = found["els"] / model.latent_size
    if model.likelihood.sigma is not None:
        found["sigma"] = model.likelihood.sigma.item()
    return found


def measure_fid(
    model: VAE, batches: Iterable[Batch], built: Mapping[str, Sampler], extract: ImageFeatures, seed: int
) -> dict[str, FID]:
    """FID against the test images of as many images of the model: decoded from the posteriors' means
    (`reconstructions`), from halfway between those of successive images (`interpolations`, by slerp), and from each
    sampler's latents."""
    frames = torch.cat([batch["frames"].flatten(0, 1)[:, None] for batch in batches])
    mean = samplers.collect(model, frames.split(FID_BATCH)).mean
    latents = {"reconstructions": mean, "interpolations": samplers.slerp(mean, mean.roll(-1, 0), 0.5)}
    latents |= {name: sampler.sample(len(mean), seed) for name, sampler in built.items()}
    with tqdm(total=len(mean) * (1 + len(latents)), desc="FID", unit="image", leave=False) as bar:

        def features(images: Tensor) -> Tensor:
            bar.update(len(images))
            return extract(images[:, 0]).cpu()

        def features_of(z: Tensor) -> Tensor:
            parts = z.to(model.mean.weight).split(FID_BATCH)
            with evaluating(model):
                return torch.cat([features(model.images(part[:, None])) for part in parts])

        real = torch.cat([features(part) for part in frames.split(FID_BATCH)])
        return {name: fid(real, features_of(z), extract) for name, z in latents.items()}


def evaluate(
    model: VAE,
    train: Iterable[Batch],
    test: Iterable[Batch],
    *,
    k: int,
    seed: int,
    wanted: Mapping[str, Mapping[str, Any]],
    inception: ImageFeatures | None = None,
) -> tuple[Report, Gaussian]:
    """All numbers, and the test images' posteriors.

    Args:
        train, test: batches on the model's device; train feeds the samplers.
        k: importance samples.
        wanted: samplers by name, with their options.
        inception: also measures FID.
    """
    test = list(test)
    values = measure_images(model, test, k, seed)
    values |= measure_evidence(model, test)
    latents = samplers.collect(model, (batch["frames"] for batch in test))
    aggregate = samplers.collect(model, (batch["frames"] for batch in train))
    built = {name: samplers.build(name, model, aggregate, seed, **options) for name, options in wanted.items()}
    mixture = built.get("gmm")
    assert mixture is None or isinstance(mixture, GaussianMixture)
    images = {name: _interval(values[name].cpu()) for name in ROWS if name in values}
    distances = measure_fid(model, test, built, inception, seed) if inception else {}
    return Report(images, measure_latents(model, latents, mixture, seed), built, distances), latents


def _interval(values: Tensor) -> dict[str, float]:
    interval = Interval.over_clips(values)
    return {"mean": interval.mean.item(), "half": interval.half.item() if len(values) > 1 else 0.0}


def numbers(report: Report) -> dict[str, Any]:
    """All of it as plain containers, for JSON."""
    distances: dict[str, Any] = {name: asdict(found) | {"note": found.note} for name, found in report.fid.items()}
    return {"images": report.images, "latents": report.latents, "fid": distances or {"missing": MISSING}}
