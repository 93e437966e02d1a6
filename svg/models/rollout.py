"""Rollouts: possible futures of a few context frames (Denton & Fergus 2018, section 3; semantics in
docs/architecture.md).

While the context lasts, true frames go in and z comes from the posterior, one set of draws per sample; after it z
comes from the prior and the likelihood's mean (or a draw) is fed back as the next input. All noise is a pure function
of (seed, clip id, sample, step), so a future doesn't depend on the chunk, the other clips of the batch or the process
that computes it.

B clips, S samples, T frames, C channels, H W pixels, G feature, Z latent; N = clips * samples of one chunk, clip-major.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor

from svg.likelihoods.base import FrameDistribution
from svg.models.base import evaluating, to_float
from svg.models.calibrated import Calibration, Interval, digest_of
from svg.models.folding import folded
from svg.models.futures import Latents, RolloutState, VideoModel, encode_context, predict
from svg.noise import Noise

Watch = Callable[[slice, slice, int, FrameDistribution], None]
"""Told of each predicted frame: the chunk's clips and samples, t = 0, 1, ... of the horizon, and the distribution
(N, 1, C, H, W)."""


@dataclass
class Chunk:
    """Some samples of some clips: `frames` float32 (b, s, horizon, C, H, W) in [0, 1], and their predicted `stddev`
    if asked for."""

    clips: slice
    samples: slice
    frames: Tensor
    stddev: Tensor | None = None


class _Options(TypedDict, total=False):
    """The keyword arguments that `rollout` hands on to `iter_rollouts`."""

    n_past: int | None
    clip_ids: Tensor | None
    sample_ids: Tensor | None
    draw: bool
    batch_statistics: bool
    memory: float
    watch: Watch | None
    latents: Latents | None
    calibrated: bool


class Rollouts(VideoModel):
    """Rollouts of a video model, as methods."""

    calibration: Calibration | None = None
    """What calibrated rollouts apply, where `eval.py calibrate` has fitted it (`svg.load` brings it along)."""

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json, model.safetensors and manifest.json, from which `svg.load` rebuilds the model, and its
        calibration, if it has one.

        Raises:
            ValueError: the calibration is of other weights than the model now has.
        """
        if self.calibration and self.calibration.fitted.get("weights") != digest_of(self.state_dict()):
            raise ValueError(
                "the model's weights have changed since it was calibrated: set model.calibration to None, or calibrate "
                "the saved model again"
            )
        super().save_pretrained(folder)
        if self.calibration:
            self.calibration.save(Path(folder) / "calibration")

    def iter_rollouts(
        self,
        context: Tensor,
        horizon: int,
        samples: int = 1,
        seed: int = 0,
        *,
        stddev: bool = False,
        n_past: int | None = None,
        clip_ids: Tensor | None = None,
        sample_ids: Tensor | None = None,
        draw: bool = False,
        batch_statistics: bool = False,
        memory: float = 2.0,
        watch: Watch | None = None,
        latents: Latents | None = None,
        calibrated: bool = False,
    ) -> Iterator[Chunk]:
        """Possible futures in chunks, clip-major, each within a memory budget.

        Args:
            context: (B, T, C, H, W), uint8 or float in [0, 1], T >= the model's n_past.
            horizon: frames to predict, those of the context not counted.
            samples: futures per clip.
            seed: of the futures.
            stddev: also give the likelihood's predicted standard deviation of every value.
            n_past: how many of the context's frames condition the rollout (default: all). Any after them are seen by
                the posterior alone: a reconstruction.
            clip_ids: int64 (B,), in [0, 2^32): what the noise of each clip depends on (default: its position).
            sample_ids: int64 (samples,), in [0, 2^32): which of the futures (default: the first).
            draw: feed back and return draws of the likelihood (clamped to [0, 1]) instead of its mean.
            batch_statistics: BatchNorm by the batch at hand, as the published script (see `evaluating`).
            memory: budget in GiB.
            watch: sees every predicted distribution, for what can't be told from its mean and stddev.
            latents: draws the latents instead of a fixed prior: `draw` of a sampler in svg/models/samplers.py.
            calibrated: apply the model's calibration: its futures, and its standard deviations (docs/calibration.md).

        Raises:
            ValueError: `sample_ids` of another number than `samples`; a context of the wrong shape, or shorter than
                the model's n_past; `latents` of a model without a fixed prior; `calibrated` without a calibration, with
                `draw` or `latents`, or for another context or a longer horizon than it was fitted to.
        """
        self.check_frames(context, self.config.n_past)
        n_past = context.shape[1] if n_past is None else n_past
        ids = torch.arange(context.shape[0]) if clip_ids is None else clip_ids
        numbers = torch.arange(samples) if sample_ids is None else sample_ids
        _check(self, context, horizon, samples, n_past, numbers, latents)
        device = next(self.parameters()).device
        calibration = _calibration(self, n_past, horizon, draw, latents).to(device) if calibrated else None
        steps = torch.arange(1, n_past + horizon, device=device)
        at_once = max(1, int(memory * 2**30 / _bytes_per_future(self, horizon)))
        b, s = (1, at_once) if at_once < samples else (at_once // samples, samples)
        model = self if batch_statistics else _without_batchnorm(self)

        for some_clips in _slices(context.shape[0], b):
            with evaluating(model, batch_statistics):
                known = encode_context(model, context[some_clips].to(device), n_past)
            for some_samples in _slices(samples, s):
                chosen = numbers[some_samples].to(device)
                index = torch.meshgrid(ids[some_clips].to(device), chosen, steps, indexing="ij")
                noise = Noise(seed, tuple(part.flatten(0, 1) for part in index))  # (N, T-1)
                see = watch and partial(watch, some_clips, some_samples)
                with evaluating(model, batch_statistics):
                    futures = RolloutState(model, known, noise, len(chosen), latents, calibration)
                    frames, deviations = predict(futures, horizon, stddev, draw, see)
                yield Chunk(some_clips, some_samples, frames, deviations)

    @overload
    def rollout(
        self,
        context: Tensor,
        horizon: int,
        samples: int = ...,
        seed: int = ...,
        *,
        stddev: Literal[False] = ...,
        interval: None = ...,
        **options: Unpack[_Options],
    ) -> Tensor: ...
    @overload
    def rollout(
        self,
        context: Tensor,
        horizon: int,
        samples: int = ...,
        seed: int = ...,
        *,
        stddev: Literal[True],
        interval: None = ...,
        **options: Unpack[_Options],
    ) -> tuple[Tensor, Tensor]: ...
    @overload
    def rollout(
        self,
        context: Tensor,
        horizon: int,
        samples: int = ...,
        seed: int = ...,
        *,
        stddev: bool = ...,
        interval: float,
        **options: Unpack[_Options],
    ) -> tuple[Tensor, Tensor, Interval]: ...
    def rollout(
        self,
        context: Tensor,
        horizon: int,
        samples: int = 1,
        seed: int = 0,
        *,
        stddev: bool = False,
        n_past: int | None = None,
        clip_ids: Tensor | None = None,
        sample_ids: Tensor | None = None,
        draw: bool = False,
        batch_statistics: bool = False,
        memory: float = 2.0,
        watch: Watch | None = None,
        latents: Latents | None = None,
        calibrated: bool = False,
        interval: float | None = None,
    ) -> Tensor | tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Interval]:
        """Possible futures of each context, all at once; arguments and errors as of `iter_rollouts`, which is the form
        for futures that don't fit in memory together.

        Args:
            interval: also give the interval of this level around the mean of calibrated futures, in which the expected
                share of a new clip's values, frame by frame, is at least the level (svg/conformal.py).

        Returns:
            float32 (B, S, horizon, C, H, W) in [0, 1]; with `stddev`, a pair of them and their predicted standard
            deviations; with `interval`, those two and the interval.

        Raises:
            ValueError: also an `interval` without `calibrated`, of a level that was not fitted, or for another number
                of futures.
        """
        if interval is not None and not calibrated:
            raise ValueError("an interval is of calibrated rollouts: give calibrated=True")
        stddev = stddev or interval is not None
        chunks = list(
            self.iter_rollouts(
                context,
                horizon,
                samples,
                seed,
                stddev=stddev,
                n_past=n_past,
                clip_ids=clip_ids,
                sample_ids=sample_ids,
                draw=draw,
                batch_statistics=batch_statistics,
                memory=memory,
                watch=watch,
                latents=latents,
                calibrated=calibrated,
            )
        )
        frames = _assemble([(chunk.clips, chunk.frames) for chunk in chunks])
        if not stddev:
            return frames
        deviations = _assemble([(chunk.clips, chunk.stddev) for chunk in chunks if chunk.stddev is not None])
        if interval is None:
            return frames, deviations
        assert self.calibration is not None
        return frames, deviations, self.calibration.to(frames.device).interval(frames, deviations, interval)

    def reconstruct(
        self,
        frames: Tensor,
        n_past: int | None = None,
        samples: int = 1,
        seed: int = 0,
        *,
        clip_ids: Tensor | None = None,
        memory: float = 2.0,
    ) -> Tensor:
        """Posterior rollouts: as `rollout`, but every z comes from the posterior of the true frames; predictions are
        still fed back.

        Args:
            frames: (B, T, C, H, W), uint8 or float in [0, 1]: the context and the true future.
            n_past: context frames (default: the model's).
            samples, seed, clip_ids, memory: as of `iter_rollouts`.

        Returns:
            float32 (B, S, T - n_past, C, H, W) in [0, 1]: how well the latents can describe the true future.

        Raises:
            ValueError: no frames are left after the context; otherwise as `iter_rollouts`.
        """
        n_past = self.config.n_past if n_past is None else n_past
        if frames.shape[1] <= n_past:
            raise ValueError(f"{frames.shape[1]} frames leave none to reconstruct after a context of {n_past}")
        horizon = frames.shape[1] - n_past
        return self.rollout(to_float(frames), horizon, samples, seed, n_past=n_past, clip_ids=clip_ids, memory=memory)


