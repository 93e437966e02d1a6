"""What holds for every likelihood of the registry: the contract."""

import inspect
import math
import re
from functools import partial

import pytest
import torch
from safetensors.torch import load, save
from torch._subclasses import FakeTensorMode

from svg.likelihoods import ALIASES, REGISTRY, Latents, Likelihood, build
from svg.likelihoods.distribution import require_frames
from svg.likelihoods.fixed_gaussian import FixedGaussian
from svg.likelihoods.options import valid_options
from svg.noise import Noise
from tests.helpers.heads import LATENTS, batch, head, training_loss

NAMES = list(REGISTRY)
every = pytest.mark.parametrize("name", NAMES)


@every
def test_loss_is_per_frame_and_differentiable(name):
    likelihood = head(name)
    params, target = batch(likelihood)
    params.requires_grad_()
    loss = training_loss(likelihood, params, target)
    assert loss.shape == (2, 3) and loss.dtype == torch.float32
    loss.mean().backward()
    assert params.grad.isfinite().all() and params.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in likelihood.parameters())


@every
def test_evaluation_scores_the_distribution_and_changes_nothing(name):
    likelihood = head(name)
    training_loss(likelihood, *batch(likelihood))
    likelihood.eval()
    before = {key: value.clone() for key, value in likelihood.state_dict().items()}
    params, target = batch(likelihood, seed=1)
    assert torch.allclose(likelihood.loss(params, target), -likelihood.distribution(params).log_prob(target))
    assert all(torch.equal(before[key], value) for key, value in likelihood.state_dict().items())


@every
def test_frames_are_scored_independently(name):
    likelihood = head(name).eval()
    params, target = batch(likelihood)
    together = likelihood.loss(params, target)
    alone = torch.stack([likelihood.loss(params[:, t : t + 1], target[:, t : t + 1])[:, 0] for t in range(3)], dim=1)
    assert torch.allclose(together, alone)


@every
def test_moments_have_the_frames_shape_and_a_draw_is_pure(name):
    likelihood = head(name)
    params, target = batch(likelihood)
    distribution = likelihood.distribution(params)
    for value in (distribution.mean, distribution.mode, distribution.stddev, distribution.sample(clamp=True)):
        assert value.shape == target.shape and value.isfinite().all()
    assert (distribution.sample(clamp=True) - 0.5).abs().max() <= 0.5
    assert distribution.cdf(torch.tensor(0.5)).shape == target.shape


@every
def test_state_survives_safetensors(name):
    likelihood, other = head(name), head(name)
    params, target = batch(likelihood)
    training_loss(likelihood, params, target)
    other.load_state_dict(load(save(likelihood.state_dict())))
    assert torch.equal(likelihood.distribution(params).stddev, other.distribution(params).stddev)


@every
def test_float_frames_are_taken_or_refused(name):
    likelihood = head(name)
    params, target = batch(likelihood)
    if likelihood.discrete:
        with pytest.raises(ValueError, match="uint8"):
            training_loss(likelihood, params, target / 255)
    else:
        exact = training_loss(likelihood, params, target)
        assert torch.allclose(training_loss(likelihood, params, target / 255), exact, rtol=1e-4, atol=1e-3)


@every
@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.int64, torch.complex64])
def test_frames_of_another_type_are_refused(name, dtype):
    """Ones of another type would be read as grey level 1 of 255."""
    likelihood = head(name)
    params, target = batch(likelihood)
    ones = torch.ones_like(target).to(dtype)
    for score in (partial(training_loss, likelihood, params), likelihood.distribution(params).log_prob):
        with pytest.raises(ValueError, match=f"uint8.*not {dtype}"):
            score(ones)


@pytest.mark.parametrize("name", [name for name in NAMES if not REGISTRY[name].discrete])
@pytest.mark.parametrize("value", [-0.01, 1.01, 128.0, math.nan])
def test_float_frames_outside_the_unit_interval_are_refused(name, value):
    likelihood = head(name)
    params, target = batch(likelihood)
    x = target / 255
    x[0, 0, 0, 0, 0] = value
    for score in (partial(training_loss, likelihood, params), likelihood.distribution(params).log_prob):
        with pytest.raises(ValueError, match=r"float frames lie in \[0, 1\]"):
            score(x)


