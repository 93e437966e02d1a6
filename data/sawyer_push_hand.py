"""Who moves the hand of the simulated Sawyer: random commands, most of them aimed at a toy.

Units are metres, seconds and radians; world coordinates as in sawyer_push_scene.py. S slots for toys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.sawyer_push_rules import BIN, CENTRE, FPS

ROOM = np.array([[-BIN[0] + 0.075, -BIN[1] + 0.075], [BIN[0] - 0.115, BIN[1] - 0.075]]) + CENTRE
"""Where the hand goes: least and greatest x and y (2, 2) (m). The wrist is beside it, to +x, and stays in view so."""
LOW, HIGH = (0.053, 0.066), (0.19, 0.215)
"""Heights of the hand when it pushes and when it passes over (from, to); the finger tips are 0.045 below."""
REACH = 0.065
"""Radius of the hand seen from above (m)."""
LAG = 0.04
"""The hand's target is never farther from the hand than this (m)."""

_CLEAR = 0.185
"""From this height on the hand is above every toy (m)."""
_SPEED, _LIFT_SPEED, _TURN = (0.14, 0.38), 0.40, (0.2, 1.2)
"""Commanded speeds along the floor (m/s), up and down (m/s), and about the vertical (rad/s)."""
_YAW_RANGE = 0.8
"""How far the hand turns to either side (rad)."""
_HOLD = (2, 5)
"""An action is held for that many frames (from, to)."""
_AIMED, _RAISED = 0.8, 0.10
"""Probabilities that an action aims at a toy, and that it passes over the toys."""


class Hand:
    """Where the hand is to be, and the commands that move it.

    Args:
        rng: draws the commands.
        start: (3,), where it begins.
        reaches: radius of each toy seen from above (m).

    Attributes:
        target: (3,), where the hand is to be.
        yaw: its turn about the vertical.
    """

    def __init__(self, rng: np.random.Generator, start: NDArray[np.float64], reaches: Sequence[float]) -> None:
        self.rng, self.reaches = rng, np.array(reaches)
        self.target, self.yaw = start.copy(), float(rng.uniform(-_YAW_RANGE, _YAW_RANGE))
        self.height = float(start[2])
        self._least, self._most = np.array([*ROOM[0], LOW[0]]), np.array([*ROOM[1], HIGH[1]])
        self._frames_left = 0
        self._velocity, self._turn = np.zeros(2), 0.0

    def choose(self, hand: NDArray[np.float64], toys: NDArray[np.float64]) -> NDArray[np.float64]:
        """The command (4,) until the next frame: velocity along x, y and up (m/s), turn (rad/s).

        Args:
            hand: (3,), where the hand is.
            toys: (S, 3), where the toys are.
        """
        toys = toys[: len(self.reaches)]
        ahead = self.target[:2] + self._velocity / FPS
        if self._frames_left <= 0 or not _has_room(ahead):
            self._frames_left = int(self.rng.integers(*_HOLD, endpoint=True))
            self._velocity = self._random_velocity(toys)
            raised = self.rng.random() < _RAISED
            self.height = float(self.rng.uniform(*(HIGH if raised else LOW)))
            self._turn = float(self.rng.choice([-1, 0, 0, 1]) * self.rng.uniform(*_TURN))
        self._frames_left -= 1
        goal = self.height
        apart = np.linalg.norm(toys[:, :2] - hand[:2], axis=1) - self.reaches
        if goal < _CLEAR <= hand[2] + 0.005 and apart.min() < REACH + 0.02:
            goal = HIGH[0]  # a toy is below: the hand comes down later
        lift = np.clip((goal - self.target[2]) * FPS, -_LIFT_SPEED, _LIFT_SPEED)
        if abs(self.yaw + self._turn / FPS) > _YAW_RANGE:
            self._turn = 0.0
        return np.array([*self._velocity, lift, self._turn])

    def follow(self, action: NDArray[np.float64], hand: NDArray[np.float64], dt: float) -> None:
        """Move the target by a command for dt seconds; it stays in the bin and near the hand (3,)."""
        target = self.target + dt * action[:3]
        target = np.minimum(np.maximum(target, self._least), self._most)
        gap = target - hand
        distance = math.sqrt(float(gap @ gap))
        self.target = target if distance < LAG else hand + gap * (LAG / distance)
        self.yaw += action[3] * dt

    def _random_velocity(self, toys: NDArray[np.float64]) -> NDArray[np.float64]:
        """A velocity (2,) that keeps the hand in the bin for the next frames, often towards a toy."""
        place = self.target[:2]
        for _ in range(20):
            if self.rng.random() < _AIMED:
                goal = toys[self.rng.integers(len(toys)), :2] + self.rng.uniform(-0.025, 0.025, 2)
                direction = (goal - place) / (np.linalg.norm(goal - place) + 1e-9)
            else:
                angle = self.rng.uniform(-math.pi, math.pi)
                direction = np.array([math.cos(angle), math.sin(angle)])
            velocity = direction * self.rng.uniform(*_SPEED)
            if _has_room(place + 0.25 * velocity):
                return velocity
        return (CENTRE - place) / (np.linalg.norm(CENTRE - place) + 1e-9) * _SPEED[0]


def _has_room(place: NDArray[np.float64]) -> bool:
    return bool((place >= ROOM[0]).all() and (place <= ROOM[1]).all())
