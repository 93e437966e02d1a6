"""Whether predictions know what they don't know: how probable the truth was, and how wide the futures are.

Three questions, each frame by frame:
- Under the predicted distribution, is the truth in the central 90 % interval 90 % of the time? The probability integral
  transform (PIT) answers for every interval at once: it is uniform if so, and the share of it in the middle c is the
  coverage of the interval of level c. In rollouts the distribution is the mixture over the sampled futures.
- Is the predicted standard deviation as large as the error? In rollouts it is that of the truth around the mean of S
  futures, sqrt((1 + 1/S) spread^2 + sigma^2) (Fortin et al. 2014).
- Are the futures (their means, as one sees them) as diverse as the truth is uncertain? Spread against error, the rank
  of the truth among the futures (and among futures with their pixel noise), and the fair CRPS, energy score (Gneiting &
  Raftery 2007; Ferro 2014) and variogram score (Scheuerer & Hamill 2015).

Everything is streamed over the futures and kept as sums and histograms a frame, so that clips add up.

B clips, S futures (s of them in a chunk), T frames, C channels, H W pixels, K bins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from svg.likelihoods.distribution import FrameDistribution
from svg.likelihoods.pit import integral_transform
from svg.noise import Noise

BINS = 20
"""Of PIT and rank histograms."""
SIGMA_EDGES = torch.logspace(-3, 0, 25)
"""Edges between the bins of predicted standard deviations; the outer two are open."""
TRANSFORM, RANK, DRAWN = 10, 11, 13  # noise streams
EVERY = 4
"""Of the ranks among noisy futures: each such row and column is looked at."""
LAG = 4
"""Pixels between the two values of a pair of the variogram score, along rows and columns."""


def uniforms(seed: int, clips: Tensor, frames: Tensor, shape: Iterable[int], stream: int) -> Tensor:
    """Uniforms (B, T, C, H, W) that depend on clip and frame number alone."""
    return Noise(seed, (clips.to(frames.device)[:, None], frames[None]), stream).uniform(*shape)


def histogram(values: Tensor) -> Tensor:
    """Counts of values (B, T, C, H, W) in [0, 1], frame by frame: int64 (B, T, K)."""
    bins = (values * BINS).long().clamp(0, BINS - 1).flatten(2)
    frame = torch.arange(bins.shape[0] * bins.shape[1], device=bins.device).view(*bins.shape[:2], 1)
    counts = torch.bincount((bins + frame * BINS).flatten(), minlength=frame.numel() * BINS)
    return counts.view(*bins.shape[:2], BINS)


def by_sigma(sigma: Tensor, error: Tensor) -> Tensor:
    """Values (B, ...) sorted by their predicted standard deviation: float64 (B, bins, 3) on the CPU, the sums of 1,
    sigma^2 and error^2 in each bin of `SIGMA_EDGES`."""
    sigma, error = sigma.flatten(1).cpu().contiguous(), error.flatten(1).cpu()
    place = torch.bucketize(sigma, SIGMA_EDGES)
    terms = (torch.ones_like(sigma), sigma.square(), error.square())
    return torch.stack(
        [
            torch.stack([torch.bincount(bins, row.double(), len(SIGMA_EDGES) + 1) for row in rows], dim=-1)
            for bins, *rows in zip(place, *terms, strict=True)
        ]
    )


class RolloutTransform:
    """The PIT of the true future under the mixture of all futures' distributions, their mean variance, and the truth's
    rank among futures with pixel noise.

    `watch` is for `svg.models.rollout.iter_rollouts`.

    Args:
        truth: uint8 (B, T, C, H, W).
        u: uniforms of that shape.
        clips: int64 (B,), their numbers.
        seed: of the noisy futures.
    """

    def __init__(self, truth: Tensor, u: Tensor, clips: Tensor, seed: int) -> None:
        self.truth, self.u, self.clips, self.seed = truth, u, clips.to(truth.device), seed
        self._transform, self._variance = torch.zeros_like(u), torch.zeros_like(u)
        self._below = torch.zeros_like(u[..., ::EVERY, ::EVERY])
        self.samples = torch.zeros(len(truth), dtype=torch.long)

    def watch(self, clips: slice, samples: slice, t: int, distribution: FrameDistribution) -> None:
        """Takes the distributions (N, 1, C, H, W) of some futures' frame t."""
        count = samples.stop - samples.start
        truth, u = (repeat(x[clips, t], "b c h w -> (b s) 1 c h w", s=count) for x in (self.truth, self.u))
        below = integral_transform(distribution, truth, u)
        few = below[..., ::EVERY, ::EVERY]
        numbers = torch.arange(samples.start, samples.stop, device=few.device)
        index = torch.meshgrid(self.clips[clips], numbers, torch.tensor([t], device=few.device), indexing="ij")
        drawn = Noise(self.seed, tuple(part.flatten(0, 1) for part in index), DRAWN).uniform(*few.shape[2:])
        for total, values in (
            (self._transform, below),
            (self._variance, distribution.stddev.square()),
            (self._below, (drawn < few).float()),  # a draw of that future is below the truth
        ):
            total[clips, t] += rearrange(values, "(b s) 1 c h w -> b s c h w", s=count).sum(dim=1)
        if t == 0:
            self.samples[clips] += count

    @property
    def _count(self) -> Tensor:
        return self.samples.to(self.u.device).view(-1, 1, 1, 1, 1)

    @property
    def transform(self) -> Tensor:
        """The PIT (B, T, C, H, W)."""
        return self._transform / self._count

    @property
    def variance(self) -> Tensor:
        """The mean over the futures of the predicted variance (B, T, C, H, W)."""
        return self._variance / self._count

    def rank(self, u: Tensor) -> Tensor:
        """The rank of the truth among draws of the futures, of every fourth row and column, in (0, 1)."""
        return (self._below + u[..., ::EVERY, ::EVERY]) / (self._count + 1)


