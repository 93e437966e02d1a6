"""What the benchmarks share: turns, ratios, memory, the ceiling, and refused options."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import harness

ROOT = Path(__file__).parents[2]


def test_variants_take_turns_and_the_first_round_is_not_counted():
    calls = []
    seconds = harness.interleave({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert [len(spent) for spent in seconds.values()] == [2, 2]


def test_a_ratio_is_the_median_of_the_rounds():
    assert harness.ratio([2.0, 6.0, 4.0], [1.0, 2.0, 1.0]) == "3.00 (2.00-4.00)"


def build(mebibytes: int):
    """A variant that holds so much memory."""
    held = torch.ones(mebibytes * 2**18)
    return held.sum


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak")
def test_peak_memory_is_that_of_the_variant_alone():
    held = torch.ones(2**27)  # 0.5 GiB of this process, which must not count
    small, large = (harness.peak_memory(build, mebibytes) for mebibytes in (64, 320))
    assert large - small == pytest.approx(0.25, abs=0.02)
    assert small < 0.3 and held.all()


def test_the_ceiling_is_the_best_of_what_was_tried():
    flops, name = harness.ceiling(torch.float32)
    assert flops > 0 and name in ("matrix product", "1x1 convolution", "3x3 convolution")


def test_threads_are_set(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["example", "--threads", "1"])
    try:
        assert harness.parse(harness.parser("An example.")).threads == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("wrong", ["--rounds", "--threads"])
def test_a_number_of_nothing_is_refused(wrong, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["example", wrong, "0"])
    with pytest.raises(SystemExit) as exit_:
        harness.parse(harness.parser("An example."))
    assert exit_.value.code == 2
    assert f"{wrong} is 0" in capsys.readouterr().err


@pytest.mark.parametrize("table", sorted((ROOT / "docs/performance").glob("*.md")), ids=lambda table: table.stem)
def test_the_page_shows_what_was_published(table):
    page, name = (ROOT / "docs/performance.md").read_text(), table.stem
    assert f"<!-- {name} -->\n{table.read_text()}<!-- /{name} -->" in page
    assert json.loads(table.with_suffix(".json").read_text())["command"] in table.read_text()
