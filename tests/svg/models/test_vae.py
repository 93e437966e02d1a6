"""The image VAE: shapes, sampling, saving, and PPCA, whose optimum is known."""

from __future__ import annotations

import math

import pytest
import torch

import svg
from svg import pretrained
from svg.config import Config, LikelihoodConfig, ModelConfig, config_from_dict
from svg.models.vae import VAE
from tests.helpers.models import images, objective, vae


@pytest.mark.parametrize("backbone", ["conv", "mlp", "linear"])
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 4)])
def test_shapes(backbone, size, channels):
    model = vae("pixel_sigma", backbone=backbone, size=size, channels=channels, width=4).float()
    x = images(2, channels=channels, size=size)
    out = model(x, torch.randn(2, 1, 3))
    assert out.params.shape == (2, 1, 2 * channels, size, size)
    assert out.z.shape == out.posterior.mean.shape == out.prior.mean.shape == (2, 1, 3)
    assert model.reconstruct(x).shape == x.shape
    sample = model.sample(5)
    assert sample.shape == (5, 1, channels, size, size) and 0 <= sample.min() and sample.max() <= 1


def test_the_sigma_vae_at_28_pixels():
    """Three convolutions from 32 channels that double, a dense layer; and their mirror image."""
    model = VAE(
        ModelConfig(name="vae", backbone="conv", size=28, channels=1, width=32, z_dim=20, prior="fixed"),
        svg.likelihoods.build("optimal_sigma", channels=1, size=(28, 28)),
    )
    widths = [layer.out_channels for layer in model.encoder if isinstance(layer, torch.nn.Conv2d)]
    assert widths == [32, 64, 128]
    assert model.mean.in_features == 128 * 7 * 7


def test_clips_are_images_of_their_own():
    model = vae()
    x = images(6)
    as_clips = x.view(2, 3, 1, 28, 28)
    torch.testing.assert_close(model.encode(as_clips).mean.flatten(0, 1), model.encode(x).mean.flatten(0, 1))
    terms = objective(model)(as_clips, torch.arange(2), 0)[1]
    assert terms["nll"].shape == (2, 3)


def test_deterministic_encodings_are_decoded():
    model = vae(posterior="deterministic")
    x = images()
    out = model(x, None)
    assert out.posterior is None
    assert torch.equal(out.z, model.encode(x).mean)
    torch.testing.assert_close(model.reconstruct(x), out.params.sigmoid())


def test_samples_are_pure_functions_of_seed_and_number():
    model = vae("pixel_sigma")
    a, b = model.sample(5, seed=1), model.sample(3, seed=1)
    torch.testing.assert_close(a[:3], b)
    assert (a - model.sample(5, seed=2)).abs().max() > 1e-3
    drawn = model.sample(5, seed=1, draw=True)
    torch.testing.assert_close(drawn[:3], model.sample(3, seed=1, draw=True))
    assert (drawn - a).abs().mean() > 0.01
    with pytest.raises(ValueError, match="n is 0"):
        model.sample(0)


def test_samples_follow_the_floating_prior():
    model = vae(backbone="linear", posterior="constant", options={"mean": "identity"})
    ours, x = objective(model, "bilbo").eval(), images()
    with ours.refit(), torch.no_grad():
        ours(x, torch.arange(6))
    s2 = 1 + model.encode(x).mean.square().mean((0, 1))
    torch.testing.assert_close(model.prior.logvar[0, 0].exp(), s2, rtol=1e-5, atol=0)


def test_wrong_images_are_refused():
    with pytest.raises(ValueError, match=r"\(B, T, 1, 28, 28\)"):
        vae().encode(torch.zeros(2, 1, 1, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "vae"}, "model.backbone is 'vgg', but it must be conv or mlp or linear with model.name vae"),
        (
            {"name": "vae", "backbone": "conv", "size": 32},
            "model.prior is 'learned', but it must be fixed with model.name vae",
        ),
        ({"backbone": "mlp"}, "model.backbone is 'mlp', but it must be vgg or dcgan with model.name svg"),
        ({"size": 32}, "model.size is 32, but it must be 64 or 128 with model.name svg"),
        (
            {"posterior": "isotropic"},
            "model.posterior is 'isotropic', but it must be diagonal or constant with model.name svg",
        ),
        ({"posterior_variance": 0}, "model.posterior_variance is 0.0, but it must be positive and finite"),
    ],
)
def test_wrong_models_are_refused(model, message):
    with pytest.raises(ValueError) as error:
        config_from_dict({"model": model})
    assert str(error.value) == message


