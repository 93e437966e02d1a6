"""Calibration: uniform where predictions are right, closed forms where they are wrong, and no matter how it is
streamed."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from svg import likelihoods
from svg.evaluation.calibration import (
    BINS,
    Ensemble,
    RolloutTransform,
    by_sigma,
    coverage,
    histogram,
    summarise_calibration,
)
from svg.likelihoods.normal import Normal
from svg.likelihoods.pit import integral_transform

SHAPE = (2, 3, 1, 40, 40)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def chi_square(counts: Tensor) -> float:
    """p-value of uniform counts."""
    return float(stats.chisquare(counts.flatten(0, -2).sum(0).numpy()).pvalue)


@pytest.mark.parametrize(
    "name", ["fixed_gaussian", "laplace", "student_t", "beta", "discretized_logistic", "categorical"]
)
def test_transform_of_own_draws_is_uniform(name: str) -> None:
    head = likelihoods.build(name, channels=1, size=(40, 40), **({"sigma": 0.05} if name == "fixed_gaussian" else {}))
    params = 0.3 * normal(2, 3, head.param_channels, 40, 40)
    if name == "student_t":  # scales that keep the draws within 0..255
        params[:, :, 1] -= 4
        params[:, :, 2] += 8
    if name == "laplace":
        head.running.update(torch.full((1,), 0.02))
    distribution = head.distribution(params)
    torch.manual_seed(0)
    draws = distribution.sample()
    inside = (draws >= 0) & (draws <= 1)
    unit = 256 * draws - 0.5 if distribution.support == "unit interval" else 255 * draws
    levels = unit.round().clamp(0, 255).to(torch.uint8)
    pit = integral_transform(distribution, levels, uniform(*SHAPE, seed=9))
    assert 0 <= pit.min() and pit.max() <= 1
    assert inside.all()
    assert chi_square(histogram(pit)) > 1e-4


def test_bernoulli_has_no_transform() -> None:
    distribution = likelihoods.build("bernoulli", channels=1).distribution(torch.zeros(1, 1, 1, 4, 4))
    with pytest.raises(ValueError, match="bernoulli has no calibration"):
        integral_transform(distribution, torch.zeros(1, 1, 1, 4, 4, dtype=torch.uint8), uniform(1, 1, 1, 4, 4))


def test_coverage_of_too_narrow_predictions() -> None:
    """Predicting half the true sigma covers 2 Phi(z/2) - 1 instead of 2 Phi(z) - 1."""
    error = normal(1, 1, 1, 300, 300)
    pit = Normal(torch.zeros(1), torch.tensor(0.5).log()).cdf(error)
    found = coverage(histogram(pit))[0, 0]
    for place, level in ((4, 0.5), (8, 0.9)):
        z = stats.norm.ppf(0.5 + level / 2)
        assert found[place].item() == pytest.approx(2 * stats.norm.cdf(z / 2) - 1, abs=0.01)
    assert found[-1] == 1


def test_histogram_counts_every_value_of_its_frame() -> None:
    values = uniform(*SHAPE)
    counts = histogram(values)
    assert counts.shape == (2, 3, BINS) and (counts.sum(-1) == 1600).all()
    wanted = torch.histc(values[1, 2], BINS, 0, 1)
    assert torch.equal(counts[1, 2], wanted.long())
    assert histogram(torch.ones(1, 1, 1, 1, 1))[0, 0, -1] == 1


def test_errors_sorted_by_sigma() -> None:
    sigma = torch.tensor([0.1, 0.3, 0.1, 5.0, 1e-5]).repeat(2, 1)
    error = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).repeat(2, 1)
    sums = by_sigma(sigma, error)
    assert sums.shape[0] == 2 and sums[:, :, 0].sum(1).tolist() == [5, 5]
    assert sums[0, -1].tolist() == [1, 25, 16] and sums[0, 0, 2] == 25
    tenth = sums[0, :, 0].tolist().index(2)
    assert sums[0, tenth, 2] == 10 and sums[0, tenth, 1].item() == pytest.approx(0.02)


def ensemble(futures: Tensor, truth: Tensor, chunks: list[int]) -> Ensemble:
    together = Ensemble(truth)
    for part in futures.split(chunks, dim=1):
        for clip in range(len(truth)):
            together.update(slice(clip, clip + 1), part[clip : clip + 1])
    return together


def test_ensemble_streams_what_all_futures_say() -> None:
    truth, futures = uniform(*SHAPE), uniform(2, 7, *SHAPE[1:], seed=2)
    together = ensemble(futures, truth, [3, 4])
    curves = together.curves()
    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
    squares = torch.stack([(futures[:, i] - futures[:, j]).square().mean((-3, -2, -1)) for i, j in pairs]).mean(0)
    torch.testing.assert_close(curves["diversity"], squares.sqrt())
    torch.testing.assert_close(together.variance, futures.var(dim=1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(curves["spread"], futures.var(dim=1).mean((-3, -2, -1)).sqrt())
    error = (futures.mean(1) - truth).square().mean((-3, -2, -1)).sqrt()
    torch.testing.assert_close(curves["mean_error"], error)
    each = (futures - truth[:, None]).square().mean((-3, -2, -1))
    torch.testing.assert_close(curves["best_error"], each[range(2), each.mean(-1).argmin(1)].sqrt())
    near = (futures[:, 1:] - futures[:, :-1]).abs().mean((1, -3, -2, -1))
    torch.testing.assert_close(curves["crps"], (futures - truth[:, None]).abs().mean((1, -3, -2, -1)) - 0.5 * near)
    whole = ensemble(futures, truth, [7]).curves()
    for name, values in curves.items():
        torch.testing.assert_close(values, whole[name])


def test_crps_of_gaussian_futures() -> None:
    """Of N(0, s^2) against a truth drawn from it, in expectation s/sqrt(pi); the energy score is nearly s/sqrt(2)."""
    futures, truth = 0.2 * normal(1, 200, 1, 1, 60, 60), 0.2 * normal(1, 1, 1, 60, 60, seed=5)
    curves = ensemble(futures, truth, [200]).curves()
    assert curves["crps"].item() == pytest.approx(0.2 / math.sqrt(math.pi), rel=0.05)
    assert curves["energy"].item() == pytest.approx(0.2 / math.sqrt(2), rel=0.05)


def test_rank_is_uniform_exactly_if_the_truth_is_one_of_the_futures() -> None:
    futures, truth, u = normal(2, 6, *SHAPE[1:]), normal(*SHAPE, seed=3), uniform(*SHAPE)
    assert chi_square(histogram(ensemble(futures, truth, [6]).rank(u))) > 1e-3
    assert chi_square(histogram(ensemble(0.5 * futures, truth, [6]).rank(u))) < 1e-6
    same = torch.zeros(2, 6, *SHAPE[1:])
    assert chi_square(histogram(ensemble(same, same[:, 0], [6]).rank(u))) > 1e-3  # ties are spread


def test_rank_counts_the_futures_below_the_truth() -> None:
    """Of six: below all it is in the first seventh, above two in the third, above all in the last."""
    futures, u = torch.linspace(0.1, 0.6, 6).view(1, 6, 1, 1, 1, 1), torch.full((1, 1, 1, 1, 1), 0.25)
    for value, below in ((0.0, 0), (0.25, 2), (0.45, 4), (0.9, 6)):
        truth = torch.full((1, 1, 1, 1, 1), value)
        assert ensemble(futures, truth, [6]).rank(u).item() == pytest.approx((below + 0.25) / 7)


def test_one_future_has_no_spread() -> None:
    truth = uniform(*SHAPE)
    assert set(ensemble(truth[:, None] / 2, truth, [1]).curves()) == {"mean_error", "best_error"}


def test_transform_of_a_mixture() -> None:
    """The PIT of a mixture is the mean of its parts', however the futures come."""
    truth = (255 * uniform(*SHAPE)).to(torch.uint8)
    u, means = uniform(*SHAPE, seed=4), uniform(2, 5, *SHAPE[1:], seed=5)
    transform = RolloutTransform(truth, u, torch.arange(2), seed=0)
    for clip in range(2):
        for samples in (slice(0, 2), slice(2, 5)):
            for t in range(3):
                part = Normal(means[clip, samples, t, None], torch.tensor(0.2).log())
                transform.watch(slice(clip, clip + 1), samples, t, part)
    wanted = Normal(means, torch.tensor(0.2).log()).cdf(((truth + u - 0.5) / 255)[:, None]).mean(1)
    torch.testing.assert_close(transform.transform, wanted)
    torch.testing.assert_close(transform.variance, torch.full_like(u, 0.04))


