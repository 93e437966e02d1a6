"""Lin et al.'s two stages: one learned sigma first, then a sigma map whose floor is what the first stage found."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from svg.likelihoods.base import Latents, Likelihood
from svg.likelihoods.normal import Normal
from svg.likelihoods.numerics import hard_floor
from svg.likelihoods.options import require_at_least, require_flag, require_floor, require_positive


class TwoStageSigma(Likelihood):
    """Lin et al., Algorithm 1: stage 1 learns one sigma (equation 9); stage 2 has sigma_i^2 = v_i + sigma_dataset^2/2
    (equation 11).

    Stage 2 begins at the first validation after `steps` whose bound gained less than `gain` over the one before.
    sigma_dataset is then frozen, and v_i = (sigma_dataset^2/2) softplus(raw)/ln 2 >= 0: in these units the switch is
    seamless at raw = 0, where sigma_i = sigma_dataset. The variance maps exist from the start; stage and frozen sigma
    are in the checkpoint.

    Options:
        steps: n1, training steps that stage 1 lasts at least.
        gain: eps1, in nats per dimension of the frames that it is trained on.
        shared_map: one variance map for all channels (C+1 decoder channels instead of 2C).
        init: sigma at the start of stage 1.
        floor: hard lower bound of stage 1's log sigma, or none.
        lr_scale: learning rate of stage 1's log sigma in multiples of the network's.
        mean: sigmoid or identity.
    """

    stage: Tensor
    log_sigma_dataset: Tensor
    last_bound: Tensor

    def __init__(
        self,
        channels: int = 3,
        size: tuple[int, int] = (64, 64),
        steps: int = 1000,
        gain: float = 0.01,
        shared_map: bool = False,
        init: float = 1.0,
        floor: float | None = -6.0,
        lr_scale: float = 30.0,
        mean: str = "sigmoid",
    ) -> None:
        super().__init__(channels, size, mean)
        self.steps, self.gain = require_at_least("steps", steps, 0), require_at_least("gain", gain, 0)
        self.variance_maps = 1 if require_flag("shared_map", shared_map) else channels
        self.floor = require_floor(floor)
        self.lr_scale = require_positive("lr_scale", lr_scale)
        self.log_sigma = nn.Parameter(torch.tensor(math.log(require_positive("init", init))))
        self.dims = channels * math.prod(self.size)
        """d of the frames that it was last trained on."""
        self.register_buffer("stage", torch.tensor(1))
        self.register_buffer("log_sigma_dataset", self.log_sigma.detach().clone())
        self.register_buffer("last_bound", torch.tensor(-1e30))

    @property
    def param_channels(self) -> int:
        return self.channels + self.variance_maps

    @property
    def sigma(self) -> Tensor:
        """The scalar: learned in stage 1, frozen in stage 2."""
        return self._scalar().exp()

    def on_validation(self, step: int, bound: float) -> None:
        """Starts stage 2 when it is due."""
        per_dimension = bound / self.dims
        if self.stage == 1 and step >= self.steps and per_dimension - float(self.last_bound) < self.gain:
            self.start_second_stage()
        self.last_bound.fill_(per_dimension)

    def start_second_stage(self) -> None:
        """Freezes sigma_dataset and turns to the variance maps."""
        self.log_sigma_dataset.copy_(self._scalar())
        self.stage.fill_(2)

    def _scalar(self) -> Tensor:
        """Log sigma_dataset, without gradient."""
        learned = hard_floor(self.log_sigma.detach(), self.floor)
        return torch.where(self.stage == 2, self.log_sigma_dataset, learned)

    def _distribution(self, params: Tensor) -> Normal:
        mean, raw = params.split((self.channels, self.variance_maps), dim=-3)
        # Both stages are in the graph, so that every parameter has a gradient at every step, as DDP demands.
        first = hard_floor(self.log_sigma, self.floor)
        second = second_stage(self._scalar(), raw)
        return Normal(self._link(mean), torch.where(self.stage == 2, second, first))

    def _training_loss(self, params: Tensor, target: Tensor, latents: Latents | None, step: int | None) -> Tensor:
        # The buffer follows the learned sigma until it is frozen, so that a moving average of the weights follows both.
        self.log_sigma_dataset.copy_(self._scalar())
        self.dims = math.prod(target.shape[-3:])
        return super()._training_loss(params, target, latents, step)


def second_stage(log_sigma: Tensor, raw: Tensor, floor: float = 0.5) -> Tensor:
    """Log sigma_i of stage 2: sigma_i^2 = sigma^2 (floor + (1 - floor) softplus(raw)/ln 2), where raw = 0 is sigma.

    Args:
        log_sigma: of the first stage.
        raw: map of any shape that it broadcasts to.
        floor: the least variance, as a share of sigma^2; equation 11 has one half.
    """
    return log_sigma + 0.5 * torch.log(floor + (1 - floor) * softplus(raw) / math.log(2))
