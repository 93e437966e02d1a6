"""The recurrent nets over frame features: posterior, learned prior and frame predictor (Denton & Fergus 2018, section
3).

All take whole sequences (B, T, features) and an optional LSTM state, run in the weights' precision (float32) with
autocast off, and return the state after the last step, so that training calls them once and rollouts step by step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from svg.models.backbones import init_weights
from svg.models.base import Gaussian, Mixture

State = tuple[Tensor, Tensor]  # hidden and cell, each (layers, B, R)


class Recurrent(nn.Module):
    """Linear embedding, then an LSTM stack: (B, T, in) to (B, T, R)."""

    def __init__(self, in_features: int, size: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Linear(in_features, size)
        self.lstm = nn.LSTM(size, size, layers, batch_first=True)

    def run(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Outputs (B, T, R) of inputs (B, T, in) and the state after them; without a state, from zeros."""
        return self.lstm(self.embed(x.to(self.embed.weight.dtype)), state)


class GaussianLSTM(Recurrent):
    """Posterior or learned prior: (B, T, in) to Gaussians over (B, T, Z).

    Args:
        variance: a constant variance; by default a second head makes the log-variance.
    """

    def __init__(self, in_features: int, z_dim: int, size: int, layers: int, variance: float | None = None) -> None:
        super().__init__(in_features, size, layers)
        self.variance = variance
        self.mean = nn.Linear(size, z_dim)
        if variance is None:
            self.logvar = nn.Linear(size, z_dim)
        self.apply(init_weights)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Gaussian, State]:
        with torch.autocast(x.device.type, enabled=False):
            y, state = self.run(x, state)
            mean = self.mean(y)
            if self.variance is None:
                return Gaussian(mean, self.logvar(y)), state
            return Gaussian(mean, torch.full_like(mean, math.log(self.variance))), state


class MixtureLSTM(Recurrent):
    """Learned prior of several components: (B, T, in) to mixtures of Gaussians over (B, T, Z).

    Args:
        components: K.
    """

    def __init__(self, in_features: int, z_dim: int, size: int, layers: int, components: int) -> None:
        super().__init__(in_features, size, layers)
        self.z_dim, self.components = z_dim, components
        self.output = nn.Linear(size, components * (1 + 2 * z_dim))
        self.apply(init_weights)
        nn.init.normal_(self.output.weight, std=0.05)  # components that begin alike stay alike for long

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Mixture, State]:
        with torch.autocast(x.device.type, enabled=False):
            y, state = self.run(x, state)
            sizes = (1, self.z_dim, self.z_dim)
            logits, mean, logvar = self.output(y).unflatten(-1, (self.components, -1)).split(sizes, -1)
            return Mixture(logits.squeeze(-1), mean, logvar), state


class PredictorLSTM(Recurrent):
    """Frame predictor: (B, T, G + Z) to features (B, T, G) in [-1, 1]."""

    def __init__(self, in_features: int, g_dim: int, size: int, layers: int) -> None:
        super().__init__(in_features, size, layers)
        self.output = nn.Linear(size, g_dim)
        self.apply(init_weights)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        with torch.autocast(x.device.type, enabled=False):
            y, state = self.run(x, state)
            return torch.tanh(self.output(y)), state
