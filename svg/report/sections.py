"""The report of an evaluation: what svg/report shows, gathered from entries (svg/evaluation/summary.py) and clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from svg.evaluation.calibration import BINS
from svg.evaluation.gallery import Shown, veil
from svg.evaluation.scores import CURVES
from svg.evaluation.summary import Entry
from svg.metrics import METRICS
from svg.report.page import Chart, Futures, Page, Scene, Section, Series, write
from svg.report.tables import like_the_papers, likelihood_table, rollout_table, uncertainty_table

_COLOURS = {"best": 0, "mean": 2, "posterior": 1, "copy_last": -1}


def write_report(
    path: Path, entries: Sequence[Entry], gallery: Sequence[Sequence[Shown]], fps: float, title: str
) -> None:
    """Writes report.html.

    Args:
        entries: one for each model.
        gallery: for each clip, what each model predicts.
        fps: frames per second.
        title: what was evaluated, in a line.
    """
    names = [entry["name"] for entry in entries]
    sections = [_results(entries), *_charts(entries), *_likelihood(entries)]
    scenes = [_scene(shown, names) for shown in gallery]
    write(path, Page(", ".join(names), title, _protocol(entries), sections, scenes, fps))


def _results(entries: Sequence[Entry]) -> Section:
    papers = like_the_papers(entries[0])
    text = "Best of N takes each metric's best future of a clip. Means over clips, with 95 % intervals."
    if papers:
        text += " Rows marked (paper) are what papers report under this protocol; they were not run here."
    tables = [rollout_table(entries, papers)] if any("results" in entry for entry in entries) else []
    if any("likelihood" in entry for entry in entries):
        tables.append(likelihood_table(entries))
        text += " Likelihoods are upper bounds on -log p of the true frames after the first, each predicted from those "
        text += "before it; negative nats are densities above 1."
    distances = [
        f"{entry['name']}: {entry[name]['text']}." for entry in entries for name in ("fvd", "fid") if name in entry
    ]
    return Section("Results", " ".join([text, *distances]), tables=[(table.header, table.rows) for table in tables])


def _protocol(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """The protocol box: what all numbers share, then what is each model's own."""
    stated, run = entries[0]["protocol"], entries[0]["run"]
    rows = [
        ("frames given, predicted", f"{stated['context']}, {stated['horizon']}, from frame {stated['first_frame']}"),
        ("clips", f"{run['clips']} of {stated['data']['source']}, split {stated['data']['split']}"),
        ("futures a clip", f"{stated['samples']}, seed {stated['seed']}"),
        ("predictions", stated["predictions"]),
        ("best of N", stated["best_of_n"]),
        ("posterior", stated["posterior"]),
        ("calibration of rollouts", stated["calibration"]),
        ("interval", stated["interval"]),
        *((METRICS[name].title, text) for name, text in stated["metrics"].items()),
        ("data's SHA-256", stated["data"]["sha256"][:16]),
        ("computed by", ", ".join(f"{name} {run[name]}" for name in ("svg-lp", "torch", "python") if name in run)),
        ("on", f"{run['processes']} x {run['device']}"),
    ]
    for entry in entries:
        checkpoint = entry["protocol"]["checkpoint"]
        rows.append((entry["name"], f"{checkpoint['name']}, SHA-256 {checkpoint['sha256'][:16]}"))
        rows.append((f"{entry['name']}'s sigma", entry["protocol"]["scale"]))
    return rows


def _charts(entries: Sequence[Entry]) -> Iterator[Section]:
    """Charts of the rollouts: metrics over the horizon, then uncertainty."""
    metrics = [name for name in METRICS if all(name in entry.get("results", {}) for entry in entries)]
    if metrics:
        yield Section("Over the horizon", charts=[_metric(entries, name) for name in metrics])
    charts = [
        chart
        for make in (_ratio, _coverage, _intervals, _transform, _spread, _sigma, _bins, _ranks, _scores)
        for chart in make(entries)
    ]
    if charts:
        text = (
            "Calibrated predictions are wrong as often as they say. One step: every frame is predicted from true "
            "frames, with latents from the posterior; its sigma is smaller than a rollout's error. Rollout: the "
            "mixture over the sampled futures. In the table sigma is the predicted standard deviation of the truth "
            "around the mean of the futures, which should be the error's size, and futures is the part of it that "
            "they make alone; ranges are over the predicted frames."
        )
        table = uncertainty_table(entries)
        yield Section("Uncertainty", text, charts=charts, tables=[(table.header, table.rows)] if table.rows else [])


