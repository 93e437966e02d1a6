"""No objective and no likelihood makes the host wait for the device in a training step."""

from __future__ import annotations

import pytest
import torch

from svg import likelihoods
from svg.config import ModelConfig, ObjectiveConfig
from svg.objective import REGISTRY, Objective, why_undefined
from tests.helpers.device_reads import DeviceReads
from tests.helpers.models import frames as clips
from tests.helpers.models import images, make, vae

POSTERIORS = ("diagonal", "constant", "deterministic")


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: bool(x.sum() > 0),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x[torch.zeros((), dtype=torch.long)],
        lambda x: x.nonzero(),
        lambda x: torch.tensor(1.0, device=x.device),
    ],
)
def test_a_read_is_seen(read):
    x = torch.rand(3)
    with DeviceReads() as reads:
        read(x)
    assert reads.seen


def trained(objective: Objective, x: torch.Tensor) -> list[str]:
    """What a forward and backward pass at step 3 reads."""
    index = torch.arange(len(x))
    with DeviceReads() as reads:
        objective(x, index, 3)[0].backward()
    return reads.seen


@pytest.mark.parametrize("name", likelihoods.REGISTRY)
def test_no_likelihood_waits_for_the_device(name):
    posterior = "constant" if "variance" in likelihoods.REGISTRY[name].needs else "diagonal"
    prior = "learned_mean" if posterior == "constant" else "learned"
    model = make(name, posterior=posterior, prior=prior).train()
    assert trained(Objective(model, ObjectiveConfig()), clips(model, 2, 4)) == []


@pytest.mark.parametrize("name", REGISTRY)
def test_no_objective_waits_for_the_device(name):
    posterior = next(
        p
        for p in POSTERIORS
        if why_undefined(ModelConfig(name="vae", backbone="conv", prior="fixed", posterior=p), name, "iso_d") is None
    )
    objective = Objective(vae("iso_d", posterior=posterior).train(), ObjectiveConfig(name=name))
    assert trained(objective, images(4)) == []
