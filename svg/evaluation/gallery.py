"""Which clips are shown, and their futures as pictures with maps of what is uncertain.

Shapes: S futures, P context frames, F predicted frames, C channels (1 or 3, as `svg.media.pictures` gives them), H W
pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
from torch import Tensor

from svg.evaluation.scores import Futures, Record, draw
from svg.media import Frames, pictures
from svg.media.panels import BLUE as TRUTH
from svg.media.panels import GREEN as CONTEXT
from svg.media.panels import Colour, Panel, future_panel
from svg.metrics import METRICS
from svg.models.svg_lp import SVG

Rule = Literal["first", "best", "worst", "random", "diverse"]
Map = np.ndarray[Any, np.dtype[np.float32]]

GREY: Colour = (120, 126, 136)
"""Border of a map."""
_COLOURS = "inferno"


@dataclass(frozen=True)
class Shown:
    """One clip and some of its futures."""

    clip: int
    context: Frames
    """uint8 (P, H, W, C)."""
    truth: Frames | None
    """uint8 (F, H, W, C), where it is known."""
    futures: Frames
    """uint8 (S, F, H, W, C)."""
    captions: list[str]
    """Of each future."""
    sigma: Map
    """Predicted standard deviation, root mean square over the channels: float32 (S, F, H, W)."""

    @property
    def has_map(self) -> bool:
        """Whether sigma differs from pixel to pixel."""
        return float(self.sigma.max() - self.sigma.min()) > 1e-6

    @property
    def spread(self) -> Map:
        """Standard deviation of the futures, root mean square over the channels shown: float32 (F, H, W)."""
        values = self.futures.astype(np.float32) / 255
        return np.sqrt(values.var(axis=0, ddof=min(1, len(values) - 1)).mean(axis=-1))


def choose(
    rule: Rule, count: int, clips: Sequence[int], records: Sequence[Record] = (), metric: str = "psnr", seed: int = 0
) -> list[int]:
    """Clips to show.

    Args:
        rule: the first ones; the best or worst by their best future's metric; those whose futures differ most; random.
        records: of `svg.evaluation.scores.score_clips`, for best, worst and diverse.
    """
    if rule == "first":
        return list(clips[:count])
    if rule == "random":
        return sorted(np.random.default_rng(seed).choice(clips, min(count, len(clips)), replace=False).tolist())
    if rule == "diverse":
        value = {record["clip"]: float(np.mean(record["ensemble"].get("diversity", 0))) for record in records}
        return sorted(value, key=lambda clip: -value[clip])[:count]
    sign = 1 if METRICS[metric].higher_is_better == (rule == "worst") else -1
    value = {record["clip"]: sign * float(np.mean(record[metric]["best"])) for record in records}
    return sorted(value, key=lambda clip: value[clip])[:count]


def show(
    model: SVG, frames: Tensor, clip: int, futures: Futures, samples: Sequence[int], captions: Sequence[str]
) -> Shown:
    """Draws some futures of a clip, those that `svg.evaluation.scores.score_clips` scores.

    Args:
        frames: uint8 (context, C, H, W), and the true future after them where it is known; on the model's device.
        samples: which of the futures.
        captions: how each is called.
    """
    predicted, stddev = draw(model, frames[: futures.context], clip, futures, samples)
    sigma = stddev.square().mean(2).sqrt().float().cpu().numpy()
    seen = pictures(frames)
    truth = seen[futures.context :] if len(seen) > futures.context else None
    return Shown(clip, seen[: futures.context], truth, pictures(predicted), list(captions), sigma)


def panels(shown: Shown, *, sigma: bool = True) -> list[Panel]:
    """context | truth | futures | map: the first future's sigma where it is a map, else how much the futures differ."""
    context, length = shown.context, shown.futures.shape[1]
    resting = np.repeat(context[-1:], length, axis=0)
    found = [future_panel("context", context, resting, CONTEXT)]
    if shown.truth is not None:
        found.append(future_panel("truth", context, shown.truth, TRUTH))
    found += [
        future_panel(caption, context, future) for caption, future in zip(shown.captions, shown.futures, strict=True)
    ]
    if sigma and (shown.has_map or len(shown.futures) > 1):
        caption, values = ("sigma", shown.sigma[0]) if shown.has_map else ("spread", shown.spread)
        maps = heat(values, float(values.max()))
        if context.shape[-1] == 1:
            maps = np.round(255 * values[..., None] / max(float(values.max()), 1e-6)).astype(np.uint8)
        before = np.zeros((len(context), *maps.shape[1:]), np.uint8)
        found.append(future_panel(f"{caption} to {values.max():.2f}", before, maps, GREY))
    return found


def heat(values: Map, largest: float) -> Frames:
    """Values (..., H, W) from 0 to `largest` as colours, dark to bright: uint8 (..., H, W, 3)."""
    scaled = values / max(largest, 1e-6)
    return (255 * matplotlib.colormaps[_COLOURS](scaled)[..., :3]).round().astype(np.uint8)


def veil(values: Map, largest: float) -> Frames:
    """The same colours to lay over frames, clear where the value is 0: uint8 (..., H, W, 4)."""
    opacity = np.sqrt(np.clip(values / max(largest, 1e-6), 0, 1))[..., None]
    return np.concatenate((heat(values, largest), (255 * opacity).round().astype(np.uint8)), axis=-1)
