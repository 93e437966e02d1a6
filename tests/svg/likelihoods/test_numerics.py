"""Finite losses and gradients where float32 is tight: at 0 and 255, at tiny and huge scales, under autocast."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svg.likelihoods import REGISTRY
from svg.likelihoods.numerics import hard_floor, smooth_floor
from tests.helpers.heads import LATENTS, batch, head, training_loss

every = pytest.mark.parametrize("name", list(REGISTRY))


def assert_finite_step(likelihood, params, target) -> None:
    """The loss and all its gradients are finite, in training and in evaluation."""
    for training in (True, False):
        likelihood.train(training)
        params = params.detach().requires_grad_()
        loss = training_loss(likelihood, params, target)
        assert loss.isfinite().all()
        parameters = list(likelihood.parameters())
        gradients = torch.autograd.grad(loss.mean(), [params, *parameters])
        assert all(gradient.isfinite().all() for gradient in gradients)


@every
@pytest.mark.parametrize("level", [0, 1, 128, 254, 255])
@pytest.mark.parametrize("raw", [0.0, 1e-6, 10.0, -10.0, 100.0, -100.0, 3e4, -3e4])
def test_extreme_outputs_have_finite_gradients(name, level, raw):
    likelihood = head(name, size=(2, 2))
    params, target = batch(likelihood)
    assert_finite_step(likelihood, torch.full_like(params, raw), torch.full_like(target, level))


@every
@pytest.mark.parametrize("raw", [0.0, 1e-6, 0.3, 10.0, -10.0, 100.0, -100.0])
def test_means_have_finite_second_derivatives(name, raw):
    """As a gradient penalty needs them."""
    likelihood = head(name, size=(2, 2))
    params = torch.full_like(batch(likelihood)[0], raw).requires_grad_()
    mean = likelihood.distribution(params).mean
    if mean.requires_grad:
        (gradient,) = torch.autograd.grad(mean.sum(), params, create_graph=True)
        assert gradient.isfinite().all()
        if gradient.requires_grad:
            assert torch.autograd.grad(gradient.square().sum(), params)[0].isfinite().all()


@every
@settings(max_examples=15)
@given(scale=st.floats(1e-4, 1e4), seed=st.integers(0, 1000))
def test_any_outputs_have_finite_gradients(name, scale, seed):
    likelihood = head(name, size=(2, 2))
    params, target = batch(likelihood, seed=seed)
    assert_finite_step(likelihood, scale * params, target)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e3, 1e12])
@pytest.mark.parametrize("name", ["fixed_gaussian", "shared_sigma", "discretized_gaussian", "discretized_logistic"])
def test_any_scale_has_finite_gradients(name, scale):
    option = "sigma" if name == "fixed_gaussian" else "init"
    bound = {} if name == "fixed_gaussian" else {"floor": "none"}
    likelihood = head(name, size=(2, 2), **{option: scale}, **bound)
    params, target = batch(likelihood)
    for level in (0, 7, 255):
        assert_finite_step(likelihood, 10 * params, torch.full_like(target, level))


@pytest.mark.parametrize("name", ["pixel_sigma", "student_t", "trainable_iso_d", "logistic_mixture"])
@pytest.mark.parametrize("raw", [-1e4, -30.0, 30.0, 1e4])
def test_unbounded_scale_maps_have_finite_gradients(name, raw):
    likelihood = head(name, size=(2, 2), floor="none")
    params, target = batch(likelihood)
    assert_finite_step(likelihood, torch.full_like(params, raw), target)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(name, dtype):
    likelihood = head(name)
    params, target = batch(likelihood)
    low = params.to(dtype)
    expected = training_loss(likelihood.eval(), low.float(), target)
    mean, stddev = likelihood.distribution(low.float()).mean, likelihood.distribution(low.float()).stddev
    with torch.autocast("cpu", dtype=dtype):
        loss = likelihood.loss(low, target, latents=LATENTS, step=0)
        distribution = likelihood.distribution(low)
        assert torch.equal(distribution.mean, mean) and torch.equal(distribution.stddev, stddev)
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)


@every
def test_a_perfect_prediction_has_a_finite_loss(name):
    likelihood = head(name, size=(2, 2))
    if hasattr(likelihood, "_link"):
        likelihood._link = lambda raw: raw
    params, target = batch(likelihood)
    perfect = (target / 255).repeat(1, 1, -(-params.shape[2] // 3), 1, 1)[:, :, : params.shape[2]]
    assert_finite_step(likelihood, perfect, target)


@every
def test_float64_output_is_computed_in_float64(name):
    likelihood = head(name)
    params, target = batch(likelihood, dtype=torch.float64)
    double, single = training_loss(likelihood, params, target), training_loss(likelihood, params.float(), target)
    assert double.dtype == torch.float64
    assert torch.allclose(double.float(), single, rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5, -1e5])
def test_categorical_keeps_its_digits_at_common_offsets(offset):
    """A constant on all logits changes nothing; log_softmax is torch's, of the same float32 logits."""
    likelihood = head("categorical")
    params, target = batch(likelihood)
    params = (4 * params + offset).requires_grad_()
    expected = params.double().unflatten(2, (256, 3)).log_softmax(2)
    distribution = likelihood.distribution(params)
    torch.testing.assert_close(distribution.log_masses().double(), expected, atol=2e-5, rtol=1e-6)
    assert distribution.cdf(torch.ones(())).max() <= 1 and distribution.cdf(torch.ones(())).min() > 1 - 1e-5
    score = expected.gather(2, target.long().unsqueeze(2)).sum((2, 3, 4, 5))
    loss = training_loss(likelihood, params, target)
    torch.testing.assert_close(-loss.double(), score, atol=1e-3, rtol=1e-6)
    (gradient,), (wanted,) = (torch.autograd.grad(total.sum(), params) for total in (loss, -score))
    torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-4)


