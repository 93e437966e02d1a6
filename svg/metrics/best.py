"""The best of N samples, streamed: only the best so far and a sum are kept, whatever N is.

B clips, S samples, s of them in a chunk, T frames.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from svg.runtime.parallel import double


class BestOfN:
    """For each clip the best sample by its mean over the frames, and the mean over all samples.

    Feed it the samples of the same B clips in chunks, in order; the result doesn't depend on where the chunks are cut.

    Args:
        higher_is_better: as for PSNR and SSIM; not for LPIPS.
    """

    def __init__(self, higher_is_better: bool) -> None:
        self.sign = 1.0 if higher_is_better else -1.0
        self.samples = 0
        self._value: Tensor | None = None

    def update(self, scores: Tensor) -> Tensor:
        """Takes the scores (B, s, T) of the next s samples.

        Returns:
            bool (B,): for which clips one of them is the best so far.
        """
        scores = double(scores)
        means = self.sign * scores.mean(dim=-1)
        value = means.amax(dim=1)
        positions = torch.arange(means.shape[1], device=means.device)
        place = torch.where(means == value[:, None], positions, means.shape[1]).amin(dim=1)  # the first of equals
        place = place.clamp_max(means.shape[1] - 1)  # where a score is NaN
        curve = scores[torch.arange(len(scores), device=scores.device), place]
        if self._value is None:
            better = torch.ones_like(value, dtype=torch.bool)
            self._value, self._index, self._curve, self._total = value, place, curve, scores.sum(dim=1)
        else:
            better = value > self._value
            self._value = torch.where(better, value, self._value)
            self._index = torch.where(better, place + self.samples, self._index)
            self._curve = torch.where(better[:, None], curve, self._curve)
            self._total = self._total + scores.sum(dim=1)
        self.samples += scores.shape[1]
        return better

    @property
    def index(self) -> Tensor:
        """The best sample of each clip, int64 (B,)."""
        return self._index

    @property
    def best(self) -> Tensor:
        """Its score frame by frame, float64 (B, T)."""
        return self._curve

    @property
    def mean(self) -> Tensor:
        """The score frame by frame averaged over all samples, float64 (B, T)."""
        return self._total / self.samples


class Interval(NamedTuple):
    """A mean over clips and the half-width of its 95 % interval."""

    mean: Tensor
    half: Tensor

    @classmethod
    def over_clips(cls, values: Tensor) -> Interval:
        """Of values (B, ...): the mean over B and 1.96 sd / sqrt(B), float64 (...); NaN for a single clip.

        sd is the sample standard deviation (divided by B - 1).
        """
        values = double(values)
        sd = values.std(dim=0) if len(values) > 1 else torch.full_like(values[0], torch.nan)
        return cls(values.mean(dim=0), 1.96 * sd / len(values) ** 0.5)