class Ensemble:
    """What all futures of some clips say together: spread, error of their mean, scores, and the truth's rank.

    Feed it the futures of each clip in chunks, in order; the result doesn't depend on where the chunks are cut, and a
    few frames a clip are kept, whatever S is. Pairwise terms of CRPS and energy score are taken over futures that
    follow each other, an unbiased estimate.

    Args:
        truth: float (B, T, C, H, W) in [0, 1].
    """

    def __init__(self, truth: Tensor) -> None:
        self.truth = truth
        self.counts = [0] * len(truth)
        self.first, self.previous = torch.empty_like(truth), torch.empty_like(truth)
        self.total, self.squares, self.below, self.equal = (torch.zeros_like(truth) for _ in range(4))
        self.roughness = [torch.zeros_like(pair) for pair in _pairs(truth)]
        names = ("absolute", "absolute_pairs", "distance", "distance_pairs")
        self.best = truth.new_full(truth.shape[:2], math.inf)  # squared error, of the future that has the least
        self.sums = {name: truth.new_zeros(truth.shape[:2]) for name in names}

    def update(self, clips: slice, futures: Tensor) -> None:
        """Takes the next futures (b, s, T, C, H, W) of some clips."""
        truth = self.truth[clips]
        for future in futures.unbind(1):  # one at a time: a chunk's temporaries would not fit a cache
            if self.counts[clips.start] == 0:
                self.first[clips] = future
            else:
                self._compare("_pairs", clips, future - self.previous[clips])
            squares = self._compare("", clips, future - truth)
            better = squares.mean(1) < self.best[clips].mean(1)
            self.best[clips] = torch.where(better[:, None], squares, self.best[clips])
            shifted = future - self.first[clips]  # sums of small differences lose nothing to rounding
            self.total[clips] += shifted
            self.squares[clips] += shifted.square()
            self.below[clips] += future < truth
            self.equal[clips] += future == truth
            for total, pair in zip(self.roughness, _pairs(future), strict=True):
                total[clips] += pair
            self.previous[clips] = future
            self.counts[clips] = [count + 1 for count in self.counts[clips]]

    def _compare(self, name: str, clips: slice, difference: Tensor) -> Tensor:
        """Adds up sizes of differences (b, T, C, H, W); gives their mean squares (b, T)."""
        squares = difference.square().mean((-3, -2, -1))
        self.sums[f"absolute{name}"][clips] += difference.abs().mean((-3, -2, -1))
        self.sums[f"distance{name}"][clips] += squares.sqrt()
        return squares

    @property
    def count(self) -> int:
        """S."""
        (count,) = set(self.counts)
        return count

    @property
    def mean(self) -> Tensor:
        """Of the futures, (B, T, C, H, W)."""
        return self.first + self.total / self.count

    @property
    def variance(self) -> Tensor:
        """Of the futures, divided by S - 1 (0 for a single one): (B, T, C, H, W)."""
        spread = self.squares - self.total.square() / self.count
        return spread.clamp_min(0) / max(self.count - 1, 1)

    def curves(self) -> dict[str, Tensor]:
        """Frame by frame, (B, T), in units of [0, 1]: `diversity`, the root mean square difference between two
        futures; `spread`, their standard deviation; `mean_error`, the root mean square error of their mean;
        `best_error`, that of the best future of the clip; `crps`, the mean over the values; `energy`, the score of the
        whole frame, divided by sqrt(C H W); `variogram`, of order 1/2 over pairs of values 4 pixels apart, the mean
        over the pairs. What needs two futures is left out for one."""
        error = (self.mean - self.truth).square().mean((-3, -2, -1)).sqrt()
        errors = {"mean_error": error, "best_error": self.best.sqrt()}
        if self.count < 2:
            return errors
        variance = self.variance.mean((-3, -2, -1))
        scores = {
            kind: self.sums[kind] / self.count - 0.5 * self.sums[f"{kind}_pairs"] / (self.count - 1)
            for kind in ("absolute", "distance")
        }
        return errors | {
            "diversity": (2 * variance).sqrt(),
            "spread": variance.sqrt(),
            "crps": scores["absolute"],
            "energy": scores["distance"],
            "variogram": torch.stack(
                [
                    (total / self.count - pair).square().mean((-3, -2, -1))
                    for total, pair in zip(self.roughness, _pairs(self.truth), strict=True)
                ]
            ).mean(0),
        }

    def rank(self, u: Tensor) -> Tensor:
        """The rank of the truth among the futures, (B, T, C, H, W) in (0, 1): uniform if it is one of them. Ties and
        the rank's width are spread by uniforms u."""
        return (self.below + u * (self.equal + 1)) / (self.count + 1)


