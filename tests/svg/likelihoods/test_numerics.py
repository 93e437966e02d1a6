"""Finite losses and gradients where float32 is tight: at 0 and 255, at tiny and huge scales, under autocast."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svg.likelihoods import REGISTRY
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
