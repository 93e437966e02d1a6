"""What makes a model's rollouts as uncertain as the truth, fitted to validation clips by svg/evaluation/calibrate.py
and applied by svg/models/rollout.py: the weights stay as they are.

- Futures: the prior's noise is widened by a temperature tau and correlated over the frames by rho.
- Pixels: around each future's mean lies Gaussian noise, whose standard deviation is a power of the model's own (or of a
  sigma map's) times a factor a frame.
- Intervals: the mean of S futures, give or take a radius in units of their total standard deviation
  (svg/conformal.py).

N futures, B clips, S samples, T predicted frames, C channels, H W pixels, Z latent.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from svg import conformal
from svg.checkpoint import CheckpointError
from svg.config.options import Range
from svg.likelihoods.distribution import FrameDistribution
from svg.likelihoods.normal import Normal
from svg.likelihoods.two_stage_sigma import second_stage
from svg.runtime.files import replacing, write_json
from svg.runtime.reading import ReadError, read_json, read_tensors

FORMAT = 1
VALUES, TENSORS = "calibration.json", "calibration.safetensors"
MAP_FLOOR = 0.01
"""Of a sigma map's variance, as a share of the head's one variance."""


class Interval(NamedTuple):
    """Lower and upper ends of every value, each (B, T, C, H, W) in [0, 1]."""

    lower: Tensor
    upper: Tensor


@dataclass(frozen=True)
class Tempering:
    """How the prior's noise is widened: z_t = mean + tau * stddev * eps_t, with eps_t = rho eps_(t-1) + sqrt(1 - rho^2)
    xi_t. The model's own prior has tau 1 and rho 0."""

    tau: float = 1.0
    rho: float = 0.0

    def __call__(self, noise: Tensor) -> Tensor:
        """Standard normals xi (N, T, Z) of the frames drawn from the prior to tau * eps."""
        if self.rho:
            steps = [noise[:, 0]]
            for xi in noise.unbind(1)[1:]:
                steps.append(self.rho * steps[-1] + math.sqrt(1 - self.rho**2) * xi)
            noise = torch.stack(steps, dim=1)
        return self.tau * noise


class SigmaMap(nn.Module):
    """A standard deviation for every value, for a head that has one for all.

    It sees what the decoder made, the mean of a frame, and the frame before it, neither with gradient, and starts as
    the head's one sigma: the second stage of Lin et al. (svg/likelihoods/two_stage_sigma.py), after the fact.
    """

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3 * channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, channels, 3, padding=1),
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> SigmaMap | None:
        """The map among a calibration's tensors, in eval mode, or None."""
        named = {name.partition(".")[2]: value for name, value in tensors.items() if name.startswith("sigma_map.")}
        if not named:
            return None
        made = cls(len(named["layers.4.bias"]), len(named["layers.0.bias"]))
        made.load_state_dict(named)
        return made.eval().requires_grad_(False)

    def forward(self, mean: Tensor, before: Tensor, sigma: Tensor) -> Tensor:
        """Log standard deviations (..., C, H, W).

        Args:
            mean: of a frame (..., C, H, W), in [0, 1].
            before: the frame before it.
            sigma: the head's one, a scalar.
        """
        mean, before = mean.detach(), before.detach()
        seen = torch.cat((mean, before, 10 * (mean - before)), dim=-3)
        raw = self.layers(seen.flatten(0, -4)).unflatten(0, mean.shape[:-3])
        return second_stage(sigma.log(), raw, MAP_FLOOR)


