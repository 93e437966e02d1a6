"""Augmentation of training windows, for small data sets: one crop, one flip and one change of colour a window.

What is drawn is a pure function of (seed, sample index), and the same for all frames of a window, so that what moves
goes on moving as it did. T frames, H W pixels, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_STREAM = 0x61756731
"""Keeps these draws apart from those of the windows, which follow from the same seed and index."""


@dataclass(frozen=True)
class Augmentation:
    """What is changed; the defaults change nothing.

    Args:
        crop: the picture is moved by up to so many pixels along both axes, and its border repeated.
        flip: every second window is mirrored, left for right. Never where actions are used: they would be wrong.
        colour: brightness, contrast and each channel's gain change by factors of up to 1 +- colour.

    Raises:
        ValueError: a value is out of range.
    """

    crop: int = 0
    flip: bool = False
    colour: float = 0.0

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise ValueError(f"data.augment_crop is {self.crop}, but it must not be negative")
        if not 0 <= self.colour < 1:
            raise ValueError(f"data.augment_colour is {self.colour}, but it must be from 0 to below 1")

    def __bool__(self) -> bool:
        return bool(self.crop or self.flip or self.colour)

    def apply(self, window: NDArray[np.uint8], seed: int, index: int, *, actions: bool = False) -> NDArray[np.uint8]:
        """The window (T, H, W, C) of sample `index`, changed, as a new array.

        Args:
            seed: the sampling's.
            actions: whether the window's actions are used, which forbids the flip.
        """
        rng = np.random.default_rng(np.random.SeedSequence((seed, index, _STREAM)))
        crop = rng.integers(0, 2 * self.crop, 2, endpoint=True)
        mirrored, gains = rng.random() < 0.5, rng.uniform(-1, 1, 2 + window.shape[-1])
        if self.crop:
            _, height, width, _ = window.shape
            rows = np.clip(np.arange(height) + crop[0] - self.crop, 0, height - 1)
            columns = np.clip(np.arange(width) + crop[1] - self.crop, 0, width - 1)
            window = window[:, rows[:, None], columns]
        if self.flip and mirrored and not actions:
            window = window[:, :, ::-1]
        if self.colour:
            window = self._coloured(window, gains)
        return np.ascontiguousarray(window)

    def _coloured(self, window: NDArray[np.uint8], gains: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Brightness and contrast (about mid-grey) by the first two of gains (2 + C,), -1 to 1, then each channel."""
        levels = np.arange(256.0)[:, None]
        table = 127.5 + (levels * (1 + self.colour * gains[0]) - 127.5) * (1 + self.colour * gains[1])
        table = np.rint(np.clip(table * (1 + self.colour / 3 * gains[2:]), 0, 255)).astype(np.uint8)  # (256, C)
        return np.stack([table[window[..., channel], channel] for channel in range(window.shape[-1])], -1)