@pytest.mark.parametrize(("noise", "uniform_rank"), [(0.1, True), (0.02, False)])
def test_rank_among_noisy_futures_is_uniform_exactly_if_the_noise_is_the_truths(noise, uniform_rank) -> None:
    """Futures without spread and noise of sd 0.1 in the truth: right noise makes the truth one of them."""
    shape = (1, 1, 1, 200, 200)
    levels = (255 * (0.5 + 0.1 * normal(*shape))).round().clamp(0, 255).to(torch.uint8)
    transform = RolloutTransform(levels, uniform(*shape), torch.tensor([3]), seed=0)
    future = Normal(torch.full((4, 1, 1, 200, 200), 0.5), torch.tensor(noise).log())
    for samples in (slice(0, 4), slice(4, 8)):
        transform.watch(slice(0, 1), samples, 0, future)
    ranks = histogram(transform.rank(uniform(*shape, seed=2)))
    assert ranks.sum() == 50 * 50
    assert (chi_square(ranks) > 1e-3) == uniform_rank


def test_variogram_is_least_for_the_right_roughness() -> None:
    """Futures as rough as the truth score better than smooth or rougher ones of the same values' spread."""
    truth, futures = normal(4, 2, 1, 24, 24), normal(4, 8, 2, 1, 24, 24, seed=1)
    smooth = normal(4, 8, 2, 1, 1, 1, seed=1).expand(4, 8, 2, 1, 24, 24)  # one value a frame: no differences
    scores = [ensemble(x, truth, [8]).curves()["variogram"].mean() for x in (futures, smooth, 3 * futures)]
    assert scores[0] < scores[1] and scores[0] < scores[2]
    pairs = (truth[..., 4:, :] - truth[..., :-4, :]).abs().sqrt(), (truth[..., 4:] - truth[..., :-4]).abs().sqrt()
    torch.testing.assert_close(scores[1], torch.stack([pair.square().mean() for pair in pairs]).mean())


def test_summary_of_clips_adds_up() -> None:
    def clip(seed: int) -> dict:
        pit = histogram(uniform(1, 3, 1, 40, 40, seed=seed))[0]
        sums = by_sigma(torch.full((1, 50), 0.1), torch.full((1, 50), 0.2))[0]
        return {
            "pit": pit.tolist(),
            "rank": pit.tolist(),
            "sigma": [0.1] * 3,
            "error": [0.2] * 3,
            "by_sigma": sums.tolist(),
        }

    summary = summarise_calibration([clip(0), clip(1)])
    assert len(summary["pit"]) == 3 and all(sum(row) == pytest.approx(1) for row in summary["pit"])
    assert summary["coverage"] == pytest.approx(summary["levels"], abs=0.03)
    assert summary["coverage_frames"] == pytest.approx([0.9] * 3, abs=0.03)
    assert summary["error"] == pytest.approx([0.2] * 3) and sum(summary["rank"]) == pytest.approx(1)
    assert summary["by_sigma"] == [pytest.approx([1.0, 0.1, 0.2])]
