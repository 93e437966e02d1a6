"""Scales fitted to a batch, learned, scheduled, or found in two stages; and the running scale of evaluation."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svg.likelihoods import REGISTRY
from svg.likelihoods.numerics import HALF_LOG_2PI
from tests.helpers.heads import LATENTS, batch, head, training_loss

FITTED = [name for name, cls in REGISTRY.items() if cls.fits_target]
DOUBLE = torch.float64
D = 3 * 4 * 5


def residuals(params, target):
    return target.to(params) / 255 - params[:, :, :3].sigmoid()


AR_ELBO = {  # AR-ELBO, Table 2 with its constants: objectives of r (B, T, C, H, W), averaged over the batch
    "optimal_sigma": lambda r, eps: D / 2 * (1 + math.log(2 * math.pi) + r.square().mean().log()),
    "iso_d": lambda r, eps: D / 2 * (1 + math.log(2 * math.pi) + (r.square().mean((2, 3, 4)) + eps).log().mean()),
    "diag_i": lambda r, eps: D * (0.5 + HALF_LOG_2PI) + 0.5 * (r.square().mean((0, 1)) + eps).log().sum(),
    "diag_d": lambda r, eps: D * (0.5 + HALF_LOG_2PI) + 0.5 * (r.square() + eps).log().mean((0, 1)).sum(),
}


@pytest.mark.parametrize("name", AR_ELBO)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 5))
@settings(max_examples=10)
def test_objective_is_ar_elbos_and_the_detached_scale_gives_its_gradient(name, seed, scale):
    likelihood = head(name)
    params, target = batch(likelihood, seed=seed, dtype=DOUBLE)
    params = (scale * params).requires_grad_()
    objective = AR_ELBO[name](residuals(params, target), 1e-6)
    (attached,) = torch.autograd.grad(objective, params)
    loss = training_loss(likelihood, params, target).mean()
    (detached,) = torch.autograd.grad(loss, params)
    assert loss.item() == pytest.approx(objective.item(), rel=1e-12)
    assert torch.allclose(attached, detached, rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 10**6), log_scale=st.floats(-4, 1))
@settings(max_examples=25)
def test_orderings_of_the_ar_objectives_and_their_twins(seed, log_scale):
    params, target = batch(head("optimal_sigma"), seed=seed, dtype=DOUBLE)

    def mean_loss(name, params, **options):
        return training_loss(head(name, **options), params, target).mean().item()

    loss = {name: mean_loss(name, params, **({} if name == "optimal_sigma" else {"eps": 0.0})) for name in AR_ELBO}
    slack = 1e-9
    assert loss["diag_d"] <= loss["diag_i"] + slack and loss["diag_i"] <= loss["optimal_sigma"] + slack
    assert loss["diag_d"] <= loss["iso_d"] + slack and loss["iso_d"] <= loss["optimal_sigma"] + slack

    def with_maps(count):
        maps = log_scale + torch.randn(2, 3, count, 4, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
        return torch.cat((params, maps), dim=2)

    init = math.exp(log_scale)
    assert loss["optimal_sigma"] <= mean_loss("shared_sigma", params, init=init) + slack
    assert loss["diag_i"] <= mean_loss("trainable_diag_i", params, init=init, floor="none") + slack
    assert loss["iso_d"] <= mean_loss("trainable_iso_d", with_maps(1), floor="none") + slack
    assert loss["diag_d"] <= mean_loss("pixel_sigma", with_maps(3), floor="none") + slack


@pytest.mark.parametrize("name", ["optimal_sigma", "laplace"])
def test_the_fitted_scale_is_stationary(name):
    """No other fixed scale gives the batch a smaller loss."""
    likelihood = head(name)
    params, target = batch(likelihood, dtype=DOUBLE)
    best = training_loss(likelihood, params, target).mean()
    scale = likelihood.running.value.double()
    for factor in (0.99, 1.01):
        likelihood.running.total = likelihood.running.total.double() * 0 + scale * factor * likelihood.running.weight
        assert likelihood.eval().loss(params, target).mean() > best


def test_a_learned_scale_is_stationary_at_the_optimal_one():
    params, target = batch(head("optimal_sigma"), dtype=DOUBLE)
    rmse = float(residuals(params, target).square().mean().sqrt())
    shared = head("shared_sigma", init=rmse).double()
    training_loss(shared, params, target).mean().backward()
    assert abs(float(shared.log_sigma.grad)) < 1e-4
    optimal = training_loss(head("optimal_sigma"), params, target).mean()
    assert training_loss(shared, params, target).mean().item() == pytest.approx(optimal.item(), rel=1e-6)


def test_fixed_gaussian_is_a_weighted_squared_error():
    params, target = batch(head("fixed_gaussian"), dtype=DOUBLE)
    sse = residuals(params, target).square().sum((2, 3, 4))
    for sigma in (0.1, 1.0, math.sqrt(0.5)):
        expected = sse / (2 * sigma**2) + D * math.log(sigma) + D * HALF_LOG_2PI
        assert torch.allclose(training_loss(head("fixed_gaussian", sigma=sigma), params, target), expected)
    # The published SVG objective, mean squared error + beta KL, is beta times [NLL + KL] at sigma^2 = beta d/2.
    beta = 1e-4
    svg = head("fixed_gaussian", sigma=math.sqrt(beta * D / 2))
    assert torch.allclose(beta * (svg.loss(params, target) - svg.loss(params * 0, target)), (sse - _sse0(target)) / D)


def _sse0(target):
    return residuals(torch.zeros(*target.shape, dtype=DOUBLE), target).square().sum((2, 3, 4))


def test_scales_have_a_hard_floor():
    params, target = torch.zeros(1, 1, 3, 4, 5), torch.zeros(1, 1, 3, 4, 5)
    for name in ("optimal_sigma", "shared_sigma", "laplace"):
        likelihood = head(name, mean="identity", **({"init": 1e-5} if name == "shared_sigma" else {}))
        training_loss(likelihood, params, target)
        assert float(likelihood.sigma) == pytest.approx(math.exp(-6), rel=1e-5)
    shared = head("shared_sigma", mean="identity", init=1e-5)
    training_loss(shared, params + 1, target).mean().backward()
    assert float(shared.log_sigma.grad) < 0, "a scale below its floor must be able to come back"


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("training", [True, False])
def test_without_a_floor_an_exact_prediction_has_a_finite_loss(name, training):
    """Every residual is 0, and so is every fitted scale; eps is as small as the head allows."""
    smallest = {"baggins": {"eps": 1e-45}, "optimal_sigma": {}, "laplace": {}}.get(name, {"eps": 0.0})
    likelihood = head(name, mean="identity", floor="none", **smallest)
    target = torch.zeros(2, 3, 3, 4, 5)
    training_loss(likelihood, target, target)
    params = target.clone().requires_grad_()
    loss = training_loss(likelihood.train(training), params, target)
    (gradient,) = torch.autograd.grad(loss.sum(), params)
    assert loss.isfinite().all() and gradient.isfinite().all()
    assert likelihood.distribution(params).log_prob(target).isfinite().all()


@pytest.mark.parametrize("name", FITTED)
def test_every_fitted_scale_takes_a_floor(name):
    """Of log sigma: a sharp prediction is scored, in training and after, as if it erred by e^floor."""
    likelihood = head(name, mean="identity", floor=-2.0)
    target = torch.full((2, 3, 3, 4, 5), 0.5)
    params = target + 1e-3
    loss = training_loss(likelihood, params, target)
    scale = likelihood.distribution(params).stddev / (math.sqrt(2) if name == "laplace" else 1)
    assert torch.allclose(scale, torch.tensor(math.exp(-2.0)))
    assert float(likelihood.sigma) == pytest.approx(math.exp(-2.0))
    expected = -likelihood.distribution(params).log_prob(target)
    assert torch.allclose(loss, expected, atol=1e-2)  # but for eps, which is in the residual's place too
    (gradient,) = torch.autograd.grad(training_loss(likelihood, params.requires_grad_(), target).sum(), params)
    assert (gradient > 0).all(), "the mean still learns below the floor"
    with pytest.raises(ValueError, match=r"likelihood\.options\.floor is 'low'"):
        head(name, floor="low")


@pytest.mark.parametrize("name", FITTED)
def test_the_running_scale_starts_unbiased_and_follows(name):
    likelihood = head(name)
    params, target = batch(likelihood)
    start = float(likelihood.sigma)
    assert math.isfinite(start) and start > 0
    training_loss(likelihood, params, target)
    once = likelihood.distribution(params).stddev
    for _ in range(3):
        training_loss(likelihood, params, target)
    assert torch.allclose(once, likelihood.distribution(params).stddev, rtol=1e-5)
    training_loss(likelihood, params, 255 - target)
    assert not torch.allclose(once, likelihood.distribution(params).stddev, rtol=1e-5)


@pytest.mark.parametrize("name", FITTED)
def test_refit_gives_the_exact_scale_whatever_the_batches(name):
    likelihood = head(name)
    params, target = batch(likelihood, clips=2)
    training_loss(likelihood, *batch(likelihood, seed=7))
    likelihood.eval()
    with likelihood.refit():
        training_loss(likelihood, params, target)
    whole = likelihood.distribution(params).stddev
    with likelihood.refit():
        for part in (slice(0, 1), slice(1, 3)):
            latents = {**LATENTS, "offset": LATENTS["offset"][:, part]}
            likelihood.loss(params[:, part], target[:, part], latents=latents)
    assert torch.allclose(whole, likelihood.distribution(params).stddev, rtol=1e-6)
    if name in AR_ELBO:
        r = residuals(params, target).square() + (0 if name == "optimal_sigma" else 1e-6)
        expected = r.mean((0, 1)) if name in ("diag_i", "diag_d") else r.mean()
        assert torch.allclose(whole.square(), expected.expand_as(whole), rtol=1e-5)
    assert torch.allclose(-likelihood.loss(params, target), likelihood.distribution(params).log_prob(target))


def test_refit_without_frames_is_refused_and_keeps_the_scale():
    likelihood = head("optimal_sigma")
    training_loss(likelihood, *batch(likelihood))
    before = float(likelihood.sigma)
    with pytest.raises(ValueError, match="saw no frames"), likelihood.refit():
        pass
    with pytest.raises(KeyError), likelihood.refit():
        raise KeyError
    assert float(likelihood.sigma) == before


@pytest.mark.parametrize("name", [name for name in REGISTRY if name not in FITTED])
def test_refit_leaves_the_others_alone(name):
    likelihood = head(name).eval()
    before = {key: value.clone() for key, value in likelihood.state_dict().items()}
    with likelihood.refit():
        training_loss(likelihood, *batch(likelihood))
    assert all(torch.equal(before[key], value) for key, value in likelihood.state_dict().items())


def test_accumulated_losses_can_be_differentiated_together():
    """Buffers change between two losses of one backward pass."""
    for name in REGISTRY:
        likelihood = head(name)
        params, target = batch(likelihood)
        params.requires_grad_()
        first, second = (training_loss(likelihood, params, target, step) for step in (0, 1))
        (first + second).mean().backward()


# Lin et al.'s two stages


def second_stage(**options):
    likelihood = head("two_stage_sigma", init=0.1, **options)
    likelihood.start_second_stage()
    return likelihood


def test_the_second_stage_has_lins_floor():
    likelihood = second_stage()
    params, target = batch(likelihood)
    for scale in (1, 100):
        log_prob = likelihood.distribution(scale * params).log_prob(target)
        assert (log_prob <= -D / 2 * math.log(math.pi * 0.1**2) + 1e-3).all()
    perfect = torch.cat((torch.full_like(target, 0.0, dtype=torch.float), torch.full((2, 3, 3, 4, 5), -1e4)), dim=2)
    at_bound = likelihood.distribution(perfect).log_prob(torch.full(target.shape, 0.5))
    assert torch.allclose(at_bound, torch.tensor(-D / 2 * math.log(math.pi * 0.1**2)))


def test_the_switch_is_seamless_where_the_variance_map_is_zero():
    likelihood = head("two_stage_sigma", init=0.2)
    params, _ = batch(likelihood)
    params[:, :, 3:] = 0
    before = likelihood.distribution(params).stddev
    likelihood.start_second_stage()
    assert torch.allclose(before, likelihood.distribution(params).stddev)


def test_the_switch_waits_for_its_steps_and_for_the_gain_to_fall():
    likelihood = head("two_stage_sigma", steps=100, gain=0.01)
    for step, bound in ((50, 0.0), (90, 0.0), (150, 1.0 * D), (200, 1.5 * D)):
        likelihood.on_validation(step, bound)
        assert int(likelihood.stage) == 1
    likelihood.on_validation(250, 1.505 * D)
    assert int(likelihood.stage) == 2
    frozen = float(likelihood.sigma)
    with torch.no_grad():
        likelihood.log_sigma.add_(1.0)
    training_loss(likelihood, *batch(likelihood))
    assert float(likelihood.sigma) == frozen


@pytest.mark.parametrize("seen", [(8, 8), (64, 64)])
def test_the_gain_is_that_of_a_value_of_the_frames_it_sees(seen):
    """Whatever size the head was built for: .005 nats a value is below the gain, .02 is not."""
    d = 3 * seen[0] * seen[1]
    for gained, stage in ((0.02, 1), (0.005, 2)):
        likelihood = head("two_stage_sigma", size=(16, 16), steps=0, gain=0.01)
        training_loss(likelihood, torch.zeros(2, 3, 6, *seen), torch.zeros(2, 3, 3, *seen))
        likelihood.on_validation(10, 1.0 * d)
        likelihood.on_validation(20, (1.0 + gained) * d)
        assert int(likelihood.stage) == stage


def test_the_first_validation_never_switches():
    likelihood = head("two_stage_sigma", steps=0)
    likelihood.on_validation(10, 0.0)
    assert int(likelihood.stage) == 1


@pytest.mark.parametrize("stage", [1, 2])
def test_every_parameter_has_a_gradient_in_both_stages(stage):
    likelihood = second_stage() if stage == 2 else head("two_stage_sigma")
    params, target = batch(likelihood)
    params.requires_grad_()
    training_loss(likelihood, params, target).mean().backward()
    maps = params.grad[:, :, 3:].abs().sum()
    assert (float(likelihood.log_sigma.grad) == 0) == (stage == 2)
    assert (float(maps) == 0) == (stage == 1)


def test_the_stage_is_in_the_checkpoint():
    likelihood, other = second_stage(), head("two_stage_sigma")
    other.load_state_dict(likelihood.state_dict())
    params, _ = batch(likelihood)
    assert torch.equal(other.distribution(params).stddev, likelihood.distribution(params).stddev)


def test_a_shared_variance_map_serves_all_channels():
    likelihood = second_stage(shared_map=True)
    assert likelihood.param_channels == 4
    stddev = likelihood.distribution(batch(likelihood)[0]).stddev
    assert torch.equal(stddev[:, :, 0], stddev[:, :, 2])


# BAGGINS


def test_baggins_is_equation_30():
    likelihood = head("baggins", tau=0.2)
    params, target = batch(likelihood, dtype=DOUBLE)
    sse = residuals(params, target).square().sum((2, 3, 4)) + 1e-6
    u = float((1 + LATENTS["offset"].square().mean((0, 1)) / LATENTS["variance"]).sum())
    t = 0.2 * sse / u
    expected = 0.5 * (sse / t + D * (2 * math.pi * t).log())
    assert torch.allclose(sse / t, torch.tensor(u / 0.2, dtype=DOUBLE))
    assert torch.allclose(training_loss(likelihood, params, target), expected, rtol=1e-6)
    assert float(likelihood.sigma**2) == pytest.approx(float(t.mean()), rel=1e-5)


@given(st.floats(0.01, 100))
@settings(max_examples=20)
def test_baggins_only_shifts_when_the_data_are_rescaled(scale):
    likelihood = head("baggins", mean="identity", eps=1e-30)
    likelihood.in_unit = False
    params, target = batch(likelihood, dtype=DOUBLE)
    params.requires_grad_()
    x = target.to(DOUBLE) / 255
    one = training_loss(likelihood, params, x)
    other = training_loss(likelihood, scale * params, scale * x)
    assert torch.allclose(other - one, torch.tensor(D * math.log(scale), dtype=DOUBLE), atol=1e-9)
    (a,), (b,) = torch.autograd.grad(one.sum(), params), torch.autograd.grad(other.sum(), params)
    assert torch.allclose(a, b, atol=1e-10)


# Schedules


def test_a_replayed_trajectory_gives_the_learned_sigmas_losses(tmp_path):
    shared = head("shared_sigma")
    params, target = batch(shared)
    losses, lines = [], []
    for step in range(20):
        loss = training_loss(shared, params, target, step)
        losses.append(loss.detach())
        lines.append(json.dumps({"step": step, "sigma": float(shared.sigma)}) + "\n")
        (gradient,) = torch.autograd.grad(loss.mean(), shared.log_sigma)
        with torch.no_grad():
            shared.log_sigma -= 0.1 * gradient.sign()
    (tmp_path / "metrics.jsonl").write_text("".join([*lines, json.dumps({"step": 20, "bound": 1.0}) + "\n"]))
    replay = head("scheduled_sigma", schedule=str(tmp_path))
    for step, expected in enumerate(losses):
        assert torch.allclose(training_loss(replay, params, target, step), expected, rtol=1e-6)


def test_a_schedule_is_geometric_between_its_steps_and_constant_outside():
    likelihood = head("scheduled_sigma", schedule={0: 1.0, 10: 0.01, 20: 0.1})
    params, target = batch(likelihood)
    for step, sigma in ((0, 1.0), (5, 0.1), (10, 0.01), (15, 10**-1.5), (20, 0.1), (1000, 0.1)):
        training_loss(likelihood, params, target, step)
        assert float(likelihood.sigma) == pytest.approx(sigma, rel=1e-5)
        assert float(likelihood.distribution(params).stddev.mean()) == pytest.approx(sigma, rel=1e-5)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"step": 1, "nll": 2.0}', '{"sigma": 1.0}', '{"step": 1, "sigma": 0.0}']
)
def test_a_file_that_holds_no_schedule_is_refused(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"likelihood\.options\.schedule is .*a run that logged sigma"):
        head("scheduled_sigma", schedule=str(tmp_path))


def test_a_checkpoint_brings_its_schedule(tmp_path):
    likelihood = head("scheduled_sigma", schedule=[[0, 0.5], [100, 0.05]])
    params, target = batch(likelihood)
    training_loss(likelihood, params, target, 50)
    gone = head("scheduled_sigma", schedule=str(tmp_path / "gone"))
    with pytest.raises(ValueError, match=r"likelihood.options.schedule is .*no such run or file"):
        training_loss(gone, params, target)
    gone.load_state_dict(likelihood.state_dict())
    assert torch.equal(gone.distribution(params).stddev, likelihood.distribution(params).stddev)
    training_loss(gone, params, target, 100)
    assert float(gone.sigma) == pytest.approx(0.05)
