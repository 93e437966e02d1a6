"""Where the latents of new images come from, once a model is trained (likelihoods.md, section D).

    latents = collect(model, batches)                    # the posterior of every training image
    sampler = build("gmm", model, latents, seed=0, components=10)
    images = model.images(sampler.sample(64, seed=0)[:, None])

For a video model of fixed prior (SVG-FP) a sampler is fitted to the posteriors of training clips and draws the latents
of predicted frames:

    futures = model.rollout(context, horizon=28, samples=10, latents=sampler.draw)

N training images (or frames), n samples, Z latent; the aggregate posterior is q(z) = E_x q(z | x) over the training
images.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from svg.models.base import Gaussian, evaluating
from svg.models.rollout import require_fixed_prior
from svg.models.svg_lp import SVG
from svg.models.vae import VAE
from svg.noise import Noise

DRAWS, AGGREGATE, RESAMPLED = 5, 6, 7  # noise streams


class Sampler(ABC):
    """A distribution of latents."""

    @abstractmethod
    def draw(self, noise: Noise) -> Tensor:
        """A latent for each entry of the noise's index (N...): float32 (N..., Z), a pure function of that noise."""

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Latents, float32 (n, Z), on the CPU; latent i is a pure function of (seed, i)."""
        return self.draw(Noise(seed, (torch.arange(n),), DRAWS))


def collect(model: VAE | SVG, batches: Iterable[Tensor]) -> Gaussian:
    """The posteriors of all frames that the model explains, of batches (B, T, C, H, W): (N, Z), on the CPU.

    Those of a deterministic model have variance 0.
    """
    device = next(model.parameters()).device
    means, logvars = [], []
    with evaluating(model):
        for frames in batches:
            posterior = model.infer(frames.to(device)).posterior
            assert posterior is not None
            means.append(posterior.mean.flatten(0, 1).detach().cpu().float())
            logvars.append(posterior.logvar.flatten(0, 1).detach().cpu().float())
    return Gaussian(torch.cat(means), torch.cat(logvars))


def draw(latents: Gaussian, n: int, seed: int) -> Tensor:
    """n draws of the aggregate posterior, (n, Z): one of each image in turn, each image as often as any other."""
    index = torch.arange(n)
    some = index % len(latents.mean)
    return Gaussian(latents.mean[some], latents.logvar[some]).sample(
        Noise(seed, (index,), AGGREGATE).normal(latents.mean.shape[1])
    )


class Prior(Sampler):
    """The model's own prior: N(0, I), or N(0, S^2) where BILBO fitted it."""

    def __init__(self, model: VAE | SVG, latents: Gaussian, seed: int = 0) -> None:
        with torch.no_grad():
            anywhere = torch.zeros(1, 1, model.config.g_dim, device=next(model.parameters()).device)
            prior = model.prior if isinstance(model, VAE) else model.prior_of(anywhere)[0]
        self.law = Gaussian(prior.mean[0, 0].cpu().float(), prior.logvar[0, 0].cpu().float())

    def draw(self, noise: Noise) -> Tensor:
        normal = noise.normal(len(self.law.mean))
        return Gaussian(self.law.mean.to(normal), self.law.logvar.to(normal)).sample(normal)


class FloatingPrior(Prior):
    """N(0, S^2), S^2 = E[Sigma + mu^2] over the training images (Fyffe, equation 4; the diagonal of it)."""

    def __init__(self, model: VAE | SVG, latents: Gaussian, seed: int = 0) -> None:
        variance = (latents.logvar.exp() + latents.mean.square()).mean(0)
        self.law = Gaussian(torch.zeros_like(variance), variance.log())


class GaussianMixture(Sampler):
    """A Gaussian mixture of full covariances fitted to draws of the aggregate posterior, by scikit-learn.

    Lin et al. take 32 components for MNIST and 500 for CelebA on 50,000 draws, AR-ELBO 10 and 100.

    Args:
        components: how many Gaussians.
        draws: of the aggregate posterior.
    """

    def __init__(
        self, model: VAE | SVG, latents: Gaussian, seed: int = 0, components: int = 10, draws: int = 50_000
    ) -> None:
        from sklearn import mixture

        points = draw(latents, draws, seed).double().numpy()
        self.mixture = mixture.GaussianMixture(components, covariance_type="full", random_state=seed, reg_covar=1e-6)
        self.mixture.fit(points)
        self.means = torch.from_numpy(self.mixture.means_).float()
        self.factors = torch.from_numpy(np.linalg.cholesky(self.mixture.covariances_)).float()
        self.thresholds = torch.from_numpy(np.cumsum(self.mixture.weights_)[:-1]).float()

    def draw(self, noise: Noise) -> Tensor:
        normal = noise.normal(self.means.shape[1])
        parts = torch.bucketize(noise.child(0).uniform(), self.thresholds.to(normal.device))
        means, factors = self.means.to(normal)[parts], self.factors.to(normal)[parts]
        return means + torch.einsum("...ij,...j->...i", factors, normal)

    def log_prob(self, z: Tensor) -> Tensor:
        """The log density of z (n, Z): float64 (n,)."""
        return torch.from_numpy(self.mixture.score_samples(z.double().numpy()))