def _metric(entries: Sequence[Entry], name: str) -> Chart:
    metric, samples = METRICS[name], entries[0]["protocol"]["samples"]

    def line(entry: Entry, curve: str, label: str, colour: int) -> Series:
        values = entry["results"][name][curve]
        dashed = curve == "copy_last"
        return Series(label, values["frames"], half=values["frames_half"], colour=colour, dashed=dashed)

    titles = {curve: title.format(samples=samples) for curve, title in CURVES.items()}
    if len(entries) == 1:
        series = [line(entries[0], curve, title, _COLOURS[curve]) for curve, title in titles.items()]
    else:
        series = [line(entry, "best", entry["name"], number) for number, entry in enumerate(entries)]
        series.append(line(entries[0], "copy_last", titles["copy_last"], -1))
    better = "higher" if metric.higher_is_better else "lower"
    text = f"{'Best of ' + str(samples) + ', ' if len(entries) > 1 else ''}{better} is better"
    return Chart(metric.title, "predicted frame", metric.unit, series, text.capitalize() + ".", over_frames=True)


def _kinds(entries: Sequence[Entry]) -> Iterator[tuple[str, int, bool, dict[str, Any]]]:
    """Label, colour, dash and calibration of each model, in one step and in rollouts."""
    for number, entry in enumerate(entries):
        prefix = f"{entry['name']}, " if len(entries) > 1 else ""
        one_step = entry.get("likelihood", {}).get("calibration")
        for kind, found in (("one step", one_step), ("rollout", entry.get("calibration"))):
            if found:
                alone = len(entries) == 1
                yield prefix + kind, (1 if kind == "one step" else 0) if alone else number, kind == "one step", found


def _coverage(entries: Sequence[Entry]) -> list[Chart]:
    lines = [
        Series(
            label, [0.0, *found["coverage"]], [0.0, *found["levels"]], colour=colour, dashed=dashed and len(entries) > 1
        )
        for label, colour, dashed, found in _kinds(entries)
    ]
    if not lines:
        return []
    ideal = Series("calibrated", [0.0, 1.0], [0.0, 1.0], colour=-1, dashed=True)
    text = "Share of true pixels inside the central interval. Below the diagonal: too sure of itself."
    charts = [Chart("Coverage", "level of the interval", "share inside", [*lines, ideal], text, least=0, most=1)]
    over = [
        Series(f"{entry['name'] if len(entries) > 1 else 'rollout'}", entry["calibration"]["coverage_frames"], colour=i)
        for i, entry in enumerate(entries)
        if "calibration" in entry
    ]
    if over:
        ideal = Series("calibrated", [0.9] * len(over[0].y), colour=-1, dashed=True)
        title, text = "Coverage of 90 % intervals", "In rollouts, frame by frame."
        charts.append(
            Chart(title, "predicted frame", "share inside", [*over, ideal], text, over_frames=True, least=0, most=1)
        )
    return charts


def _ratio(entries: Sequence[Entry]) -> list[Chart]:
    """What is predicted of the error's size: by futures and noise, and by the futures alone."""
    series = []
    for number, entry in enumerate(entries):
        if "futures" in (found := entry.get("calibration", {})):
            prefix = f"{entry['name']}, " if len(entries) > 1 else ""
            for name, label, dashed in (("sigma", "with noise", False), ("futures", "futures alone", True)):
                values = np.divide(found[name], found["error"]).tolist()
                series.append(Series(prefix + label, values, colour=number, dashed=dashed))
    if not series:
        return []
    series.append(Series("calibrated", [1.0] * len(series[0].y), colour=-1, dashed=True))
    text = "Predicted standard deviation over error: below 1, rollouts are surer than they are right."
    return [Chart("Uncertainty over error", "predicted frame", "", series, text, over_frames=True, least=0)]


