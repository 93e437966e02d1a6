"""Summaries and tables say what they should."""

from __future__ import annotations

from typing import Any

import pytest

from svg.evaluation.summary import summarise, summarise_ensemble
from svg.report.tables import like_the_papers, likelihood_table, rollout_table


def record(clip: int, value: float) -> dict[str, Any]:
    curves = {"best": [value + 2, value], "mean": [value] * 2, "posterior": [9.0, 9.0], "copy_last": [0.0, 0.0]}
    metrics = {"psnr": {"sample": 0, **curves}, "lpips": {"sample": 1, **curves}}
    return {"clip": clip, **metrics, "ensemble": {"diversity": [value, value]}}


def entry(name: str, *values: float, source: str = "noise", **more: Any) -> dict[str, Any]:
    records = [record(clip, value) for clip, value in enumerate(values)]
    protocol = {"samples": 100, "context": 2, "horizon": 28, "data": {"source": source}}
    measured = {"results": summarise(records), "ensemble": summarise_ensemble(records)}
    return {"name": name, "protocol": protocol, "run": {"clips": 256}, **measured, **more}


def test_summary() -> None:
    summary = summarise([record(1, 3.0), record(0, 1.0)])
    half = 1.96 * 2**0.5 / 2**0.5
    best = summary["psnr"]["best"]
    assert best["mean"] == 3.0 and best["half"] == pytest.approx(half)
    assert best["frames"] == [4.0, 2.0] and best["frames_half"] == pytest.approx([half, half])
    assert summary["psnr"]["copy_last"] == {"mean": 0.0, "half": 0.0, "frames": [0.0, 0.0], "frames_half": [0.0, 0.0]}


def test_table_of_one_model() -> None:
    lines = str(rollout_table([entry("a", 1.0, 3.0, fvd={"value": 12.34})])).splitlines()
    assert lines[0].split() == ["PSNR", "(dB)", "↑", "LPIPS", "↓", "diversity", "FVD", "↓"]
    assert lines[1].split() == "best of 100 3.00 ± 1.96 3.0000 ± 1.9600 2.0000 ± 1.9600 12.3".split()
    assert [line.split("  ")[0] for line in lines[2:]] == ["mean sample", "posterior", "copy last frame"]


def test_table_of_several_models_has_one_baseline() -> None:
    rows = rollout_table([entry("a", 1.0), entry("b", 2.0)]).rows
    assert [row[0] for row in rows] == [
        *(f"a, {curve}" for curve in ("best of 100", "mean sample", "posterior")),
        *(f"b, {curve}" for curve in ("best of 100", "mean sample", "posterior")),
        "copy last frame",
    ]
    assert "±" not in rows[0][1]  # a single clip has no interval


def test_papers_stand_beside_their_own_protocol_alone() -> None:
    bair = entry("a", 1.0, 2.0, source="BAIR robot pushing")
    assert like_the_papers(bair) and not like_the_papers(entry("a", 1.0))
    assert not like_the_papers({**bair, "run": {"clips": 255}})
    rows = {row[0]: row[1:] for row in rollout_table([bair], papers=True).rows}
    assert rows["SVG-LP (paper)"] == ["18.95", "0.0609", ""]


def test_likelihood_table_gives_bounds_or_the_reason() -> None:
    bound = {"mean": 4.0, "half": 0.5}
    lengths = {"12": {"nats_per_frame": bound, "bits_per_dim": bound, "kl": bound}}
    found = {"lengths": lengths, "importance": 0, "sigma": 0.03, "scale": "of the model"}
    table = likelihood_table([entry("a", 1.0, likelihood=found), entry("b", 1.0, likelihood={"missing": "why"})])
    assert table.header[1:3] == ["nats/frame, T = 12", "bits/dim, T = 12"]
    assert table.rows[0] == ["a", "4.0 ± 0.5", "4.0000 ± 0.5000", "4.00 ± 0.50", "0.0300"]
    assert table.rows[1][1] == "not reported: why"
    refitted = likelihood_table([entry("a", 1.0, likelihood={**found, "scale": "frozen refit"})])
    assert refitted.rows[0][-1] == "0.0300 (frozen refit)"
