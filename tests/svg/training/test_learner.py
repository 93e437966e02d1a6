"""A learner takes back what it gave, and refuses what does not fit by the tensor's name."""

import math

import pytest
import torch

from svg.checkpoint import CheckpointError
from svg.config import Config, TrainConfig
from svg.objective import Objective
from svg.training.learner import Learner
from svg.training.meter import Meter, NotFinite
from svg.training.optim import Average, adam
from tests.svg.test_pretrained import tiny


def learner() -> Learner:
    model = tiny()
    objective = Objective(model, Config().objective)
    return Learner(objective, adam(objective, TrainConfig()), Average(model, 0.9))


@pytest.fixture
def trained() -> Learner:
    made = learner()
    frames = torch.randint(256, (2, 5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for step in range(2):
        made.optimizer.zero_grad()
        made.objective(frames, torch.arange(2), step)[0].backward()
        made.optimizer.step()
        made.average.update(step)
    return made


CLOCK = {"seconds": 3.0}
BATCH = torch.zeros(2, 5, 3, 64, 64, dtype=torch.uint8), torch.arange(2)


def test_a_check_leaves_no_trace(trained):
    before = {name: tensor.clone() for name, tensor in trained.checkpoint(2, Config(), CLOCK).training.items()}
    state = torch.get_rng_state()
    trained.check(*BATCH, 2)
    after = trained.checkpoint(2, Config(), CLOCK).training
    assert all(torch.equal(before[name], after[name]) for name in before) and torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in trained.objective.modules())
    assert all(parameter.grad is not None for parameter in trained.objective.parameters())


@pytest.mark.parametrize("where", ["weight", "statistic", "moment", "average"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_named_before_it_is_saved(trained, where, value):
    model, parameter = trained.objective.model, trained.objective.model.get_parameter("posterior.mean.bias")
    tensor, name = {
        "weight": (parameter, "model.posterior.mean.bias"),
        "statistic": (model.likelihood.running.total, "model.likelihood.running.total"),
        "moment": (trained.optimizer.state[parameter]["exp_avg_sq"], "optimizer.exp_avg_sq/model.posterior.mean.bias"),
        "average": (trained.average.model.get_parameter("posterior.mean.bias"), "average of posterior.mean.bias"),
    }[where]
    tensor.data.view(-1)[0] = value
    with pytest.raises(NotFinite) as error:
        trained.check(*BATCH, 2)
    assert str(error.value) == f"{name} is not finite at step 2"


def test_weights_that_are_finite_and_useless_are_told_by_the_loss(trained):
    for parameter in trained.objective.parameters():
        parameter.data.fill_(1e30)
    with pytest.raises(NotFinite, match=r"(nll|kl|loss|mse) is not finite at step 3"):
        trained.check(*BATCH, 2)


CHANGES = {
    "lacks tensor model.posterior.mean.bias": lambda t: t.pop("model.posterior.mean.bias"),
    r"has tensor model.posterior.mean.bias of shape \(1,\), not \(2,\)": lambda t: t.update(
        {"model.posterior.mean.bias": torch.zeros(1)}
    ),
    "lacks tensor optimizer.exp_avg/model.posterior.mean.bias": lambda t: t.pop(
        "optimizer.exp_avg/model.posterior.mean.bias"
    ),
    r"has tensor optimizer.step/model.posterior.mean.bias of shape \(2,\), not \(\)": lambda t: t.update(
        {"optimizer.step/model.posterior.mean.bias": torch.zeros(2)}
    ),
    "has tensor optimizer.exp_avg_sq/model.posterior.mean.bias, which is not finite": lambda t: t.update(
        {"optimizer.exp_avg_sq/model.posterior.mean.bias": torch.tensor([1.0, math.inf])}
    ),
}


@pytest.mark.parametrize("problem", CHANGES)
def test_a_checkpoint_that_does_not_fit_is_refused_by_the_tensors_name(trained, problem):
    saved = trained.checkpoint(2, Config(), CLOCK)
    learner().restore(saved)
    CHANGES[problem](saved.training)
    with pytest.raises(CheckpointError, match=f"the checkpoint of step 2 {problem}.*: move it away to go on from the"):
        learner().restore(saved)
    saved = trained.checkpoint(2, Config(), CLOCK)
    saved.weights.pop("posterior.mean.bias")
    with pytest.raises(CheckpointError, match=r"step 2 lacks tensor posterior.mean.bias"):
        learner().restore(saved)


@pytest.mark.parametrize("change", [{"terms": torch.zeros(3)}, {"norms": None}, {"steps": torch.zeros(7)}])
def test_a_log_that_does_not_fit_is_refused(trained, change):
    terms = {"terms": torch.zeros(1, 2, 3), "norms": torch.zeros(2), "steps": torch.tensor([0, 1])}
    parts = terms | change
    unread = {f"meter.{name}": tensor for name, tensor in parts.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=r"the checkpoint of step 2 has damaged tensors meter"):
        Meter(None, 4, trained.checkpoint(2, Config(), CLOCK, unread))
