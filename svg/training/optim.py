"""How the weights move: learning rate, optimiser, and their moving average."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from svg.config import TrainConfig
from svg.objective import Objective

M = TypeVar("M", bound=nn.Module)


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of optimiser step `step` (from 0): a linear rise to the peak at step `warmup`, then the decay.

    A pure function of the step, so that nothing of it is stored.
    """
    if step < config.warmup:
        return config.lr * (step + 1) / (config.warmup + 1)
    progress = min(1.0, (step - config.warmup) / max(1, config.steps - 1 - config.warmup))
    left = {"none": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}[config.decay]
    return config.lr * (config.final_lr + (1 - config.final_lr) * left)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets each group's learning rate, in proportion to its `scale`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def adam(objective: Objective, config: TrainConfig) -> torch.optim.Adam:
    """Adam (Kingma & Ba 2015) over all weights; the likelihood's own parameters move `lr_scale` times as fast."""
    likelihood = objective.model.likelihood
    head = list(likelihood.parameters())
    body = [parameter for parameter in objective.parameters() if all(parameter is not other for other in head)]
    groups = [{"params": body, "scale": 1.0}, {"params": head, "scale": likelihood.lr_scale}]
    fused = body[0].device.type in ("cuda", "cpu")
    return torch.optim.Adam(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=config.adam_betas,
        eps=config.adam_eps,
        fused=fused or None,
    )


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """An optimiser's state as tensors named `optimizer.MOMENT/PARAMETER`; `names` are the parameters'."""
    return {
        f"optimizer.{key}/{names[parameter]}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]
) -> None:
    """Puts back what `optimizer_tensors` gave.

    Moments get the memory order of their parameter, without which a vectorised update could round differently.
    """
    states: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        key, _, parameter = name.partition("/")
        if key.startswith("optimizer."):
            states.setdefault(parameter, {})[key.removeprefix("optimizer.")] = tensor
    state: dict[int, dict[str, Tensor]] = {}
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for position, parameter in enumerate(ordered):
        for key, tensor in states.get(names[parameter], {}).items():
            moment = torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
            state.setdefault(position, {})[key] = moment
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


class Average(Generic[M]):
    """The exponential moving average of a model's weights and running statistics; counters are copied.

    Early on the decay is (1 + step)/(10 + step), so that the random start is soon forgotten.

    Args:
        model: averaged into a copy of its own, `model`, in eval mode.
        decay: of the average, in steps.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.model: M = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay
        self._averaged = model

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes the model's weights after optimiser step `step` (from 0) into the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        # asked for anew: on CPUs Accelerate moves a model to the device "cpu:0", which gives it other tensors
        pairs = list(zip(self.model.state_dict().values(), self._averaged.state_dict().values(), strict=True))
        continuous = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mean for mean, _ in continuous], [value for _, value in continuous], 1 - decay)
        if counters := [pair for pair in pairs if not pair[0].is_floating_point()]:
            torch._foreach_copy_([copied for copied, _ in counters], [counter for _, counter in counters])
