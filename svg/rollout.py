"""Rollouts: possible futures of a few context frames (Denton & Fergus 2018, section 3; semantics in
docs/architecture.md).

While the context lasts, true frames go in and z comes from the posterior, one set of draws per sample; after it z
comes from the prior and the likelihood's mean (or a draw) is fed back as the next input. All noise is a pure function
of (seed, clip id, sample, step), so a future doesn't depend on the chunk, the other clips of the batch or the process
that computes it.

B clips, S samples, T frames, C channels, H W pixels, G feature, Z latent; N = clips * samples of one chunk, clip-major.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from svg.folding import folded
from svg.likelihoods.base import FrameDistribution
from svg.model import SVG, to_float
from svg.noise import Noise
from svg.recurrent import State

LATENT, PIXEL = 0, 1  # noise streams

Watch = Callable[[slice, slice, int, FrameDistribution], None]
"""Told of each predicted frame: the chunk's clips and samples, t = 0, 1, ... of the horizon, and the distribution
(N, 1, C, H, W)."""

Latents = Callable[[Noise], Tensor]
"""Draws of z, (N, T, Z), as a function of the noise of futures and frames (N, T): `draw` of a sampler in
svg/samplers.py."""


@dataclass
class Chunk:
    """Some samples of some clips: `frames` float32 (b, s, horizon, C, H, W) in [0, 1], and their predicted `stddev`
    if asked for."""

    clips: slice
    samples: slice
    frames: Tensor
    stddev: Tensor | None = None


@contextmanager
def evaluating(model: nn.Module, batch_statistics: bool = False) -> Iterator[None]:
    """The model in eval mode, without gradients; its mode is restored at the end.

    With `batch_statistics`, BatchNorm normalises by the batch at hand (and leaves its running statistics alone), as
    the published generation script does: a sample then depends on the batch it is in.
    """
    modes = [(module, module.training) for module in model.modules()]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)] if batch_statistics else []
    model.eval()
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        with torch.no_grad():
            yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for module, mode in modes:
            module.training = mode


@dataclass
class _Context:
    """What the context frames of b clips say, computed once for all their samples."""

    last: Tensor
    """Features of the last context frame (b, G)."""
    before: Tensor
    """Features of the frames before it (b, n-1, G)."""
    halves: list[Tensor]
    """The decoder's skip halves, one frame a clip."""
    posterior: tuple[Tensor, Tensor] | None
    """Posterior mean and standard deviation (b, steps, Z): of the context's frames 2..n, or of all true frames in a
    reconstruction."""
    prior_state: State | None


def _encode_context(model: SVG, frames: Tensor, n_past: int) -> _Context:
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
    return _Context(h[:, n_past - 1], h[:, : n_past - 1], halves, posterior, prior_state)


def _per_sample(x: Tensor, samples: int) -> Tensor:
    """(b, ...) to (b*samples, ...), clip-major."""
    return repeat(x, "b ... -> (b s) ...", s=samples)


