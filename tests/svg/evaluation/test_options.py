"""What eval.py can be told: numbers that can't be are refused by the option's name."""

from __future__ import annotations

import math

import pytest

from svg.evaluation.options import ExportOptions, MetricsOptions, PredictOptions


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("columns", -1, "--columns is -1, but it must be finite and not negative"),
        ("scale", 0, "--scale is 0, but it must be at least 1"),
        ("scale", 65, "--scale is 65, but it must be at most 64"),
        ("samples", 0, "--samples is 0, but it must be at least 1"),
        ("fps", -1.0, "--fps is -1.0, but it must be at least 0.01 or 0"),
        ("fps", math.nan, "--fps is nan"),
        ("fps", math.inf, "--fps is inf, but it must be at most 1,000"),
        ("out", " ", "--out is ' ', but it must not be empty"),
    ],
)
def test_numbers_have_their_ranges(name, value, message):
    for options in (
        lambda **given: ExportOptions("a", **given),
        lambda **given: PredictOptions("a", "b", **given),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            options(**{name: value})


def test_what_is_special_is_taken():
    assert ExportOptions("a", fps=0.0, columns=0).fps == 0 and PredictOptions("a", "b", fps=0.01).fps == 0.01
    with pytest.raises(ValueError, match="--iwae is -1"):
        MetricsOptions(["a"], iwae=-1)
