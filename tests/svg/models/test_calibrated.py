"""What calibrated rollouts apply: tempering, noise, intervals; the model's own rollouts stay as they are."""

from __future__ import annotations

import json
import math

import pytest
import torch

import svg
from svg import conformal
from svg.checkpoint import CheckpointError
from svg.likelihoods.normal import Normal
from svg.models.calibrated import Calibration, SigmaMap, Tempering, digest_of, total_stddev
from svg.pretrained import calibration_folder
from tests.helpers.models import frames, make

HORIZON, SAMPLES = 4, 3


def calibration(**changes) -> Calibration:
    values = {
        "context": 2,
        "samples": SAMPLES,
        "scale": torch.tensor([1.0, 2.0, 0.5, 3.0]),
        "radii": {0.9: torch.tensor([1.0, 1.5, 2.0, 2.5])},
    }
    return Calibration(**values | changes)


def calibrated_model(**changes):
    model = make(likelihood="optimal_sigma", prior=changes.pop("prior", "learned")).eval()
    model.calibration = calibration(**changes)
    return model


def test_tempering_keeps_each_frames_variance_and_correlates_frames():
    xi = torch.randn(200_000, 3, 1, generator=torch.Generator().manual_seed(0))
    eps = Tempering(1.5, 0.6)(xi)[..., 0]
    torch.testing.assert_close(eps.std(0), torch.full((3,), 1.5), rtol=0.01, atol=0)
    correlation = torch.corrcoef(eps.T)
    assert correlation[0, 1].item() == pytest.approx(0.6, abs=0.01)
    assert correlation[0, 2].item() == pytest.approx(0.36, abs=0.01)
    assert torch.equal(Tempering()(xi), xi)


@pytest.mark.parametrize("prior", ["learned", "fixed", "mixture", "none"])
def test_without_tempering_the_futures_are_the_models_own_to_the_bit(prior):
    model = calibrated_model(prior=prior, sigma_map=SigmaMap(3))
    context = frames(model, 2, 2)
    own = model.rollout(context, HORIZON, SAMPLES, seed=5)
    assert torch.equal(model.rollout(context, HORIZON, SAMPLES, seed=5, calibrated=True), own)


def test_tempering_moves_the_futures_and_not_the_context():
    """tau 0 makes all futures of a clip the prior's mean, once the context's posterior draws agree."""
    model = calibrated_model(tempering=Tempering(0.0))
    context = frames(model, 1, 2)
    with torch.no_grad():
        model.posterior.mean.weight.zero_()
        model.posterior.logvar.weight.zero_()
        model.posterior.logvar.bias.fill_(-200.0)
        model.prior.mean.bias.fill_(0.3)
    still = model.rollout(context, HORIZON, SAMPLES, calibrated=True)
    torch.testing.assert_close(still, still[:, :1].expand_as(still))
    assert not torch.allclose(model.rollout(context, HORIZON, SAMPLES)[:, 0], still[:, 0])


def test_correlated_noise_is_a_function_of_seed_clip_and_sample_alone():
    model = calibrated_model(tempering=Tempering(1.5, 0.8))
    context = frames(model, 3, 2)
    whole = model.rollout(context, HORIZON, SAMPLES, seed=1, calibrated=True)
    chunked = model.rollout(context, HORIZON, SAMPLES, seed=1, calibrated=True, memory=1e-6)
    torch.testing.assert_close(chunked, whole, atol=1e-5, rtol=0)
    one = model.rollout(context[1:2], 3, 1, seed=1, calibrated=True, clip_ids=torch.tensor([1]),
                        sample_ids=torch.tensor([2]))  # fmt: skip
    torch.testing.assert_close(one[0, 0], whole[1, 2, :3], atol=1e-5, rtol=0)


@pytest.mark.parametrize("power", [1.0, 1.5])
def test_the_noise_is_a_power_of_the_models_own_times_a_factor_a_frame(power):
    model = calibrated_model(power=power)
    _, own = model.rollout(frames(model, 2, 2), HORIZON, SAMPLES, stddev=True)
    _, scaled = model.rollout(frames(model, 2, 2), HORIZON, SAMPLES, stddev=True, calibrated=True)
    torch.testing.assert_close(scaled, own**power * model.calibration.scale.view(-1, 1, 1, 1))


def test_a_new_sigma_map_is_the_heads_one_sigma_and_has_no_gradient_to_what_it_sees():
    made, sigma = SigmaMap(3), torch.tensor(0.07)
    mean, before = (torch.rand(2, 3, 3, 8, 8, requires_grad=True) for _ in range(2))
    log_sigma = made(mean, before, sigma)
    torch.testing.assert_close(log_sigma, torch.full_like(mean, math.log(0.07)))
    log_sigma.sum().backward()
    assert mean.grad is None and before.grad is None
    assert made.layers[-1].weight.grad.abs().sum() > 0


