"""Stochastic video prediction (SVG-LP) with calibrated likelihoods.

    import svg

    model = svg.load("runs/robot_push")                       # a run, a checkpoint, a folder, or a Hub id
    futures = model.rollout(context, horizon=28, samples=10)  # (B, T, C, H, W) -> (B, S, horizon, C, H, W)

Names are imported when first used, so that `import svg` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svg import likelihoods
    from svg.checkpoint import CheckpointError
    from svg.config import Config, config_from_dict
    from svg.model import SVG
    from svg.pretrained import build, load, load_config, push_to_hub
    from svg.vae import VAE

_HOMES = {
    "CheckpointError": "svg.checkpoint",
    "Config": "svg.config",
    "SVG": "svg.model",
    "VAE": "svg.vae",
    "build": "svg.pretrained",
    "config_from_dict": "svg.config",
    "load": "svg.pretrained",
    "load_config": "svg.pretrained",
    "push_to_hub": "svg.pretrained",
}

__all__ = [
    "SVG",
    "VAE",
    "CheckpointError",
    "Config",
    "build",
    "config_from_dict",
    "likelihoods",
    "load",
    "load_config",
    "push_to_hub",
]


def __getattr__(name: str) -> Any:
    if name == "likelihoods":
        return import_module("svg.likelihoods")
    if name == "__version__":
        from importlib.metadata import version

        return version("svg-lp")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'svg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
