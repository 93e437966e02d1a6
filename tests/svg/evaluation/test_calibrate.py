"""Fitting a calibration: on a world whose uncertainty is known, and on a small model from end to end."""

from __future__ import annotations

import itertools

import pytest
import torch

from svg.evaluation import calibrate
from svg.evaluation.calibrate import Fit, fair_energy_score
from svg.evaluation.scores import Futures
from svg.models.calibrated import Tempering
from tests.helpers.models import frames, make

HORIZON = 3


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Enough to see what is fitted to what."""
    for name, value in {"TAUS": (2.0,), "RHOS": (0.5,), "MAP_CLIPS": 4, "MAP_STEPS": 12, "MAP_BATCH": 4}.items():
        monkeypatch.setattr(calibrate, name, value)


def fit_of(model, clips: int = 8, levels=(0.5, 0.7)) -> Fit:
    """Random frames as validation and training clips."""
    truth = frames(model, clips, 2 + HORIZON)

    def read(numbers):
        for some in torch.tensor(list(numbers)).split(4):
            yield {"frames": truth[some], "index": some}

    return Fit(read, range(clips), read, clips, levels)


def futures(samples: int = 3) -> Futures:
    return Futures(2, HORIZON, samples, seed=0)


def test_the_fair_energy_score_is_over_all_pairs():
    drawn, truth = torch.rand(2, 4, 3, 1, 5, 5), torch.rand(2, 3, 1, 5, 5)
    near = (drawn - truth[:, None]).flatten(3).norm(dim=-1).mean(1)
    apart = sum((drawn[:, i] - drawn[:, j]).flatten(2).norm(dim=-1) for i, j in itertools.permutations(range(4), 2))
    wanted = (near - 0.5 * apart / 12) / 5
    torch.testing.assert_close(fair_energy_score(drawn, truth), wanted.double(), rtol=1e-5, atol=1e-6)


def test_the_fair_energy_score_is_least_for_the_truths_own_distribution():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(4000, 3, 1, 1, 2, 2, generator=generator)
    truth = torch.randn(4000, 1, 1, 2, 2, generator=generator)
    scores = [fair_energy_score(width * drawn, truth).mean() for width in (0.5, 1.0, 1.6)]
    assert scores[1] < scores[0] and scores[1] < scores[2]


@pytest.mark.parametrize("prior", ["learned", "mixture", "none"])
@pytest.mark.parametrize("likelihood", ["optimal_sigma", "pixel_sigma"])
def test_what_a_calibration_has(prior, likelihood):
    model = make(likelihood, prior=prior).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found, notes = calibrate.calibrate(model, futures(), fit_of(model))
    assert (found.context, found.horizon, found.samples) == (2, HORIZON, 3)
    assert set(found.radii) == {0.5, 0.7} and (found.radii[0.5] < found.radii[0.7]).all()
    assert (found.sigma_map is not None) == (likelihood == "optimal_sigma")
    assert bool(notes["scores"]) == (prior != "none")
    assert prior != "none" or found.tempering == Tempering()
    assert model.calibration is None
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_noise_fills_what_the_futures_leave():
    """After the factors the predicted uncertainty is the error's size, on the clips that it was fitted to."""
    model = make("optimal_sigma").eval()
    fit = fit_of(model)
    found, notes = calibrate.calibrate(model, futures(), fit)
    assert notes["ratio"] == pytest.approx([1.0] * HORIZON, abs=1e-6)  # random frames: futures never suffice
    model.calibration = found
    truth = torch.cat([batch["frames"] for batch in fit.validation(range(0, 8, 2))])
    drawn, stddev = model.rollout(truth[:, :2], HORIZON, 3, stddev=True, calibrated=True,
                                  clip_ids=torch.arange(0, 8, 2))  # fmt: skip
    error = (drawn.mean(1) - truth[:, 2:] / 255).square().mean((0, 2, 3, 4))
    spread = (1 + 1 / 3) * drawn.var(1).mean((0, 2, 3, 4))
    predicted = spread + stddev.square().mean((0, 1, 3, 4, 5))
    torch.testing.assert_close(predicted, error, rtol=1e-3, atol=0)


def test_the_power_is_the_most_likely_one(monkeypatch):
    """Noise whose sd is 0.5 sigma^1.375, around futures that all agree."""
    generator = torch.Generator().manual_seed(0)
    shape = (8, 1, HORIZON, 1, 16, 16)
    sigma = 0.02 + 0.3 * torch.rand(shape, generator=generator) ** 3
    truth = 0.5 + 0.5 * sigma[:, 0] ** 1.375 * torch.randn(shape[:1] + shape[2:], generator=generator)
    levels, drawn = (255 * truth).round().to(torch.uint8), torch.full(shape, 0.5).expand(-1, 3, -1, -1, -1, -1)
    monkeypatch.setattr(calibrate, "_futures", lambda *_: [(levels, drawn, sigma.expand_as(drawn))])
    model = make()
    scale, power, ratio = calibrate._noise(model, futures(), fit_of(model), range(8))
    assert power == 1.375
    torch.testing.assert_close(scale, torch.full_like(scale, 0.5), rtol=0.05, atol=0)
    torch.testing.assert_close(ratio, torch.ones_like(ratio))


def test_the_tempering_of_the_lowest_score_is_taken():
    model = make("optimal_sigma").eval()
    found, notes = calibrate.calibrate(model, futures(), fit_of(model))
    tempering = found.tempering
    assert len(notes["scores"]) == 3  # tau 1 and 2, then one rho
    assert notes["scores"][f"tau {tempering.tau:g}, rho {tempering.rho:g}"] == min(notes["scores"].values())


def test_a_sigma_map_learns_that_what_moves_is_uncertain(monkeypatch):
    """Errors of sd 0.01 where nothing moves and 0.1 where the frame before was another."""
    monkeypatch.setattr(calibrate, "MAP_STEPS", 150)
    generator = torch.Generator().manual_seed(0)
    mean = 0.2 + 0.6 * torch.rand(16, 1, 1, 1, generator=generator).expand(16, 1, 32, 32)
    moved = torch.rand(16, 1, 4, 4, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3) < 0.3
    before = mean + 0.3 * moved
    truth = mean + torch.where(moved, 0.1, 0.01) * torch.randn(mean.shape, generator=generator)
    sigma = calibrate.fit_sigma_map(mean, before, truth, torch.tensor(0.06), seed=0)(mean, before, torch.tensor(0.06))
    assert sigma[moved].exp().median().item() == pytest.approx(0.1, rel=0.2)
    assert sigma[~moved].exp().median().item() == pytest.approx(0.01, rel=0.3)


def test_the_same_seed_gives_the_same_calibration():
    model = make("optimal_sigma").eval()
    first, second = (calibrate.calibrate(model, futures(), fit_of(model))[0] for _ in range(2))
    assert first.digest == second.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": 5}, "level 0.7 needs 6 validation clips, half of them to fit by, but there are 5"),
        ({"samples": 1}, "at least 2 futures"),
        ({"likelihood": "bernoulli"}, "bernoulli is a density of binary frames only"),
    ],
)
def test_what_can_not_be_calibrated(change, message):
    model = make(change.get("likelihood", "optimal_sigma")).eval()
    with pytest.raises(ValueError, match=message):
        calibrate.calibrate(model, futures(change.get("samples", 3)), fit_of(model, change.get("clips", 8)))
    assert model.calibration is None