def _intervals(entries: Sequence[Entry]) -> list[Chart]:
    """The share of the truth inside the conformal 90 % intervals: of all values, of moving and of still ones."""
    series = []
    for number, entry in enumerate(entries):
        if found := entry.get("intervals", {}).get("0.9"):
            prefix = f"{entry['name']}, " if len(entries) > 2 else ""
            series.append(Series(f"{prefix}all", found["frames"], half=found["frames_half"], colour=number))
            for name in ("moving", "still"):
                values = [0.0 if value is None else value for value in found[name]]
                series.append(Series(prefix + name, values, colour=2 if name == "moving" else 3, dashed=True))
    if not series:
        return []
    series.append(Series("promised", [0.9] * len(series[0].y), colour=-1, dashed=True))
    text = "The promise is of all values of a clip's frame on average; still ones are easier, moving ones harder."
    title = "90 % intervals with a guarantee"
    return [Chart(title, "predicted frame", "share inside", series, text, over_frames=True, least=0, most=1)]


def _transform(entries: Sequence[Entry]) -> list[Chart]:
    lines = [
        _density(label, np.mean(found["pit"], axis=0).tolist(), colour, dashed and len(entries) > 1)
        for label, colour, dashed, found in _kinds(entries)
    ]
    text = "Where the truth falls in the prediction. Flat: calibrated; a hump: too wide; high ends: too narrow."
    return _with_flat("Probability integral transform", "predicted probability of less", lines, text)


def _ranks(entries: Sequence[Entry]) -> list[Chart]:
    lines = [
        _density(entry["name"] if len(entries) > 1 else "rollout", entry["calibration"]["rank"], number, False)
        for number, entry in enumerate(entries)
        if "calibration" in entry
    ]
    text = (
        "Where the truth falls among the futures as they are seen, without the pixel noise that sigma stands for. High "
        "ends: futures are less diverse than the truth is uncertain."
    )
    noisy = [
        _density(entry["name"] if len(entries) > 1 else "rollout", entry["calibration"]["rank_noise"], number, False)
        for number, entry in enumerate(entries)
        if "rank_noise" in entry.get("calibration", {})
    ]
    also = "The same with pixel noise: flat, if the truth might be one of the draws."
    charts = _with_flat("Rank of the truth", "rank among the futures", lines, text)
    return charts + _with_flat("Rank among draws", "rank among the futures with noise", noisy, also)


def _density(name: str, shares: Sequence[float], colour: int, dashed: bool) -> Series:
    """A histogram whose bars are 1 where it is flat."""
    centres = [(i + 0.5) / BINS for i in range(BINS)]
    return Series(name, [BINS * share for share in shares], centres, colour=colour, dashed=dashed)


def _with_flat(title: str, x: str, lines: list[Series], text: str) -> list[Chart]:
    if not lines:
        return []
    flat = Series("calibrated", [1.0] * BINS, lines[0].x, colour=-1, dashed=True)
    return [Chart(title, x, "density", [*lines, flat], text, steps=True, least=0)]


def _spread(entries: Sequence[Entry]) -> list[Chart]:
    """How much the futures differ, beside their error."""
    if not any("spread" in entry.get("ensemble", {}) for entry in entries):
        return []
    series = []
    for number, entry in enumerate(entries):
        names = {"spread": "spread", "mean_error": "error of the mean", "best_error": "error of the best"}
        for place, (name, label) in enumerate(names.items()):
            if len(entries) > 1 and name == "best_error":
                continue
            prefix = f"{entry['name']}, " if len(entries) > 1 else ""
            colour = number if len(entries) > 1 else (0, 1, 2)[place]
            curve = entry["ensemble"][name]["frames"]
            series.append(Series(prefix + label, curve, colour=colour, dashed=len(entries) > 1 and place > 0))
    text = "Standard deviation of the futures and root mean square errors, of pixels in [0, 1]. They should grow alike."
    return [Chart("Spread against error", "predicted frame", "", series, text, over_frames=True, least=0)]


