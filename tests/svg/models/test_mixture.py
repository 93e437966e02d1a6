"""The mixture prior: its density, draws and KL term against torch.distributions, and its way through the model."""

from __future__ import annotations

import pytest
import torch
from torch import distributions as D

import svg
from svg.evaluation.bounds import Bounds, clip_bounds
from svg.evaluation.iwae import iwae
from svg.models.base import Gaussian, Mixture
from svg.models.samplers import build
from svg.noise import Noise
from svg.objective import why_undefined
from tests.helpers.models import frames, make, objective


def mixture(components: int = 3, batch: tuple[int, ...] = (2, 4), z: int = 5, seed: int = 0) -> Mixture:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(*batch, components, generator=generator, dtype=torch.float64)
    mean, logvar = torch.randn(2, *batch, components, z, generator=generator, dtype=torch.float64)
    return Mixture(logits, 2 * mean, 0.5 * logvar)


def reference(p: Mixture) -> D.MixtureSameFamily:
    each = D.Independent(D.Normal(p.mean, torch.exp(0.5 * p.logvar)), 1)
    return D.MixtureSameFamily(D.Categorical(logits=p.logits), each)


def gaussian(batch: tuple[int, ...] = (2, 4), z: int = 5) -> Gaussian:
    generator = torch.Generator().manual_seed(9)
    return Gaussian(*torch.randn(2, *batch, z, generator=generator, dtype=torch.float64))


