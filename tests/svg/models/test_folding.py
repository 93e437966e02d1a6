"""BatchNorm folded into convolutions: the same numbers, and the model is left as it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from svg.models.folding import folded
from tests.helpers.models import frames, make


@pytest.mark.parametrize("backbone", ["vgg", "dcgan"])
@pytest.mark.parametrize("size", [64, 128])
def test_the_same_without_batchnorm(backbone, size):
    model = make(backbone=backbone, size=size).eval().double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    encoder, decoder = folded(model.encoder, model.decoder)
    assert not any(isinstance(module, nn.BatchNorm2d) for net in (encoder, decoder) for module in net.modules())
    clips = frames(model, batch=2, length=4)
    noise = torch.randn(2, 3, 4, dtype=torch.float64)
    with torch.no_grad():
        theirs = model(clips, noise)
        model.encoder, whole = encoder, (model.encoder, model.decoder)
        model.decoder = decoder
        ours = model(clips, noise)
        model.encoder, model.decoder = whole
    torch.testing.assert_close(ours.params, theirs.params, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.posterior.mean, theirs.posterior.mean, rtol=1e-10, atol=1e-10)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_each_rollout_folds_the_weights_of_its_time():
    model = make().eval()
    context = frames(model, batch=1, length=2)
    first = model.rollout(context, 2)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(1.5)
    assert not torch.allclose(first, model.rollout(context, 2), atol=1e-3)
