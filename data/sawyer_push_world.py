"""What happens in a clip of the simulated Sawyer scene: toys are laid into the bin, and the hand pushes them about.

A take is drawn from a generator alone: which toys, colours, light and camera, and the commands. Physics comes first and
is checked; only a take that passes is worth rendering.

Units are metres, seconds and radians; world coordinates as in sawyer_push_scene.py. T frames, S slots for toys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from data.sawyer_push_hand import HIGH, LOW, REACH, ROOM, Hand
from data.sawyer_push_props import dress
from data.sawyer_push_rules import ABSENT, BIN, CENTRE, FPS, SLOTS, flies, in_view, leaves
from data.sawyer_push_scene import CAMERAS, POSTURE, about_z

_NUDGES, _STEPS = 10, 2
"""How often the hand's target moves on in a frame, and physics steps in between."""
_APPROACH = 70
"""Moves of the target in which the hand goes to its start and the toys come to rest."""
_GRIP = (0.0, 0.03)
"""How far each finger is closed (m, from, to)."""
_DOWN = np.array([1.0, 0.0, 1.0, 0.0]) / math.sqrt(2)
"""Orientation of the hand that points down."""
_TIP = 0.03
"""The point of the gripper that has to be in view is this far below the hand's origin (m)."""
_DEEPEST, _FARTHEST = 0.012, 0.06
"""A take is thrown away in which things overlap deeper, or the hand is farther from its target (m)."""
_EDGE = 0.02
"""How far from the picture's edges gripper and wrist have to be (of its width)."""


@dataclass(frozen=True)
class Take:
    """One course of events, sampled at the frames."""

    states: NDArray[np.float64]
    """(T, nq), the model's joint positions."""
    actions: NDArray[np.float64]
    """(T, 4): commanded velocity until the next frame: along x, y, up (m/s), turn about the vertical (rad/s)."""
    hand: NDArray[np.float64]
    """(T, 3): where the hand is (m)."""
    toys: NDArray[np.float64]
    """(T, S, 3): where the toys are (m); ABSENT for an empty slot."""
    gripper: dict[str, NDArray[np.float64]]
    """(T, 2): where the finger tips are in each camera's picture, right and down, 0 to 1 inside it."""
    fault: str
    """Why the take is no good, or the empty string. A take with a fault may end early."""


