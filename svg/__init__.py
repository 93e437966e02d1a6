"""Stochastic video prediction (SVG-LP) with calibrated likelihoods.

    import svg

    model = svg.load("runs/robot_push")                       # a run, a checkpoint, a folder, or a Hub id
    futures = model.rollout(context, horizon=28, samples=10)  # (B, T, C, H, W) -> (B, S, horizon, C, H, W)

Names and rooms (`svg.metrics`, `svg.models`, ...) are imported when first used, so that `import svg` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svg import (
        checkpoint,
        config,
        conformal,
        evaluation,
        likelihoods,
        media,
        metrics,
        models,
        noise,
        objective,
        pretrained,
        report,
        runtime,
        training,
    )
    from svg.checkpoint import CheckpointError
    from svg.config import Config, config_from_dict
    from svg.models.svg_lp import SVG
    from svg.models.vae import VAE
    from svg.pretrained import build, load, load_config, push_to_hub

_HOMES = {
    "CheckpointError": "svg.checkpoint",
    "Config": "svg.config",
    "SVG": "svg.models.svg_lp",
    "VAE": "svg.models.vae",
    "build": "svg.pretrained",
    "config_from_dict": "svg.config",
    "load": "svg.pretrained",
    "load_config": "svg.pretrained",
    "push_to_hub": "svg.pretrained",
}
"""The module of each public name."""

_ROOMS = (
    *("checkpoint", "config", "conformal", "evaluation", "likelihoods", "media", "metrics", "models", "noise"),
    *("objective", "pretrained", "report", "runtime", "training"),
)
"""The packages and modules of svg, as attributes."""

__all__ = [
    "SVG",
    "VAE",
    "CheckpointError",
    "Config",
    "build",
    "checkpoint",
    "config",
    "config_from_dict",
    "conformal",
    "evaluation",
    "likelihoods",
    "load",
    "load_config",
    "media",
    "metrics",
    "models",
    "noise",
    "objective",
    "pretrained",
    "push_to_hub",
    "report",
    "runtime",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"svg.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("svg-lp")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'svg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
