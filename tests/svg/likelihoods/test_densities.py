"""The densities: against scipy and torch.distributions, integrated, and sampled."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from svg.likelihoods import REGISTRY
from svg.likelihoods.distribution import place
from svg.likelihoods.normal import Normal
from svg.likelihoods.numerics import log1mexp, log_expm1_over, log_ndtr, stirling_remainder
from svg.noise import Noise
from tests.helpers.heads import batch, head, training_loss

DISCRETE = [name for name, cls in REGISTRY.items() if cls.discrete]
CONTINUOUS = [name for name in REGISTRY if name not in (*DISCRETE, "bernoulli")]
moderate = st.floats(-6, 6)


def one_pixel(name: str, raw, **options):
    """The distribution of a one-pixel grey frame whose decoder output is `raw`, in float64; and the head."""
    likelihood = head(name, channels=1, size=(1, 1), **options).double().eval().requires_grad_(False)
    raw = np.resize(np.asarray(raw, dtype=float), likelihood.param_channels)
    return likelihood, likelihood.distribution(torch.tensor(raw).view(1, 1, -1, 1, 1))


def reference(name: str, distribution):
    """The same distribution in scipy; None if it is not known here."""

    def value(tensor) -> float:
        return float(torch.as_tensor(tensor).detach().flatten()[0])

    if isinstance(distribution, Normal):
        return stats.norm(value(distribution.mean), value(distribution.stddev))
    if name == "laplace":
        return stats.laplace(value(distribution.mean), value(distribution.scale))
    if name == "student_t":
        return stats.t(value(distribution.nu), value(distribution.mean), math.exp(value(distribution.log_scale)))
    if name == "beta":
        return stats.beta(value(distribution.a), value(distribution.b))
    if name == "continuous_bernoulli":  # exp(a x) on [0, 1] is a truncated exponential, reversed where a > 0
        a = value(distribution.logits)
        if abs(a) < 1e-3:
            return _Tilted(a)
        tail = stats.truncexpon(abs(a), 0, 1 / abs(a))
        return tail if a < 0 else _Mirrored(tail)
    return None


class _Mirrored:
    """1 - X."""

    def __init__(self, other) -> None:
        self.other = other

    def logpdf(self, x):
        return self.other.logpdf(1 - x)

    def cdf(self, x):
        return self.other.sf(1 - x)

    def mean(self):
        return 1 - self.other.mean()

    def std(self):
        return self.other.std()


class _Tilted:
    """exp(a x) on [0, 1] to the first order of a, where scipy's truncexpon has lost its digits."""

    def __init__(self, a: float) -> None:
        self.a = a

    def logpdf(self, x):
        return self.a * (x - 0.5)

    def cdf(self, x):
        return x + self.a * x * (x - 1) / 2

    def mean(self):
        return 0.5 + self.a / 12

    def std(self):
        return math.sqrt(1 / 12)


