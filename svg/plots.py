"""Figures: the metrics frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from svg.evaluation import CURVES, METRICS
from svg.files import replacing

_STYLES: dict[str, dict[str, Any]] = {
    "best": {"color": "#c8402f", "linewidth": 2.0, "zorder": 3},
    "mean": {"color": "#d99a2b", "linewidth": 1.4, "zorder": 2},
    "copy_last": {"color": "#5b6470", "linewidth": 1.4, "linestyle": (0, (5, 3)), "zorder": 1},
}


def write_curves(path: str | Path, summary: Mapping[str, Mapping[str, Any]], samples: int, title: str) -> None:
    """Writes a PNG with one panel a metric: its curves over the predicted frames, shaded by their 95 % intervals.

    Args:
        summary: from `svg.evaluation.summarise`.
        samples: N of best of N, for the legend.
        title: what was evaluated, in a line.
    """
    figure = Figure(figsize=(4.6 * len(summary), 3.9), layout="constrained", dpi=150)
    axes = figure.subplots(1, len(summary), squeeze=False)[0]
    for axis, (name, curves) in zip(axes, summary.items(), strict=True):
        metric = METRICS[name]
        for curve, label in CURVES.items():
            values = curves[curve]["frames"]
            times = range(1, len(values) + 1)
            (line,) = axis.plot(times, values, label=label.format(samples=samples), **_STYLES[curve])
            if len(values) == 1:
                line.set_marker("o")
            if halves := curves[curve]["frames_half"]:
                low, high = zip(*((v - h, v + h) for v, h in zip(values, halves, strict=True)), strict=True)
                axis.fill_between(times, low, high, color=line.get_color(), alpha=0.16, linewidth=0)
        better = "higher" if metric.higher_is_better else "lower"
        axis.set_title(metric.title, fontsize=11)
        axis.set_ylabel(f"{metric.unit + ', ' if metric.unit else ''}{better} is better")
        axis.set_xlabel("predicted frame")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.margins(x=0.02)
        axis.grid(color="#e3e6ea", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10, color="#39424e")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
