"""What a trained image VAE does with its latents (likelihoods.md, section E).

B images, N of them in all, Z latent, d = C H W values of an image. Information is in nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from svg.likelihoods.normal import Normal
from svg.models.base import Gaussian
from svg.models.samplers import GaussianMixture
from svg.models.vae import VAE
from svg.noise import Noise

PERTURBATIONS = 8  # noise stream


def active_units(mean: Tensor, threshold: float = 0.01) -> int:
    """How many latents have a posterior mean (N, Z) whose variance over the images exceeds the threshold (Burda et al.
    2016)."""
    return int((mean.var(dim=0, correction=0) > threshold).sum())


def empirical_information(posterior: Gaussian) -> Tensor:
    """I(n; z), how much z says of which of the N images it is of, estimated over their posteriors (N, Z): a scalar.

    E_n [ln q(z | x_n)] - E_n ln (1/N) sum_m q(z | x_m), a draw of z for each n (AR-ELBO, equation 29, which is this for
    a constant isotropic variance). It is the information under the images' empirical distribution, and for I(x; z) of
    the data that they are from a *lower* bound in expectation: with its own image among the N, z is more likely under
    the mixture than under the true q(z) (Poole et al. 2019, "structured bounds with tractable encoders"). Its bias is
    -E KL(mixture || q(z)) over draws of the N images: little where many of them share each place in z, and at least
    I(x; z) - ln N in size, since it is at most ln N, and at most the mean KL to any prior. The draws of z may take the
    estimate a little past either.
    """
    mean, logvar = posterior.mean.double(), posterior.logvar.double()
    z = Gaussian(mean, logvar).sample(Noise(0, (torch.arange(len(mean), device=mean.device),)).normal(mean.shape[1]))
    own = -0.5 * (1 + math.log(2 * math.pi) + logvar).sum(-1)
    mixed = [
        Gaussian(mean, logvar).log_prob(some[:, None]).logsumexp(-1) - math.log(len(mean)) for some in z.split(256)
    ]
    return (own - torch.cat(mixed)).mean()


@torch.no_grad()
def expected_gap(model: VAE, mean: Tensor, s2: float, seed: int = 0) -> float:
    """E|mu(z + e) - mu(z + e')|^2, e and e' ~ N(0, s2 I), z the posterior means (N, Z) (AR-ELBO, equation 5).

    It is 2 s2 times the local smoothness for small s2.
    """
    noise = Noise(seed, (torch.arange(len(mean), device=mean.device),), PERTURBATIONS)
    near, far = (decoded(model, mean + math.sqrt(s2) * noise.child(k).normal(mean.shape[1]).to(mean)) for k in (0, 1))
    return (near - far).square().sum(-1).mean().item()


def local_smoothness(model: VAE, mean: Tensor, batch_size: int = 64) -> float:
    """E|J|_F^2 at the posterior means (N, Z) (AR-ELBO, equation 6, whose tables 1 and 5 print it divided by Z)."""
    with torch.no_grad():
        return sum(jacobian(model, z).square().sum().item() for z in mean.split(batch_size)) / len(mean)


def decoded(model: VAE, z: Tensor) -> Tensor:
    """The likelihood's mean of latents (B, Z): (B, d)."""
    return model.distribution(z[:, None]).mean.flatten(1)


def jacobian(model: VAE, z: Tensor) -> Tensor:
    """The Jacobian of the likelihood's mean at latents (B, Z): (B, d, Z), a forward-mode pass for each latent."""
    columns = []
    for direction in torch.eye(z.shape[1], dtype=z.dtype, device=z.device):
        tangent = direction.expand_as(z).contiguous()
        columns.append(torch.func.jvp(lambda latent: decoded(model, latent), (z,), (tangent,))[1])
    return torch.stack(columns, dim=-1)


@torch.no_grad()
def has_one_sigma(model: VAE) -> bool:
    """Whether the likelihood is N(mean, sigma^2 I) with one sigma for everything."""
    distribution = model.distribution(model.prior.mean)
    return isinstance(distribution, Normal) and distribution.log_sigma.ndim == 0


@torch.no_grad()
def evidence(model: VAE, frames: Tensor) -> Tensor:
    """log p(x) of frames (B, 1, C, H, W) under the decoder made linear at the posterior mean: (B,).

    -(1/2)[d ln 2 pi sigma^2 + mu' S^-2 mu + |r|^2/sigma^2 + ln|S J' J S/sigma^2 + I|], r being x less the mean at mu,
    the determinant of size Z (Fyffe, equations 16, 26). Exact for a linear decoder at the mean of the true posterior.

    Raises:
        ValueError: the likelihood has no single sigma.
    """
    if not has_one_sigma(model):
        raise ValueError(f"the evidence needs a Gaussian likelihood of one sigma: {model.likelihood.name} is none")
    mean = model.encode(frames).mean[:, 0]
    distribution = model.distribution(mean[:1, None])
    assert isinstance(distribution, Normal)
    sigma = distribution.log_sigma.exp()
    s = torch.exp(0.5 * model.prior.logvar[0])
    x = frames.to(mean.dtype).flatten(1) / (255 if frames.dtype == torch.uint8 else 1)
    residual = (x - decoded(model, mean)) / sigma
    scaled = jacobian(model, mean) * s / sigma
    inner = torch.eye(mean.shape[1], dtype=mean.dtype, device=mean.device) + scaled.mT @ scaled
    constant = x.shape[1] * torch.log(2 * math.pi * sigma**2)
    return -0.5 * (constant + (mean / s).square().sum(-1) + residual.square().sum(-1) + torch.logdet(inner))


def aggregate_divergence(
    mixture: GaussianMixture, prior: Gaussian, draws: int = 10_000, runs: int = 10
) -> tuple[float, float]:
    """KL(q_agg || p) with the mixture in the aggregate posterior's place, by its own draws: mean and standard deviation
    over the runs (Lin et al.).

    Args:
        prior: N(0, S^2), (1, Z).
    """
    values = []
    for run in range(runs):
        z = mixture.sample(draws, seed=run)
        values.append((mixture.log_prob(z) - prior.log_prob(z).double()).mean())
    return torch.stack(values).mean().item(), torch.stack(values).std(correction=0).item()
