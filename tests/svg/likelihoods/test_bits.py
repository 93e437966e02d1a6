"""Bits per dimension: the bounds hold, and the likelihoods are ordered as they must be."""

import math

import pytest
import torch
from scipy import stats

from svg.likelihoods import REGISTRY, bits_per_dim, dequantized_log_prob
from svg.noise import Noise
from tests.helpers.heads import batch, head, training_loss


def index(clips: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(clips)[:, None], torch.arange(frames)


def test_bits_per_dim():
    assert bits_per_dim(12 * math.log(256), 12) == pytest.approx(8)


@pytest.mark.parametrize("name", [name for name in REGISTRY if name != "bernoulli"])
def test_the_bound_is_below_zero_and_discrete_heads_are_exact(name):
    likelihood = head(name, size=(3, 2))
    training_loss(likelihood, *batch(likelihood))
    params, target = batch(likelihood, seed=1)
    distribution = likelihood.distribution(params)
    bound = dequantized_log_prob(distribution, target, Noise(0, index(2, 3)))
    assert bound.shape == (2, 3) and (bound < 0).all()
    assert torch.equal(bound, dequantized_log_prob(distribution, target, Noise(0, index(2, 3))))
    if likelihood.discrete:
        assert torch.equal(bound, distribution.log_prob(target))


@pytest.mark.parametrize("name", [n for n, c in REGISTRY.items() if not c.discrete and n != "bernoulli"])
def test_dequantisation_is_a_tight_bound_on_the_mass_of_the_bin(name):
    """E_u log p(y) - d log(bins) is below the log mass of the bin, here for one grey pixel, and near it."""
    likelihood = head(name, 1, (1, 1)).eval().requires_grad_(False)
    params = batch(likelihood, 1, 1)[0].detach()
    level, draws = 120, 4000
    frames = torch.full((1, draws, 1, 1, 1), level, dtype=torch.uint8)
    distribution = likelihood.distribution(params.expand(-1, draws, -1, -1, -1))
    bound = float(dequantized_log_prob(distribution, frames, Noise(0, index(1, draws))).double().mean())
    unit = distribution.support == "unit interval"
    low, high = (level / 256, (level + 1) / 256) if unit else ((level - 0.5) / 255, (level + 0.5) / 255)
    one = likelihood.double().distribution(params.double())
    mass = float(one.cdf(torch.tensor(high).double()) - one.cdf(torch.tensor(low).double()))
    assert bound <= math.log(mass) + 2e-3
    assert bound == pytest.approx(math.log(mass), abs=0.05)


@pytest.mark.parametrize(("levels", "gap"), [(5.0, 0.0016), (1.28, 0.026)])
def test_the_dequantisation_gap(levels, gap):
    """The gap of a Gaussian to its discretised self, on frames drawn from the latter (likelihoods.md, section B)."""
    sigma = levels / 255
    discretised = head("discretized_gaussian", 1, (100, 100), mean="identity", floor="none", init=sigma).requires_grad_(
        False
    )
    gaussian = head("fixed_gaussian", 1, (100, 100), mean="identity", sigma=sigma)
    params = torch.linspace(0.3, 0.7, 10_000).view(1, 1, 1, 100, 100).expand(20, -1, -1, -1, -1)
    noise = Noise(0, index(20, 1))
    target = (255 * discretised.distribution(params).sample(noise)).round().to(torch.uint8)
    three_sigma = 3 * math.sqrt(1 / 12) / levels / math.sqrt(target.numel())
    exact = dequantized_log_prob(discretised.distribution(params), target)
    bound = dequantized_log_prob(gaussian.distribution(params), target, noise.child(3))
    assert float((exact - bound).mean()) / 10_000 == pytest.approx(gap, abs=three_sigma)


def test_the_better_the_model_the_fewer_the_bits():
    """Frames from a Gaussian of 8 levels, scored as in sigma-VAE's Table 4."""
    torch.manual_seed(0)
    size, sigma = (64, 64), 8 / 255
    target = (255 * (0.5 + sigma * torch.randn(4, 2, 1, *size))).round().clamp(0, 255).to(torch.uint8)
    dims = math.prod(size)

    def bits(name, raw, **options):
        distribution = head(name, 1, size, **options).requires_grad_(False).distribution(raw)
        return float(bits_per_dim(-dequantized_log_prob(distribution, target, Noise(0, index(4, 2))).mean(), dims))

    flat = torch.zeros(4, 2, 1, *size)
    histogram = torch.bincount(target.flatten().long(), minlength=256) / target.numel()
    logits = (histogram + 1e-9).log().view(1, 1, 256, 1, 1).expand(4, 2, -1, *size)
    categorical = bits("categorical", logits)
    discretised = bits("discretized_gaussian", flat, init=sigma, floor="none")
    dequantised = bits("fixed_gaussian", flat, sigma=sigma)
    wrong = bits("fixed_gaussian", flat, sigma=1.0)
    entropy = math.log2(math.sqrt(2 * math.pi * math.e) * 8)
    assert categorical <= discretised <= dequantised + 1e-4 < wrong
    assert discretised == pytest.approx(entropy, abs=0.02) and dequantised == pytest.approx(entropy, abs=0.02)


def test_bernoulli_has_bits_on_binary_frames_only():
    likelihood = head("bernoulli")
    params, target = batch(likelihood)
    distribution = likelihood.distribution(params)
    with pytest.raises(ValueError, match="continuous_bernoulli"):
        dequantized_log_prob(distribution, target)
    binary = (target > 99).to(torch.uint8) * 255
    expected = stats.bernoulli(params.sigmoid().double().numpy()).logpmf((binary // 255).numpy()).sum((2, 3, 4))
    assert torch.allclose(dequantized_log_prob(distribution, binary).double(), torch.tensor(expected))


@pytest.mark.parametrize("name", ["beta", "continuous_bernoulli"])
def test_the_last_bin_ends_below_one(name):
    likelihood = head(name)
    params, target = batch(likelihood)

    class Extreme(Noise):
        def uniform(self, *size: int) -> torch.Tensor:
            return torch.full((2, 3, *size), 1 - 2.0**-24)

    white = torch.full_like(target, 255)
    assert dequantized_log_prob(likelihood.distribution(params), white, Extreme(0, index(2, 3))).isfinite().all()


def test_float_frames_have_no_bits():
    likelihood = head("optimal_sigma")
    params, target = batch(likelihood)
    with pytest.raises(ValueError, match="uint8"):
        dequantized_log_prob(likelihood.distribution(params), target / 255)