@dataclass(frozen=True)
class Calibration:
    """What `rollout(..., calibrated=True)` applies."""

    context: int
    """Frames that condition the rollouts it was fitted to."""
    samples: int
    """Futures of a clip, of which the intervals are made."""
    scale: Tensor
    """Of the predicted standard deviation to its `power`, frame by frame: float32 (T,)."""
    power: float = 1.0
    tempering: Tempering = Tempering()
    sigma_map: SigmaMap | None = None
    radii: Mapping[float, Tensor] = field(default_factory=dict)
    """Of the intervals of each level, frame by frame: float32 (T,)."""
    fitted: Mapping[str, Any] = field(default_factory=dict)
    """What it was fitted to, for JSON: hashes of weights and data, split, clips, seed, version."""

    @property
    def horizon(self) -> int:
        """T, the longest rollout that it is for."""
        return len(self.scale)

    @property
    def digest(self) -> str:
        """SHA-256 of all that it applies, in hexadecimal."""
        applied = [self.context, self.samples, self.tempering.tau, self.tempering.rho, self.power]
        numbers = torch.tensor(applied, dtype=torch.float64)
        return digest_of(self._tensors() | {"numbers": numbers})

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {"scale": self.scale} | {f"radius.{level}": radius for level, radius in self.radii.items()}
        if self.sigma_map is not None:
            tensors |= {f"sigma_map.{name}": value for name, value in self.sigma_map.state_dict().items()}
        return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}

    def to(self, device: torch.device) -> Calibration:
        """The same on a device."""
        return replace(
            self,
            scale=self.scale.to(device),
            sigma_map=self.sigma_map and self.sigma_map.to(device),
            radii={level: radius.to(device) for level, radius in self.radii.items()},
        )

    def check(self, context: int, horizon: int) -> None:
        """Raises ValueError for rollouts that it was not fitted to."""
        if context != self.context:
            raise ValueError(
                f"the calibration is of rollouts after {self.context} frames, but here {context} are given: give "
                f"{self.context}, or calibrate with --eval.context {context}"
            )
        if horizon > self.horizon:
            raise ValueError(
                f"the calibration is of {self.horizon} predicted frames, but {horizon} are asked for: ask for fewer, "
                f"or calibrate with --eval.horizon {horizon}"
            )

    def distribution(self, own: FrameDistribution, before: Tensor, frame: int) -> Normal:
        """The calibrated distribution of predicted frame number `frame` (from 0).

        Args:
            own: the model's, of (N, 1, C, H, W).
            before: the frame that it was predicted from.
        """
        mean = own.mean.clamp(0, 1)
        log_sigma = own.stddev.log()
        if self.sigma_map is not None:
            log_sigma = self.sigma_map(mean, before, own.stddev.flatten()[0])
        return Normal(mean, self.power * log_sigma + self.scale[frame].log())

    def interval(self, frames: Tensor, stddev: Tensor, level: float) -> Interval:
        """The interval of the truth around the mean of futures.

        Args:
            frames, stddev: of all calibrated futures (B, S, T, C, H, W).
            level: the expected share of a clip's values inside, frame by frame.

        Raises:
            ValueError: a level that was not fitted, or another number of futures.
        """
        if level not in self.radii:
            listed = ", ".join(f"{known:g}" for known in sorted(self.radii))
            raise ValueError(f"interval {level:g} was not calibrated: choose from {listed or 'none'}")
        if frames.shape[1] != self.samples:
            raise ValueError(
                f"intervals are calibrated for {self.samples} futures, but there are {frames.shape[1]}: give samples "
                f"{self.samples}"
            )
        variance, mean = torch.var_mean(frames, dim=1)
        total = total_stddev(variance, stddev.square().mean(1), self.samples)
        return Interval(*conformal.interval(mean, total, self.radii[level][: frames.shape[2]]))

    def save(self, folder: Path) -> None:
        """Writes calibration.json and calibration.safetensors into a folder (made as needed)."""
        with replacing(folder / TENSORS) as temporary:
            save_file(self._tensors(), temporary)
        values: _Values = {
            "format": FORMAT,
            "context": self.context,
            "samples": self.samples,
            "tau": self.tempering.tau,
            "rho": self.tempering.rho,
            "power": self.power,
            "levels": sorted(self.radii),
            "digest": self.digest,
            "fitted": dict(self.fitted),
        }
        write_json(folder / VALUES, values)

    @classmethod
    def load(cls, folder: Path) -> Calibration:
        """What `save` wrote.

        Raises:
            CheckpointError: it is missing, damaged or of a newer version.
        """
        try:
            values: _Values = read_json(folder / VALUES, _Values)
            tensors = read_tensors(folder / TENSORS)
        except ReadError as error:
            raise CheckpointError(f"{error}: calibrate again") from None
        if values["format"] > FORMAT:
            raise CheckpointError(f"{folder / VALUES} has format {values['format']}: upgrade svg-lp")
        for name, allowed in _RANGES.items():
            number: Any = dict(values)[name]
            if refusal := allowed.refusal(number):
                raise CheckpointError(f"{folder / VALUES}: {name} is {number}, but it {refusal}: calibrate again")
        try:
            made = cls(
                context=values["context"],
                samples=values["samples"],
                scale=tensors["scale"],
                power=values["power"],
                tempering=Tempering(values["tau"], values["rho"]),
                sigma_map=SigmaMap.of(tensors),
                radii={level: tensors[f"radius.{level}"] for level in values["levels"]},
                fitted=values["fitted"],
            )
            sound = [made.scale.ndim == 1, (made.scale > 0).all(), made.scale.isfinite().all()]
            sound += [radius.shape == made.scale.shape and (radius >= 0).all() for radius in made.radii.values()]
            if not all(sound):
                raise ValueError("factors or radii are no positive numbers, one a frame")
        except (KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder / TENSORS} holds no calibration ({error}): calibrate again") from None
        if made.digest != values["digest"]:
            raise CheckpointError(f"{folder / VALUES} and {TENSORS} are not as they were written: calibrate again")
        return made


_RANGES = {
    "context": Range(1, 10**4),
    "samples": Range(1, 10**6),
    "tau": Range(0, 100),
    "rho": Range(-1, 1),
    "power": Range(0, 100),
}


class _Values(TypedDict):
    format: int
    context: int
    samples: int
    tau: float
    rho: float
    power: float
    levels: list[float]
    digest: str
    fitted: dict[str, Any]


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors by name, in hexadecimal: of their names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name, value in sorted(weights.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def total_stddev(spread: Tensor, noise: Tensor, samples: int) -> Tensor:
    """The standard deviation of the truth around the mean of S futures (Fortin et al. 2014): sqrt((1 + 1/S) spread +
    noise), of the futures' variance (by S - 1) and the mean variance of their pixel noise."""
    return ((1 + 1 / samples) * spread + noise).sqrt()
