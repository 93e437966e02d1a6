"""The physics of the simulated robot: a hand that pushes objects about in a bin (pymunk, seen as a plane).

Units are metres, kilograms, seconds and radians. The bin's floor is the square |x|, |y| <= BIN; +x points right and +y
away from the viewer, towards the robot's base; heights are measured from the floor.

The hand is a body of its own mass that a motor of limited force drives towards the commanded velocity, so that it
starts and stops smoothly, slows down under a load and stalls against a jammed object instead of crushing it. Objects
slide on dry (Coulomb) friction. A raised hand passes over the objects and comes down only where there is room.

T frames, N objects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pymunk

FPS = 10
BIN = 0.25
"""Half the width of the bin's floor (m)."""
WALL_HEIGHT = 0.06
HAND_TOP = 0.11
"""Height of the raised hand's finger tips (m)."""
CLEARANCE = 0.075
"""From this height on the finger tips are above every object (m)."""

FINGER_SIZE = (0.026, 0.046)
PALM_SIZE = (0.088, 0.036)
FINGER_X = 0.031
"""The hand's parts (m), in its own frame: the fingers point along +y, the origin is the middle of the palm."""

_WORKSPACE = 0.175
"""Half the width of the square in which the middle of the palm is kept (m)."""
_SPEED, _TURN, _LIFT_SPEED = (0.08, 0.2), (0.1, 0.3), 0.2
"""What is commanded: along the floor (m/s, from, to), about the wrist (rad/s, from, to), up and down (m/s)."""
_HOLD = (4, 9)
"""An action is held for that many frames (from, to)."""
_AIMED, _RAISED = 0.75, 0.02
"""Probabilities that an action aims at an object, and that it raises the hand."""
_YAW_RANGE = 0.15
"""How far the hand turns to either side (rad)."""
_WARM_UP_FRAMES = 4
_SUBSTEPS = 16
"""Physics steps a frame."""

_HAND_MASS, _HAND_INERTIA = 2.0, 0.012
_HAND_FORCE, _HAND_TORQUE, _LIFT_ACCELERATION = 3.4, 0.25, 2.5
"""What the motors can do at most (N, N m, m/s^2)."""
_GRAVITY = 9.81
_FLOOR_FRICTION = 0.16
"""Coefficient of friction."""

_HAND_CATEGORY, _OBJECT_CATEGORY, _WALL_CATEGORY = 1, 2, 4


@dataclass(frozen=True)
class Thing:
    """An object in the bin: a convex prism."""

    outline: np.ndarray
    """Corners (K, 2) in the object's own frame, counter-clockwise, centroid at the origin (m)."""
    height: float
    mass: float
    colour: int
    """Index into the renderer's palette."""


@dataclass(frozen=True)
class Trajectory:
    """What happened in one clip, sampled at the frames."""

    things: list[Thing]
    poses: np.ndarray
    """float64 (T, N, 3): x, y and angle of each object."""
    hand: np.ndarray
    """float64 (T, 4): x, y, height and angle of the hand; at angle 0 the fingers point along +y."""
    actions: np.ndarray
    """float64 (T, 4): commanded velocity from frame t to t + 1 along x, y and upwards (m/s) and turn (rad/s)."""


def simulate(rng: np.random.Generator, frames: int, colours: int) -> Trajectory:
    """Draw a scene and a sequence of random actions, and let them happen; a pure function of the generator's state.

    `colours` is the number of colours that objects are given, each at most once a scene.
    """
    world = _World(rng, colours)
    for _ in range(_WARM_UP_FRAMES):
        world.step()
    poses, hand, actions = [], [], []
    for _ in range(frames):
        poses.append([(*body.position, body.angle) for body in world.bodies])
        hand.append((*world.hand.position, world.height, world.hand.angle))
        actions.append(world.step())
    return Trajectory(world.things, np.array(poses), np.array(hand), np.array(actions))


