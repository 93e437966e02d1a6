"""The model against the published one: parameter counts, and the batched pass against a plain per-frame loop."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from benchmarks.naive import NaiveSVG
from svg import likelihoods
from svg.config import ModelConfig
from svg.models import backbones
from svg.models.svg_lp import SVG
from tests.helpers.models import frames, make


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_parameter_counts():
    """Sums over the published layers by hand: a k x k convolution a -> b has k*k*a*b + b, its BatchNorm 2 b."""

    def conv(k, *channels):
        return sum(k * k * a * b + 3 * b for a, b in pairwise(channels))

    encoder = conv(3, 3, 64, 64) + conv(3, 64, 128, 128) + conv(3, 128, 256, 256, 256) + conv(3, 256, 512, 512, 512)
    encoder += conv(4, 512, 128)
    decoder = conv(4, 128, 512) + conv(3, 1024, 512, 512, 256) + conv(3, 512, 256, 256, 128) + conv(3, 256, 128, 64)
    decoder += conv(3, 128, 64) + 9 * 64 * 3 + 3

    def lstm(inputs, layers, outputs):
        return inputs * 256 + 256 + layers * (8 * 256 * 256 + 8 * 256) + 256 * outputs + outputs

    model = SVG(ModelConfig(), likelihoods.build("optimal_sigma"))
    assert count(model.encoder) == encoder
    assert count(model.decoder) == decoder
    assert count(model.predictor) == lstm(128 + 64, 2, 128)
    assert count(model.posterior) == count(model.prior) == lstm(128, 1, 2 * 64)
    assert round(count(model) / 1e6, 1) == 22.8


@pytest.mark.parametrize("backbone", ["vgg", "dcgan"])
@pytest.mark.parametrize(("size", "channels"), [(64, 1), (128, 3), (64, 5)])
def test_backbone_shapes(backbone, size, channels):
    encoder, decoder = backbones.build(backbone, channels=channels, out_channels=7, size=size, width=4, g_dim=12)
    h, skips = encoder(torch.rand(2, channels, size, size))
    assert h.shape == (2, 12)
    assert h.abs().max() <= 1
    assert decoder(h, decoder.skip_halves(skips)).shape == (2, 7, size, size)


def test_published_initialisation():
    model = SVG(ModelConfig(), likelihoods.build("fixed_gaussian"))
    conv = model.encoder.stages[2][0]
    norm = model.decoder.stages[0][0]
    assert conv.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert conv.bias.abs().max() == 0
    assert norm.weight.mean().item() == pytest.approx(1, abs=0.01)
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("backbone", ["vgg", "dcgan"])
@pytest.mark.parametrize("skip_frame", ["last_context", "published", "previous"])
@pytest.mark.parametrize("prior", ["learned", "fixed", "none"])
def test_equals_the_per_frame_loop(backbone, skip_frame, prior):
    """To 1e-5 of the largest value in float32, and to 1e-10 in float64."""
    model = make(backbone=backbone, skip_frame=skip_frame, prior=prior, n_past=3).eval()
    video, noise = frames(model), torch.randn(3, 6, 4)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        model.to(dtype)
        given = video if dtype == torch.float32 else video.to(dtype) / 255
        ours, theirs = model(given, noise.to(dtype)), NaiveSVG(model).eval()(given, noise.to(dtype))
        assert torch.equal(ours.target, theirs.target)
        pairs = [(ours.params, theirs.params)]
        for a, b in ((ours.posterior, theirs.posterior), (ours.prior, theirs.prior)):
            if prior != "none":
                pairs += [(a.mean, b.mean), (a.logvar, b.logvar)]
        assert theirs.params.std() > 1e-2  # not a constant
        for a, b in pairs:
            assert (a - b).abs().max() <= tolerance * b.abs().max().clamp_min(1e-3)


@pytest.mark.parametrize("backbone", ["vgg", "dcgan"])
@pytest.mark.parametrize("skip_frame", ["last_context", "published", "previous"])
def test_gradients_equal_the_per_frame_loop(backbone, skip_frame):
    """In float64: rounding that flips a max-pool's choice would change a gradient."""
    model = make(backbone=backbone, skip_frame=skip_frame, n_past=3).eval().double()
    video, noise = frames(model).double() / 255, torch.randn(3, 6, 4).double()
    grads = []
    for forward in (model, NaiveSVG(model).eval()):
        model.zero_grad()
        out = forward(video, noise)
        (out.params.square().mean() + out.posterior.kl(out.prior).mean()).backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, grad in grads[0].items():
        scale = grads[1][name].abs().max().item()
        assert scale > 0, name
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-6, atol=1e-9 * scale, msg=name)


def test_no_later_frame_is_seen():
    """The prior and the decoder's inputs at t don't depend on frames after it; the posterior at t sees frame t."""
    model = make(n_past=2).eval()
    video, noise = frames(model), torch.randn(3, 6, 4)
    changed = video.clone()
    changed[:, 4] = 255 - changed[:, 4]
    a, b = model(video, noise), model(changed, noise)
    assert torch.equal(a.prior.mean[:, :4], b.prior.mean[:, :4])
    assert torch.equal(a.posterior.mean[:, :3], b.posterior.mean[:, :3])
    assert not torch.equal(a.posterior.mean[:, 3], b.posterior.mean[:, 3])
    torch.testing.assert_close(a.params[:, :3], b.params[:, :3])


def test_wrong_frames_are_refused():
    model = make()
    with pytest.raises(ValueError, match=r"\(B, T, 3, 64, 64\)"):
        model(torch.zeros(1, 5, 1, 64, 64, dtype=torch.uint8), None)
    with pytest.raises(ValueError, match="model.n_past=2"):
        model(torch.zeros(1, 2, 3, 64, 64, dtype=torch.uint8), None)