def test_a_sigma_map_sees_the_frame_before():
    """In a rollout that is the last context frame, then each future's own last frame."""
    seen = []

    class Spy(SigmaMap):
        def forward(self, mean, before, sigma):
            seen.append((mean, before))
            return super().forward(mean, before, sigma)

    model = calibrated_model(sigma_map=Spy(3))
    context = frames(model, 2, 2)
    futures = model.rollout(context, HORIZON, SAMPLES, calibrated=True)
    last = (context[:, -1:].float() / 255)[:, None].expand(-1, SAMPLES, -1, -1, -1, -1)
    shown = torch.cat((last, futures), dim=2).flatten(0, 1)
    for t, (mean, before) in enumerate(seen):
        torch.testing.assert_close(before[:, 0], shown[:, t])
        torch.testing.assert_close(mean[:, 0], shown[:, t + 1])


def test_the_interval_is_around_the_mean_of_the_futures():
    model = calibrated_model()
    futures, stddev, (lower, upper) = model.rollout(
        frames(model, 2, 2), HORIZON, SAMPLES, calibrated=True, interval=0.9
    )
    variance, mean = futures.double().var(1), futures.double().mean(1)
    total = ((1 + 1 / SAMPLES) * variance + stddev.double().square().mean(1)).sqrt()
    reach = model.calibration.radii[0.9].view(-1, 1, 1, 1) * total
    torch.testing.assert_close(lower.double(), (mean - reach).clamp(0, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(upper.double(), (mean + reach).clamp(0, 1), atol=1e-5, rtol=0)


def test_total_stddev_is_that_of_the_truth_around_the_futures_mean():
    """Truth and S futures drawn alike: the truth's distance from their mean has just this standard deviation."""
    generator = torch.Generator().manual_seed(0)
    futures, truth = (torch.randn(200_000, n, generator=generator) for n in (4, 1))
    noise = 0.5 * torch.randn(200_000, generator=generator)
    found = (truth[:, 0] + noise - futures.mean(1)).square().mean().sqrt()
    wanted = total_stddev(futures.var(1).mean(), torch.tensor(0.25), 4)
    torch.testing.assert_close(found, wanted, rtol=0.01, atol=0)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"n_past": 1}, "n_past"),
        ({"context": 3}, {}, "after 3 frames, but here 2 are given"),
        ({"scale": torch.ones(2), "radii": {}}, {}, "of 2 predicted frames, but 4 are asked for"),
        ({}, {"draw": True}, "leave out draw"),
        ({}, {"interval": 0.8}, "interval 0.8 was not calibrated: choose from 0.9"),
        ({"samples": 7}, {"interval": 0.9}, "calibrated for 7 futures, but there are 3"),
    ],
)
def test_what_it_was_not_fitted_to_is_refused(changes, options, message):
    model = calibrated_model(**changes)
    with pytest.raises(ValueError, match=message):
        model.rollout(frames(model, 1, 2), HORIZON, SAMPLES, calibrated=True, **options)


def test_without_calibration():
    model = make().eval()
    with pytest.raises(ValueError, match="has no calibration: python eval.py calibrate"):
        model.rollout(frames(model, 1, 2), HORIZON, SAMPLES, calibrated=True)
    with pytest.raises(ValueError, match="give calibrated=True"):
        model.rollout(frames(model, 1, 2), HORIZON, SAMPLES, interval=0.9)


def fitted_model():
    torch.manual_seed(3)
    made = SigmaMap(3)
    torch.nn.init.normal_(made.layers[-1].weight, std=0.1)
    model = calibrated_model(tempering=Tempering(1.5, 0.3), sigma_map=made)
    changed = {**model.calibration.__dict__, "fitted": {"weights": digest_of(model.state_dict())}}
    model.calibration = Calibration(**changed)
    return model


def test_a_saved_model_brings_its_calibration_along(tmp_path):
    model = fitted_model()
    model.save_pretrained(tmp_path / "model")
    again = svg.load(tmp_path / "model")
    assert again.calibration.digest == model.calibration.digest
    one, other = (m.rollout(frames(m, 2, 2), HORIZON, SAMPLES, calibrated=True, interval=0.9) for m in (model, again))
    for first, second in zip((*one[:2], *one[2]), (*other[:2], *other[2]), strict=True):
        assert torch.equal(first, second)
    assert svg.load(tmp_path / "model", calibrated=False).calibration is None


