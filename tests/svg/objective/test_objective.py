"""The objectives against their closed forms, and which combinations are defined."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from svg import likelihoods
from svg.config import ModelConfig, ObjectiveConfig
from svg.evaluation.iwae import IMPORTANCE, iwae
from svg.models.base import Gaussian
from svg.noise import Noise
from svg.objective import REGISTRY, Objective, why_undefined
from svg.objective.dip_vae import DipVae
from svg.objective.rule import DEQUANTISATION
from svg.objective.wae_mmd import kernel, mmd
from tests.helpers.models import evidence, images, make, objective, pca_model, vae
from tests.helpers.models import frames as clips

INDEX = torch.arange(6)


def gradients(loss: torch.Tensor, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(a: dict, b: dict, scale: float = 1.0) -> None:
    assert a.keys() == b.keys()
    for name in a:
        largest = a[name].abs().max().item()
        torch.testing.assert_close(a[name], scale * b[name], rtol=1e-6, atol=1e-7 * largest, msg=name)


def float_prior(model) -> None:
    """Makes S^2 what one batch has."""
    model.prior_variance.start = 2.0


@pytest.mark.parametrize("make_model", [lambda: vae(posterior="constant", posterior_variance=0.3)])
def test_bilbo_is_the_elbo_with_the_floating_prior(make_model):
    model, x = make_model(), images()
    ours = objective(model, "bilbo")
    loss, terms = ours(x, INDEX, 0)
    noise = ours.noise(INDEX, 1).normal(3).double()
    out = model(x, noise)
    m = out.posterior.mean.square().mean((0, 1))
    closed = 0.5 * torch.log1p(m / 0.3).sum()
    torch.testing.assert_close(terms["kl"].mean(), closed, rtol=1e-6, atol=0)

    s2 = (0.3 + m).detach().log().expand_as(out.posterior.mean)
    nll = model.likelihood.loss(out.params, out.target).mean()
    elbo = nll + out.posterior.kl(Gaussian(torch.zeros_like(s2), s2)).mean()
    torch.testing.assert_close(loss, elbo, rtol=1e-7, atol=0)
    ours_gradient, bilbo_gradient = gradients(loss, model), gradients(nll + closed, model)
    for name, gradient in bilbo_gradient.items():
        torch.testing.assert_close(ours_gradient[name], gradient, rtol=1e-5, atol=1e-5)


def test_bilbo_with_baggins_is_equation_30():
    tau, variance = 0.2, 0.5
    model = vae("baggins", posterior="constant", posterior_variance=variance, options={"tau": tau, "eps": 1e-30})
    ours, x = objective(model, "bilbo"), images()
    loss, _ = ours(x, INDEX, 0)
    out = model(x, ours.noise(INDEX, 1).normal(3).double())
    m = out.posterior.mean.square().mean((0, 1))
    sse = (x.double() / 255 - out.params.sigmoid()).square().sum((-3, -2, -1))
    information = (1 + m / variance).sum()
    log_determinant = 784 * (2 * math.pi * tau * sse / information).log()
    bilbo = -0.5 * (torch.log1p(m / variance).sum() + information / tau + log_determinant.mean())
    torch.testing.assert_close(loss, -bilbo, rtol=1e-6, atol=0)
    attached = gradients(-bilbo, model)
    for name, gradient in gradients(loss, model).items():
        torch.testing.assert_close(gradient, attached[name], rtol=1e-5, atol=1e-6, msg=name)


def test_bilbo_for_svg_is_equation_24_where_the_prior_mean_is_zero():
    model = make(posterior="constant", prior="learned_mean").double()
    torch.nn.init.zeros_(model.prior.mean.weight)
    torch.nn.init.zeros_(model.prior.mean.bias)
    video = clips(model)
    _, learned = objective(model, "bilbo")(video, INDEX[:3], 0)
    fixed = make(posterior="constant", prior="fixed").double()
    fixed.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("prior.")})
    _, mean_zero = objective(fixed, "bilbo")(video, INDEX[:3], 0)
    torch.testing.assert_close(learned["kl"], mean_zero["kl"])


def test_bilbo_for_svg_measures_the_distance_from_the_learned_mean():
    model = make(posterior="constant", prior="learned_mean", posterior_variance=0.1).double()
    ours, video = objective(model, "bilbo"), clips(model)
    _, terms = ours(video, INDEX[:3], 0)
    out = model(video, ours.noise(INDEX[:3], video.shape[1]).normal(4).double())
    m = (out.posterior.mean - out.prior.mean).square().mean((0, 1))
    torch.testing.assert_close(terms["kl"].mean(), 0.5 * torch.log1p(m / 0.1).sum(), rtol=1e-6, atol=0)


def test_baggins_for_svg_measures_the_distance_from_the_learned_mean():
    model = make("baggins", posterior="constant", prior="learned_mean", posterior_variance=0.1).double()
    ours, video = objective(model, "bilbo"), clips(model)
    _, terms = ours(video, INDEX[:3], 0)
    out = model(video, ours.noise(INDEX[:3], video.shape[1]).normal(4).double())
    u = (1 + (out.posterior.mean - out.prior.mean).square().mean((0, 1)) / 0.1).sum()
    squares = (out.target.double() / 255 - out.params.sigmoid()).square()
    t = 0.2 * (squares.sum((2, 3, 4)) + 1e-6) / u
    expected = u / 0.4 + 0.5 * squares[0, 0].numel() * (2 * math.pi * t).log()
    torch.testing.assert_close(terms["nll"], expected.detach(), rtol=1e-8, atol=0)
    torch.testing.assert_close(terms["mse"], squares.mean((2, 3, 4)).detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("prior", ["learned_mean", "fixed"])
def test_bilbo_evaluates_and_samples_with_the_frozen_prior(prior):
    model = make(posterior="constant", prior=prior, posterior_variance=0.1)
    ours, video = objective(model, "bilbo").eval(), clips(model)
    _, before = ours(video, INDEX[:3])
    with ours.refit(), torch.no_grad():
        ours(video[:2], INDEX[:2])
        ours(video[2:], INDEX[2:3])
    out = model(video, torch.zeros(3, 6, 4))
    m = (out.posterior.mean - out.prior.mean).square().mean((0, 1))
    torch.testing.assert_close(model.prior_variance.value, 0.1 + m)
    torch.testing.assert_close(out.prior.logvar[0, 0].exp(), 0.1 + m)
    _, after = ours(video, INDEX[:3])
    torch.testing.assert_close(after["kl"].mean(), 0.5 * torch.log1p(m / 0.1).sum(), rtol=1e-4, atol=0)
    assert after["kl"].mean() < before["kl"].mean()  # S^2 is the best variance, 1 is not
    first = model.rollout(video[:, :2], 2)
    model.prior_variance.total.mul_(25)
    assert (model.rollout(video[:, :2], 2) - first).abs().max() > 1e-3


def test_a_constant_posterior_leaves_no_parameter_without_gradient():
    for model in (
        make(posterior="constant", prior="learned_mean"),
        make(posterior="constant", prior="learned"),
        make(posterior="constant", prior="fixed"),
        make(posterior="diagonal", prior="learned_mean"),
    ):
        ours = objective(model, "bilbo" if model.config.floats_prior else "elbo")
        loss, _ = ours(clips(model), INDEX[:3], 0)
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("posterior", ["diagonal", "isotropic", "constant", "deterministic"])
def test_every_parameter_of_the_image_models_has_a_gradient(posterior):
    for name in REGISTRY:
        model = vae("optimal_sigma", posterior=posterior)
        if why_undefined(model.config, name, "optimal_sigma") is None:
            options = {"gradient_penalty": 0.1} if name == "rae" else {}
            loss, _ = objective(model, name, options=options)(images(), INDEX, 0)
            loss.backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters()), (name, posterior)


def test_the_published_objective_is_a_fixed_sigma():
    """mean squared error + beta KL has the gradient of beta times the ELBO with sigma^2 = beta d/2."""
    beta, d = 1e-2, 784
    model = vae(options={"sigma": math.sqrt(beta * d / 2)})
    ours, x = objective(model), images()
    ours_gradient = gradients(ours(x, INDEX, 0)[0], model)
    out = model(x, ours.noise(INDEX, 1).normal(3).double())
    published = (x.double() / 255 - out.params.sigmoid()).square().mean() + beta * out.posterior.kl(out.prior).mean()
    assert_same_gradients(gradients(published, model), ours_gradient, beta)


def test_beta_moves_into_sigma():
    """SSE/(2 s^2) + beta KL has the gradient of beta times that with sigma^2 = beta s^2, beta 1."""
    beta, s, x = 4.0, 0.3, images()
    one, other = vae(options={"sigma": s}), vae(options={"sigma": s * math.sqrt(beta)})
    a = gradients(objective(one, beta=beta)(x, INDEX, 0)[0], one)
    b = gradients(objective(other)(x, INDEX, 0)[0], other)
    assert_same_gradients(a, b, beta)


def test_beta_warms_up():
    ours, x = objective(vae(), beta=2.0, beta_warmup=10), images()
    for step, weight in ((0, 0.0), (5, 1.0), (10, 2.0), (99, 2.0), (None, 2.0)):
        loss, terms = ours(x, INDEX, step)
        torch.testing.assert_close(loss, terms["nll"].mean() + weight * terms["kl"].mean())


def test_terms_are_per_frame_and_do_not_depend_on_the_batch():
    model = make()
    model.eval()
    ours, video = objective(model), clips(model)
    _, terms = ours(video, INDEX[:3], 0)
    _, single = ours(video[1:2], INDEX[1:2], 0)
    for name in ("nll", "kl", "mse"):
        assert terms[name].shape == (3, 6)
        torch.testing.assert_close(terms[name][1:2], single[name], rtol=1e-4, atol=1e-4)


# Autoencoders.


@pytest.mark.parametrize("name", REGISTRY)
def test_dequantisation_has_noise_of_its_own(name, monkeypatch):
    """Not that of z, of which it would be a function."""
    posterior = {"bilbo": "constant", "ae": "deterministic", "rae": "deterministic"}.get(name, "diagonal")
    model = vae("beta", posterior=posterior).train()
    given = []
    loss = model.likelihood.loss
    monkeypatch.setattr(model.likelihood, "loss", lambda *a, **k: given.append(k["noise"]) or loss(*a, **k))
    trained = objective(model, name)
    trained(images(), INDEX, 0)
    (noise,), own = given, trained.noise(INDEX, 1)
    assert torch.equal(torch.stack(noise.index), torch.stack(own.index)) and noise.seed == own.seed
    others = [own, *(own.child(stream) for stream in range(4) if stream != DEQUANTISATION)]
    assert all(noise.stream != other.stream for other in others)
    assert not any(torch.equal(noise.uniform(8), other.uniform(8)) for other in others)


def test_rae_is_the_linearised_elbo():
    """AR-ELBO's equation 4, corrected: with a linear decoder the linearisation is exact."""
    sigma_x, variance, x = 0.4, 0.01, images()
    model = vae(
        backbone="linear",
        posterior="constant",
        posterior_variance=variance,
        options={"sigma": sigma_x, "mean": "identity"},
    )
    twin = vae(backbone="linear", posterior="deterministic", options={"sigma": sigma_x, "mean": "identity"})
    twin.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("prior_variance")})
    options = {"l2": 1.0, "gradient_penalty": variance / sigma_x**2}
    index = torch.arange(6 * 2000)
    loss, terms = objective(twin, "rae", options=options)(x.repeat(2000, 1, 1, 1, 1), index, 0)
    weight = model.decoder[0].weight
    torch.testing.assert_close(terms["gradient_penalty"].mean(), 0.5 * weight.square().sum(), rtol=0.01, atol=0)

    elbo_constants = 0.5 * 3 * (variance - math.log(variance) - 1)
    out = model(x, torch.zeros(6, 1, 3).double())
    nll = model.likelihood.loss(out.params, out.target) + 0.5 * weight.square().sum() * variance / sigma_x**2
    elbo = (nll + out.posterior.kl(out.prior)).mean()
    torch.testing.assert_close(loss + elbo_constants, elbo, rtol=1e-4, atol=0)