def _sigma(entries: Sequence[Entry]) -> list[Chart]:
    series = []
    for number, entry in enumerate(entries):
        if found := entry.get("calibration"):
            prefix = f"{entry['name']}, " if len(entries) > 1 else ""
            several = len(entries) > 1
            series.append(Series(f"{prefix}predicted", found["sigma"], colour=number))
            colour = number if several else 1
            series.append(Series(f"{prefix}error", found["error"], colour=colour, dashed=several))
    text = "Predicted standard deviation in rollouts (sigma and spread together) and the error of the futures' mean."
    chart = Chart("Sigma against error", "predicted frame", "", series, text, over_frames=True, least=0)
    return [chart] if series else []


def _bins(entries: Sequence[Entry]) -> list[Chart]:
    """Error of the pixels of each predicted standard deviation."""
    series = []
    for label, colour, dashed, found in _kinds(entries):
        points = [(sigma, error) for share, sigma, error in found["by_sigma"] if share > 1e-4 and error > 0]
        if len(points) > 1:
            x, y = (list(values) for values in zip(*points, strict=True))
            series.append(Series(label, y, x, colour=colour, dashed=dashed and len(entries) > 1))
    if not series:
        return []
    ends = [min(min(s.x or [1.0]) for s in series), max(max(s.x or [0.0]) for s in series)]
    ideal = Series("calibrated", [*ends], [*ends], colour=-1, dashed=True)
    text = "Pixels sorted by their predicted standard deviation. Above the diagonal: wrong by more than predicted."
    return [Chart("Error of each sigma", "predicted sigma", "error", [*series, ideal], text, log=True)]


def _scores(entries: Sequence[Entry]) -> list[Chart]:
    charts = []
    for name, title in (("crps", "CRPS"), ("energy", "Energy score"), ("variogram", "Variogram score")):
        series = [
            Series(
                entry["name"], entry["ensemble"][name]["frames"], half=entry["ensemble"][name]["frames_half"], colour=i
            )
            for i, entry in enumerate(entries)
            if name in entry.get("ensemble", {})
        ]
        text = {
            "crps": "Error of the futures less half their differences, a pixel at a time, lower is better.",
            "energy": "The same of whole frames, by root mean square distance.",
            "variogram": "Whether the futures differ from pixel to pixel as the truth does, lower is better.",
        }[name]
        charts += [Chart(title, "predicted frame", "", series, text, over_frames=True)] if series else []
    return charts


def _likelihood(entries: Sequence[Entry]) -> Iterator[Section]:
    """Bound and KL term over the clip."""
    some = [(i, entry) for i, entry in enumerate(entries) if "frames" in entry.get("likelihood", {})]
    if not some:
        return

    def chart(title: str, name: str, unit: str, text: str) -> Chart:
        series = []
        for number, entry in some:
            values = entry["likelihood"]["frames"][name]
            series.append(Series(entry["name"], values, [t + 2.0 for t in range(len(values))], colour=number))
        return Chart(title, "frame of the clip", unit, series, text)

    bound = chart("Bound on -log p", "nats", "nats", "Lower is better.")
    kl = chart("KL term", "kl", "nats", "How much the latents say about each frame.")
    yield Section("Likelihood, frame by frame", charts=[bound, kl])


def _scene(shown: Sequence[Shown], names: Sequence[str]) -> Scene:
    first = shown[0]
    sigma = max(float(one.sigma.max()) for one in shown)
    spread = max(float(one.spread.max()) for one in shown)
    futures = []
    for name, one in zip(names, shown, strict=True):
        maps = {"predicted sigma": [veil(values, sigma) for values in one.sigma]} if one.has_map else {}
        if len(one.futures) > 1:
            maps["spread of the futures"] = [veil(one.spread, spread)]
        futures.append(Futures(name, one.captions, list(one.futures), maps))
    return Scene(f"clip {first.clip}", first.context, first.truth, futures)
