"""The diagnostics against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from svg.evaluation import latents as diagnostics
from svg.evaluation.images import LATENT_ROWS
from svg.models import samplers
from svg.models.base import Gaussian
from svg.models.samplers import GaussianMixture
from tests.helpers.models import evidence as exact_evidence
from tests.helpers.models import images, pca_model, vae


def test_active_units():
    mean = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.15, 0.07, 0.0])
    assert diagnostics.active_units(mean) == 2


def test_the_information_is_zero_where_nothing_is_told():
    same = Gaussian(torch.zeros(500, 3), torch.zeros(500, 3))
    assert diagnostics.empirical_information(same).item() == pytest.approx(0, abs=0.15)


def test_the_information_is_that_of_a_gaussian_channel():
    """x ~ N(0, 1), z = x + noise of variance 1/8: I = (1/2) ln 9 for each latent."""
    mean = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0))
    posterior = Gaussian(mean, torch.full_like(mean, math.log(1 / 8)))
    assert diagnostics.empirical_information(posterior).item() == pytest.approx(math.log(9), rel=0.05)


def test_the_information_is_capped_by_the_number_of_images():
    mean = 1e3 * torch.arange(64.0)[:, None]
    bound = diagnostics.empirical_information(Gaussian(mean, torch.full_like(mean, -4.0)))
    assert bound.item() == pytest.approx(math.log(64), abs=0.6)


def test_the_information_is_a_lower_bound_of_the_datas():
    """I = ln 9 = 2.197 (as above): over draws of N images the mean grows with N and stays below; it says so."""

    def mean(n: int) -> float:
        drawn = torch.randn(2000 // n, n, 2, generator=torch.Generator().manual_seed(n))
        each = [diagnostics.empirical_information(Gaussian(x, torch.full_like(x, math.log(1 / 8)))) for x in drawn]
        return torch.stack(each).mean().item()

    means = [mean(n) for n in (4, 16, 64, 400)]
    assert means == sorted(means) and means[0] < math.log(4) and means[-1] < math.log(9)
    assert means[-1] == pytest.approx(math.log(9), abs=0.15)
    assert "at least" in LATENT_ROWS["information"] and "ln N" in LATENT_ROWS["information_cap"]


@pytest.mark.parametrize("backbone", ["conv", "mlp", "linear"])
def test_smoothness(backbone):
    model = vae("optimal_sigma", backbone=backbone, width=8)
    mean = torch.randn(2, 3, generator=torch.Generator().manual_seed(1)).double()
    whole = torch.autograd.functional.jacobian(lambda z: diagnostics.decoded(model, z), mean)
    by_hand = torch.stack([whole[i, :, i] for i in range(2)])
    torch.testing.assert_close(diagnostics.jacobian(model, mean), by_hand)
    els = by_hand.square().sum((1, 2)).mean().item()
    assert diagnostics.local_smoothness(model, mean) == pytest.approx(els)
    assert diagnostics.expected_gap(model, mean.repeat(2000, 1), s2=1e-6) == pytest.approx(2e-6 * els, rel=0.1)


def test_the_evidence_is_exact_for_a_linear_decoder():
    model, x = pca_model(), images(4)
    decoder = model.decoder[0]
    with torch.no_grad():  # the mean of the true posterior
        precision = decoder.weight.T @ decoder.weight + 0.25 * torch.eye(3).double()
        model.mean.weight.copy_(torch.linalg.solve(precision, decoder.weight.T))
        model.mean.bias.copy_(-model.mean.weight @ decoder.bias)
    torch.testing.assert_close(
        diagnostics.evidence(model, x), exact_evidence(model, x), rtol=1e-8, atol=0
    )  # log sigma is float32


def test_the_evidence_knows_the_floating_prior():
    model, x = pca_model("constant"), images(2)
    s2 = torch.tensor([4.0, 1.0, 0.25])
    model.prior_variance.total.copy_(s2)
    model.prior_variance.weight.fill_(1)
    decoder = model.decoder[0]
    covariance = (decoder.weight * s2) @ decoder.weight.T + 0.25 * torch.eye(784).double()
    law = torch.distributions.MultivariateNormal(decoder.bias, covariance)
    with torch.no_grad():
        precision = decoder.weight.T @ decoder.weight / 0.25 + (1 / s2).diag()
        model.mean.weight.copy_(torch.linalg.solve(precision, decoder.weight.T / 0.25))
        model.mean.bias.copy_(-model.mean.weight @ decoder.bias)
    torch.testing.assert_close(
        diagnostics.evidence(model, x), law.log_prob(x.double().flatten(1) / 255), rtol=1e-8, atol=0
    )


def test_the_evidence_needs_one_sigma():
    for name in ("pixel_sigma", "laplace", "trainable_iso_d"):
        with pytest.raises(ValueError, match=f"Gaussian likelihood of one sigma: {name} is none"):
            diagnostics.evidence(vae(name), images(2))


def test_the_divergence_of_the_aggregate_posterior():
    """KL(N(m, v I) || N(0, I)) = (Z/2)(v - ln v - 1) + |m|^2/2, the mixture of one component being exact."""
    latents = Gaussian(torch.full((500, 2), 1.0), torch.full((500, 2), math.log(0.25)))
    mixture = samplers.build("gmm", vae(), latents, components=1, draws=50_000)
    assert isinstance(mixture, GaussianMixture)
    mean, spread = diagnostics.aggregate_divergence(mixture, Gaussian.standard(torch.zeros(1, 2)), draws=4000, runs=5)
    assert mean == pytest.approx(0.25 - math.log(0.25) - 1 + 1, rel=0.03)
    assert 0 < spread < 0.05
