"""Post-hoc samplers: each has the moments that it should."""

from __future__ import annotations

import math

import pytest
import torch

from svg.models import samplers
from svg.models.base import Gaussian
from svg.noise import Noise
from tests.helpers.models import frames, images, make, objective, vae


def two_clusters(count: int = 400) -> Gaussian:
    """Posteriors about (3, 3, 3) and (-3, -3, -3) of variance 0.04."""
    sign = torch.where(torch.arange(count) % 2 == 0, 1.0, -1.0)[:, None]
    noise = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return Gaussian(3 * sign + 0.5 * noise, torch.full((count, 3), 0.04).log())


def test_the_prior_is_the_models():
    model = vae(posterior="constant")
    assert samplers.build("prior", model, two_clusters()).sample(2000).std() == pytest.approx(1, abs=0.05)
    with objective(model, "bilbo").eval().refit(), torch.no_grad():
        model.prior_variance.count(torch.full((1, 1, 3), 9.0))
    assert samplers.build("prior", model, two_clusters()).sample(2000).std() == pytest.approx(3, abs=0.15)


def test_the_floating_prior_has_the_second_moments():
    latents = two_clusters()
    z = samplers.build("floating", vae(), latents).sample(20000)
    expected = (latents.mean.square().mean(0) + 0.04).sqrt()
    torch.testing.assert_close(z.std(0), expected, rtol=0.03, atol=0)
    one = Gaussian(torch.full((4, 3), 2.0), torch.zeros(4, 3))
    z = samplers.build("floating", vae(), one).sample(20000)  # E[mu^2] is not centred
    torch.testing.assert_close(z.square().mean(0), torch.full((3,), 5.0), rtol=0.05, atol=0)
    assert z.mean(0).abs().max() < 0.1


def test_draws_are_of_every_posterior():
    latents = two_clusters(50)
    z = samplers.draw(latents, 5000, seed=0).view(100, 50, 3)
    torch.testing.assert_close(z.mean(0), latents.mean, rtol=0, atol=0.12)
    torch.testing.assert_close(z.var(0).mean(), torch.tensor(0.04), rtol=0.05, atol=0)


def test_the_mixture_finds_the_clusters():
    mixture = samplers.build("gmm", vae(), two_clusters(), components=2, draws=4000)
    z = mixture.sample(4000, seed=1)
    right = z[z.sum(1) > 0]
    assert len(right) == pytest.approx(2000, abs=150)
    torch.testing.assert_close(right.mean(0), torch.full((3,), 3.0), rtol=0, atol=0.1)
    assert right.std() == pytest.approx((0.25 + 0.04) ** 0.5, rel=0.1)
    assert torch.equal(z[:5], mixture.sample(4000, seed=1)[:5])
    assert mixture.log_prob(z).mean() > mixture.log_prob(torch.zeros(1, 3)).item()


def test_the_second_stage_learns_the_aggregate_posterior():
    latents = two_clusters()
    sampler = samplers.build("second_stage", vae(), latents, epochs=60, width=64, batch_size=32, lr=3e-3)
    z = sampler.sample(2000, seed=0)
    assert (z.abs().mean(1) > 1.5).float().mean() > 0.9  # nothing in the middle, where N(0, I) would be
    assert 0.25 < (z.sum(1) > 0).float().mean() < 0.75
    again = samplers.build("second_stage", vae(), latents, epochs=1, width=16).sample(3)
    torch.testing.assert_close(
        again, samplers.build("second_stage", vae(), latents, epochs=1, width=16).sample(3), rtol=1e-4, atol=1e-4
    )