def _pairs(frames: Tensor) -> list[Tensor]:
    """Square roots of the differences of values `LAG` pixels apart, along columns and rows."""
    down, across = frames[..., LAG:, :] - frames[..., :-LAG, :], frames[..., LAG:] - frames[..., :-LAG]
    return [down.abs().sqrt(), across.abs().sqrt()]


def coverage(counts: Tensor) -> Tensor:
    """The share of the truth in the central intervals of levels 2/K, 4/K, ... 1, from PIT histograms (..., K): (...,
    K/2)."""
    middle = BINS // 2
    inside = torch.stack([counts[..., middle - i : middle + i].sum(-1) for i in range(1, middle + 1)], dim=-1)
    return inside / counts.sum(-1, keepdim=True)


def summarise_calibration(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The calibration of all clips, from records with the entries of `bounds.clip_bounds` (`forced`) or
    `scores.score_clips` (`rollout`).

    Returns:
        `pit` (T, K) shares, `coverage` over all frames at `levels`, `coverage_frames`: of the 90 % interval, `sigma`
        and `error`: root mean squares frame by frame, `by_sigma`: [share, sigma, error] of each bin that is not empty,
        and for rollouts `futures`, the part of sigma that they alone make, and shares (K,) of the `rank` of the truth
        among the futures, and among futures with pixel noise (`rank_noise`).
    """
    counts = torch.tensor([record["pit"] for record in records]).double().sum(0)
    levels = [2 * i / BINS for i in range(1, BINS // 2 + 1)]
    covered = coverage(counts)
    sums = torch.tensor([record["by_sigma"] for record in records]).double().sum(0)
    used = sums[:, 0] > 0
    found = {
        "pit": (counts / counts.sum(-1, keepdim=True)).tolist(),
        "levels": levels,
        "coverage": coverage(counts.sum(0)).tolist(),
        "coverage_frames": covered[:, levels.index(0.9)].tolist(),
        "by_sigma": [
            [(n / sums[:, 0].sum()).item(), (s / n).sqrt().item(), (e / n).sqrt().item()] for n, s, e in sums[used]
        ],
    }
    for name in ("sigma", "futures", "error"):
        if name not in records[0]:
            continue
        squares = torch.tensor([record[name] for record in records]).double().square()
        found[name] = squares.mean(0).sqrt().tolist()
    for name in ("rank", "rank_noise"):
        if name in records[0]:
            ranks = torch.tensor([record[name] for record in records]).double().sum((0, 1))
            found[name] = (ranks / ranks.sum()).tolist()
    return found
