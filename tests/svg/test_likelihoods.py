"""What holds for every likelihood of the registry: the contract."""

import math

import pytest
import torch
from safetensors.torch import load, save

from svg import likelihoods
from svg.likelihoods import ALIASES, REGISTRY, build

NAMES = list(REGISTRY)


def head(name: str, channels: int = 3, size: tuple[int, int] = (4, 5), **options):
    torch.manual_seed(0)
    return build(name, channels, size, **options)


def batch(likelihood, clips: int = 2, frames: int = 3, seed: int = 0, dtype=torch.float32):
    """Random decoder output and uint8 frames."""
    generator = torch.Generator().manual_seed(seed)
    height, width = likelihood.size
    params = torch.randn(clips, frames, likelihood.param_channels, height, width, generator=generator, dtype=dtype)
    target = torch.randint(0, 256, (clips, frames, likelihood.channels, height, width), generator=generator)
    return params, target.to(torch.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_per_frame_and_differentiable(name):
    likelihood = head(name)
    params, target = batch(likelihood)
    params.requires_grad_()
    loss = likelihood.loss(params, target, step=0)
    assert loss.shape == (2, 3) and loss.dtype == torch.float32
    loss.mean().backward()
    assert params.grad.isfinite().all() and params.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in likelihood.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_scores_the_distribution_and_changes_nothing(name):
    likelihood = head(name)
    params, target = batch(likelihood)
    likelihood.loss(params, target, step=0)
    likelihood.eval()
    before = {key: value.clone() for key, value in likelihood.state_dict().items()}
    loss = likelihood.loss(*batch(likelihood, seed=1))
    assert torch.allclose(
        -likelihood.distribution(batch(likelihood, seed=1)[0]).log_prob(batch(likelihood, seed=1)[1]), loss
    )
    assert all(torch.equal(before[key], value) for key, value in likelihood.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_moments_have_the_frames_shape(name):
    likelihood = head(name)
    params, target = batch(likelihood)
    distribution = likelihood.distribution(params)
    for value in (distribution.mean, distribution.mode, distribution.stddev, distribution.sample()):
        assert value.shape == target.shape and value.isfinite().all()
    assert distribution.cdf(torch.tensor(0.5)).shape == target.shape


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_safetensors(name):
    likelihood, other = head(name), head(name)
    params, target = batch(likelihood)
    likelihood.loss(params, target, step=0)
    other.load_state_dict(load(save(likelihood.state_dict())))
    assert torch.equal(likelihood.distribution(params).stddev, other.distribution(params).stddev)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_and_wrong_options_are_refused(name):
    with pytest.raises(ValueError, match=f"likelihood.options.sgima is not an option of {name}"):
        build(name, sgima=1)


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"likelihood.name is 'gauss'.*optimal_sigma"):
        build("gauss")


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases_resolve(alias, name):
    assert type(build(alias)) is REGISTRY[name]


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("fixed_gaussian", "sigma", 0),
        ("fixed_gaussian", "mean", "tanh"),
        ("shared_sigma", "init", -1),
        ("optimal_sigma", "decay", 1.5),
        ("optimal_sigma", "floor", "low"),
    ],
)
def test_wrong_values_name_their_option(name, option, value):
    with pytest.raises(ValueError, match=f"likelihood.options.{option} is {value!r}"):
        build(name, **{option: value})


def test_shapes_that_do_not_fit_are_refused():
    likelihood = head("optimal_sigma")
    params, target = batch(likelihood)
    with pytest.raises(ValueError, match="decoder made"):
        likelihood.loss(params, target[:, :, :1])
    with pytest.raises(ValueError, match="3 decoder channels"):
        likelihood.loss(params[:, :, :2], target)


def test_sigma_is_shown():
    assert float(head("fixed_gaussian", sigma=0.2).sigma) == pytest.approx(0.2)
    assert float(head("shared_sigma").sigma) == 1
    assert float(head("optimal_sigma").sigma) == pytest.approx(math.sqrt(1 / 12))
    assert head("pixel_sigma").sigma is None
    assert likelihoods.build("optimal_sigma").training
