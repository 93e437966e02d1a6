"""TF32 allowed, for training; and exact float32, for what must not depend on such settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


def allow_tf32() -> None:
    """Lets CUDA compute float32 products and convolutions in TF32 from now on."""
    for backend, operations in _backends():
        _set(backend, operations, True, ["tf32"] * len(operations))


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Autocast and TF32 off inside the block; the settings that were there come back after it."""
    before = [(*pair, *_get(*pair)) for pair in _backends()]
    for backend, operations in _backends():
        _set(backend, operations, False, ["ieee"] * len(operations))
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for settings in before:
            _set(*settings)


def _backends() -> list[tuple[Any, list[Any]]]:
    """What has the old switch `allow_tf32`, and its operations that have the new one, `fp32_precision` (torch >= 2.9).

    Wherever one is set, both are: torch raises where the old one is read and they differ, as inductor does.
    """
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if not hasattr(cuda, "fp32_precision"):
        return [(cuda, []), (cudnn, [])]
    return [(cuda, [cuda]), (cudnn, [cudnn.conv, cudnn.rnn])]  # type: ignore[attr-defined]


def _get(backend: Any, operations: Sequence[Any]) -> tuple[bool, list[str]]:
    """Both settings; the old one as the new ones say where there are any, since they are what counts."""
    values = [operation.fp32_precision for operation in operations]
    return "tf32" in values if values else backend.allow_tf32, values


def _set(backend: Any, operations: Sequence[Any], allowed: bool, values: Sequence[str]) -> None:
    backend.allow_tf32 = allowed  # first, since it sets the others
    for operation, value in zip(operations, values, strict=True):
        operation.fp32_precision = value