def _check(
    model: Rollouts, context: Tensor, horizon: int, samples: int, n_past: int, numbers: Tensor, latents: Latents | None
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


def _calibration(model: Rollouts, n_past: int, horizon: int, draw: bool, latents: Latents | None) -> Calibration:
    """The model's calibration. Raises ValueError where it has none for such rollouts."""
    if model.calibration is None:
        raise ValueError("the model has no calibration: python eval.py calibrate --checkpoint RUN fits one")
    if draw or latents:
        raise ValueError("calibrated futures are means under the calibrated prior: leave out draw and latents")
    model.calibration.check(n_past, horizon)
    return model.calibration


def require_fixed_prior(model: Rollouts) -> None:
    """Raises ValueError where latents aren't independent of the frames before, or where there are none."""
    if model.learns_prior or not model.latent_size:
        raise ValueError(
            f"latents can be drawn from elsewhere only in place of a fixed prior, but model.prior is "
            f"{model.config.prior}: train with --model.prior fixed"
        )


def _without_batchnorm(model: Rollouts) -> Rollouts:
    """The model with BatchNorm folded into its convolutions; it shares all but encoder and decoder with `model`."""
    made = copy.copy(model)
    made._modules = dict(model._modules)
    with evaluating(model):
        made.encoder, made.decoder = folded(model.encoder, model.decoder)
    return made


def _bytes_per_future(model: Rollouts, horizon: int) -> int:
    """A generous estimate of the memory that one future takes while it is computed."""
    c = model.config
    pixels = c.size * c.size
    activations = 8 * c.width * pixels + 6 * model.likelihood.param_channels * pixels
    return 4 * (activations + 2 * horizon * c.channels * pixels + horizon * 8 * max(c.z_dim, 1))


def _slices(count: int, size: int) -> Iterator[slice]:
    """0, 1, ..., count - 1 in slices of at most that size."""
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def _assemble(parts: list[tuple[slice, Tensor]]) -> Tensor:
    """Chunks of one clip range are joined along samples, clip ranges along clips."""
    by_clips: dict[int, list[Tensor]] = {}
    for clips, frames in parts:
        by_clips.setdefault(clips.start, []).append(frames)
    return torch.cat([torch.cat(group, dim=1) for group in by_clips.values()])
