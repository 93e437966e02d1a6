"""Observation models p(x | decoder output): every one is a name in the registry.

docs/likelihoods.md says which to choose, and how to add one.
"""

from __future__ import annotations

from typing import Any

from svg.likelihoods.base import Latents, Likelihood
from svg.likelihoods.distribution import FrameDistribution
from svg.likelihoods.fixed_gaussian import FixedGaussian
from svg.likelihoods.optimal_sigma import OptimalSigma
from svg.likelihoods.options import valid_options
from svg.likelihoods.pixel_sigma import PixelSigma
from svg.likelihoods.shared_sigma import SharedSigma

__all__ = ["ALIASES", "REGISTRY", "FrameDistribution", "Latents", "Likelihood", "build"]

REGISTRY: dict[str, type[Likelihood]] = {
    "fixed_gaussian": FixedGaussian,
    "shared_sigma": SharedSigma,
    "optimal_sigma": OptimalSigma,
    "pixel_sigma": PixelSigma,
}

ALIASES: dict[str, str] = {
    "f_vae": "fixed_gaussian",
    "ls_vae": "shared_sigma",
    "trainable_iso_i": "shared_sigma",
    "iso_i": "optimal_sigma",
    "lv_vae": "pixel_sigma",
    "trainable_diag_d": "pixel_sigma",
}
"""Other papers' names of the same thing."""


def build(name: str, channels: int = 3, size: tuple[int, int] = (64, 64), **options: Any) -> Likelihood:
    """The likelihood of that name, for images of `channels` channels and `size` (height, width) pixels.

    Raises:
        ValueError: the name or an option is unknown, or an option's value is wrong.
    """
    cls = REGISTRY.get(ALIASES.get(name, name))
    if cls is None:
        raise ValueError(f"likelihood.name is {name!r}, but it must be one of: {', '.join([*REGISTRY, *ALIASES])}")
    valid = valid_options(cls)
    for option in options:
        if option not in valid:
            listed = ", ".join(f"{key}={default!r}" for key, default in valid.items()) or "none"
            raise ValueError(f"likelihood.options.{option} is not an option of {name}, whose options are: {listed}")
    likelihood = cls(channels=channels, size=size, **options)
    likelihood.name, likelihood.options = name, options
    return likelihood