class _World:
    """A scene in motion."""

    def __init__(self, rng: np.random.Generator, colours: int) -> None:
        self.rng = rng
        self.space = pymunk.Space()
        self.space.iterations = 20
        self.space.collision_slop = 2e-4
        self._add_walls()
        self.height = 0.0
        self.climb = 0.0
        self.goal_height = 0.0
        self._add_hand()
        self.things: list[Thing] = []
        self.bodies: list[pymunk.Body] = []
        palette = rng.permutation(colours)
        for colour in palette[: rng.integers(2, 4)]:
            self._add_thing(_random_thing(rng, int(colour)))
        self.command = np.zeros(4)
        self.held_frames = 0

    def _add_walls(self) -> None:
        thickness = 0.1
        edge = BIN + thickness
        corners = [(-edge, -edge), (edge, -edge), (edge, edge), (-edge, edge)]
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            wall = pymunk.Segment(self.space.static_body, start, end, thickness)
            wall.friction, wall.elasticity = 0.3, 0.1
            wall.filter = pymunk.ShapeFilter(categories=_WALL_CATEGORY)
            self.space.add(wall)

    def _add_hand(self) -> None:
        self.hand = pymunk.Body(_HAND_MASS, _HAND_INERTIA)
        self.hand.position = tuple(self.rng.uniform(-_WORKSPACE, _WORKSPACE, 2))
        self.hand.angle = math.pi + self.rng.uniform(-0.5, 0.5)
        self.hand_shapes = [pymunk.Poly(self.hand, corners.tolist(), radius=0.001) for corners in hand_outlines()]
        for shape in self.hand_shapes:
            shape.friction, shape.elasticity = 0.35, 0.1
        self.driver = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        drive = pymunk.PivotJoint(self.driver, self.hand, (0, 0), (0, 0))
        self.wrist = pymunk.SimpleMotor(self.hand, self.space.static_body, 0.0)
        drive.max_bias, drive.max_force, self.wrist.max_force = 0.0, _HAND_FORCE, _HAND_TORQUE
        self.space.add(self.hand, self.driver, *self.hand_shapes, drive, self.wrist)
        self._touch_objects(True)

    def _touch_objects(self, touching: bool) -> None:
        mask = _WALL_CATEGORY | (_OBJECT_CATEGORY if touching else 0)
        for shape in self.hand_shapes:
            shape.filter = pymunk.ShapeFilter(categories=_HAND_CATEGORY, mask=mask)

    def _add_thing(self, thing: Thing) -> None:
        """Put a thing where there is room, with some air around it."""
        corners = thing.outline.tolist()
        body = pymunk.Body(thing.mass, pymunk.moment_for_poly(thing.mass, corners))
        shape = pymunk.Poly(body, corners, radius=0.001)
        shape.friction, shape.elasticity = 0.35, 0.15
        shape.filter = pymunk.ShapeFilter(categories=_OBJECT_CATEGORY)
        reach = float(np.linalg.norm(thing.outline, axis=1).max())
        for _ in range(200):
            body.position = tuple(self.rng.uniform(reach - BIN, BIN - reach, 2))
            body.angle = self.rng.uniform(-math.pi, math.pi)
            self.space.reindex_shapes_for_body(body)
            if self._is_free(body.position, reach + 0.008):
                break
        else:
            return
        slide = pymunk.PivotJoint(self.space.static_body, body, body.position, (0, 0))
        turn = pymunk.GearJoint(self.space.static_body, body, 0.0, 1.0)
        slide.max_bias = turn.max_bias = 0.0
        slide.max_force = _FLOOR_FRICTION * thing.mass * _GRAVITY
        turn.max_force = slide.max_force * 0.6 * reach
        self.space.add(body, shape, slide, turn)
        self.things.append(thing)
        self.bodies.append(body)

    def _is_free(self, position: tuple[float, float], reach: float) -> bool:
        return not self.space.point_query(position, reach, pymunk.ShapeFilter())

    def step(self) -> np.ndarray:
        """Advance by one frame; returns the action (4,) that was in force."""
        self._choose_action()
        dx, dy, _, turn = self.command
        action = self.command.copy()
        self.driver.velocity = (dx, dy)
        self.wrist.rate = turn
        for _ in range(_SUBSTEPS):
            self._climb(1 / (FPS * _SUBSTEPS))
            self.space.step(1 / (FPS * _SUBSTEPS))
        return action

    def _climb(self, dt: float) -> None:
        """Move the hand up or down; over an object it waits above it."""
        if self.height == 0.0 and self.command[2] == 0.0:
            return
        change = _LIFT_ACCELERATION * dt
        self.climb += min(max(self.command[2] - self.climb, -change), change)
        height = min(max(self.height + self.climb * dt, 0.0), HAND_TOP)
        if height < CLEARANCE <= self.height and self._is_above_thing():
            height = CLEARANCE
        if (height < CLEARANCE) != (self.height < CLEARANCE):
            self._touch_objects(height < CLEARANCE)
        if height in (0.0, HAND_TOP, CLEARANCE):
            self.climb = 0.0
        self.height = height

    def _is_above_thing(self) -> bool:
        self._touch_objects(True)
        hits = [hit.shape for shape in self.hand_shapes for hit in self.space.shape_query(shape)]
        self._touch_objects(False)
        return any(shape is not None and shape.body in self.bodies for shape in hits)

    def _choose_action(self) -> None:
        """Keep the action for its time, unless it leads out of the workspace; then draw another."""
        x, y = self.hand.position
        ahead_x, ahead_y = x + 0.15 * self.command[0], y + 0.15 * self.command[1]
        if self.held_frames <= 0 or max(abs(ahead_x), abs(ahead_y)) > _WORKSPACE + 0.005:
            self.held_frames = int(self.rng.integers(*_HOLD, endpoint=True))
            self.command[:2] = self._random_velocity(np.array([x, y]))
            self.goal_height = HAND_TOP if self.rng.random() < _RAISED else 0.0
            turning = self.rng.random() < 0.5
            self.command[3] = turning * self.rng.choice([-1, 1]) * self.rng.uniform(*_TURN)
        self.held_frames -= 1
        yaw = self.hand.angle - math.pi
        if abs(yaw + 0.2 * self.command[3]) > _YAW_RANGE and yaw * self.command[3] > 0:
            self.command[3] = 0.0
        self.command[2] = np.clip((self.goal_height - self.height) * 5, -_LIFT_SPEED, _LIFT_SPEED)
        if abs(self.goal_height - self.height) < 1e-3:
            self.command[2] = 0.0

    def _random_velocity(self, position: np.ndarray) -> np.ndarray:
        """A velocity that keeps the hand in the workspace for the next frames, often towards an object."""
        for _ in range(20):
            if self.bodies and self.rng.random() < _AIMED:
                body = self.bodies[self.rng.integers(len(self.bodies))]
                towards = np.array(body.position) + self.rng.uniform(-0.03, 0.03, 2) - position
                direction = towards / (np.linalg.norm(towards) + 1e-9)
            else:
                angle = self.rng.uniform(-math.pi, math.pi)
                direction = np.array([math.cos(angle), math.sin(angle)])
            velocity = direction * self.rng.uniform(*_SPEED)
            if np.abs(position + 0.35 * velocity).max() < _WORKSPACE:
                return velocity
        return -position / (np.linalg.norm(position) + 1e-9) * _SPEED[0]