def test_the_range_is_checked_without_waiting_for_a_device():
    """Where the host does not know the values, those outside become NaN, and with them the loss."""
    x = torch.tensor([-0.1, 0.0, 0.5, 1.0, 128.0])
    compiled = torch.compile(require_frames, backend="eager", fullgraph=True)
    assert compiled(x).isnan().tolist() == [True, False, False, False, True]
    assert require_frames(x.to("meta")).shape == x.shape
    likelihood = head("optimal_sigma")
    params, target = batch(likelihood)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for frames in (mode.from_tensor(target), mode.from_tensor(target / 255)):
            assert likelihood.loss(mode.from_tensor(params), frames).shape == (2, 3)
            assert likelihood.distribution(mode.from_tensor(params)).log_prob(frames).shape == (2, 3)


def test_data_in_other_units_are_taken_where_a_head_is_told_so():
    likelihood = head("optimal_sigma", mean="identity")
    likelihood.in_unit = False
    params, target = batch(likelihood)
    assert training_loss(likelihood, 300 * params, target.float()).isfinite().all()


@every
def test_unknown_options_are_refused(name):
    with pytest.raises(ValueError, match=f"likelihood.options.sgima is not an option of {name}"):
        build(name, sgima=1)


@every
@pytest.mark.parametrize("compiled", [str, inspect.cleandoc], ids=["as it is", "without its indentation"])
def test_every_option_is_documented(name, compiled):
    """Whether Python keeps a docstring's indentation or, from 3.13 on, removes it."""
    cls = REGISTRY[name]
    text = " ".join(compiled(cls.__doc__).split())
    assert all(f"{option}: " in text for option in valid_options(cls))
    assert valid_options(cls) or "no options" in text


@every
def test_the_flags_are_consistent(name):
    likelihood = head(name)
    target = batch(likelihood)[1]
    support = likelihood.distribution(batch(likelihood)[0]).support
    assert likelihood.discrete == (support == "levels")
    loss = training_loss(likelihood, *batch(likelihood))
    if likelihood.normalised and not likelihood.fits_target and support == "reals":
        assert torch.allclose(loss, -likelihood.distribution(batch(likelihood)[0]).log_prob(target))
    assert likelihood.needs == () or set(likelihood.needs) <= set(LATENTS)


@every
def test_other_channel_counts_work(name):
    likelihood = head(name, channels=1, size=(3, 2))
    params, target = batch(likelihood)
    assert training_loss(likelihood, params, target).shape == (2, 3)
    assert likelihood.distribution(params).mean.shape == target.shape


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("channels", value) for value in (0, -3, 1.5, True, "3", None)),
        *(("size", value) for value in (64, (64,), (64, 64, 3), (0, 64), (64, 1.5), "64", None)),
    ],
)
def test_wrong_shapes_are_refused_by_their_argument(argument, value):
    with pytest.raises(ValueError, match=f"^{argument} is {re.escape(repr(value))}, but it must be .*whole number"):
        build("diag_i", **{argument: value})


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
        ("fixed_gaussian", "sigma", "small"),
        ("fixed_gaussian", "mean", "tanh"),
        ("shared_sigma", "init", -1),
        ("shared_sigma", "lr_scale", math.inf),
        ("optimal_sigma", "decay", 1.5),
        ("optimal_sigma", "floor", "low"),
        ("iso_d", "eps", -1e-6),
        ("baggins", "tau", 0),
        ("two_stage_sigma", "shared_map", "yes"),
        ("logistic_mixture", "components", 0),
        ("scheduled_sigma", "schedule", [[0, -1.0]]),
    ],
)
def test_wrong_values_name_their_option(name, option, value):
    with pytest.raises(ValueError, match=f"likelihood.options.{option} is "):
        build(name, **{option: value})