class SecondStage(nn.Module, Sampler):
    """A second VAE, of the latents of the first one (Dai & Wipf 2019).

    Encoder and decoder are three layers of 1024 ReLUs, whose last one sees the input again; the observation model is
    N(zhat(u), gamma^2), log gamma a parameter that starts at 0. The first stage's posteriors are sampled anew in every
    epoch. A sample is u ~ N(0, I), z = zhat(u) + gamma eps.

    Args:
        epochs: 800 in the paper; the learning rate is halved every 300.
        width: of the layers.
    """

    def __init__(
        self,
        model: VAE | SVG,
        latents: Gaussian,
        seed: int = 0,
        epochs: int = 800,
        width: int = 1024,
        batch_size: int = 64,
        lr: float = 1e-4,
    ) -> None:
        super().__init__()
        size = latents.mean.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder, self.decoder = _Trunk(size, width), _Trunk(size, width)
            self.mean, self.logvar = nn.Linear(width + size, size), nn.Linear(width + size, size)
            self.output = nn.Linear(width + size, size)
        self.log_gamma = nn.Parameter(torch.zeros(()))
        self.to(next(model.parameters()).device)
        self._fit(latents, seed, epochs, batch_size, lr)

    def loss(self, z: Tensor, noise: Tensor) -> Tensor:
        """The negative ELBO of latents z (B, Z), nats."""
        features = self.encoder(z)
        posterior = Gaussian(self.mean(features), self.logvar(features))
        error = z - self.output(self.decoder(posterior.sample(noise)))
        nll = 0.5 * (error * torch.exp(-self.log_gamma)).square() + self.log_gamma + 0.5 * math.log(2 * math.pi)
        return (nll.sum(-1) + posterior.kl(Gaussian.standard(posterior.mean))).mean()

    def _fit(self, latents: Gaussian, seed: int, epochs: int, batch_size: int, lr: float) -> None:
        device, count = self.log_gamma.device, len(latents.mean)
        optimizer = torch.optim.Adam(self.parameters(), lr)
        halved = torch.optim.lr_scheduler.StepLR(optimizer, step_size=300, gamma=0.5)
        for epoch in tqdm(range(epochs), desc="second stage", unit="epoch", leave=False):
            index = torch.arange(count), torch.full((count,), epoch)
            noise = Noise(seed, index, RESAMPLED)
            z = latents.sample(noise.normal(latents.mean.shape[1])).to(device)
            inner = noise.child(0).normal(latents.mean.shape[1]).to(device)
            order = noise.child(1).uniform().argsort().to(device)
            for rows in order.split(batch_size):
                optimizer.zero_grad()
                self.loss(z[rows], inner[rows]).backward()
                optimizer.step()
            halved.step()

    @torch.no_grad()
    def draw(self, noise: Noise) -> Tensor:
        size, device = self.output.out_features, self.log_gamma.device
        zhat = self.output(self.decoder(noise.normal(size).to(device)))
        z = zhat + self.log_gamma.exp() * noise.child(0).normal(size).to(device)
        return z.to(noise.index[0].device)


class _Trunk(nn.Module):
    """Three ReLU layers, and the input beside the last one's output: (B, size) to (B, width + size)."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.layers(x), x), dim=-1)


REGISTRY: dict[str, type[Any]] = {
    "prior": Prior,
    "floating": FloatingPrior,
    "gmm": GaussianMixture,
    "second_stage": SecondStage,
}


def build(name: str, model: VAE | SVG, latents: Gaussian, seed: int = 0, **options: Any) -> Sampler:
    """A sampler by name, fitted to the posteriors (N, Z) of the training images.

    Raises:
        ValueError: the name or an option is unknown, or the prior of a video model is not fixed.
    """
    if isinstance(model, SVG):
        require_fixed_prior(model)
    if name not in REGISTRY:
        raise ValueError(f"sampler {name!r} is unknown: choose from {', '.join(REGISTRY)}")
    parameters = inspect.signature(REGISTRY[name]).parameters
    valid = [option for option in parameters if option not in ("model", "latents", "seed")]
    for option in options:
        if option not in valid:
            raise ValueError(f"{option} is not an option of sampler {name}, which has: {', '.join(valid) or 'none'}")
    return REGISTRY[name](model, latents, seed, **options)


def slerp(a: Tensor, b: Tensor, ratio: Tensor | float) -> Tensor:
    """Spherical interpolation between latents (..., Z): a at ratio 0, b at 1, with lengths in between.

    Parallel and opposite vectors, which span no plane, are interpolated on the line.
    """
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1)[..., None].clamp(-1, 1)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    flat = sine < 1e-4
    safe = torch.where(flat, 1.0, sine)
    ratio = torch.as_tensor(ratio, dtype=a.dtype, device=a.device)
    arc = (torch.sin((1 - ratio) * angle) * a + torch.sin(ratio * angle) * b) / safe
    return torch.where(flat, (1 - ratio) * a + ratio * b, arc)
