"""Figures: the metrics frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svg.evaluation.scores import CURVES
from svg.evaluation.summary import Entry
from svg.metrics import METRICS
from svg.runtime.files import replacing

_STYLES: dict[str, dict[str, Any]] = {
    "best": {"color": "#c8402f", "linewidth": 2.0, "zorder": 3},
    "mean": {"color": "#d99a2b", "linewidth": 1.4, "zorder": 2},
    "posterior": {"color": "#2f7fc8", "linewidth": 1.4, "zorder": 2},
    "copy_last": {"color": "#5b6470", "linewidth": 1.4, "linestyle": (0, (5, 3)), "zorder": 1},
}


def write_curves(path: str | Path, entries: Sequence[Entry], title: str) -> None:
    """Writes a PNG with one panel a metric: its curves over the predicted frames, shaded by their 95 % intervals.

    Of one model they are its best, mean and posterior futures, of several the best of each; and copying the last frame.

    Args:
        entries: see svg/evaluation/summary.py.
        title: what was evaluated, in a line.
    """
    names = [name for name in METRICS if all(name in entry["results"] for entry in entries)]
    figure = Figure(figsize=(4.6 * len(names), 3.9), layout="constrained", dpi=150)
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        metric = METRICS[name]
        for label, curve, style in _lines(entries):
            _draw(axis, curve[name], label, style)
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


def _lines(entries: Sequence[Entry]) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Label, numbers by metric, and style of each line."""

    def of(entry: Entry, curve: str) -> dict[str, Any]:
        return {name: curves[curve] for name, curves in entry["results"].items()}

    samples = entries[0]["protocol"]["samples"]
    if len(entries) == 1:
        shown = [(CURVES[curve].format(samples=samples), of(entries[0], curve), _STYLES[curve]) for curve in CURVES]
        return shown
    colours = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    lines = [
        (f"{entry['name']}, best of {samples}", of(entry, "best"), {"color": colours[i % 10], "linewidth": 1.8})
        for i, entry in enumerate(entries)
    ]
    return [*lines, (CURVES["copy_last"], of(entries[0], "copy_last"), _STYLES["copy_last"])]


def _draw(axis: Axes, curve: dict[str, Any], label: str, style: dict[str, Any]) -> None:
    """One line with its shaded interval."""
    values = curve["frames"]
    times = range(1, len(values) + 1)
    (line,) = axis.plot(times, values, label=label, **style)
    if len(values) == 1:
        line.set_marker("o")
    if halves := curve["frames_half"]:
        low, high = zip(*((v - h, v + h) for v, h in zip(values, halves, strict=True)), strict=True)
        axis.fill_between(times, low, high, color=line.get_color(), alpha=0.14, linewidth=0)
