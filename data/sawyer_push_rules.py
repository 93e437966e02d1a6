"""What a good clip of the simulated Sawyer is, by the arrays that a store keeps; needs neither MuJoCo nor pictures.

World coordinates are the robot's, in metres: z up, the bin's floor at z = 0. T frames, S slots for toys.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FPS = 10
CENTRE = (0.0, 0.62)
"""Middle of the bin's floor (m)."""
BIN = (0.28, 0.23)
"""Half the width and half the depth of the bin's floor (m)."""
SLOTS = 5
"""Most toys of a clip."""
ABSENT = (0.0, 0.0, -1.0)
"""The position that is recorded for an empty slot."""
MOVED = 0.02
"""A toy moves in a clip if it is somewhere this far from where it began (m)."""
FASTEST = 1.2
"""A toy that moves faster flies (m/s)."""
ARRAYS = {"actions": 4, "endeffector_pos": 3, "toy_pos": 3 * SLOTS, "gripper_pixel": 2}
"""The per-frame arrays of a store, and their widths."""


class Unavailable(ValueError):
    """Something that the simulation needs is not installed; the text names the remedy."""


def moves(toys: NDArray[np.floating]) -> bool:
    """Whether some toy of a clip (T, S, 3) moves by more than MOVED."""
    return bool(np.linalg.norm(toys - toys[:1], axis=-1).max() > MOVED)


def leaves(toys: NDArray[np.floating]) -> bool:
    """Whether some toy of a clip (T, S, 3) is not in the bin at some frame; empty slots are none."""
    inside = (np.abs(toys[..., :2] - np.array(CENTRE)) < BIN).all(-1)
    inside &= (toys[..., 2] > -0.01) & (toys[..., 2] < 0.15)
    absent = (np.abs(toys - np.array(ABSENT)) < 1e-6).all(-1)
    return not (inside | absent).all()


def flies(toys: NDArray[np.floating]) -> bool:
    """Whether some toy of a clip (T, S, 3) is faster than FASTEST."""
    return len(toys) > 1 and bool(np.linalg.norm(np.diff(toys, axis=0), axis=-1).max() > FASTEST / FPS)


def in_view(pixels: NDArray[np.floating], edge: float = 0.0) -> NDArray[np.bool_]:
    """Whether points of a picture (..., 2), 0 to 1 across it, are inside it by a margin (...)."""
    return np.asarray(((pixels > edge) & (pixels < 1 - edge)).all(-1))