def hand_outlines() -> list[np.ndarray]:
    """Corners (4, 2) of the palm and the two fingers in the hand's frame (m)."""
    width, depth = FINGER_SIZE
    finger_y = (PALM_SIZE[1] + depth) / 2 - 0.004
    return [
        _rectangle(*PALM_SIZE),
        _rectangle(width, depth) + np.array([-FINGER_X, finger_y]),
        _rectangle(width, depth) + np.array([FINGER_X, finger_y]),
    ]


def _rectangle(width: float, depth: float) -> np.ndarray:
    return np.array([[-width, -depth], [width, -depth], [width, depth], [-width, depth]]) / 2


def _regular(corners: int, radius: float) -> np.ndarray:
    angles = 2 * math.pi * np.arange(corners) / corners
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def _random_thing(rng: np.random.Generator, colour: int) -> Thing:
    """A square, bar, disc, triangle or hexagon, 7 to 12 cm across."""
    size = rng.uniform(0.9, 1.1)
    shape = rng.integers(5)
    if shape == 0:
        outline = _rectangle(0.075, 0.075) * size
    elif shape == 1:
        outline = _rectangle(0.105, 0.055) * size
    elif shape == 2:
        outline = _regular(20, 0.044) * size
    elif shape == 3:
        outline = _regular(3, 0.058) * size
    else:
        outline = _regular(6, 0.045) * size
    return Thing(outline, height=rng.uniform(0.04, 0.06), mass=rng.uniform(0.15, 0.8), colour=colour)