def test_rae_squared_jacobian():
    model = vae("optimal_sigma", posterior="deterministic", width=64)
    ours = objective(model, "rae", options={"gradient_penalty": 1.0})
    x = images(1).expand(4000, -1, -1, -1, -1)
    index = torch.arange(4000)
    out = model(x, None)
    estimate = ours.rule.squared_jacobian(model, out, ours.noise(index, 1))
    jacobian = torch.autograd.functional.jacobian(lambda z: model.distribution(z).mean, out.z[:1].detach())
    assert jacobian.abs().max() > 0
    torch.testing.assert_close(estimate.mean(), jacobian.square().sum(), rtol=0.05, atol=0)
    estimate.mean().backward()
    assert model.decoder[0].weight.grad.abs().max() > 0


def test_mmd_and_its_gradient():
    generator = torch.Generator().manual_seed(0)
    z, draws = torch.randn(2, 9, 3, generator=generator).double().requires_grad_().unbind()
    off = 1 - torch.eye(9)
    pairs = (kernel(z, z) * off).sum() / 72 + (kernel(draws, draws) * off).sum() / 72
    exact = pairs - 2 * kernel(z, draws).mean()
    ours = mmd(z, draws).mean()
    torch.testing.assert_close(ours, exact)
    torch.testing.assert_close(torch.autograd.grad(ours, z)[0], torch.autograd.grad(exact, z)[0])


