"""TF32 allowed and forbidden: torch's old and new switches always agree, so that either can be read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from svg.runtime.precision import allow_tf32, exact

CPU = torch.device("cpu")
MATMUL, CUDNN = torch.backends.cuda.matmul, torch.backends.cudnn


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """torch's defaults, before and after each test."""
    _set(False, True)
    yield
    _set(False, True)


def _set(matmul: bool, cudnn: bool) -> None:
    MATMUL.allow_tf32, CUDNN.allow_tf32 = matmul, cudnn


def old() -> tuple[bool, bool, str]:
    """Reading these raises where torch finds old and new switches mixed."""
    return MATMUL.allow_tf32, CUDNN.allow_tf32, torch.get_float32_matmul_precision()


def new() -> list[str]:
    if not hasattr(MATMUL, "fp32_precision"):
        pytest.skip("torch < 2.9 has the old switches alone")
    return [part.fp32_precision for part in (MATMUL, CUDNN.conv, CUDNN.rnn)]  # type: ignore[attr-defined]


def test_allowing_sets_both_switches() -> None:
    allow_tf32()
    assert old() == (True, True, "high")
    assert new() == ["tf32"] * 3


@pytest.mark.parametrize("allowed", [False, True])
def test_exactness_sets_both_switches_and_gives_them_back(allowed: bool) -> None:
    if allowed:
        allow_tf32()
    before = old()
    with exact(CPU):
        assert old() == (False, False, "highest")
        assert "tf32" not in new()
    assert old() == before
    allow_tf32()
    assert new() == ["tf32"] * 3


def test_exactness_survives_an_error() -> None:
    with pytest.raises(KeyError), exact(CPU):
        raise KeyError
    assert old()[:2] == (False, True)


def test_exactness_keeps_what_the_user_set_for_one_operation() -> None:
    new()
    CUDNN.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    before = new()
    with exact(CPU):
        assert new() == ["ieee"] * 3
    assert new() == before
