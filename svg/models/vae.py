"""The variational autoencoder of single images, with a calibrated likelihood: the sigma-VAE and its relatives.

    q(z | x) = N(mean head, variance) of the encoder's features
    p(x | z) = likelihood(decoder(z))

An image is a clip of length 1; of longer clips every frame is an image of its own. B batch, T frames (1), C channels,
H W pixels, P likelihood parameters, F features, Z latent, N images.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from svg.config import ModelConfig
from svg.likelihoods.base import FrameDistribution, Likelihood
from svg.likelihoods.fitted import RunningMean
from svg.models.base import Gaussian, Inferred, Model, Outputs, to_float
from svg.noise import Noise

SAMPLES = 4  # noise stream


def _conv(channels: int, out_channels: int, size: int, width: int, z_dim: int) -> tuple[nn.Module, int, nn.Module]:
    """Three convolutions that double their channels, the last two halving the size, and their mirror image (sigma-VAE,
    appendix B, with a width of 32, or 128 for CIFAR)."""
    w, side = width, size // 4
    encoder = nn.Sequential(
        *(nn.Conv2d(channels, w, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(w, 2 * w, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(2 * w, 4 * w, 4, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
    )
    decoder = nn.Sequential(
        *(nn.Linear(z_dim, 4 * w * side**2), nn.Unflatten(1, (4 * w, side, side)), nn.ReLU()),
        *(nn.ConvTranspose2d(4 * w, 2 * w, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.ConvTranspose2d(2 * w, w, 4, stride=2, padding=1), nn.ReLU()),
        nn.ConvTranspose2d(w, out_channels, 3, padding=1),
    )
    return encoder, 4 * w * side**2, decoder


def _mlp(channels: int, out_channels: int, size: int, width: int, z_dim: int) -> tuple[nn.Module, int, nn.Module]:
    """Four dense layers each way, the encoder's last one being its heads (Fyffe, with a width of 200)."""

    def hidden(inputs: int) -> list[nn.Module]:
        layers = [(nn.Linear(a, width), nn.ReLU()) for a in (inputs, width, width)]
        return [module for layer in layers for module in layer]

    output = nn.Linear(width, out_channels * size**2)
    unflatten = nn.Unflatten(1, (out_channels, size, size))
    encoder = nn.Sequential(nn.Flatten(), *hidden(channels * size**2))
    return encoder, width, nn.Sequential(*hidden(z_dim), output, unflatten)


def _linear(channels: int, out_channels: int, size: int, width: int, z_dim: int) -> tuple[nn.Module, int, nn.Module]:
    """Affine maps each way: with a Gaussian likelihood of identity mean, probabilistic PCA."""
    output = nn.Linear(z_dim, out_channels * size**2)
    return nn.Flatten(), channels * size**2, nn.Sequential(output, nn.Unflatten(1, (out_channels, size, size)))


BACKBONES: dict[str, Callable[[int, int, int, int, int], tuple[nn.Module, int, nn.Module]]] = {
    "conv": _conv,
    "mlp": _mlp,
    "linear": _linear,
}
"""Name to encoder (N, C, H, W) -> (N, F), F, and decoder (N, Z) -> (N, P, H, W)."""