def test_the_calibration_of_other_weights_is_refused(tmp_path):
    model = fitted_model()
    with torch.no_grad():
        model.predictor.embed.bias += 1
    with pytest.raises(ValueError, match="weights have changed since it was calibrated"):
        model.save_pretrained(tmp_path / "model")
    kept, model.calibration = model.calibration, None
    model.save_pretrained(tmp_path / "model")
    kept.save(calibration_folder(tmp_path / "model"))
    with pytest.raises(CheckpointError, match="calibration of other weights"):
        svg.load(tmp_path / "model")


def test_where_a_calibration_belongs(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints" / "step_00000005").mkdir(parents=True)
    assert calibration_folder(run / "checkpoints" / "step_00000005") == run / "calibration" / "step_00000005"
    assert calibration_folder(tmp_path / "model") == tmp_path / "model" / "calibration"


@pytest.mark.parametrize("file", ["calibration.json", "calibration.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "other"])
def test_a_damaged_calibration_is_refused_by_name(tmp_path, file, damage):
    fitted_model().calibration.save(tmp_path)
    path = tmp_path / file
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[len(content) // 2 if file.endswith("safetensors") else 0] ^= 8
        path.write_bytes({"cut": content[:40], "flip": content, "other": b"{}"}[damage])
    with pytest.raises(CheckpointError, match=rf"{tmp_path}.*calibrate again"):
        Calibration.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tempering": Tempering(1.0, 2.0)}, r"calibration.json: rho is 2.0, but it must be in \[-1, 1\]"),
        ({"tempering": Tempering(-1.0)}, "tau is -1.0"),
        ({"context": 0}, "context is 0, but it must be at least 1"),
        ({"samples": 10**7}, "samples is 10000000"),
        ({"power": 1e30}, "power is 1e"),
        ({"scale": torch.tensor([1.0, 2.0, math.nan, 3.0])}, "safetensors holds no calibration"),
        ({"scale": torch.tensor([1.0, 2.0, -0.5, 3.0])}, "safetensors holds no calibration"),
        ({"scale": torch.tensor(1.0)}, "safetensors holds no calibration"),
        ({"radii": {0.9: torch.ones(3)}}, "safetensors holds no calibration"),
        ({"radii": {0.9: torch.full((4,), math.nan)}}, "safetensors holds no calibration"),
    ],
)
def test_numbers_that_can_not_be_are_refused(tmp_path, changes, reason):
    """Somebody else's model may bring any."""
    calibration(**changes).save(tmp_path)
    with pytest.raises(CheckpointError, match=rf"{reason}.*: calibrate again"):
        Calibration.load(tmp_path)


@pytest.mark.parametrize("name", ["context", "samples", "tau", "rho", "power", "levels"])
def test_a_changed_number_is_noticed(tmp_path, name):
    fitted_model().calibration.save(tmp_path)
    path = tmp_path / "calibration.json"
    values = json.loads(path.read_text())
    values[name] = [] if name == "levels" else values[name] + 1 if name in ("context", "samples") else 0.4
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="are not as they were written: calibrate again"):
        Calibration.load(tmp_path)


def test_digests_follow_every_value():
    first = calibration(sigma_map=SigmaMap(3))
    others = [
        calibration(sigma_map=first.sigma_map, tempering=Tempering(1.5)),
        calibration(sigma_map=first.sigma_map, tempering=Tempering(1.0, 0.1)),
        calibration(sigma_map=first.sigma_map, context=3),
        calibration(sigma_map=first.sigma_map, power=1.5),
        calibration(sigma_map=first.sigma_map, samples=4),
        calibration(sigma_map=first.sigma_map, scale=torch.tensor([1.0, 2.0, 0.5, 3.1])),
        calibration(sigma_map=first.sigma_map, radii={}),
        calibration(sigma_map=SigmaMap(3)),
        calibration(),
    ]
    assert len({each.digest for each in (first, *others)}) == len(others) + 1
    assert calibration(sigma_map=first.sigma_map, fitted={"clips": 3}).digest == first.digest


def test_a_map_of_the_right_sigma_is_the_most_likely():
    """The map's floor is far enough down for still pixels: a tenth of the one sigma."""
    made = SigmaMap(1)
    with torch.no_grad():
        made.layers[-1].bias.fill_(-30.0)
    low = made(torch.rand(1, 1, 1, 8, 8), torch.rand(1, 1, 1, 8, 8), torch.tensor(0.05))
    torch.testing.assert_close(low.exp(), torch.full_like(low, 0.005), rtol=1e-3, atol=0)
    assert isinstance(calibration().distribution(Normal(torch.rand(1, 1, 1, 8, 8), low), low, 0), Normal)
    assert conformal.LEVELS[2] == 0.9
