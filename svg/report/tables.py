"""The tables of an evaluation, for the terminal and the report: means over clips with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from svg.evaluation.calibration import BINS
from svg.evaluation.images import LATENT_ROWS, ROWS, Report
from svg.evaluation.protocol import OWN
from svg.evaluation.scores import CURVES
from svg.evaluation.summary import Entry
from svg.metrics import METRICS
from svg.metrics.fid import MISSING
from svg.models.calibrated import Calibration

PAPERS: dict[str, dict[str, float]] = {
    "SV2P": {"psnr": 20.39, "ssim": 0.8169, "lpips": 0.0912, "fvd": 965},
    "SAVP": {"psnr": 18.44, "ssim": 0.7887, "lpips": 0.0634, "fvd": 152},
    "SVG-LP": {"psnr": 18.95, "ssim": 0.8058, "lpips": 0.0609, "fvd": 255},
    "SRVP": {"psnr": 19.59, "ssim": 0.8196, "lpips": 0.0574, "fvd": 162},
    "SLAMP": {"psnr": 19.67, "ssim": 0.8175, "lpips": 0.0596, "fvd": 245},
    "Hier-VRNN": {"ssim": 0.822, "lpips": 0.055, "fvd": 143},
}
"""What papers report of BAIR 64x64, best of 100, 2 frames given and 28 predicted (docs/evaluation.md)."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column names the row."""

    header: list[str]
    rows: list[list[str]]

    def __str__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        padded = ("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(line.rstrip() for line in padded)


def rollout_table(entries: Sequence[Entry], papers: bool = False) -> Table:
    """The rollouts of all models: a row for each model and curve, a column for each metric.

    Args:
        papers: also what papers report of BAIR, for frames and a protocol like theirs.
    """
    metrics = [name for name in METRICS if any(name in entry.get("results", {}) for entry in entries)]
    spread = any("diversity" in entry.get("ensemble", {}) for entry in entries)
    distance = any("fvd" in entry for entry in entries)
    header = ["", *map(_title, metrics), *(["diversity"] if spread else []), *(["FVD ↓"] if distance else [])]
    rows = []
    for entry in entries:
        results, samples = entry.get("results", {}), entry["protocol"]["samples"]
        for curve, title in CURVES.items():
            if curve == "copy_last" and entry is not entries[-1]:
                continue
            name = title.format(samples=samples)
            if len(entries) > 1 and curve != "copy_last":
                name = f"{entry['name']}, {name}"
            row = [name, *(_cell(results.get(metric, {}).get(curve), METRICS[metric].digits) for metric in metrics)]
            best = curve == "best"
            row += [_cell(entry.get("ensemble", {}).get("diversity") if best else None, 4)] if spread else []
            row += [f"{entry['fvd']['value']:.1f}" if best and "fvd" in entry else ""] if distance else []
            rows.append(row)
    for paper, values in PAPERS.items() if papers else ():
        shown = [f"{values[name]:.{METRICS[name].digits}f}" if name in values else "" for name in metrics]
        rows.append(
            [f"{paper} (paper)", *shown, *([""] if spread else []), *([f"{values['fvd']:.0f}"] if distance else [])]
        )
    return Table(header, rows)


def like_the_papers(entry: Entry) -> bool:
    """Whether an evaluation is that which papers report of BAIR, so that their numbers may stand beside it."""
    protocol = entry["protocol"]
    same = (protocol["context"], protocol["horizon"], protocol["samples"]) == (2, 28, 100)
    return same and "bair" in str(protocol["data"]["source"]).lower() and entry["run"]["clips"] == 256


def likelihood_table(entries: Sequence[Entry]) -> Table:
    """The bounds of all models: a row for each, or why it has none."""
    measured = [entry for entry in entries if "likelihood" in entry]
    lengths = sorted({int(length) for e in measured for length in e["likelihood"].get("lengths", {})})
    importance = max((e["likelihood"].get("importance", 0) for e in measured), default=0)
    header = [
        "",
        *(f"nats/frame, T = {length}" for length in lengths),
        *(f"bits/dim, T = {length}" for length in lengths),
    ]
    header += [f"IWAE-{importance} bits/dim, T = {length}" for length in lengths] if importance else []
    header += ["KL", "sigma"]
    rows = []
    for entry in measured:
        found = entry["likelihood"]
        if "missing" in found:
            rows.append([entry["name"], f"not reported: {found['missing']}", *[""] * (len(header) - 2)])
            continue
        of = [found["lengths"].get(str(length), {}) for length in lengths]
        row = [entry["name"], *(_cell(values.get("nats_per_frame"), 1) for values in of)]
        row += [_cell(values.get("bits_per_dim"), 4) for values in of]
        row += [_cell(values.get("iwae_bits_per_dim"), 4) for values in of] if importance else []
        sigma = found["sigma"]
        shown = "a map" if sigma is None else f"{sigma:.4f}"
        row += [_cell(of[-1].get("kl"), 2), shown if found["scale"] == OWN else f"{shown} ({found['scale']})"]
        rows.append(row)
    return Table(header, rows)


def uncertainty_table(entries: Sequence[Entry]) -> Table:
    """How honest the rollouts of all models are: a row for each. Columns are what svg/evaluation/calibration.py says,
    from the least to the most over the frames where they are per frame; `outer bin` and `PIT` are densities, 1 being
    right."""
    measured = [entry for entry in entries if "rank" in entry.get("calibration", {})]
    header = [
        "",
        "sigma/error",
        "futures/error",
        "outer bin, futures",
        "outer bin, with noise",
        "PIT",
        "90 % intervals",
    ]
    header += ["CRPS", "energy", "variogram"]
    rows = []
    for entry in measured:
        found, ensemble = entry["calibration"], entry["ensemble"]
        guaranteed = entry.get("intervals", {}).get("0.9")
        covered = guaranteed["frames"] if guaranteed else found["coverage_frames"]
        rank, noisy, pit = (np.asarray(found[name]) * BINS for name in ("rank", "rank_noise", "pit"))
        pit = pit.mean(0)
        row = [entry["name"]]
        row += [_span(np.divide(found[name], found["error"])) for name in ("sigma", "futures")]
        row += [f"{max(shares[0], shares[-1]):.2f}" for shares in (rank, noisy)]
        row += [f"{pit.min():.2f} to {pit.max():.2f}", _span(covered)]
        row += [_cell(ensemble.get(name), 4) for name in ("crps", "energy", "variogram")]
        rows.append(row)
    return Table(header, rows)


def _span(values: Any) -> str:
    return f"{np.min(values):.2f} to {np.max(values):.2f}"


def calibration_table(found: Calibration) -> Table:
    """What was fitted: a column for the first predicted frame, the middle one and the last."""
    frames = sorted({0, found.horizon // 2, found.horizon - 1})
    tempering, sigma = found.tempering, "a map's sigma" if found.sigma_map else "sigma"
    shown = {
        f"factor of {sigma}" + ("" if found.power == 1 else f" to the power {found.power:g}"): found.scale,
        **{f"radius of the {level:.4g} interval (sd)": radius for level, radius in sorted(found.radii.items())},
    }
    rows = [[name, *(f"{values[frame]:.3f}" for frame in frames)] for name, values in shown.items()]
    rows.append([f"prior's noise: tau {tempering.tau:g}, rho {tempering.rho:g}", *[""] * len(frames)])
    return Table(["", *(f"frame {frame + 1}" for frame in frames)], rows)


def _title(name: str) -> str:
    metric = METRICS[name]
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.title}{unit} {'↑' if metric.higher_is_better else '↓'}"


def _cell(values: Mapping[str, Any] | None, digits: int) -> str:
    if values is None:
        return ""
    half = values.get("half")
    return f"{values['mean']:.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def image_table(report: Report, k: int) -> str:
    """The numbers of an image model's evaluation with K importance samples, as text."""
    rows = []
    for name, entry in report.images.items():
        digits = 1 if abs(entry["mean"]) >= 100 else 4
        rows.append((ROWS[name].format(k=k), f"{entry['mean']:.{digits}f} ± {entry['half']:.{digits}f}"))
    rows += [(LATENT_ROWS[name], f"{value:.4g}") for name, value in report.latents.items()]
    rows += [(f"FID, {name.replace('_', ' ')}", f"{found.value:.2f}") for name, found in report.fid.items()]
    width = max(len(name) for name, _ in rows)
    basis = next((found.basis for found in report.fid.values()), MISSING)
    return "\n".join(f"{name.ljust(width)}   {value}" for name, value in rows) + f"\n\nFID: {basis}"