class _Futures:
    """The state of N = b * s futures, advanced frame by frame."""

    def __init__(self, model: SVG, context: _Context, noise: Noise, samples: int, latents: Latents | None) -> None:
        self.model, self.context, self.samples, self.latents = model, context, samples, latents
        self.n_past = context.before.shape[1] + 1
        self.pixel_noise = noise.child(PIXEL)
        self.halves, self.repeats = context.halves, (samples,)
        self.h = _per_sample(context.last, samples)
        self.predictor_state: State | None = None
        self.prior_state: State | None = None
        if context.prior_state is not None:
            hidden, cell = (repeat(x, "l b r -> l (b s) r", s=samples) for x in context.prior_state)
            self.prior_state = (hidden.contiguous(), cell.contiguous())
        if model.latent_size:
            # Row t of the noise belongs to frame t + 1, whether it is a context frame or a predicted one.
            self.latent_noise = noise.child(LATENT)
            self.eps = self.latent_noise.normal(model.latent_size)  # N T-1 Z
            self.posterior_z = self.eps[:, :0]
            if context.posterior is not None:
                mean, stddev = (_per_sample(x, samples) for x in context.posterior)
                self.posterior_z = mean + stddev * self.eps[:, : mean.shape[1]]
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
        return prior.sample(self.eps[:, t - 1 : t])

    def step(self, t: int) -> FrameDistribution:
        """The predicted distribution of frame t (counted from 0), with a time axis of 1."""
        inputs = self.h[:, None]
        if self.model.latent_size:
            inputs = torch.cat((inputs, self._latent(t)), dim=-1)
        g, self.predictor_state = self.model.predictor(inputs, self.predictor_state)
        return self.model.likelihood.distribution(self.model.decode(g, self.halves, self.repeats))

    def observe(self, frame: Tensor) -> None:
        """Feeds (N, 1, C, H, W) back as the next input."""
        h, skips = self.model.encode(frame)
        self.h = h[:, 0]
        if self.model.config.skip_frame == "previous":
            self.halves, self.repeats = self.model.decoder.skip_halves(skips), (1,)


def _bytes_per_future(model: SVG, horizon: int) -> int:
    """A generous estimate of the memory that one future takes while it is computed."""
    c = model.config
    pixels = c.size * c.size
    activations = 8 * c.width * pixels + 6 * model.likelihood.param_channels * pixels
    return 4 * (activations + 2 * horizon * c.channels * pixels + horizon * 8 * max(c.z_dim, 1))