def test_the_density():
    p, z = mixture(), 3 * torch.randn(2, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(p.log_prob(z), reference(p).log_prob(z))
    far = torch.full_like(z, 1e4)  # every component's density is 0 there
    assert p.log_prob(far).isfinite().all()


def test_draws_have_the_mixtures_moments():
    p, count = mixture(batch=(1,)), 200_000
    noise = Noise(0, (torch.arange(count)[:, None],))
    many = Mixture(*(part.expand(count, *part.shape) for part in (p.logits, p.mean, p.logvar)))
    z = many.sample(noise.child(0).normal(5).double(), noise.child(1).uniform().double())[:, 0]
    wanted = reference(p)
    torch.testing.assert_close(z.mean(0), wanted.mean[0], atol=0.03, rtol=0)
    torch.testing.assert_close(z.var(0), wanted.variance[0], atol=0, rtol=0.02)


def test_the_component_follows_u_alone():
    p = Mixture(torch.tensor([0.2, 0.5, 0.3]).log()[None, None], torch.tensor([[-1.0], [0.0], [1.0]])[None, None],
                torch.full((1, 1, 3, 1), -100.0))  # fmt: skip
    for u, wanted in ((0.0, -1.0), (0.19, -1.0), (0.21, 0.0), (0.69, 0.0), (0.71, 1.0), (1.0, 1.0)):
        assert p.sample(torch.randn(1, 1, 1), torch.tensor([[u]])).item() == pytest.approx(wanted)


def test_one_component_is_the_gaussian_exactly():
    p, q = mixture(components=1), gaussian()
    alone = Gaussian(p.mean[..., 0, :], p.logvar[..., 0, :])
    noise, u = torch.randn(2, 4, 5).double(), torch.rand(2, 4).double()
    torch.testing.assert_close(p.sample(noise, u), alone.sample(noise))
    torch.testing.assert_close(p.log_prob(noise), alone.log_prob(noise))
    torch.testing.assert_close(q.kl(p), q.kl(alone))


def test_equal_components_are_one_gaussian():
    q, z = gaussian(), torch.randn(2, 4, 5).double()
    p = Mixture(torch.randn(2, 4, 6).double(), *(x[..., None, :].expand(2, 4, 6, 5) for x in (q.mean, q.logvar)))
    torch.testing.assert_close(p.log_prob(z), q.log_prob(z))
    torch.testing.assert_close(q.kl(p, z), torch.zeros(2, 4).double(), atol=1e-12, rtol=0)


def test_the_kl_estimate_is_unbiased():
    """Of two Gaussians, where the closed form is known, and never below 0 on average."""
    q, count = gaussian(batch=(1,)), 100_000
    other = Gaussian(q.mean + 0.5, q.logvar - 0.3)
    p = Mixture(torch.zeros(1, 2).double(), *(x[:, None].expand(1, 2, 5) for x in (other.mean, other.logvar)))
    z = q.sample(torch.randn(count, 1, 5, generator=torch.Generator().manual_seed(0)).double())
    estimate = q.kl(p, z)[:, 0]
    assert estimate.mean().item() == pytest.approx(q.kl(other).item(), abs=5 * estimate.std().item() / count**0.5)
    apart = mixture(batch=(1,))
    assert q.kl(apart, z).mean() > 0


def test_its_network_runs_in_steps_as_at_once():
    model = make(prior="mixture", prior_components=3).eval()
    h = torch.randn(2, 5, 16)
    whole, _ = model.prior_of(h)
    state, parts = None, []
    for t in range(5):
        part, state = model.prior_of(h[:, t : t + 1], state)
        parts.append(part)
    for name in ("logits", "mean", "logvar"):
        joined = torch.cat([getattr(part, name) for part in parts], dim=1)
        torch.testing.assert_close(getattr(whole, name), joined)
    assert whole.logits.shape == (2, 5, 3) and whole.mean.shape == whole.logvar.shape == (2, 5, 3, 4)
    assert whole.mean.std(dim=-2).min() > 0  # components differ from the start


def test_training_reaches_every_parameter_of_the_prior():
    ours = objective(make(prior="mixture", prior_components=3))
    loss, terms = ours(frames(ours.model), torch.arange(3), 0)
    loss.backward()
    for name, parameter in ours.model.prior.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    out = ours.model(frames(ours.model), ours.noise(torch.arange(3), 7).normal(4))
    torch.testing.assert_close(terms["kl"], out.posterior.log_prob(out.z) - out.prior.log_prob(out.z))


def test_futures_do_not_depend_on_chunks_or_neighbours():
    model = make(prior="mixture", prior_components=3).eval()
    context, ids = frames(model, length=2), torch.tensor([5, 0, 9])
    whole = model.rollout(context, 4, 6, seed=1, clip_ids=ids)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(whole, model.rollout(context, 4, 6, seed=1, clip_ids=ids, memory=1e-9), **close)
    torch.testing.assert_close(whole[1:2], model.rollout(context[1:2], 4, 6, seed=1, clip_ids=ids[1:2]), **close)
    assert (whole[:, 0] - whole[:, 1]).abs().max() > 1e-3
    noise = Noise(1, (torch.tensor([[5]]), torch.tensor([[0]]), torch.arange(1, 3)))
    assert noise.child(2).uniform().shape == (1, 2)  # the component's stream, apart from latents (0) and pixels (1)


def test_bounds_and_iwae():
    """The bound's KL term is the draw's; with more importance samples the bound tightens."""
    model = make("shared_sigma", prior="mixture", prior_components=3).eval()
    clips = frames(model, length=5)
    records = clip_bounds(model, clips, torch.arange(3), Bounds((5,), 0))
    assert all(len(record["kl"]) == 4 for record in records)
    single = torch.stack([iwae(model, clips, torch.arange(3), 1, seed) for seed in range(8)]).mean(0)
    several = torch.stack([iwae(model, clips, torch.arange(3), 8, seed) for seed in range(8)]).mean(0)
    assert (several > single).all()


def test_a_saved_model_is_the_same(tmp_path):
    model = make(prior="mixture", prior_components=3).eval()
    model.save_pretrained(tmp_path)
    again = svg.load(tmp_path)
    assert again.config == model.config
    assert torch.equal(again.rollout(frames(model)[:, :2], 2), model.rollout(frames(model)[:, :2], 2))


def test_what_is_undefined_is_refused():
    model = make(prior="mixture", posterior="constant")
    assert "set model.prior learned_mean" in why_undefined(model.config, "bilbo", "optimal_sigma")
    assert "learned_mean" in why_undefined(model.config, "elbo", "baggins")
    assert why_undefined(model.config, "elbo", "optimal_sigma") is None
    with pytest.raises(ValueError, match="fixed prior"):
        build("prior", model, gaussian())
    with pytest.raises(ValueError, match="must be at most 256"):
        make(prior="mixture", prior_components=257)
