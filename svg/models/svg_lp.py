"""SVG-LP: stochastic video generation with a learned prior (Denton & Fergus 2018), with a calibrated likelihood.

    h_t, skips_t = encoder(x_t)
    q(z_t | x_1:t)   = posterior LSTM over h_2..h_t          (sees the target frame)
    p(z_t | x_1:t-1) = learned-prior LSTM over h_1..h_t-1   (one Gaussian, or a mixture)
    g_t              = predictor LSTM over [h_t-1, z_t]
    p(x_t | x_1:t-1, z_1:t) = likelihood(decoder(g_t, skips of a context frame))

Training is teacher-forced, so nothing in it loops over time: all frames are encoded in one call, the LSTMs run as
whole sequences, and all frames are decoded in one call. B batch, T frames, C channels, H W pixels, P likelihood
parameters, G feature, Z latent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from svg.config import ModelConfig
from svg.likelihoods.base import Likelihood
from svg.likelihoods.fitted import RunningMean
from svg.models import backbones
from svg.models.base import Gaussian, Inferred, Outputs, Prior, to_float
from svg.models.recurrent import GaussianLSTM, MixtureLSTM, PredictorLSTM, State
from svg.models.rollout import Rollouts


class SVG(Rollouts):
    """The video model.

    Args:
        config: sizes, prior and skip frame.
        likelihood: the observation model; the decoder has `likelihood.param_channels` output channels.
    """

    given = 1

    def __init__(self, config: ModelConfig, likelihood: Likelihood) -> None:
        super().__init__(config, likelihood)
        c = config
        self.encoder, self.decoder = backbones.build(
            c.backbone,
            channels=c.channels,
            out_channels=likelihood.param_channels,
            size=c.size,
            width=c.width,
            g_dim=c.g_dim,
        )
        z_dim = 0 if c.prior == "none" else c.z_dim
        self.predictor = PredictorLSTM(c.g_dim + z_dim, c.g_dim, c.rnn_size, c.predictor_layers)
        if c.prior != "none":
            constant = c.posterior_variance if c.posterior == "constant" else None
            self.posterior = GaussianLSTM(c.g_dim, c.z_dim, c.rnn_size, c.posterior_layers, constant)
        self.prior: GaussianLSTM | MixtureLSTM
        if c.prior == "mixture":
            self.prior = MixtureLSTM(c.g_dim, c.z_dim, c.rnn_size, c.prior_layers, c.prior_components)
        elif self.learns_prior:
            constant = 1.0 if c.prior == "learned_mean" else None
            self.prior = GaussianLSTM(c.g_dim, c.z_dim, c.rnn_size, c.prior_layers, constant)
        if c.floats_prior:
            self.prior_variance = RunningMean((c.z_dim,), start=1.0, decay=0.99)

    @property
    def latent_size(self) -> int:
        """Z, or 0 for a model without latents."""
        return 0 if self.config.prior == "none" else self.config.z_dim

    @property
    def learns_prior(self) -> bool:
        """Whether a net makes the prior's mean."""
        return self.config.prior in ("learned", "learned_mean", "mixture")

    def encode(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Frames (B, T, C, H, W), uint8 or float in [0, 1], to features (B, T, G) and skips, each (B*T, c, h, w)."""
        dtype = self.predictor.embed.weight.dtype
        images = to_float(frames).to(dtype).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        h, skips = self.encoder(images)
        return h.to(dtype).unflatten(0, frames.shape[:2]), skips

    def skip_schedule(self, steps: int, n_past: int) -> tuple[slice, tuple[int, ...]]:
        """Which frames' skips decode the frames 1..steps: a slice of frames, and how many successive steps use each
        of them.

        Step i uses frame min(i-1, last), `last` being the last context frame (or the one before it, in the published
        code).
        """
        if self.config.skip_frame == "previous":
            return slice(0, steps), (1,) * steps
        last = min(n_past - (2 if self.config.skip_frame == "published" else 1), steps - 1)
        return slice(0, last + 1), (*(1,) * last, steps - last)

    def skip_halves(self, skips: list[Tensor], clips: int, frames: slice) -> list[Tensor]:
        """The decoder's skip halves of some of each clip's frames, from skips of (clips*T, c, h, w)."""
        if skips[0].shape[0] != clips * (frames.stop - frames.start):
            skips = [
                s.permute(0, 2, 3, 1).unflatten(0, (clips, -1))[:, frames].flatten(0, 1).permute(0, 3, 1, 2)
                for s in skips
            ]
        return self.decoder.skip_halves(skips)

    def decode(self, g: Tensor, skip_halves: list[Tensor], repeats: tuple[int, ...]) -> Tensor:
        """Features (B, T, G) to the likelihood's parameters (B, T, P, H, W)."""
        return self.decoder(g.flatten(0, 1), skip_halves, repeats).unflatten(0, g.shape[:2])

    def prior_of(self, h: Tensor, state: State | None = None) -> tuple[Prior, State | None]:
        """p(z_t | x_<t) for the features h (B, T, G) of the frames before, and the prior net's state after them.

        Where the prior floats, its variance is the running S^2 (1 until an objective fits it).
        """
        prior: Prior = Gaussian.standard(h.new_zeros(*h.shape[:2], self.latent_size))
        if self.learns_prior:
            prior, state = self.prior(h, state)
        if self.config.floats_prior:
            assert isinstance(prior, Gaussian)
            prior = self.floating(prior)
        return prior, state

    def floating(self, prior: Gaussian) -> Gaussian:
        """A prior of the same mean with the running variance S^2."""
        return Gaussian(prior.mean, self.prior_variance.value.log().to(prior.mean).expand_as(prior.mean))

    def infer(self, frames: Tensor) -> Inferred:
        """Prior and posterior of the frames 2..T, given frames (B, T, C, H, W) as `forward` takes them."""
        self.check_frames(frames, self.config.n_past + 1)
        clips, steps = frames.shape[0], frames.shape[1] - 1
        h, skips = self.encode(frames)
        posterior = prior = None
        if self.latent_size:
            posterior, prior = self.posterior(h[:, 1:])[0], self.prior_of(h[:, :-1])[0]
        used, repeats = self.skip_schedule(steps, self.config.n_past)
        context = h[:, :-1], self.skip_halves(skips, clips, used), repeats
        return Inferred(frames[:, 1:], posterior, prior, context)

    def generate(self, inferred: Inferred, z: Tensor | None) -> Tensor:
        """The likelihood's parameters (B, T-1, P, H, W), given draws z (B, T-1, Z) of the latents."""
        before, halves, repeats = inferred.context
        inputs = before if z is None else torch.cat((before, z), dim=-1)
        return self.decode(self.predictor(inputs)[0], halves, repeats)

    def forward(self, frames: Tensor, noise: Tensor | None) -> Outputs:
        """One teacher-forced pass.

        Args:
            frames: (B, T, C, H, W) uint8, or float in [0, 1]; T > n_past.
            noise: standard normals (B, T-1, Z) for the posterior draws; None for a model without latents.

        Returns:
            Outputs over the T-1 frames 2..T.
        """
        inferred = self.infer(frames)
        z = None
        if inferred.posterior is not None:
            assert noise is not None
            z = inferred.posterior.sample(noise)
        return Outputs(self.generate(inferred, z), inferred.target, z, inferred.posterior, inferred.prior)

    def check_frames(self, frames: Tensor, least: int = 1) -> None:
        """Raises ValueError unless frames are (B, T >= least, C, H, W) of this model's size."""
        c = self.config
        if frames.ndim != 5 or frames.shape[2:] != (c.channels, c.size, c.size):
            wanted = f"(B, T, {c.channels}, {c.size}, {c.size})"
            raise ValueError(f"frames have shape {tuple(frames.shape)}, but this model takes {wanted}")
        if frames.shape[1] < least:
            raise ValueError(
                f"{frames.shape[1]} frames are too few: this model conditions on model.n_past={c.n_past} frames and "
                f"needs at least {least} here"
            )