def test_the_second_stage_is_a_vae_of_latents_with_a_learned_gamma():
    """-log N(z; zhat, gamma^2 I) + KL(q(u | z) || N(0, I)); draws are zhat(u) + gamma eps (Dai & Wipf 2019)."""
    sampler = samplers.build("second_stage", vae(), two_clusters(), epochs=0, width=8)
    assert sampler.log_gamma.item() == 0
    sampler.log_gamma.data.fill_(0.7)
    z, noise = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(2)).unbind()
    features = sampler.encoder(z)
    assert torch.equal(features[:, 8:], z)  # the skip from the input
    law = torch.distributions.Normal(sampler.mean(features), (0.5 * sampler.logvar(features)).exp())
    zhat = sampler.output(sampler.decoder(law.loc + law.scale * noise))
    nll = -torch.distributions.Normal(zhat, math.exp(0.7)).log_prob(z).sum(1)
    kl = torch.distributions.kl_divergence(law, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(sampler.loss(z, noise), (nll + kl).mean())
    torch.nn.init.zeros_(sampler.output.weight)
    spread = sampler.sample(20_000).std(0)
    torch.testing.assert_close(spread, torch.full((3,), math.exp(0.7)), rtol=0.03, atol=0)


def test_collecting_posteriors():
    model, x = vae(), images(5)
    latents = samplers.collect(model, [x[:2], x[2:]])
    torch.testing.assert_close(latents.mean, model.encode(x).mean[:, 0].float())
    assert latents.logvar.shape == (5, 3) and not latents.mean.requires_grad


def test_a_latent_depends_on_its_own_noise_alone():
    index = torch.arange(12)
    for name, options in {"prior": {}, "gmm": {"components": 2, "draws": 500}, "second_stage": {"epochs": 1}}.items():
        sampler = samplers.build(name, vae(), two_clusters(), **options)
        whole = sampler.draw(Noise(3, (index.view(4, 3),)))
        assert whole.shape == (4, 3, 3) and whole.dtype == torch.float32
        torch.testing.assert_close(whole[2:3, 1], sampler.draw(Noise(3, (index[7:8],))))
        torch.testing.assert_close(sampler.sample(9)[:4], sampler.sample(4))


@pytest.fixture(scope="module")
def svg_fp():
    """A video model of fixed prior, frames for it and the posteriors of those."""
    model = make(prior="fixed").eval()
    clips = frames(model, batch=4, length=6)
    return model, clips, samplers.collect(model, [clips[:3], clips[3:]])


def test_posteriors_of_videos(svg_fp):
    model, clips, latents = svg_fp
    posterior = model.infer(clips).posterior
    torch.testing.assert_close(latents.mean, posterior.mean.flatten(0, 1))
    assert latents.logvar.shape == (4 * 5, 4) and not latents.mean.requires_grad


def test_futures_with_latents_of_a_sampler(svg_fp):
    model, clips, latents = svg_fp
    prior = samplers.build("prior", model, latents)
    usual = model.rollout(clips[:, :2], 3, 2, seed=5)
    torch.testing.assert_close(model.rollout(clips[:, :2], 3, 2, seed=5, latents=prior.draw), usual)

    mixture = samplers.build("gmm", model, latents, components=2, draws=200)
    drawn = []

    def record(noise: Noise) -> torch.Tensor:
        drawn.append(mixture.draw(noise))
        return drawn[-1]

    futures = model.rollout(clips[:, :2], 3, 2, seed=5, latents=record)
    assert (futures - usual).abs().max() > 1e-3
    assert len({z.numpy().tobytes() for z in drawn}) == 3 and drawn[0].shape == (8, 1, 4)
    alone = model.rollout(clips[2:3, :2], 3, 2, seed=5, clip_ids=torch.tensor([2]), latents=mixture.draw, memory=1e-9)
    torch.testing.assert_close(alone, futures[2:3], rtol=0, atol=1e-4)


@pytest.mark.parametrize("prior", ["learned", "none"])
def test_only_a_fixed_prior_is_replaced(svg_fp, prior):
    model, (_, clips, latents) = make(prior=prior), svg_fp
    with pytest.raises(ValueError, match=f"model.prior is {prior}: train with --model.prior fixed"):
        model.rollout(clips, 2, latents=lambda noise: noise.normal(4))
    with pytest.raises(ValueError, match=f"model.prior is {prior}"):
        samplers.build("gmm", model, latents)


def test_the_mixture_keeps_correlations():
    """Full covariances: draws of one component have the covariance of the latents."""
    direction = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
    mean = direction * torch.tensor([1.0, 2.0, -1.0])
    latents = Gaussian(mean, torch.full((2000, 3), 0.1).log())
    z = samplers.build("gmm", vae(), latents, components=1, draws=8000).sample(20_000)
    expected = mean.T.cov(correction=0) + 0.1 * torch.eye(3)
    torch.testing.assert_close(z.T.cov(), expected, rtol=0.05, atol=0.05)


def test_wrong_samplers_are_refused():
    with pytest.raises(ValueError, match="sampler 'kde' is unknown: choose from prior, floating, gmm, second_stage"):
        samplers.build("kde", vae(), two_clusters())
    with pytest.raises(ValueError, match="bins is not an option of sampler gmm, which has: components, draws"):
        samplers.build("gmm", vae(), two_clusters(), bins=3)


def test_slerp():
    a, b = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])
    torch.testing.assert_close(samplers.slerp(a, b, 0.5), torch.tensor([2**0.5, 2**0.5, 0]))
    torch.testing.assert_close(samplers.slerp(a, b, 0.0), a)
    torch.testing.assert_close(samplers.slerp(a, b, 1.0), b)
    torch.testing.assert_close(samplers.slerp(a, 3 * a, 0.5), 2 * a)
    ratios = torch.linspace(0, 1, 5)[:, None]
    torch.testing.assert_close(samplers.slerp(a, b, ratios).norm(dim=-1), torch.full((5,), 2.0))
