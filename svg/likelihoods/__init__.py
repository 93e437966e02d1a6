"""Observation models p(x | decoder output): every one is a name in the registry.

docs/likelihoods.md says which to choose, and how to add one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from svg.config.options import shortened
from svg.likelihoods.baggins import Baggins
from svg.likelihoods.base import Latents, Likelihood
from svg.likelihoods.bernoulli import Bernoulli
from svg.likelihoods.beta import Beta
from svg.likelihoods.bits import bits_per_dim, dequantized_log_prob
from svg.likelihoods.bitwise_categorical import BitwiseCategorical
from svg.likelihoods.categorical import Categorical
from svg.likelihoods.continuous_bernoulli import ContinuousBernoulli
from svg.likelihoods.diag_d import DiagD
from svg.likelihoods.diag_i import DiagI
from svg.likelihoods.discretized import DiscretizedGaussian, DiscretizedLogistic
from svg.likelihoods.distribution import FrameDistribution
from svg.likelihoods.fixed_gaussian import FixedGaussian
from svg.likelihoods.iso_d import IsoD
from svg.likelihoods.laplace import Laplace
from svg.likelihoods.logistic_mixture import LogisticMixture
from svg.likelihoods.optimal_sigma import OptimalSigma
from svg.likelihoods.options import require_size, require_whole, valid_options
from svg.likelihoods.pixel_sigma import PixelSigma
from svg.likelihoods.scheduled_sigma import ScheduledSigma
from svg.likelihoods.shared_sigma import SharedSigma
from svg.likelihoods.student_t import StudentT
from svg.likelihoods.trainable_diag_i import TrainableDiagI
from svg.likelihoods.trainable_iso_d import TrainableIsoD
from svg.likelihoods.two_stage_sigma import TwoStageSigma

__all__ = [
    "ALIASES",
    "REGISTRY",
    "FrameDistribution",
    "Latents",
    "Likelihood",
    "bits_per_dim",
    "build",
    "dequantized_log_prob",
]

REGISTRY: dict[str, type[Likelihood]] = {
    "fixed_gaussian": FixedGaussian,
    "shared_sigma": SharedSigma,
    "optimal_sigma": OptimalSigma,
    "pixel_sigma": PixelSigma,
    "iso_d": IsoD,
    "diag_i": DiagI,
    "diag_d": DiagD,
    "trainable_iso_d": TrainableIsoD,
    "trainable_diag_i": TrainableDiagI,
    "two_stage_sigma": TwoStageSigma,
    "baggins": Baggins,
    "scheduled_sigma": ScheduledSigma,
    "student_t": StudentT,
    "laplace": Laplace,
    "beta": Beta,
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "categorical": Categorical,
    "bitwise_categorical": BitwiseCategorical,
    "discretized_gaussian": DiscretizedGaussian,
    "discretized_logistic": DiscretizedLogistic,
    "logistic_mixture": LogisticMixture,
}

ALIASES: dict[str, str] = {
    "f_vae": "fixed_gaussian",
    "ls_vae": "shared_sigma",
    "trainable_iso_i": "shared_sigma",
    "iso_i": "optimal_sigma",
    "optimal_sigma_per_image": "iso_d",
    "lv_vae": "pixel_sigma",
    "trainable_diag_d": "pixel_sigma",
}
"""Other papers' names of the same thing."""


def build(name: str, channels: int = 3, size: tuple[int, int] = (64, 64), **options: Any) -> Likelihood:
    """The likelihood of that name, for images of `channels` channels and `size` (height, width) pixels.

    Raises:
        ValueError: the name or an option is unknown, or a value is wrong.
    """
    cls = REGISTRY.get(ALIASES.get(name, name))
    if cls is None:
        raise ValueError(
            f"likelihood.name is {shortened(name)}, but it must be one of: {', '.join([*REGISTRY, *ALIASES])}"
        )
    valid = valid_options(cls)
    for option in options:
        if option not in valid:
            listed = ", ".join(f"{key}={default!r}" for key, default in valid.items()) or "none"
            raise ValueError(f"likelihood.options.{option} is not an option of {name}, whose options are: {listed}")
    likelihood = cls(channels=require_whole("channels", channels), size=require_size(size), **options)
    likelihood.name, likelihood.options = name, options
    return likelihood


def without_paths(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A stored model's options but for those that name a file: somebody else's model opens none, and what the file said
    is among the weights."""
    cls = REGISTRY.get(ALIASES.get(name, name), Likelihood)
    return {option: value for option, value in options.items() if not (option in cls.paths and isinstance(value, str))}