def test_mmd_tells_distributions_apart():
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 1000, 4, generator=generator)
    assert abs(mmd(a, b).mean()) < 0.02 < mmd(2 * a, b).mean()


def test_the_published_weights_and_scales_are_the_defaults():
    """Kumar et al. 2018 (lambda_d = 10 lambda_od), Tolstikhin et al. 2018 (c = 2 Z s), Ghosh et al. 2020."""
    dip, wae, rae = (REGISTRY[name](ObjectiveConfig(name=name)) for name in ("dip_vae", "wae_mmd", "rae"))
    assert dip.weights(0) == {"nll": 1, "kl": 1, "dip": 1} and (dip.off_diagonal, dip.diagonal) == (10, 100)
    assert wae.weights(0) == {"nll": 1, "mmd": 100} and rae.weights(0)["l2"] == 1
    a, b = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])
    expected = sum(4 * s / (4 * s + 25) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))
    assert kernel(a, b).item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["i", "ii"])
def test_the_dip_penalty_is_kumars(kind):
    model, x = vae(), images()
    ours = objective(model, "dip_vae", options={"kind": kind, "off_diagonal": 3.0, "diagonal": 0.7})
    _, terms = ours(x, INDEX, 0)
    posterior = model.encode(x)
    covariance = posterior.mean[:, 0].T.cov(correction=0)
    if kind == "ii":
        covariance = covariance + posterior.logvar.exp().mean((0, 1)).diag()
    off = covariance - covariance.diagonal().diag()
    expected = 3.0 * off.square().sum() + 0.7 * (covariance.diagonal() - 1).square().sum()
    torch.testing.assert_close(terms["dip"], expected.detach().expand(6, 1))