ODD = (
    *(1e300, -1e300, 1e30, 2**70, 65536, 1e-30, -1, 0, 1.5, 4, math.nan, math.inf, None, True, "x", "", [], {}, [[1]]),
    *([[0, 1e300]], [[0, 1], [1e300, 2]], [[-(2**70), 1]], {"a": 1}, "9" * 200),
)


@every
def test_any_value_is_taken_or_refused_by_the_options_name(name):
    for option in inspect.signature(REGISTRY[name]).parameters.keys() - {"channels", "size"}:
        for value in ODD:
            try:
                likelihood = head(name, **{option: value})
                training_loss(likelihood, *batch(likelihood))
            except ValueError as error:
                assert f"likelihood.options.{option} is " in str(error) and len(str(error)) < 300


def test_shapes_that_do_not_fit_are_refused():
    likelihood = head("diag_i")
    params, target = batch(likelihood)
    with pytest.raises(ValueError, match="decoder made"):
        likelihood.loss(params, target[:, :, :1])
    with pytest.raises(ValueError, match="3 decoder channels"):
        likelihood.loss(params[:, :, :2], target)
    with pytest.raises(ValueError, match=r"built for frames of \(4, 5\) pixels"):
        likelihood.distribution(params[..., :2, :])


def test_baggins_without_a_constant_posterior_variance_is_refused():
    likelihood = head("baggins")
    with pytest.raises(ValueError, match="constant posterior variance"):
        likelihood.loss(*batch(likelihood), latents={"z": torch.zeros(2, 3, 2)})


def test_params_are_ordered_p_c():
    likelihood = head("pixel_sigma", floor="none", mean="identity")
    params, _ = batch(likelihood)
    distribution = likelihood.distribution(params)
    assert torch.equal(distribution.mean, params[:, :, :3])
    assert torch.allclose(distribution.stddev.log(), params[:, :, 3:], atol=1e-6)


def test_one_sigma_a_frame_is_the_spatial_mean_of_its_map():
    likelihood = head("trainable_iso_d", floor="none")
    params, _ = batch(likelihood)
    stddev = likelihood.distribution(params).stddev
    expected = params[:, :, 3].mean((-2, -1)).exp()
    assert torch.allclose(stddev, expected[..., None, None, None].expand_as(stddev))


@pytest.mark.parametrize("name", ["beta", "continuous_bernoulli"])
def test_the_unit_interval_is_dequantised_in_training_and_centred_in_evaluation(name):
    likelihood = head(name)
    params, target = batch(likelihood)
    noise = Noise(4, (torch.arange(2)[:, None], torch.arange(3)))
    density = likelihood.distribution(params).log_density
    for training, u in ((True, noise.uniform(3, 4, 5)), (False, 0.5)):
        loss = likelihood.train(training).loss(params, target, noise=noise)
        assert torch.allclose(loss, -density((target + u) / 256).sum((2, 3, 4)))
    alone = likelihood.train().loss(params[1:, 2:], target[1:, 2:], noise=noise[1:, 2:])
    assert torch.allclose(alone, likelihood.loss(params, target, noise=noise)[1:, 2:])
    drawn = [likelihood.loss(params, target) for _ in range(2)]
    assert not torch.equal(*drawn)


def test_a_new_likelihood_needs_no_more_than_a_distribution():
    class Sharp(FixedGaussian):
        """A subclass with another default."""

    likelihood: Likelihood = Sharp(3, (4, 5), sigma=0.01)
    latents: Latents = {}
    assert likelihood.loss(*batch(likelihood), latents=latents).shape == (2, 3)


def test_sigma_is_shown():
    assert float(head("fixed_gaussian", sigma=0.2).sigma) == pytest.approx(0.2)
    assert float(head("shared_sigma").sigma) == 1
    assert float(head("optimal_sigma").sigma) == pytest.approx(math.sqrt(1 / 12))
    assert head("pixel_sigma").sigma is None
    for name in NAMES:
        sigma = head(name).sigma
        assert sigma is None or (sigma.shape == () and not sigma.requires_grad)
