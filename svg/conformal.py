"""Intervals with a guarantee, around anybody's predictions: conformal risk control (Angelopoulos, Bates, Fisch, Lei &
Schuster 2022).

A prediction is a mean m and a standard deviation u > 0 of every value of a clip's frames. The interval of frame h is
m - r_h u to m + r_h u, and a clip's loss there is the share of its values outside. On n calibration clips r_h is the
smallest radius with

    n/(n + 1) * (mean loss over the clips) + 1/(n + 1) <= alpha = 1 - level

(equation 4 of the paper, the loss being at most 1). Then the *expected share of a new clip's values* that lie inside is
at least `level`, whatever m and u are, if the new clip and the calibration clips are exchangeable and m and u were made
without looking at the latter. Nothing is promised of a single pixel, of all frames at once, or given a clip.

    radii = conformal.fit(truth, mean, stddev)                       # {level: (T,)} from calibration clips
    lower, upper = conformal.interval(mean, stddev, radii[0.9])      # of new ones

B clips, T frames, C channels, H W pixels; what is said of (C, H, W) holds for any trailing dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from svg.runtime.parallel import double

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Of the intervals that are fitted by default."""
EDGES = torch.logspace(-3, 4, 2049).double()
"""The radii that are tried: each is 0.8 % above the one before."""


def clips_needed(level: float) -> int:
    """The fewest calibration clips that can give an interval of this level.

    Raises:
        ValueError: the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval is {level}, but must be between 0 and 1")
    return max(1, math.ceil(1 / (1 - level) - 1 - 1e-9))


class Misses:
    """How far the truth of calibration clips is from their predictions, kept as one histogram a frame, so that clips
    can be given a few at a time."""

    def __init__(self) -> None:
        self.clips = 0
        self.shares: Tensor | None = None
        """Of the values of all clips so far by |truth - m|/u, in the bins that end at `EDGES`: float64 (T, bins)."""

    def update(self, truth: Tensor, mean: Tensor, stddev: Tensor) -> None:
        """Takes some clips.

        Args:
            truth: uint8, or float in [0, 1], (B, T, ...).
            mean, stddev: float, of that shape.

        Raises:
            ValueError: the shapes differ, or a standard deviation is not positive.
        """
        if not truth.shape == mean.shape == stddev.shape or truth.ndim < 2:
            shapes = ", ".join(str(tuple(x.shape)) for x in (truth, mean, stddev))
            raise ValueError(f"truth, mean and stddev must have one shape (B, T, ...), but have {shapes}")
        if not (stddev > 0).all():
            raise ValueError("a predicted standard deviation is 0, negative or no number")
        bins = torch.bucketize(_distance(truth, mean, stddev).cpu().contiguous(), EDGES).flatten(2)
        frames, places = bins.shape[0] * bins.shape[1], len(EDGES) + 1
        flat = (bins.flatten(0, 1) + places * torch.arange(frames)[:, None]).flatten()
        counts = torch.bincount(flat, minlength=frames * places).view(*bins.shape[:2], places)
        shares = (counts.double() / bins.shape[2]).sum(0)
        self.shares = shares if self.shares is None else self.shares + shares
        self.clips += len(truth)

    def radius(self, level: float) -> Tensor:
        """The smallest radius of this level frame by frame, float32 (T,).

        Raises:
            ValueError: the level is not between 0 and 1, the clips are too few for it, or no radius is wide enough.
        """
        needed = clips_needed(level)
        if self.clips < needed:
            raise ValueError(f"an interval of level {level:g} needs {needed} clips, but there are {self.clips}")
        assert self.shares is not None
        outside = 1 - self.shares.cumsum(1)[:, :-1] / self.clips  # the mean loss at each of EDGES
        met = self.clips / (self.clips + 1) * outside + 1 / (self.clips + 1) <= 1 - level + 1e-12
        if not met[:, -1].all():
            frame = int((~met[:, -1]).int().argmax()) + 1
            raise ValueError(
                f"no interval of level {level:g} holds at frame {frame}: the truth is over {EDGES[-1]:g} standard "
                f"deviations away"
            )
        return EDGES[met.int().argmax(1)].float()


def fit(truth: Tensor, mean: Tensor, stddev: Tensor, levels: Sequence[float] = LEVELS) -> dict[float, Tensor]:
    """The radii of each level frame by frame, from calibration clips that neither mean nor stddev were fitted to.

    Args:
        truth: uint8, or float in [0, 1], (B, T, ...).
        mean, stddev: float, of that shape.

    Returns:
        float32 (T,) for each level.

    Raises:
        ValueError: as `Misses.update` and `Misses.radius`.
    """
    misses = Misses()
    misses.update(truth, mean, stddev)
    return {level: misses.radius(level) for level in levels}


def interval(mean: Tensor, stddev: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper ends, each (B, T, ...) in [0, 1], for radii (T,)."""
    reach = radius.to(mean).view(-1, *[1] * (mean.ndim - 2)) * stddev
    return (mean - reach).clamp(0, 1), (mean + reach).clamp(0, 1)


def covered(truth: Tensor, mean: Tensor, stddev: Tensor, radius: Tensor) -> Tensor:
    """Which values (B, T, ...) of the truth lie inside, as bool."""
    return _distance(truth, mean, stddev) <= double(radius).view(-1, *[1] * (mean.ndim - 2))


def _distance(truth: Tensor, mean: Tensor, stddev: Tensor) -> Tensor:
    """|truth - mean| / stddev, float64."""
    truth = double(truth) / 255 if truth.dtype == torch.uint8 else double(truth)
    return (truth - double(mean)).abs() / double(stddev)