def test_the_weights_of_the_options_are_used():
    x, options = images(), {"l2": 0.3, "gradient_penalty": 0.2}
    for name, weights in (("rae", options), ("wae_mmd", {"mmd": 7.0})):
        model = vae(posterior="deterministic")
        ours = objective(model, name, options=options if name == "rae" else {"weight": 7.0})
        loss, terms = ours(x, INDEX, 0)
        expected = terms["nll"].mean() + sum(weight * terms[term].mean() for term, weight in weights.items())
        torch.testing.assert_close(loss.detach(), expected)
        if name == "rae":
            torch.testing.assert_close(terms["l2"], 0.5 * model.encode(x).mean.square().sum(-1).detach())


def test_dip_covariance():
    mean = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(DipVae.covariance(mean), mean.T.cov(correction=0))
    model = vae()
    loss, terms = objective(model, "dip_vae", options={"kind": "ii", "diagonal": 0.0})(images(), INDEX, 0)
    assert terms["dip"].min() >= 0
    torch.testing.assert_close(loss, sum(terms[name].mean() for name in ("nll", "kl", "dip")))


# The importance-weighted bound.


def test_iwae_rises_from_the_elbo_to_the_evidence():
    model, x = pca_model(), images(2)
    exact = evidence(model, x).sum()
    index = torch.arange(2)
    repeats = 150
    means = [
        torch.stack([iwae(model, x, index, k, seed).sum() for seed in range(repeats // k + 4)]).mean()
        for k in (1, 8, 64)
    ]
    ours = objective(model).eval()
    with torch.no_grad():
        elbo = torch.stack([-ours(x, index + 2 * i)[0] * 2 for i in range(200)]).mean()
    assert means[0] < means[1] < means[2] <= exact + 1e-6
    torch.testing.assert_close(means[0], elbo, rtol=0.05, atol=0)


def test_iwae_is_exact_at_the_true_posterior():
    """With q = p(z | x) every weight is p(x): PPCA's ELBO is its log-likelihood."""
    model, x = pca_model(), images(2)
    decoder = model.decoder[0]
    with torch.no_grad():  # orthogonal columns: the posterior is diagonal
        decoder.weight.copy_(torch.linalg.qr(decoder.weight)[0] * torch.tensor([3.0, 2.0, 1.0]).double())
        precision = (decoder.weight.T @ decoder.weight + 0.25 * torch.eye(3).double()) / 0.25
        model.mean.weight.copy_(torch.linalg.solve(precision, decoder.weight.T / 0.25))
        model.mean.bias.copy_(-model.mean.weight @ decoder.bias)
        model.logvar.weight.zero_()
        model.logvar.bias.copy_(-precision.diagonal().log())
    exact, index = evidence(model, x), torch.arange(2)
    for k in (1, 5):
        torch.testing.assert_close(iwae(model, x, index, k), exact, rtol=1e-8, atol=0)
    losses = [-objective(model, seed=s).eval()(x, index)[0].detach() for s in range(400)]
    torch.testing.assert_close(torch.stack(losses).mean(), exact.mean(), rtol=0.01, atol=0)


@pytest.mark.parametrize("prior", ["learned", "learned_mean", "fixed", "none"])
def test_iwae_of_videos_weighs_whole_clips(prior):
    model = make("fixed_gaussian", prior=prior)
    video, index = clips(model), torch.arange(3)
    one = torch.stack([iwae(model, video, index, 1, seed) for seed in range(3)])
    three = iwae(model, video, index, 3, seed=0, batch_size=1)
    assert three.shape == (3,) and three.dtype == torch.float64
    torch.testing.assert_close(three, iwae(model, video, index, 3, seed=0), rtol=1e-6, atol=0)
    torch.testing.assert_close(three[1:2], iwae(model, video[1:2], index[1:2], 3, seed=0), rtol=1e-6, atol=0)
    assert model.training
    ours = objective(model).eval()
    with torch.no_grad():
        terms = ours(video, index)[1]
    bound = -(terms["nll"] + terms["kl"]).sum(1)
    torch.testing.assert_close(one.mean(0).float(), bound, rtol=0.02, atol=0)


def test_iwae_sums_a_clips_frames_before_it_averages_over_samples():
    """log (1/K) sum_k prod_t p(x_t | z_tk) p(z_tk)/q(z_tk), from the same draws."""
    model = make().eval()
    video, index = clips(model), torch.arange(3)
    with torch.no_grad():
        inferred = model.infer(video)
        q, p = inferred.posterior, inferred.prior
        q.logvar += 2.0  # so that the weights differ
        model.infer = lambda frames: inferred
        weights = []
        for k in range(3):
            draws = Noise(0, (index[:, None], torch.tensor(k), torch.arange(1, video.shape[1])), IMPORTANCE)
            z = q.mean + (0.5 * q.logvar).exp() * draws.normal(model.latent_size)
            prior, posterior = (torch.distributions.Normal(law.mean, (0.5 * law.logvar).exp()) for law in (p, q))
            ratio = (prior.log_prob(z) - posterior.log_prob(z)).sum(2)
            density = model.likelihood.distribution(model.generate(inferred, z)).log_prob(video[:, 1:])
            weights.append(density.double() + ratio)
    weights = torch.stack(weights)
    expected = weights.sum(2).logsumexp(0) - math.log(3)
    assert (weights.sum(2).std(0) > 0.1).all()
    torch.testing.assert_close(iwae(model, video, index, 3, seed=0), expected, rtol=0, atol=1e-3)
    for wrong in (weights.sum(2).mean(0), (weights.logsumexp(0) - math.log(3)).sum(1)):
        assert (wrong - expected).abs().min() > 0.01


# What is defined.

MODELS = [
    ModelConfig(prior=prior, posterior=posterior)
    for prior in ("learned", "learned_mean", "fixed", "none")
    for posterior in ("diagonal", "constant")
]
MODELS += [
    ModelConfig(name="vae", backbone="conv", size=32, prior="fixed", posterior=posterior)
    for posterior in ("diagonal", "isotropic", "constant", "deterministic")
]


def test_which_combinations_are_defined():
    def defined(name: str, objective: str, likelihood: str = "optimal_sigma") -> set[tuple[str, str]]:
        return {
            (model.prior, model.posterior)
            for model in MODELS
            if model.name == name and why_undefined(model, objective, likelihood) is None
        }

    assert len(defined("svg", "elbo")) == 8
    assert defined("svg", "bilbo") == {("learned_mean", "constant"), ("fixed", "constant")}
    assert {p for _, p in defined("vae", "elbo")} == {"diagonal", "isotropic", "constant"}
    assert defined("vae", "bilbo") == {("fixed", "constant")}
    assert defined("svg", "elbo", "baggins") == defined("svg", "bilbo", "baggins") == defined("svg", "bilbo")
    assert defined("vae", "elbo", "baggins") == {("fixed", "constant")}
    assert {p for _, p in defined("vae", "ae")} == {p for _, p in defined("vae", "rae")} == {"deterministic"}
    assert len(defined("vae", "wae_mmd")) == 4
    assert {p for _, p in defined("vae", "dip_vae")} == {"diagonal", "isotropic", "constant"}
    assert not any(defined("svg", name) for name in ("ae", "rae", "wae_mmd", "dip_vae"))


def test_the_docs_say_what_is_defined():
    text = (Path(__file__).parents[3] / "docs" / "objectives.md").read_text(encoding="utf-8")
    lines = text.split("## What is defined")[1].splitlines()
    header, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert header[3:-1] == list(REGISTRY)
    assert [tuple(row[:3]) for row in rows] == [(m.name, m.prior, m.posterior) for m in MODELS]
    for model, row in zip(MODELS, rows, strict=True):
        for name, cell in zip(REGISTRY, row[3:], strict=False):
            for likelihood in likelihoods.REGISTRY:
                if likelihood != "baggins":
                    assert (cell == "yes") == (why_undefined(model, name, likelihood) is None)
        defined = any(why_undefined(model, name, "baggins") is None for name in ("elbo", "bilbo"))
        assert (row[-1] == "yes") == defined


def test_undefined_combinations_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="bilbo.*learned prior log-variance.*model.prior learned_mean"):
        objective(make(posterior="constant"), "bilbo")
    with pytest.raises(ValueError, match="likelihood.name baggins.*model.posterior constant"):
        objective(make("baggins"))
    with pytest.raises(ValueError, match="objective.name elbo.*infinite.*ae, rae or wae_mmd"):
        objective(vae(posterior="deterministic"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "elba"}, "objective.name is 'elba', but it must be one of: elbo, bilbo"),
        ({"options": {"l2": 1}}, "objective.options.l2 is not an option of elbo, whose options are: none"),
        ({"name": "rae", "options": {"l2": -1}}, "objective.options.l2 is -1, but it must be a number, at least 0"),
        ({"name": "dip_vae", "options": {"kind": 2}}, "objective.options.kind is 2, but it must be i or ii"),
    ],
)
def test_wrong_options_are_refused(config, message):
    with pytest.raises(ValueError) as error:
        Objective(vae(), ObjectiveConfig(**config))
    assert message in str(error.value)


