"""What training changes, and its passage into checkpoints and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from svg.checkpoint import Checkpoint, CheckpointError
from svg.config import Config
from svg.models.base import Model, evaluating
from svg.objective import Objective
from svg.runtime.parallel import global_sum
from svg.training.meter import NotFinite
from svg.training.optim import Average, load_optimizer_tensors, optimizer_tensors


@dataclass
class Learner:
    """The objective (with the model in it), its optimiser, and where wanted an average of the weights and a scaler."""

    objective: Objective
    optimizer: torch.optim.Optimizer
    average: Average | None = None
    scaler: torch.amp.GradScaler | None = None

    @property
    def model(self) -> Model:
        """The model to use: the average, if there is one."""
        return self.average.model if self.average else self.objective.model

    def checkpoint(
        self, step: int, config: Config, clock: Mapping[str, float], unread: Mapping[str, Tensor] | None = None
    ) -> Checkpoint:
        """All of it after optimiser step `step` (counted from 1), in the memory that the next step changes.

        Args:
            clock: seconds of training so far: `Meter.clock`.
            unread: what the log has still to say of these steps: `Meter.check`.
        """
        training = self.objective.state_dict() | optimizer_tensors(self.optimizer, self._names()) | dict(unread or {})
        state: dict[str, Any] = {**clock, "scaler": self.scaler.state_dict() if self.scaler else None}
        return Checkpoint(step, config.to_dict(), self.model.state_dict(), training, state)

    def check(self, frames: Tensor, index: Tensor, step: int) -> None:
        """Looks, before a checkpoint is written, whether one could go on from it: all processes together.

        Every weight, statistic and moment must be finite, and so must the loss of a batch (frames uint8
        (B, T, C, H, W) and index (B,), as the objective takes them), computed as in training but without a trace: the
        weights may be finite and yet so large that nothing computed from them is.

        Args:
            step: the optimiser step (from 1) that has been taken.

        Raises:
            NotFinite: something is not, in one of the processes; the first is named.
        """
        state = self.objective.state_dict() | optimizer_tensors(self.optimizer, self._names())
        if self.average:
            state |= {f"average of {name}": tensor for name, tensor in self.average.model.state_dict().items()}
        checked = {name: tensor.isfinite().all() for name, tensor in state.items() if tensor.is_floating_point()}
        after = len(checked)
        with evaluating(self.objective, batch_statistics=True), torch.compiler.set_stance("force_eager"):
            loss, terms = self.objective(frames, index, step)
        checked |= {name: term.isfinite().all() for name, term in (terms | {"loss": loss}).items()}
        (broken,) = global_sum(torch.stack([finite.to(loss.device) for finite in checked.values()]).logical_not())
        wrong = broken.nonzero().flatten().tolist()
        if wrong:
            raise NotFinite(list(checked)[wrong[0]], step if wrong[0] < after else step + 1)

    def restore(self, saved: Checkpoint) -> None:
        """Puts back what `checkpoint` gave. Raises CheckpointError, naming the first tensor that does not fit."""
        own = self.objective.state_dict()
        _require_fit(own, saved.training, saved.step)
        names = self._names()
        for parameter, name in names.items():
            moments = {f"optimizer.{key}/{name}": parameter for key in ("exp_avg", "exp_avg_sq")}
            moments[f"optimizer.step/{name}"] = torch.tensor(0)
            if moments.keys() & saved.training.keys():  # else it has had no gradient yet
                _require_fit(moments, saved.training, saved.step)
        self.objective.load_state_dict({name: saved.training[name] for name in own})
        load_optimizer_tensors(self.optimizer, names, saved.training)
        if self.average:
            _require_fit(self.average.model.state_dict(), saved.weights, saved.step)
            self.average.model.load_state_dict(saved.weights)
        if self.scaler and saved.state.get("scaler"):
            try:
                self.scaler.load_state_dict(saved.state["scaler"])
            except (KeyError, TypeError, ValueError) as error:
                raise CheckpointError(f"the checkpoint of step {saved.step} has a damaged scaler ({error!r})") from None

    def _names(self) -> dict[Tensor, str]:
        return {parameter: name for name, parameter in self.objective.named_parameters()}


def _require_fit(own: Mapping[str, Tensor], saved: Mapping[str, Tensor], step: int) -> None:
    """Raises CheckpointError where saved tensors lack one of these, or have it in another shape, or not finite."""
    for name, tensor in own.items():
        if name not in saved:
            problem = f"lacks tensor {name}"
        elif saved[name].shape != tensor.shape:
            problem = f"has tensor {name} of shape {tuple(saved[name].shape)}, not {tuple(tensor.shape)}"
        elif saved[name].is_floating_point() and not saved[name].isfinite().all():
            problem = f"has tensor {name}, which is not finite (training diverged)"
        else:
            continue
        raise CheckpointError(f"the checkpoint of step {step} {problem}: move it away to go on from the one before")