class World:
    """The model in motion; takes follow one another in it without a trace.

    Args:
        model: what `sawyer_push_scene.build` made; its fields are written to.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model, self.data = model, mujoco.MjData(model)
        self._extent, self._centre = float(model.stat.extent), model.stat.center.copy()
        self._toys = [model.body(f"toy {slot}").id for slot in range(SLOTS)]
        self._hand, self._wrist = model.body("hand").id, model.body("right_l5").id
        self._rest = self._settled()

    def play(self, rng: np.random.Generator, frames: int, kinds: Sequence[str]) -> Take:
        """Draw a take and let it happen: a pure function of the generator's state.

        Args:
            frames: T.
            kinds: names of TOYS to draw from.
        """
        hand, reaches = self._begin(rng, kinds)
        states, actions, where = np.empty((frames, self.model.nq)), np.empty((frames, 4)), np.empty((frames, 3))
        toys, tips, wrists = np.empty((frames, SLOTS, 3)), np.empty((frames, 3)), np.empty((frames, 3))
        fault = ""
        for t in range(frames):
            self.show(self.data.qpos)
            fault = self._fault(hand.target)
            if fault:
                break
            states[t], where[t], wrists[t] = self.data.qpos, self.data.xpos[self._hand], self.data.xpos[self._wrist]
            tips[t] = where[t] + _TIP * self.data.xmat[self._hand].reshape(3, 3)[:, 0]
            toys[t] = self.data.xpos[self._toys]
            actions[t] = hand.choose(where[t], toys[t])
            self._step(hand, actions[t])
        toys[:, len(reaches) :] = ABSENT
        gripper = {camera: self._project(tips, camera) for camera in CAMERAS}
        if not fault and leaves(toys):
            fault = "a toy leaves the bin"
        if not fault and flies(toys):
            fault = "a toy flies"
        if not fault and not all(in_view(points, _EDGE).all() for points in gripper.values()):
            fault = "the gripper leaves the picture"
        sides = [self._project(wrists, camera)[:, 0] for camera in CAMERAS]  # it may leave at the top
        if not fault and not all(((x > _EDGE) & (x < 1 - _EDGE)).all() for x in sides):
            fault = "the wrist leaves the picture"
        return Take(states, actions, where, toys, gripper, fault)

    def show(self, state: NDArray[np.float64]) -> mujoco.MjData:
        """The scene of the last take at joint positions (nq,), for the renderer."""
        self.data.qpos[:] = state
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        return self.data

    def _settled(self) -> NDArray[np.float64]:
        """Joint positions (nq,) with the hand over the middle of the bin and all slots empty."""
        for name, angle in POSTURE.items():
            self.data.joint(name).qpos = angle
        self._aim(np.array([*CENTRE, HIGH[1]]), 0.0)
        mujoco.mj_step(self.model, self.data, 800)
        rest = self.model.qpos0.copy()
        for joint in range(self.model.njnt):
            if self.model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_FREE:
                address = self.model.jnt_qposadr[joint]
                rest[address] = self.data.qpos[address]
        return rest

    def _begin(self, rng: np.random.Generator, kinds: Sequence[str]) -> tuple[Hand, list[float]]:
        """The scene at the first frame: toys at rest, the hand at its start. Returns each toy's radius too (m)."""
        reaches = dress(self.model, rng, kinds)
        mujoco.mj_setConst(self.model, self.data)  # what follows from masses and sizes
        self.model.stat.extent, self.model.stat.center[:] = self._extent, self._centre
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self._rest
        hand = Hand(rng, self._lay(rng, reaches), reaches)
        self._approach(hand, rng.uniform(*_GRIP))
        return hand, reaches

    def _lay(self, rng: np.random.Generator, reaches: Sequence[float]) -> NDArray[np.float64]:
        """Put the toys where there is room, and find a start for the hand (3,): mostly low, between them."""
        room = np.array(BIN)
        places: list[tuple[NDArray[np.float64], float]] = []
        for slot, reach in enumerate(reaches):
            inner = room - reach - 0.005
            place = _free_place(rng, np.stack([CENTRE - inner, CENTRE + inner]), reach, places, 0.004)
            places.append((place, reach))
            address = self.model.jnt_qposadr[self.model.joint(f"toy {slot}").id]
            self.data.qpos[address : address + 3] = [*place, 0.003]
            self.data.qpos[address + 3 : address + 7] = about_z(rng.uniform(-math.pi, math.pi))
        start = _free_place(rng, ROOM, REACH, places, 0.01)
        crowded = any(np.linalg.norm(start - at) < reach + REACH for at, reach in places)
        high = crowded or rng.random() < 0.1
        return np.array([*start, rng.uniform(*(HIGH if high else LOW))])

    def _approach(self, hand: Hand, grip: float) -> None:
        """Move the hand above its start and then down to it, while the toys come to rest."""
        for name, sign, control in (("r_close", 1, 0), ("l_close", -1, 1)):
            self.data.joint(name).qpos = sign * grip
            self.data.ctrl[control] = sign * grip
        goal, begin = hand.target, np.array([*CENTRE, HIGH[1]])
        above = np.array([*goal[:2], HIGH[1]])
        for move in range(_APPROACH):
            share = move / _APPROACH
            across, down = min(1.0, 2 * share), max(0.0, min(1.0, 2.5 * share - 1.2))
            self._aim(begin + across * (above - begin) + down * (goal - above), across * hand.yaw)
            mujoco.mj_step(self.model, self.data, _STEPS)

    def _step(self, hand: Hand, action: NDArray[np.float64]) -> None:
        """Advance by one frame."""
        for _ in range(_NUDGES):
            hand.follow(action, self.data.xpos[self._hand], 1 / (FPS * _NUDGES))
            self._aim(hand.target, hand.yaw)
            mujoco.mj_step(self.model, self.data, _STEPS)

    def _aim(self, target: NDArray[np.float64], yaw: float) -> None:
        self.data.mocap_pos[0] = target
        mujoco.mju_mulQuat(self.data.mocap_quat[0], about_z(yaw), _DOWN)

    def _fault(self, target: NDArray[np.float64]) -> str:
        """Why the take had better end here, or the empty string."""
        if any(warning.number for warning in self.data.warning) or not np.isfinite(self.data.qpos).all():
            return "the physics is unstable"
        if self.data.ncon and self.data.contact.dist[: self.data.ncon].min() < -_DEEPEST:
            return "things overlap"
        if np.linalg.norm(target - self.data.xpos[self._hand]) > _FARTHEST:
            return "the hand is stuck"
        return ""

    def _project(self, points: NDArray[np.float64], camera: str) -> NDArray[np.float64]:
        """World points (..., 3) in a camera's picture (..., 2), right and down, 0 to 1 inside it."""
        view = self.data.camera(camera)
        seen = (points - view.xpos) @ view.xmat.reshape(3, 3)
        focal = 0.5 / math.tan(math.radians(self.model.camera(camera).fovy[0]) / 2)
        return 0.5 + focal * seen[..., :2] * [1, -1] / -seen[..., 2:]


def _free_place(
    rng: np.random.Generator,
    room: NDArray[np.float64],
    reach: float,
    places: Sequence[tuple[NDArray[np.float64], float]],
    air: float,
) -> NDArray[np.float64]:
    """A place (2,) between the corners `room` (2, 2) that is free of other things, or the freest of those tried."""
    best, most = np.array(CENTRE), -math.inf
    for _ in range(60):
        place = rng.uniform(room[0], room[1], 2)
        free = min((float(np.linalg.norm(place - at)) - other - reach for at, other in places), default=math.inf)
        if free > air:
            return place
        if free > most:
            best, most = place, free
    return best