class VAE(Model):
    """The image model.

    Args:
        config: sizes and posterior.
        likelihood: the observation model; the decoder has `likelihood.param_channels` output channels.
    """

    def __init__(self, config: ModelConfig, likelihood: Likelihood) -> None:
        super().__init__(config, likelihood)
        c = config
        build = BACKBONES[c.backbone]
        self.encoder, features, self.decoder = build(c.channels, likelihood.param_channels, c.size, c.width, c.z_dim)
        self.mean = nn.Linear(features, c.z_dim)
        if c.posterior == "diagonal":
            self.logvar = nn.Linear(features, c.z_dim)
        elif c.posterior == "isotropic":
            self.log_variance = nn.Parameter(torch.zeros(()))
        if c.floats_prior:
            self.prior_variance = RunningMean((c.z_dim,), start=1.0, decay=0.99)

    @property
    def latent_size(self) -> int:
        """Z."""
        return self.config.z_dim

    @property
    def prior(self) -> Gaussian:
        """N(0, I), or N(0, S^2) where an objective fitted the running S^2: (1, 1, Z)."""
        prior = Gaussian.standard(self.mean.bias[None, None])
        if self.config.floats_prior:
            prior.logvar = self.prior_variance.value.log().to(prior.mean).expand_as(prior.mean)
        return prior

    def encode(self, frames: Tensor) -> Gaussian:
        """q(z | x), (B, T, Z), of frames (B, T, C, H, W), uint8 or float in [0, 1]; of variance 0 if deterministic."""
        self.check_frames(frames)
        dtype = self.mean.weight.dtype
        images = to_float(frames).to(dtype).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features = self.encoder(images)
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(dtype).unflatten(0, frames.shape[:2])
            mean = self.mean(features)
            return Gaussian(mean, self._log_variance(mean, features))

    def _log_variance(self, mean: Tensor, features: Tensor) -> Tensor:
        if self.config.posterior == "diagonal":
            return self.logvar(features)
        if self.config.posterior == "isotropic":
            return self.log_variance.expand_as(mean)
        variance = self.config.posterior_variance if self.config.posterior == "constant" else 0.0
        return torch.full_like(mean, variance).log()

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, T, Z) to the likelihood's parameters (B, T, P, H, W)."""
        return self.decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])

    def infer(self, frames: Tensor) -> Inferred:
        """Prior and posterior of frames (B, T, C, H, W)."""
        posterior = self.encode(frames)
        prior = self.prior
        shape = posterior.mean.shape
        return Inferred(frames, posterior, Gaussian(prior.mean.expand(shape), prior.logvar.expand(shape)))

    def generate(self, inferred: Inferred, z: Tensor | None) -> Tensor:
        """The likelihood's parameters (B, T, P, H, W), given latents z (B, T, Z)."""
        assert z is not None
        return self.decode(z)

    def forward(self, frames: Tensor, noise: Tensor | None) -> Outputs:
        """One pass.

        Args:
            frames: (B, T, C, H, W) uint8, or float in [0, 1].
            noise: standard normals (B, T, Z) for the posterior draws; not used by a deterministic posterior.

        Returns:
            Outputs over all frames; of a deterministic posterior z is the mean and posterior is None.
        """
        inferred = self.infer(frames)
        assert inferred.posterior is not None
        if self.config.posterior == "deterministic":
            z = inferred.posterior.mean
            return Outputs(self.decode(z), frames, z, None, inferred.prior)
        assert noise is not None
        z = inferred.posterior.sample(noise)
        return Outputs(self.decode(z), frames, z, inferred.posterior, inferred.prior)

    def distribution(self, z: Tensor) -> FrameDistribution:
        """p(x | z) of latents (B, T, Z)."""
        return self.likelihood.distribution(self.decode(z))

    @torch.no_grad()
    def reconstruct(self, frames: Tensor) -> Tensor:
        """The likelihood's mean at the posterior mean: float32 (B, T, C, H, W), clamped to [0, 1]."""
        return self.images(self.encode(frames).mean)

    def sample(self, n: int, seed: int = 0, *, draw: bool = False) -> Tensor:
        """Images of latents from the prior: float32 (n, 1, C, H, W) in [0, 1].

        Args:
            seed: image i is a pure function of (seed, i).
            draw: draws of the likelihood instead of its mean.
        """
        if n < 1:
            raise ValueError(f"n is {n}, but must be at least 1")
        index = torch.arange(n, device=self.mean.weight.device)[:, None]
        noise = Noise(seed, (index,), SAMPLES)
        z = self.prior.sample(noise.normal(self.latent_size).to(self.mean.weight.dtype))
        return self.images(z, noise.child(0) if draw else None)

    @torch.no_grad()
    def images(self, z: Tensor, noise: Noise | None = None, batch_size: int = 256) -> Tensor:
        """The likelihood's mean, or its draws by `noise`, of latents (N, T, Z): float32 (N, T, C, H, W), clamped to
        [0, 1]."""
        parts = []
        for first in range(0, len(z), batch_size):
            some = slice(first, first + batch_size)
            distribution = self.distribution(z[some])
            parts.append(distribution.mean if noise is None else distribution.sample(noise[some]))
        return torch.cat(parts).clamp(0, 1)

    def check_frames(self, frames: Tensor, least: int = 1) -> None:
        c = self.config
        if frames.ndim != 5 or frames.shape[2:] != (c.channels, c.size, c.size):
            wanted = f"(B, T, {c.channels}, {c.size}, {c.size})"
            raise ValueError(f"images have shape {tuple(frames.shape)}, but this model takes {wanted}, T being 1")