def test_betas_concentrations_can_return_from_their_bound():
    """Below raw = -9.2 the concentration is 1 + 1e-4, and still learns: of frames at 1/2, that it is too small."""
    likelihood = head("beta", 1, (1, 1))
    for raw in (-9.0, -10.0, -100.0, -3e4):
        params = torch.full((1, 1, 2, 1, 1), raw, requires_grad=True)
        loss = likelihood.loss(params, torch.full((1, 1, 1, 1, 1), 128, dtype=torch.uint8))
        (gradient,) = torch.autograd.grad(loss.sum(), params)
        assert (gradient < -1e-5).all()
        assert torch.equal(likelihood.distribution(params).a, likelihood.distribution(params).a.clamp(min=1 + 1e-4))


@pytest.mark.parametrize("name", ["pixel_sigma", "student_t", "trainable_iso_d", "logistic_mixture"])
@pytest.mark.parametrize("floor", [-6.0, "none"])
def test_scales_above_the_largest_can_return(name, floor):
    likelihood = head(name, size=(2, 2), floor=floor)
    params, target = batch(likelihood)
    params = params.index_fill(2, torch.arange(3, params.shape[2]), 50.0).requires_grad_()
    (gradient,) = torch.autograd.grad(training_loss(likelihood, params, target).sum(), params)
    maps = gradient[:, :, 40:] if name == "logistic_mixture" else gradient[:, :, 3 : 6 if name == "student_t" else None]
    assert (maps > 0).all()


@pytest.mark.parametrize("floor", [None, -6.0])
def test_bounds_hold_exactly_and_pass_the_gradient(floor):
    x = torch.tensor([-1e8, -60.0, -35.0, -5.5, 0.0, 34.0, 36.0, 1e8], requires_grad=True)
    for bounded, low, high in ((smooth_floor(x, floor), floor or -35.0, 35.0), (hard_floor(x, -6.0), -6.0, 1e8)):
        assert (bounded >= low).all() and (bounded <= high).all() and bounded[-1] == high
        (gradient,) = torch.autograd.grad(bounded.sum(), x)
        assert (gradient[3:] > 0.5).all()
    assert smooth_floor(x, floor)[-3:].tolist() == [34, 35, 35]


@pytest.mark.parametrize("raw", [-5.0, -20.0, -200.0, -3e4])
def test_student_ts_stddev_is_finite(raw):
    """Near nu = 2 it is bounded by 15 s; from nu = 2.01 on it is s sqrt(nu/(nu - 2))."""
    params = torch.zeros(1, 1, 3, 1, 1)
    params[:, :, 1], params[:, :, 2] = -2.0, raw
    distribution = head("student_t", 1, (1, 1), floor="none").distribution(params)
    assert 0 < float(distribution.stddev) <= 15 * math.exp(-2.0)
    params[:, :, 2] = -4.0
    nu = 2 + math.log1p(math.exp(-4.0))
    stddev = float(head("student_t", 1, (1, 1), floor="none").distribution(params).stddev)
    assert stddev == pytest.approx(math.exp(-2.0) * math.sqrt(nu / (nu - 2)), rel=1e-4)