@pytest.mark.parametrize("posterior", ["diagonal", "isotropic", "constant", "deterministic"])
def test_saving_and_loading(tmp_path, posterior):
    model = ModelConfig(
        name="vae", backbone="conv", size=32, channels=1, width=4, z_dim=3, prior="fixed", posterior=posterior
    )
    built = pretrained.build(Config(model=model, likelihood=LikelihoodConfig("optimal_sigma")))
    built.save_pretrained(tmp_path / "model")
    loaded = svg.load(tmp_path / "model")
    assert isinstance(loaded, svg.VAE) and loaded.config == model
    x = images(size=32)
    torch.testing.assert_close(loaded.reconstruct(x), built.reconstruct(x))


def test_pca_with_optimal_sigma_reaches_the_exact_log_likelihood():
    """Trained to convergence, sigma^2 is the mean of the discarded eigenvalues and the ELBO the log-likelihood."""
    torch.manual_seed(0)
    d, n, count = 784, 3, 400
    basis = torch.linalg.qr(torch.randn(d, n).double())[0]
    data = 0.5 + torch.randn(count, n).double() * torch.tensor([2.0, 1.4, 1.0]) @ basis.T
    data = (data + 0.05 * torch.randn(count, d)).view(count, 1, 1, 28, 28)
    flat = data.flatten(1)
    eigenvalues = torch.linalg.eigvalsh(flat.T.cov(correction=0)).flip(0)
    sigma2 = eigenvalues[n:].mean()
    exact = -0.5 * (eigenvalues[:n].log().sum() + (d - n) * sigma2.log() + d * (1 + math.log(2 * math.pi)))

    model = vae("optimal_sigma", backbone="linear", options={"mean": "identity"})
    model.likelihood.in_unit = False
    with torch.no_grad():  # from the neighbourhood of the optimum: what is tested is that it is one
        vectors = torch.linalg.eigh(flat.T.cov(correction=0))[1].flip(1)[:, :n]
        decoder = model.decoder[0]
        decoder.weight.copy_(vectors * (eigenvalues[:n] - sigma2).sqrt())
        decoder.bias.copy_(flat.mean(0))
        precision = eigenvalues[:n] / sigma2
        model.mean.weight.copy_((decoder.weight / sigma2).T / precision[:, None])
        model.mean.bias.copy_(-model.mean.weight @ decoder.bias)
        model.logvar.weight.zero_()
        model.logvar.bias.copy_(-precision.log())
    out = model(data, torch.zeros(count, 1, n).double())
    spread = decoder.weight.square() * out.posterior.logvar.exp()
    expected_sse = ((data - out.params).square().sum() + spread.sum()) / count
    nll = 0.5 * d * (math.log(2 * math.pi) + (expected_sse / d).log() + 1)
    elbo = -(nll + out.posterior.kl(out.prior).mean())
    torch.testing.assert_close(expected_sse / d, sigma2, rtol=1e-10, atol=0)
    torch.testing.assert_close(elbo, exact, rtol=1e-10, atol=0)
    elbo.backward()
    assert max(p.grad.abs().max() for p in model.parameters() if p.grad is not None) < 1e-6 * d
    noisy = [objective(model, seed=s)(data, torch.arange(count), 0)[0].detach() for s in range(5)]
    torch.testing.assert_close(-torch.stack(noisy).mean(), exact, rtol=1e-3, atol=0)


def test_an_isotropic_posterior_has_one_variance():
    model = vae(posterior="isotropic")
    with torch.no_grad():
        model.get_parameter("log_variance").fill_(-1.5)
    posterior = model.encode(images())
    assert model.get_parameter("log_variance").shape == () and (posterior.logvar == -1.5).all()
