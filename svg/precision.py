"""Exact float32: no autocast and no TF32, for what must not depend on the caller's speed settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Autocast and TF32 off inside the block; the settings that were there come back after it."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    name: str
    value: str | bool
    backends: list[Any]
    if hasattr(cuda, "fp32_precision"):  # torch >= 2.9
        name, value, backends = "fp32_precision", "ieee", [cuda, cudnn.conv, cudnn.rnn]  # type: ignore[attr-defined]
    else:
        name, value, backends = "allow_tf32", False, [cuda, cudnn]
    before = [getattr(backend, name) for backend in backends]
    for backend in backends:
        setattr(backend, name, value)
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, setting in zip(backends, before, strict=True):
            setattr(backend, name, setting)
