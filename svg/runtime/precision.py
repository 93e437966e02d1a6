"""TF32 allowed, for training; and exact float32, for what must not depend on such settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def allow_tf32() -> None:
    """Lets CUDA compute float32 products and convolutions in TF32 from now on."""
    name, allowed, _, backends = _tf32()
    for backend in backends:
        setattr(backend, name, allowed)


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Autocast and TF32 off inside the block; the settings that were there come back after it."""
    name, _, value, backends = _tf32()
    before = [getattr(backend, name) for backend in backends]
    for backend in backends:
        setattr(backend, name, value)
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, setting in zip(backends, before, strict=True):
            setattr(backend, name, setting)


def _tf32() -> tuple[str, Any, Any, list[Any]]:
    """The setting's name, its values for TF32 and for exact float32, and the backends that have it."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cuda, "fp32_precision"):  # torch >= 2.9
        return "fp32_precision", "tf32", "ieee", [cuda, cudnn.conv, cudnn.rnn]  # type: ignore[attr-defined]
    return "allow_tf32", True, False, [cuda, cudnn]
