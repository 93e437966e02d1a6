"""What training changes, and its passage into checkpoints and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from svg.checkpoint import Checkpoint, CheckpointError
from svg.config import Config
from svg.models.base import Model
from svg.objective import Objective
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

    def checkpoint(self, step: int, config: Config, seconds: float) -> Checkpoint:
        """All of it after optimiser step `step` (counted from 1), in the memory that the next step changes.

        Args:
            seconds: of training so far.
        """
        training = self.objective.state_dict() | optimizer_tensors(self.optimizer, self._names())
        state: dict[str, Any] = {"seconds": seconds, "scaler": self.scaler.state_dict() if self.scaler else None}
        return Checkpoint(step, config.to_dict(), self.model.state_dict(), training, state)

    def restore(self, saved: Checkpoint) -> None:
        """Puts back what `checkpoint` gave. Raises CheckpointError where it does not fit."""
        own = self.objective.state_dict()
        missing = own.keys() - saved.training.keys()
        if missing:
            raise CheckpointError(f"the checkpoint of step {saved.step} lacks tensor {min(missing)}")
        self.objective.load_state_dict({name: saved.training[name] for name in own})
        load_optimizer_tensors(self.optimizer, self._names(), saved.training)
        if self.average:
            self.average.model.load_state_dict(saved.weights)
        if self.scaler and saved.state["scaler"]:
            self.scaler.load_state_dict(saved.state["scaler"])

    def _names(self) -> dict[Tensor, str]:
        return {parameter: name for name, parameter in self.objective.named_parameters()}
