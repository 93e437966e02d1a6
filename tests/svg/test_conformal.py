"""Intervals by conformal risk control: against the definition, and the promise itself, on draws."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svg import conformal


def by_definition(truth: torch.Tensor, mean: torch.Tensor, stddev: torch.Tensor, level: float) -> list[float]:
    """The smallest radius of EDGES that meets n/(n + 1) loss + 1/(n + 1) <= alpha, tried one after another."""
    distance = (truth - mean).double().abs() / stddev.double()
    n, radii = len(truth), []
    for frame in range(truth.shape[1]):
        for radius in conformal.EDGES.tolist():
            loss = (distance[:, frame] > radius).double().mean()
            if n / (n + 1) * loss + 1 / (n + 1) <= 1 - level:
                radii.append(radius)
                break
    return radii


def clips(count: int, seed: int = 0, frames: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Truth, mean and stddev (B, T, 1, 4, 4) of heteroscedastic clips; the stddev is wrong by a factor."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, frames, 1, 4, 4)
    mean = torch.rand(shape, generator=generator)
    sigma = 0.02 + 0.1 * torch.rand(shape, generator=generator) * torch.arange(1, frames + 1).view(-1, 1, 1, 1)
    wide = 1 + 2 * torch.rand(count, 1, 1, 1, 1, generator=generator)  # clips differ in how hard they are
    return mean + wide * sigma * torch.randn(shape, generator=generator), mean, sigma


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_the_radius_is_the_smallest_that_meets_the_bound(level):
    truth, mean, stddev = clips(25)
    found = conformal.fit(truth, mean, stddev, [level])[level]
    torch.testing.assert_close(found, torch.tensor(by_definition(truth, mean, stddev, level)))


def test_clips_may_come_a_few_at_a_time():
    truth, mean, stddev = clips(20)
    misses = conformal.Misses()
    for some in (slice(0, 3), slice(3, 20)):
        misses.update(truth[some], mean[some], stddev[some])
    torch.testing.assert_close(misses.radius(0.9), conformal.fit(truth, mean, stddev, [0.9])[0.9])


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_expected_share_of_a_new_clip_is_covered(level):
    """Over many calibration sets of 19 clips the mean coverage of new clips is at least the level, and not much more:
    each is drawn anew, so the mean of 300 is within 3 standard errors."""
    shares = []
    for seed in range(300):
        truth, mean, stddev = clips(20, seed)
        radius = conformal.fit(truth[:19], mean[:19], stddev[:19], [level])[level]
        shares.append(conformal.covered(truth[19:], mean[19:], stddev[19:], radius).double().mean().item())
    found = torch.tensor(shares)
    error = found.std().item() / math.sqrt(len(shares))
    assert level - 3 * error < found.mean().item() < level + 1 / 20 + 3 * error


def test_the_interval_holds_what_is_called_covered():
    truth, mean, stddev = clips(12)
    truth = truth.clamp(0, 1)
    radius = conformal.fit(truth, mean, stddev, [0.8])[0.8]
    lower, upper = conformal.interval(mean, stddev, radius)
    inside = (lower - 1e-6 <= truth) & (truth <= upper + 1e-6)
    assert (conformal.covered(truth, mean, stddev, radius) <= inside).all()
    assert lower.min() >= 0 and upper.max() <= 1


def test_grey_levels_are_taken_as_k_over_255():
    truth, mean, stddev = clips(12)
    levels = (255 * truth.clamp(0, 1)).round().to(torch.uint8)
    assert torch.equal(
        conformal.fit(levels, mean, stddev, [0.8])[0.8], conformal.fit(levels.float() / 255, mean, stddev, [0.8])[0.8]
    )


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 0.99))
def test_the_clips_needed_are_the_fewest(level):
    needed = conformal.clips_needed(level)
    assert 1 / (needed + 1) <= 1 - level + 1e-9  # a loss of 0 meets the bound
    assert needed == 1 or 1 / needed > 1 - level - 1e-9
    truth, mean, stddev = clips(needed, frames=1)
    conformal.fit(truth, mean, stddev, [level])


@pytest.mark.parametrize(("level", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_too_few_clips_are_refused_with_the_number_needed(level, needed):
    truth, mean, stddev = clips(max(needed - 1, 1))
    if needed > 1:
        with pytest.raises(ValueError, match=f"level {level:g} needs {needed} clips, but there are {needed - 1}"):
            conformal.fit(truth, mean, stddev, [level])
    conformal.fit(*clips(needed), [level])


def test_wrong_arguments_are_refused():
    truth, mean, stddev = clips(10)
    for level in (0.0, 1.0, -0.5, math.nan):
        with pytest.raises(ValueError, match="must be between 0 and 1"):
            conformal.fit(truth, mean, stddev, [level])
    with pytest.raises(ValueError, match="one shape"):
        conformal.fit(truth, mean[:, :1], stddev)
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="standard deviation"):
            conformal.fit(truth, mean, torch.full_like(stddev, wrong))
    with pytest.raises(ValueError, match="no interval of level 0.8 holds at frame 1"):
        conformal.fit(truth + 1, mean, torch.full_like(stddev, 1e-9), [0.8])
