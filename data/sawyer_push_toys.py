"""The toys of the simulated Sawyer scene: compound shapes of boxes, cylinders, capsules and ellipsoids.

A toy stands on the plane z = 0 of its own frame, as it is laid into the bin. Units are metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """A piece of a toy."""

    shape: Literal["box", "cylinder", "capsule", "ellipsoid"]
    size: tuple[float, ...]
    """Half sizes (box, ellipsoid), or radius and half length along z (cylinder, capsule)."""
    at: Vector
    """Where its centre is."""
    paint: Literal["first", "second", "dark"] = "first"
    """The toy's first colour, which also takes the pattern, its second, or nearly black."""
    turn: Vector = (0.0, 0.0, 0.0)
    """Euler angles about its own x, y and z (rad)."""


_LYING_X = (0.0, math.pi / 2, 0.0)
_LYING_Y = (math.pi / 2, 0.0, 0.0)

TOYS: dict[str, tuple[Part, ...]] = {
    "block": (Part("box", (0.034, 0.034, 0.032), (0, 0, 0.032)),),
    "brick": (
        Part("box", (0.050, 0.026, 0.019), (0, 0, 0.019)),
        Part("cylinder", (0.014, 0.006), (-0.027, 0, 0.043)),
        Part("cylinder", (0.014, 0.006), (0.027, 0, 0.043)),
    ),
    "can": (
        Part("cylinder", (0.031, 0.038), (0, 0, 0.041)),
        Part("cylinder", (0.028, 0.041), (0, 0, 0.041), "second"),
    ),
    "lemon": (
        Part("ellipsoid", (0.044, 0.032, 0.030), (0, 0, 0.030)),
        Part("ellipsoid", (0.012, 0.011, 0.011), (0.043, 0, 0.030), "second"),
    ),
    "duck": (
        Part("ellipsoid", (0.046, 0.034, 0.030), (0, 0, 0.030)),
        Part("ellipsoid", (0.026, 0.025, 0.025), (0.026, 0, 0.066)),
        Part("ellipsoid", (0.016, 0.012, 0.006), (0.052, 0, 0.062), "second"),
        Part("box", (0.014, 0.016, 0.005), (-0.044, 0, 0.044), turn=(0.0, 0.6, 0.0)),
    ),
    "car": (
        Part("box", (0.056, 0.025, 0.014), (0, 0, 0.028)),
        Part("box", (0.028, 0.022, 0.013), (-0.006, 0, 0.053), "second"),
        Part("cylinder", (0.015, 0.029), (0.033, 0, 0.015), "dark", _LYING_Y),
        Part("cylinder", (0.015, 0.029), (-0.033, 0, 0.015), "dark", _LYING_Y),
    ),
    "hammer": (
        Part("capsule", (0.011, 0.050), (-0.014, 0, 0.022), "second", _LYING_X),
        Part("cylinder", (0.022, 0.040), (0.048, 0, 0.022), "first", _LYING_Y),
    ),
    "cross": (
        Part("box", (0.056, 0.020, 0.020), (0, 0, 0.020)),
        Part("box", (0.020, 0.056, 0.020), (0, 0, 0.020)),
    ),
    "corner": (
        Part("box", (0.052, 0.021, 0.022), (0, -0.020, 0.022)),
        Part("box", (0.021, 0.032, 0.022), (-0.031, 0.026, 0.022)),
    ),
    "rings": (
        Part("cylinder", (0.044, 0.011), (0, 0, 0.011)),
        Part("cylinder", (0.035, 0.011), (0, 0, 0.033), "second"),
        Part("cylinder", (0.026, 0.011), (0, 0, 0.055)),
        Part("ellipsoid", (0.015, 0.015, 0.015), (0, 0, 0.074), "second"),
    ),
    "boat": (
        Part("ellipsoid", (0.064, 0.028, 0.026), (0, 0, 0.026)),
        Part("box", (0.026, 0.017, 0.014), (-0.008, 0, 0.054), "second"),
        Part("cylinder", (0.009, 0.016), (-0.010, 0, 0.078), "dark"),
    ),
    "house": (
        Part("box", (0.036, 0.032, 0.028), (0, 0, 0.028)),
        Part("box", (0.036, 0.024, 0.024), (0, 0, 0.058), "second", (math.pi / 4, 0.0, 0.0)),
    ),
    "bear": (
        Part("ellipsoid", (0.040, 0.034, 0.030), (0, 0, 0.030)),
        Part("ellipsoid", (0.026, 0.028, 0.026), (0.052, 0, 0.030)),
        Part("ellipsoid", (0.010, 0.011, 0.010), (0.062, 0.025, 0.046), "second"),
        Part("ellipsoid", (0.010, 0.011, 0.010), (0.062, -0.025, 0.046), "second"),
        Part("ellipsoid", (0.024, 0.012, 0.012), (-0.040, 0.024, 0.015), "second"),
        Part("ellipsoid", (0.024, 0.012, 0.012), (-0.040, -0.024, 0.015), "second"),
    ),
    "bottle": (
        Part("cylinder", (0.024, 0.036), (0, 0, 0.036)),
        Part("ellipsoid", (0.024, 0.024, 0.018), (0, 0, 0.072)),
        Part("cylinder", (0.010, 0.010), (0, 0, 0.096), "second"),
    ),
    # The last five are kept for the test split by --held-out.
    "dumbbell": (
        Part("capsule", (0.010, 0.045), (0, 0, 0.026), "dark", _LYING_X),
        Part("cylinder", (0.026, 0.014), (-0.044, 0, 0.026), "first", _LYING_X),
        Part("cylinder", (0.026, 0.014), (0.044, 0, 0.026), "first", _LYING_X),
    ),
    "mug": (
        Part("cylinder", (0.032, 0.036), (0, 0, 0.036)),
        Part("box", (0.014, 0.006, 0.005), (0.042, 0, 0.056), "second"),
        Part("box", (0.005, 0.006, 0.020), (0.054, 0, 0.038), "second"),
        Part("box", (0.014, 0.006, 0.005), (0.042, 0, 0.020), "second"),
        Part("cylinder", (0.027, 0.004), (0, 0, 0.0695), "dark"),
    ),
    "star": (
        Part("box", (0.054, 0.017, 0.016), (0, 0, 0.016)),
        Part("box", (0.054, 0.017, 0.016), (0, 0, 0.016), turn=(0.0, 0.0, math.pi / 3)),
        Part("box", (0.054, 0.017, 0.016), (0, 0, 0.016), turn=(0.0, 0.0, 2 * math.pi / 3)),
        Part("cylinder", (0.016, 0.005), (0, 0, 0.034), "second"),
    ),
    "mushroom": (
        Part("cylinder", (0.022, 0.024), (0, 0, 0.024), "second"),
        Part("ellipsoid", (0.044, 0.044, 0.028), (0, 0, 0.052)),
    ),
    "arch": (
        Part("box", (0.016, 0.024, 0.024), (-0.038, 0, 0.024)),
        Part("box", (0.016, 0.024, 0.024), (0.038, 0, 0.024)),
        Part("box", (0.054, 0.024, 0.014), (0, 0, 0.062), "second"),
    ),
}
"""The toys by name."""
HELD_OUT = ("dumbbell", "mug", "star", "mushroom", "arch")
"""Toys that `--held-out` keeps for the test split."""
MOST_PARTS = max(len(parts) for parts in TOYS.values())
"""Parts of the toy that has most."""