@pytest.mark.parametrize("likelihood", likelihoods.REGISTRY)
@pytest.mark.parametrize("name", REGISTRY)
def test_every_defined_combination_trains(name, likelihood):
    """One image model for each, a step of each, finite in value and gradient."""
    trained = 0
    for posterior in ("diagonal", "constant", "deterministic"):
        model = vae(likelihood, posterior=posterior).float()
        if why_undefined(model.config, name, likelihood):
            continue
        trained += 1
        ours = objective(model, name, options={"gradient_penalty": 1.0} if name == "rae" else {})
        optimizer = torch.optim.Adam(ours.parameters(), 1e-3)
        for step in range(2):
            loss, terms = ours(images(), INDEX, step)
            optimizer.zero_grad()
            loss.backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
            optimizer.step()
        with torch.no_grad():
            loss, terms = ours.eval()(images(), INDEX)
        assert loss.isfinite() and all(term.shape == (6, 1) for term in terms.values())
    assert trained or likelihood == "baggins"


@pytest.mark.parametrize("likelihood", ["optimal_sigma", "pixel_sigma", "baggins"])
@pytest.mark.parametrize(
    "model", [model for model in MODELS if model.name == "svg"], ids=lambda m: f"{m.prior}-{m.posterior}"
)
def test_every_defined_combination_trains_videos(model, likelihood):
    for name in ("elbo", "bilbo"):
        if why_undefined(model, name, likelihood):
            continue
        ours = objective(make(likelihood, prior=model.prior, posterior=model.posterior), name)
        loss, _ = ours(clips(ours.model), INDEX[:3], 0)
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in ours.model.parameters())
        assert ours.model.eval().rollout(clips(ours.model)[:1, :2], 2).isfinite().all()


def test_two_stages_are_in_the_weights():
    model = make("two_stage_sigma")
    model.likelihood.on_validation(10**6, 0.0)
    model.likelihood.on_validation(10**6 + 1, 0.0)
    assert model.likelihood.stage == 2
    again = make("two_stage_sigma", seed=1)
    again.load_state_dict(model.state_dict())
    assert again.likelihood.stage == 2
    loss, _ = objective(again)(clips(again), INDEX[:3], 0)
    loss.backward()
    assert all(p.grad is not None for p in again.parameters())