def iter_rollouts(
    model: SVG,
    context: Tensor,
    horizon: int,
    samples: int = 1,
    seed: int = 0,
    *,
    n_past: int | None = None,
    clip_ids: Tensor | None = None,
    sample_ids: Tensor | None = None,
    stddev: bool = False,
    draw: bool = False,
    batch_statistics: bool = False,
    memory: float = 2.0,
    watch: Watch | None = None,
    latents: Latents | None = None,
) -> Iterator[Chunk]:
    """Possible futures in chunks, clip-major, each within a memory budget.

    Args:
        context: (B, T, C, H, W), uint8 or float in [0, 1], T >= the model's n_past.
        horizon: frames to predict, those of the context not counted.
        samples: futures per clip.
        seed: of the futures.
        n_past: how many of the context's frames condition the rollout (default: all). Any after them are seen by the
            posterior alone: a reconstruction.
        clip_ids: int64 (B,), in [0, 2^32): what the noise of each clip depends on (default: its position).
        sample_ids: int64 (samples,), in [0, 2^32): which of the futures (default: the first).
        stddev: also give the likelihood's predicted standard deviation of every value.
        draw: feed back and return draws of the likelihood (clamped to [0, 1]) instead of its mean.
        batch_statistics: BatchNorm by the batch at hand, as the published script (see `evaluating`).
        memory: budget in GiB.
        watch: sees every predicted distribution, for what can't be told from its mean and stddev.
        latents: draws the latents instead of a fixed prior (likelihoods.md, section D).

    Raises:
        ValueError: `sample_ids` of another number than `samples`; a context of the wrong shape, or shorter than the
            model's n_past; `latents` of a model without a fixed prior.
    """
    model.check_frames(context, model.config.n_past)
    n_past = context.shape[1] if n_past is None else n_past
    ids = torch.arange(context.shape[0]) if clip_ids is None else clip_ids
    numbers = torch.arange(samples) if sample_ids is None else sample_ids
    _check(model, context, horizon, samples, n_past, numbers, latents)
    device = next(model.parameters()).device
    steps = torch.arange(1, n_past + horizon, device=device)
    at_once = max(1, int(memory * 2**30 / _bytes_per_future(model, horizon)))
    b, s = (1, at_once) if at_once < samples else (at_once // samples, samples)
    if not batch_statistics:
        with evaluating(model):
            model = folded(model)

    for some_clips in _slices(context.shape[0], b):
        with evaluating(model, batch_statistics):
            known = _encode_context(model, context[some_clips].to(device), n_past)
        for some_samples in _slices(samples, s):
            chosen = numbers[some_samples].to(device)
            index = torch.meshgrid(ids[some_clips].to(device), chosen, steps, indexing="ij")
            noise = Noise(seed, tuple(part.flatten(0, 1) for part in index))  # (N, T-1)
            see = watch and partial(watch, some_clips, some_samples)
            with evaluating(model, batch_statistics):
                futures = _Futures(model, known, noise, len(chosen), latents)
                frames, deviations = _predict(futures, horizon, stddev, draw, see)
            yield Chunk(some_clips, some_samples, frames, deviations)


def _slices(count: int, size: int) -> Iterator[slice]:
    """0, 1, ..., count - 1 in slices of at most that size."""
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def _check(
    model: SVG, context: Tensor, horizon: int, samples: int, n_past: int, numbers: Tensor, latents: Latents | None
) -> None:
    """Raises ValueError for what `iter_rollouts` can't be asked."""
    if latents:
        require_fixed_prior(model)
    model.check_frames(context[:, :n_past], model.config.n_past)
    for name, value in (("horizon", horizon), ("samples", samples)):
        if value < 1:
            raise ValueError(f"{name} is {value}, but must be at least 1")
    if numbers.shape != (samples,):
        raise ValueError(f"sample_ids names {len(numbers)} futures, but samples is {samples}")


def require_fixed_prior(model: SVG) -> None:
    """Raises ValueError where latents aren't independent of the frames before, or where there are none."""
    if model.learns_prior or not model.latent_size:
        raise ValueError(
            f"latents can be drawn from elsewhere only in place of a fixed prior, but model.prior is "
            f"{model.config.prior}: train with --model.prior fixed"
        )


def _predict(
    futures: _Futures,
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


def rollout(
    model: SVG, context: Tensor, horizon: int, samples: int = 1, seed: int = 0, *, stddev: bool = False, **options: Any
) -> Tensor | tuple[Tensor, Tensor]:
    """Possible futures of each context: float32 (B, S, horizon, C, H, W) in [0, 1], and their predicted stddev if
    asked for.

    Arguments as `iter_rollouts`, which is the form to use for futures that don't fit in memory together.
    """
    chunks = list(iter_rollouts(model, context, horizon, samples, seed, stddev=stddev, **options))
    frames = _assemble([(c.clips, c.frames) for c in chunks])
    if not stddev:
        return frames
    return frames, _assemble([(c.clips, c.stddev) for c in chunks if c.stddev is not None])


def _assemble(parts: list[tuple[slice, Tensor]]) -> Tensor:
    """Chunks of one clip range are joined along samples, clip ranges along clips."""
    by_clips: dict[int, list[Tensor]] = {}
    for clips, frames in parts:
        by_clips.setdefault(clips.start, []).append(frames)
    return torch.cat([torch.cat(group, dim=1) for group in by_clips.values()])


def reconstruct(
    model: SVG, frames: Tensor, n_past: int | None = None, samples: int = 1, seed: int = 0, **options: Any
) -> Tensor | tuple[Tensor, Tensor]:
    """Posterior rollouts: as `rollout`, but every z comes from the posterior of the true frames; predictions are
    still fed back.

    Args:
        frames: (B, T, C, H, W), the context and the true future.
        n_past: context frames (default: the model's).

    Returns:
        (B, S, T - n_past, C, H, W): how well the latents can describe the true future.
    """
    n_past = model.config.n_past if n_past is None else n_past
    if frames.shape[1] <= n_past:
        raise ValueError(f"{frames.shape[1]} frames leave none to reconstruct after a context of {n_past}")
    return rollout(model, to_float(frames), frames.shape[1] - n_past, samples, seed, n_past=n_past, **options)
