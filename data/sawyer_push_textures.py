"""The surfaces of the simulated Sawyer scene, drawn by numpy: planks of wood, and the patterns on the toys.

Nothing is read from a file, and every texture is a pure function of its number. H W pixels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Texture = NDArray[np.uint8]
"""RGB (H, W, 3), 0 to 255."""

WOODS = 6
"""Number of different woods."""
_WOOD_SIZE, _PATTERN_SIZE = 256, 64
_TONES = np.array(
    [[214, 178, 132], [198, 158, 112], [222, 194, 154], [184, 148, 108], [206, 182, 150], [192, 152, 100]], np.float64
)
"""Mean colour of each wood (RGB)."""


def wood(number: int, planks: int = 5) -> Texture:
    """A board of planks whose grain runs along the rows (256, 256, 3), of wood `number`, 0 to WOODS - 1."""
    rng = np.random.default_rng((2001, number))
    side = _WOOD_SIZE
    rows, columns = np.mgrid[0:side, 0:side] / side
    plank = np.minimum((rows * planks).astype(int), planks - 1)
    shift = rng.uniform(0, 9, planks)[plank]
    warp = 0.35 * _smooth_noise(rng, side, (3, 6)) + 0.15 * _smooth_noise(rng, side, (2, 16))
    rings = np.sin(2 * math.pi * (rows * planks * 2.2 + shift + 2.0 * warp + 0.6 * np.sin(3 * columns + shift)))
    fibre = _smooth_noise(rng, side, (4, 96))
    shade = 1 + rng.uniform(-0.06, 0.06, planks)[plank] + 0.045 * rings + 0.05 * fibre
    within = (rows * planks) % 1
    shade *= 1 - 0.30 * np.exp(-np.minimum(within, 1 - within) / 0.02)
    colour = _TONES[number] * shade[..., None]
    colour[..., 2] *= 1 - 0.05 * rings
    return np.clip(colour, 0, 255).astype(np.uint8)


def _smooth_noise(rng: np.random.Generator, side: int, cells: tuple[int, int]) -> NDArray[np.float64]:
    """Value noise in [-1, 1], (side, side), of `cells` along columns and rows; it wraps around."""
    across, along = cells
    grid = rng.uniform(-1, 1, (along, across))
    y, x = (np.arange(side) * count / side for count in (along, across))
    y0, x0 = y.astype(int), x.astype(int)
    v, u = (t * t * (3 - 2 * t) for t in (y - y0, x - x0))
    corners = [[grid[np.ix_((y0 + j) % along, (x0 + i) % across)] for i in (0, 1)] for j in (0, 1)]
    top = corners[0][0] * (1 - u) + corners[0][1] * u
    bottom = corners[1][0] * (1 - u) + corners[1][1] * u
    return top * (1 - v[:, None]) + bottom * v[:, None]


def _stripes(x: NDArray, y: NDArray) -> NDArray:
    return np.sin(2 * math.pi * 3 * y) > 0


def _diagonals(x: NDArray, y: NDArray) -> NDArray:
    return np.sin(2 * math.pi * 2 * (x + y)) > 0


def _checks(x: NDArray, y: NDArray) -> NDArray:
    return ((4 * x).astype(int) + (4 * y).astype(int)) % 2 == 0


def _dots(x: NDArray, y: NDArray) -> NDArray:
    return np.hypot((3 * x) % 1 - 0.5, (3 * y) % 1 - 0.5) > 0.27


def _label(x: NDArray, y: NDArray) -> NDArray:
    return ~((np.abs(y - 0.5) < 0.22) & (np.abs(x - 0.5) < 0.38)) | (np.abs(y - 0.5) < 0.05)


def _band(x: NDArray, y: NDArray) -> NDArray:
    return np.abs(y - 0.5) > 0.16


def _plush(x: NDArray, y: NDArray) -> NDArray:
    return np.random.default_rng(2002).random(x.shape)


PATTERNS = {
    "stripes": _stripes,
    "diagonals": _diagonals,
    "checks": _checks,
    "dots": _dots,
    "label": _label,
    "band": _band,
    "plush": _plush,
}
"""Where a pattern has its first colour, by pixel coordinates 0 to 1: bool, or a share of it."""


def pattern(name: str, second: float) -> Texture:
    """A pattern of PATTERNS in grey, which a toy's colour multiplies: (64, 64, 3).

    Args:
        second: grey of the second colour, 0 (black) to 1; the first is white.
    """
    y, x = (np.mgrid[0:_PATTERN_SIZE, 0:_PATTERN_SIZE] + 0.5) / _PATTERN_SIZE
    share = PATTERNS[name](x, y).astype(np.float64)
    grey = 255 * (second + (1 - second) * share)
    return np.repeat(np.rint(grey)[..., None], 3, -1).astype(np.uint8)
