"""Weights of other people's networks: files that are read without running what is in them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor


class WeightsError(ValueError):
    """A metric's weights are missing, unreadable or not the right ones; the text says how to get them."""


def check_channels(metric: str, channels: int) -> None:
    """Raises ValueError for frames that these networks, which were trained on pictures, can't see."""
    if channels not in (1, 3):
        raise ValueError(f"{metric} takes frames of 1 or 3 channels, not {channels}: leave it and its weights out")


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict that `torch.save` wrote.

    Raises:
        WeightsError: the file holds none, or anything but tensors and plain containers.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the file's bytes may be anything, and the unpickler raises what they lead it to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} cannot be read as PyTorch weights ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no state dict")
    return state


def is_url(source: str | Path) -> bool:
    """Whether a file is to be fetched."""
    return urlparse(str(source)).scheme in ("http", "https")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
