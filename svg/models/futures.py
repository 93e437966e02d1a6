"""The state of possible futures, advanced frame by frame (Denton & Fergus 2018, section 3).

While the context lasts, true frames go in and z comes from the posterior, one set of draws per sample; after it z
comes from the prior and the likelihood's mean (or a draw) is fed back as the next input.

B clips, S samples, T frames, C channels, H W pixels, G feature, Z latent; N = clips * samples of one chunk, clip-major.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from torch import Tensor

from svg.likelihoods.base import FrameDistribution
from svg.models.backbones import Decoder, Encoder
from svg.models.base import Model, Prior, to_float
from svg.models.calibrated import Calibration
from svg.models.recurrent import GaussianLSTM, PredictorLSTM, State
from svg.noise import Noise

LATENT, PIXEL, COMPONENT = 0, 1, 2  # noise streams

Latents = Callable[[Noise], Tensor]
"""Draws of z, (N, T, Z), as a function of the noise of futures and frames (N, T): `draw` of a sampler in
svg/models/samplers.py."""


class VideoModel(Model):
    """A model of video that is advanced frame by frame: an encoder and a decoder with skip connections, a predictor
    and, where it has latents, a posterior and a prior over frame features."""

    encoder: Encoder
    decoder: Decoder
    predictor: PredictorLSTM
    posterior: GaussianLSTM

    @property
    @abstractmethod
    def learns_prior(self) -> bool:
        """Whether a net makes the prior's mean."""

    @abstractmethod
    def encode(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Frames (B, T, C, H, W), uint8 or float in [0, 1], to features (B, T, G) and skips, each (B*T, c, h, w)."""

    @abstractmethod
    def skip_halves(self, skips: list[Tensor], clips: int, frames: slice) -> list[Tensor]:
        """The decoder's skip halves of some of each clip's frames, from skips of (clips*T, c, h, w)."""

    @abstractmethod
    def decode(self, g: Tensor, skip_halves: list[Tensor], repeats: tuple[int, ...]) -> Tensor:
        """Features (B, T, G) to the likelihood's parameters (B, T, P, H, W)."""

    @abstractmethod
    def prior_of(self, h: Tensor, state: State | None = None) -> tuple[Prior, State | None]:
        """p(z_t | x_<t) for the features h (B, T, G) of the frames before, and the prior net's state after them."""


@dataclass
class Context:
    """What the context frames of b clips say, computed once for all their samples."""

    frame: Tensor
    """The last context frame (b, C, H, W), float32 in [0, 1]."""
    last: Tensor
    """Its features (b, G)."""
    before: Tensor
    """Features of the frames before it (b, n-1, G)."""
    halves: list[Tensor]
    """The decoder's skip halves, one frame a clip."""
    posterior: tuple[Tensor, Tensor] | None
    """Posterior mean and standard deviation (b, steps, Z): of the context's frames 2..n, or of all true frames in a
    reconstruction."""
    prior_state: State | None


def encode_context(model: VideoModel, frames: Tensor, n_past: int) -> Context:
    """Encodes (b, T, C, H, W); frames after n_past, if any, are seen by the posterior alone."""
    h, skips = model.encode(frames)
    last = n_past - (2 if model.config.skip_frame == "published" else 1)
    halves = model.skip_halves(skips, frames.shape[0], slice(last, last + 1))
    posterior = prior_state = None
    if model.latent_size and h.shape[1] > 1:
        q = model.posterior(h[:, 1:])[0]
        posterior = (q.mean, torch.exp(0.5 * q.logvar))
    if model.learns_prior and n_past > 1:
        prior_state = model.prior_of(h[:, : n_past - 1])[1]
    return Context(
        to_float(frames[:, n_past - 1]), h[:, n_past - 1], h[:, : n_past - 1], halves, posterior, prior_state
    )


def _per_sample(x: Tensor, samples: int) -> Tensor:
    """(b, ...) to (b*samples, ...), clip-major."""
    return repeat(x, "b ... -> (b s) ...", s=samples)


class RolloutState:
    """The state of N = b * s futures, advanced frame by frame."""

    def __init__(
        self,
        model: VideoModel,
        context: Context,
        noise: Noise,
        samples: int,
        latents: Latents | None,
        calibration: Calibration | None,
    ) -> None:
        self.model, self.context, self.samples, self.latents = model, context, samples, latents
        self.calibration = calibration
        self.n_past = context.before.shape[1] + 1
        self.pixel_noise = noise.child(PIXEL)
        self.halves, self.repeats = context.halves, (samples,)
        self.h = _per_sample(context.last, samples)
        self.before = _per_sample(context.frame, samples)[:, None] if calibration else None
        self.predictor_state: State | None = None
        self.prior_state: State | None = None
        if context.prior_state is not None:
            hidden, cell = (repeat(x, "l b r -> l (b s) r", s=samples) for x in context.prior_state)
            self.prior_state = (hidden.contiguous(), cell.contiguous())
        if model.latent_size:
            # Row t of the noise belongs to frame t + 1, whether it is a context frame or a predicted one.
            self.latent_noise = noise.child(LATENT)
            self.eps = self.latent_noise.normal(model.latent_size)  # N T-1 Z
            self.u = noise.child(COMPONENT).uniform()  # N T-1
            self.posterior_z = self.eps[:, :0]
            if context.posterior is not None:
                mean, stddev = (_per_sample(x, samples) for x in context.posterior)
                self.posterior_z = mean + stddev * self.eps[:, : mean.shape[1]]
            if calibration:
                seen = self.posterior_z.shape[1]
                self.eps = torch.cat((self.eps[:, :seen], calibration.tempering(self.eps[:, seen:])), dim=1)
        if self.n_past > 1:
            inputs = _per_sample(context.before, samples)
            if model.latent_size:
                inputs = torch.cat((inputs, self.posterior_z[:, : self.n_past - 1]), dim=-1)
            self.predictor_state = model.predictor(inputs)[1]

    def _latent(self, t: int) -> Tensor:
        """z (N, 1, Z) of frame t (counted from 0): the posterior's where it has seen frame t, else the prior's, or what
        is drawn instead of it."""
        if t - 1 < self.posterior_z.shape[1]:
            return self.posterior_z[:, t - 1 : t]
        if self.latents:
            return self.latents(self.latent_noise[:, t - 1 : t]).to(self.eps)
        prior, self.prior_state = self.model.prior_of(self.h[:, None], self.prior_state)
        return prior.sample(self.eps[:, t - 1 : t], self.u[:, t - 1 : t])

    def step(self, t: int) -> FrameDistribution:
        """The predicted distribution of frame t (counted from 0), with a time axis of 1."""
        inputs = self.h[:, None]
        if self.model.latent_size:
            inputs = torch.cat((inputs, self._latent(t)), dim=-1)
        g, self.predictor_state = self.model.predictor(inputs, self.predictor_state)
        own = self.model.likelihood.distribution(self.model.decode(g, self.halves, self.repeats))
        if self.calibration and self.before is not None:
            return self.calibration.distribution(own, self.before, t - self.n_past)
        return own

    def observe(self, frame: Tensor) -> None:
        """Feeds (N, 1, C, H, W) back as the next input."""
        self.before = frame if self.calibration else None
        h, skips = self.model.encode(frame)
        self.h = h[:, 0]
        if self.model.config.skip_frame == "previous":
            self.halves, self.repeats = self.model.decoder.skip_halves(skips), (1,)


def predict(
    futures: RolloutState,
    horizon: int,
    stddev: bool,
    draw: bool,
    see: Callable[[int, FrameDistribution], None] | None,
) -> tuple[Tensor, Tensor | None]:
    """Frames (and standard deviations) (b, s, horizon, C, H, W) of one chunk."""
    frames, deviations = [], []
    for t in range(futures.n_past, futures.n_past + horizon):
        distribution = futures.step(t)
        if see:
            see(t - futures.n_past, distribution)
        frame = distribution.sample(futures.pixel_noise[:, t - 1 : t]) if draw else distribution.mean
        frame = frame.clamp(0, 1)
        frames.append(frame)
        if stddev:
            deviations.append(distribution.stddev)
        if t + 1 < futures.n_past + horizon:
            futures.observe(frame)

    def stack(parts: list[Tensor]) -> Tensor:
        return rearrange(torch.cat(parts, dim=1), "(b s) t c h w -> b s t c h w", s=futures.samples)

    return stack(frames), stack(deviations) if stddev else None