@pytest.mark.parametrize("name", CONTINUOUS)
@settings(max_examples=12)
@given(raw=st.lists(moderate, min_size=3, max_size=3), x=st.floats(0.001, 0.999))
def test_density_cdf_and_moments_agree_with_scipy(name, raw, x):
    _, distribution = one_pixel(name, raw)
    expected = reference(name, distribution)
    if expected is None:
        pytest.skip("not in scipy")
    at = torch.tensor(x, dtype=torch.float64).view(1, 1, 1, 1, 1)
    assert float(distribution.log_prob(at)) == pytest.approx(expected.logpdf(x), rel=1e-6, abs=1e-5)
    assert float(distribution.cdf(at)) == pytest.approx(expected.cdf(x), rel=1e-5, abs=1e-7)
    assert float(distribution.mean) == pytest.approx(expected.mean(), abs=1e-6)
    if name != "student_t" or float(distribution.nu) > 2.01:  # below, the stddev has a bound
        assert float(distribution.stddev) == pytest.approx(expected.std(), rel=1e-4)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_cdf_is_the_integral_of_the_density(name):
    _, distribution = one_pixel(name, [0.3, -2.0, 1.0])
    x = torch.linspace(0.01, 0.99, 50, dtype=torch.float64).view(-1, 1, 1, 1, 1)
    slope = (distribution.cdf(x + 1e-5) - distribution.cdf(x - 1e-5)).flatten() / 2e-5
    assert torch.allclose(slope, distribution.log_prob(x).exp().flatten(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("raw", [[0.3, -2.0, 1.0], [-1.5, -4.0, -3.0], [0.0, 0.0, 3.0]])
def test_densities_integrate_to_one_and_give_the_moments(name, raw):
    _, distribution = one_pixel(name, raw)
    mean, spread = float(distribution.mean), float(distribution.stddev)
    unit = distribution.support == "unit interval"
    low, high = (1e-9, 1 - 1e-9) if unit else (mean - 2000 * spread, mean + 2000 * spread)
    middle = [mean + k * spread for k in (-30, -3, -1, 0, 1, 3, 30) if low < mean + k * spread < high]

    def density(x: float) -> float:
        return math.exp(float(distribution.log_density(torch.tensor(x, dtype=torch.float64).view(1, 1, 1, 1, 1))))

    def integral(of: Callable[[float], float]) -> float:
        return integrate.quad(lambda x: of(x) * density(x), low, high, points=middle, limit=400)[0]

    assert integral(lambda x: 1) == pytest.approx(1, abs=1e-4)
    assert integral(lambda x: (x - mean) / spread) == pytest.approx(0, abs=1e-3)
    if name != "student_t":  # whose tails reach further than can be integrated
        assert math.sqrt(integral(lambda x: ((x - mean) / spread) ** 2)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", [*DISCRETE, "discretized_gaussian-tiny", "discretized_logistic-tiny"])
def test_masses_sum_to_one_and_give_the_moments(name):
    name, _, tiny = name.partition("-")
    likelihood = head(name, size=(3, 2), **({"init": 1e-3, "floor": "none"} if tiny else {}))
    params, target = batch(likelihood)
    distribution = likelihood.distribution(3 * params)
    log_masses = distribution.log_masses()
    assert log_masses.shape == (2, 3, 256, 3, 3, 2)
    masses = log_masses.double().exp()
    assert torch.allclose(masses.sum(2), torch.ones(()).double(), atol=2e-5)
    values = (torch.arange(256).double() / 255)[:, None, None, None]
    mean = (masses * values).sum(2)
    variance = (masses * (values - mean.unsqueeze(2)) ** 2).sum(2)
    assert torch.allclose(distribution.mean.double(), mean, atol=(0.5 if tiny else 0.1) / 255)
    if not tiny:  # below a grey level the closed form of the mean is the continuous variable's
        assert torch.allclose(distribution.stddev.double() ** 2, variance, atol=1e-6, rtol=1e-2)
    levels = torch.arange(256)[masses.argmax(2)]
    assert torch.allclose(distribution.mode, levels / 255)
    for level in (-1, 0, 1, 100, 127, 128, 254, 255):
        below = masses[:, :, : level + 1].sum(2)
        assert torch.allclose(distribution.cdf(torch.tensor(level / 255)).double(), below, atol=1e-5)
    if name != "logistic_mixture":  # its channels are dependent: see below
        score = log_masses.gather(2, target.long().unsqueeze(2)).sum((2, 3, 4, 5))
        assert torch.allclose(distribution.log_prob(target), score, rtol=1e-5)


def test_the_mixtures_stddev_is_exact_down_to_a_level():
    likelihood = head("logistic_mixture", 1, (1, 1), components=2, mean="identity").double()
    params = torch.tensor([0.3, -0.2, 0.4008, 0.4094, -5.5, -5.2]).double().view(1, 1, 6, 1, 1)
    distribution = likelihood.distribution(params)
    masses, values = distribution.log_masses().exp().flatten(), torch.arange(256).double() / 255
    variance = (masses * values.square()).sum() - (masses * values).sum().square()
    assert distribution.stddev.item() == pytest.approx(variance.sqrt().item(), rel=1e-4)


def test_the_mixture_shares_its_component_among_channels():
    likelihood = head("logistic_mixture", channels=3, size=(1, 1), components=2)
    params, target = batch(likelihood, 1, 1)
    distribution = likelihood.distribution(params)
    weights = params[0, 0, :2, 0, 0].softmax(0)
    location, log_scale = params[0, 0, 2:, 0, 0].view(2, 2, 3)
    scale = (-7 + torch.nn.functional.softplus(log_scale + 7)).exp()

    def cdf(level):
        return torch.sigmoid((level - location.sigmoid()) / scale)

    x = target[0, 0, :, 0, 0] / 255
    upper = torch.where(x < 1, cdf(x + 1 / 510), 1)
    lower = torch.where(x > 0, cdf(x - 1 / 510), 0)
    expected = (weights * (upper - lower).prod(1)).sum().log()
    assert float(distribution.log_prob(target)) == pytest.approx(float(expected), rel=1e-4)


@settings(max_examples=60)
@given(mean=st.floats(-3, 3), log_scale=st.floats(-7, 8), level=st.integers(0, 255))
@pytest.mark.parametrize("name", ["discretized_gaussian", "discretized_logistic"])
def test_discretised_masses_agree_with_scipy(name, mean, log_scale, level):
    """In float32, over seven orders of magnitude of the scale, from the centre into both tails."""
    likelihood = head(name, 1, (1, 1), mean="identity", floor="none", init=math.exp(log_scale)).requires_grad_(False)
    distribution = likelihood.distribution(torch.full((1, 1, 1, 1, 1), mean))
    scale = float(distribution.log_scale.double().exp())
    exact = {"discretized_gaussian": stats.norm, "discretized_logistic": stats.logistic}[name](np.float32(mean), scale)
    low, high = (level - 0.5) / 255, (level + 0.5) / 255
    low, high = (-np.inf if level == 0 else low), (np.inf if level == 255 else high)
    if low > exact.mean():  # the mirror image keeps the digits of the upper tail
        mass = exact.sf(low) - exact.sf(high)
    else:
        mass = exact.cdf(high) - exact.cdf(low)
    got = float(distribution.log_mass(torch.tensor(level)))
    assert math.isfinite(got)
    if mass > 1e-250:
        # float32 holds the bin's ends, in units of the scale, to 1e-7 of their size
        distance = abs(level / 255 - mean) / scale
        assert got == pytest.approx(math.log(mass), rel=2e-5, abs=2e-5 + 3e-7 * distance * (1 + distance))


@pytest.mark.parametrize("sigma", [0.099, 0.101, 1.0, 20.0])
def test_a_narrow_bin_of_a_gaussian_has_the_mass_of_its_curved_density(sigma):
    """Either side of where the bin becomes narrow, in float64."""
    options = {"mean": "identity", "floor": "none", "init": sigma}
    likelihood = head("discretized_gaussian", 1, (1, 1), **options).double().requires_grad_(False)
    distribution = likelihood.distribution(torch.full((1, 1, 1, 1, 1), 0.5).double())
    scale = float(distribution.log_scale.exp())
    for level in (1, 60, 127, 254):
        ends = (np.array([level - 0.5, level + 0.5]) / 255 - 0.5) / scale
        expected = math.log(integrate.quad(stats.norm.pdf, *ends)[0])
        assert float(distribution.log_mass(torch.tensor(level))) == pytest.approx(expected, abs=2e-8)


@pytest.mark.parametrize("name", [name for name in REGISTRY if name != "student_t"])
def test_draws_have_the_distributions_moments(name):
    likelihood = head(name, size=(3, 2)).eval()
    params = batch(likelihood, frames=1)[0].detach()
    index = torch.arange(2)[:, None], torch.arange(2400)
    draws = likelihood.distribution(params.expand(-1, 2400, -1, -1, -1)).sample(Noise(0, index)).double()
    distribution = likelihood.distribution(params)
    mean, stddev = distribution.mean.detach().double(), distribution.stddev.detach().double()
    error = (draws.mean(1, keepdim=True) - mean) / stddev * math.sqrt(2400)
    assert error.abs().max() < 5
    assert torch.allclose(draws.std(1, keepdim=True), stddev, rtol=0.15, atol=1e-3)


def off_by(draws: torch.Tensor, mean: torch.Tensor, stddev: torch.Tensor) -> tuple[float, float]:
    """How far draws (N, ...) are from what a distribution says of them, over all its values together: their offset in
    units of the stddev, and the relative error of the stddev."""
    z = (draws.double() - mean.double()) / stddev.double()
    return abs(z.mean().item()), abs(z.square().mean().sqrt().item() - 1)


@pytest.mark.parametrize("name", list(REGISTRY))
def test_draws_are_as_wide_as_the_stddev_says(name):
    """To 1.5 %: draws 5 % too wide, or a stddev or an offset that is 3 % off, are seen."""
    likelihood = head(name, size=(2, 2)).eval()
    params = batch(likelihood, clips=1, frames=1)[0].detach()
    if name == "student_t":
        params[:, :, 6:] += 8.0  # nu around 10: near 2 the variance is that of a few draws
    index = torch.arange(3000)[:, None], torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        draws = likelihood.distribution(params.expand(3000, -1, -1, -1, -1)).sample(Noise(0, index))
        mean, stddev = likelihood.distribution(params).mean, likelihood.distribution(params).stddev
    assert max(off_by(draws, mean, stddev)) < 0.015
    assert off_by(mean + 1.05 * (draws - mean), mean, stddev)[1] > 0.03
    for wrong in (0.97, 1.03):
        assert off_by(draws, mean, wrong * stddev)[1] > 0.015
    assert off_by(draws + 0.03 * stddev, mean, stddev)[0] > 0.015


def test_a_pixels_channels_are_drawn_from_one_component():
    """Two sharp components far apart: a pixel is dark in all its channels or in none, its neighbours as they like."""
    likelihood = head("logistic_mixture", channels=3, size=(20, 20), components=2, mean="identity")
    params = torch.zeros(1, 1, likelihood.param_channels, 20, 20)
    params[:, :, 2:5], params[:, :, 5:8], params[:, :, 8:] = 0.2, 0.8, -5.0
    for noise in (Noise(0, (torch.zeros(1, 1, dtype=torch.long),)), None):
        dark = likelihood.distribution(params).sample(noise) < 0.5
        assert torch.equal(dark.all(2), dark.any(2))
        assert 0.4 < dark.float().mean() < 0.6


@pytest.mark.parametrize("name", [*CONTINUOUS, "student_t-near-2"])
def test_draws_have_the_distributions_quantiles(name):
    raw = [0.2, -2.0, -6.0] if name.endswith("near-2") else [0.2, -2.0, 1.0]
    likelihood, distribution = one_pixel(name.removesuffix("-near-2"), raw)
    known = reference(name.removesuffix("-near-2"), distribution)
    cdf = known.cdf if known else lambda x: distribution.cdf(torch.tensor(x)).detach().flatten().numpy()
    wide = likelihood.distribution(
        torch.tensor(raw[: likelihood.param_channels]).view(1, 1, -1, 1, 1).repeat(2000, 1, 1, 1, 1)
    )
    draws = wide.sample(Noise(1, (torch.arange(2000)[:, None],))).flatten().double().numpy()
    assert stats.kstest(draws, cdf).pvalue > 1e-3
    torch.manual_seed(0)
    assert stats.kstest(wide.sample().flatten().double().numpy(), cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", list(REGISTRY))
def test_a_draw_is_a_pure_function_of_its_index(name):
    likelihood = head(name)
    params = batch(likelihood)[0]
    noise = Noise(5, (torch.arange(2)[:, None], torch.arange(3)))
    whole = likelihood.distribution(params).sample(noise)
    part = likelihood.distribution(params[1:, :2]).sample(noise[1:, :2])
    assert torch.allclose(whole[1:, :2], part, atol=1e-6)


def test_student_t_becomes_the_gaussian_as_nu_grows():
    x = torch.linspace(0, 1, 11).view(-1, 1, 1, 1, 1)
    gaussian = head("pixel_sigma", 1, (1, 1)).distribution(torch.tensor([0.4, -2.0]).view(1, 1, 2, 1, 1))
    gaps = []
    for raw in (1e1, 1e3, 1e5, 1e7):
        params = torch.tensor([0.4, -2.0, raw]).view(1, 1, 3, 1, 1)
        gaps.append((head("student_t", 1, (1, 1)).distribution(params).log_prob(x) - gaussian.log_prob(x)).abs().max())
    assert gaps[0] > 10 * gaps[1] > 100 * gaps[2] and gaps[3] < 1e-4


def test_a_beta_has_no_mass_at_the_ends():
    _, distribution = one_pixel("beta", [0.0, 0.0])
    for x in (0.0, 1.0):
        assert float(distribution.log_prob(torch.full((1, 1, 1, 1, 1), x, dtype=torch.float64))) == -math.inf
    for k in (0, 255):
        assert torch.isfinite(distribution.log_prob(torch.full((1, 1, 1, 1, 1), k, dtype=torch.uint8)))


def test_maps_become_the_parameters_of_the_specification():
    """likelihoods.md, section A: concentrations 1 + softplus, at least 1 + 1e-4; nu = 2 + softplus."""
    for raw, expected in ((0.0, 1 + math.log(2)), (-100.0, 1 + 1e-4), (30.0, 31.0)):
        _, beta = one_pixel("beta", [raw, raw])
        assert float(beta.a) == pytest.approx(expected) and float(beta.b) == pytest.approx(expected)
        _, student = one_pixel("student_t", [0.0, 0.0, raw])
        assert float(student.nu) == pytest.approx(max(expected + 1, 2) if raw > -100 else 2)


@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("pixel_sigma", -6),
        ("student_t", -6),
        ("trainable_iso_d", -6),
        ("trainable_diag_i", -6),
        ("discretized_gaussian", -6),
        ("discretized_logistic", -6),
        ("logistic_mixture", -7),
    ],
)
def test_scale_maps_have_the_specifications_smooth_floors(name, floor):
    for raw in (-200.0, floor + 1.0, 0.0):
        likelihood = head(name, 1, (1, 1)).double().requires_grad_(False)
        for parameter in likelihood.parameters():
            parameter.fill_(raw)
        distribution = likelihood.distribution(torch.full((1, 1, likelihood.param_channels, 1, 1), raw).double())
        part = getattr(distribution, "logistics", distribution)
        log_scale = part.log_sigma if isinstance(part, Normal) else part.log_scale
        assert float(log_scale.flatten()[0]) == pytest.approx(floor + math.log1p(math.exp(raw - floor)), rel=1e-9)


def test_bernoulli_is_the_binary_density_and_cross_entropy():
    likelihood = head("bernoulli")
    params, target = batch(likelihood)
    binary = (target > 127).to(torch.uint8) * 255
    expected = torch.distributions.Bernoulli(logits=params).log_prob((binary > 0).float()).sum((2, 3, 4))
    assert torch.allclose(likelihood.loss(params, binary), -expected)
    soft = torch.nn.functional.binary_cross_entropy_with_logits(params, target / 255, reduction="none").sum((2, 3, 4))
    assert torch.allclose(likelihood.loss(params, target), soft)
    below = likelihood.distribution(params).cdf(torch.tensor(0.5))
    assert torch.allclose(below, 1 - params.sigmoid())


def test_continuous_bernoulli_agrees_with_torch():
    params = torch.linspace(-8, 8, 60).view(1, 1, 3, 4, 5)
    ours = head("continuous_bernoulli").distribution(params)
    other = torch.distributions.ContinuousBernoulli(logits=params.double())
    x = torch.rand(params.shape)
    assert torch.allclose(ours.log_density(x).double(), other.log_prob(x.double()), atol=1e-4)
    assert torch.allclose(ours.mean.double(), other.mean, atol=1e-5)


def test_categorical_agrees_with_torch_and_so_does_its_gradient():
    likelihood = head("categorical")
    params, target = batch(likelihood)
    params.requires_grad_()
    logits = params.unflatten(2, (256, 3))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(0, 1).long(), reduction="none")
    weights = torch.rand(2, 3)
    (weights * expected.unflatten(0, (2, 3)).sum((2, 3, 4))).sum().backward()
    grad, params.grad = params.grad, None
    loss = training_loss(likelihood, params, target)
    assert torch.allclose(loss, expected.unflatten(0, (2, 3)).sum((2, 3, 4)), rtol=1e-5)
    (weights * loss).sum().backward()
    assert torch.allclose(params.grad, grad, atol=1e-6)


def test_bits_are_the_levels_binary_digits():
    likelihood = head("bitwise_categorical", 1, (1, 1))
    params = torch.tensor([-50.0, 50, -50, -50, 50, -50, -50, 50]).view(1, 1, 8, 1, 1)
    distribution = likelihood.distribution(params)
    level = 2**1 + 2**4 + 2**7
    assert float(distribution.mode) * 255 == pytest.approx(level)
    assert float(distribution.mean) * 255 == pytest.approx(level)
    assert float(distribution.log_prob(torch.full((1, 1, 1, 1, 1), level, dtype=torch.uint8))) == pytest.approx(0)


@given(st.floats(1.0, 1e30))
def test_stirling_remainder_lies_within_its_bounds(x):
    remainder = float(stirling_remainder(torch.tensor(x)))
    assert 1 / (12 * x + 1) - 2e-6 <= remainder <= 1 / (12 * x) + 2e-6  # Robbins 1955


@given(st.floats(-1e4, 1e4))
def test_log_expm1_over_is_accurate(x):
    expected = 0.0 if x == 0 else max(x, 0) + math.log(-math.expm1(-abs(x)) / abs(x)) if abs(x) > 1e-12 else x / 2
    assert float(log_expm1_over(torch.tensor(x, dtype=torch.float64))) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.floats(-80, -1e-6))
def test_log1mexp_is_accurate(x):
    expected = math.log(-math.expm1(x)) if x > -1 else math.log1p(-math.exp(x))
    assert float(log1mexp(torch.tensor(x, dtype=torch.float64))) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_ndtr_and_its_gradient_are_accurate_far_in_the_tail(dtype):
    z = torch.tensor([-1e12, -1e6, -1e3, -40.0, -5, -1.5, -0.5, 0, 2, 30], dtype=dtype, requires_grad=True)
    value = log_ndtr(z)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    at = z.detach().double().numpy()
    expected = np.exp(stats.norm.logpdf(at[3:]) - stats.norm.logcdf(at[3:]))
    assert np.allclose(value.detach().numpy(), stats.norm.logcdf(at), rtol=1e-6, atol=1e-30)
    assert np.allclose(gradient[3:].numpy(), expected, rtol=1e-5, atol=1e-30)
    assert np.allclose(gradient[:3].numpy(), -at[:3], rtol=1e-5)


def test_levels_lie_where_section_b_puts_them():
    k = torch.tensor([0.0, 128, 255])
    assert torch.allclose(place(k, 0.5, "reals"), k / 255)
    assert torch.allclose(place(k, 0.5, "unit interval"), (k + 0.5) / 256)
