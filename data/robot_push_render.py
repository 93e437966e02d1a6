"""The two cameras of the simulated robot: a small software renderer for prisms and rods, with soft shadows.

A frame is drawn in two layers at SUPERSAMPLE times its size, which are averaged down (the antialiasing) and put
together over a background that is drawn once: the floor and the shadows on it, what stands on the floor (back to
front), the front wall, and then the arm, which is above everything and whose shadow falls on all that is below it.

World coordinates as in data/robot_push_world.py; image coordinates have x to the right and y downwards.
T frames, K corners of an outline, H W pixels.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np

from data import robot_push_world as world
from data.robot_push_solids import UPWARDS, Camera, Prism, Rod, Solid, View, rgba
from data.robot_push_world import Trajectory

SUPERSAMPLE = 4
SIZES = (16, 512)
"""Smallest and largest frame size (pixels)."""


def _colours(*codes: str) -> np.ndarray:
    return np.array([list(bytes.fromhex(code)) for code in codes], np.float64)


PALETTE = _colours("d6403a", "3476c8", "4a9e54", "f0b830", "8e54ac", "2ca8ac")
"""Colours of the objects (RGB)."""
_FINGERS, _PALM, _ARM, _ACCENT = _colours("282d38", "3c4252", "363c4a", "f47a26")
_TABLE, _WALL, _FLOOR = _colours("8795a3", "c4966a", "e4ddd0")

_FLOOR_SHADE, _ARM_SHADE = 0.40, 0.28
"""How much light a shadow takes from the floor, and the arm's from what stands on the floor."""
_FLOOR_BLUR, _ARM_BLUR = 0.7, 1.5
"""Softness of the two shadows (pixels of a 64-pixel frame)."""

_SHOULDER = np.array([0.0, 0.64, 0.22])
_UPPER_ARM, _FOREARM = 0.47, 0.48
_WRIST_HEIGHT = 0.13
"""The arm's geometry (m); the wrist's height is above the finger tips."""
_WALL_THICKNESS = 0.022

CAMERAS = {
    "top": Camera((0.0, 0.0, 1.9), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0), 3.12),
    "oblique": Camera((0.0, -0.86, 1.26), (0.0, 0.014, 0.0), (0.0, 0.0, 1.0), 2.24),
}
BAIR_NAMES = {"top": "image_aux1", "oblique": "image_main"}
"""The names that the cameras' counterparts have in BAIR's records."""


def render(trajectory: Trajectory, camera: str, size: int) -> np.ndarray:
    """The frames that a camera of CAMERAS sees: uint8 RGB (T, H, W, 3), H = W = size."""
    view = View(CAMERAS[camera], size, SUPERSAMPLE)
    things, hand, arm = _things(trajectory, view), _hand(trajectory, view), _arm(trajectory, view)
    background = _background(camera, size)
    frames = np.empty((len(trajectory.hand), size, size, 3), np.uint8)
    for t, height in enumerate(trajectory.hand[:, 2]):
        raised = height >= world.CLEARANCE
        below, above = (things, hand + arm) if raised else (things + hand, arm)
        below = sorted(below, key=lambda solid: -solid.distance[t])
        layers = view.layer(below, t), view.layer(above, t)
        shadows = view.shadow(things + hand, t, _FLOOR_BLUR), view.shadow(above, t, _ARM_BLUR)
        frames[t] = _compose(background, *layers, *shadows).transpose(1, 2, 0)
    return frames


def _compose(
    background: _Background, low: np.ndarray, high: np.ndarray, low_shadow: np.ndarray, high_shadow: np.ndarray
) -> np.ndarray:
    """The image (3, H, W) of background and premultiplied RGBA layers (4, H, W), under shadows (H, W), 0 to 255."""
    shadow = np.maximum(low_shadow, high_shadow)
    image = background.image * (1 - background.catches_shadow * shadow)
    image *= 1 - low[3] / 255
    image += low[:3] * (1 - (_ARM_SHADE / 255) * high_shadow)
    image *= background.behind_front_wall
    image += background.front_wall
    image *= 1 - high[3] / 255
    image += high[:3]
    return np.rint(image, out=image).astype(np.uint8)


def _things(trajectory: Trajectory, view: View) -> list[Solid]:
    floor = np.zeros(len(trajectory.hand))
    return [
        Prism(view, thing.outline, trajectory.poses[:, i], floor, thing.height, PALETTE[thing.colour])
        for i, thing in enumerate(trajectory.things)
    ]


def _hand(trajectory: Trajectory, view: View) -> list[Solid]:
    """Two fingers that reach down to the tips' height, and the palm above them."""
    poses, tip = trajectory.hand[:, [0, 1, 3]], trajectory.hand[:, 2] + 0.004
    palm, *fingers = world.hand_outlines()
    solids: list[Solid] = []
    for finger in fingers:
        x, y = finger.mean(0)
        cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
        centre = poses + np.stack([cos * x - sin * y, sin * x + cos * y, 0 * cos], -1)
        solids.append(Prism(view, finger - [x, y], centre, tip, 0.062, _FINGERS))
    return [*solids, Prism(view, palm, poses, tip + 0.03, 0.05, _PALM)]


def _arm(trajectory: Trajectory, view: View) -> list[Solid]:
    """Upper arm, forearm and wrist; the elbow lies in the upright plane through shoulder and wrist, and points up."""
    hand = trajectory.hand[:, :3]
    wrist = hand + _WRIST_HEIGHT * UPWARDS
    reach = wrist - _SHOULDER
    length = np.linalg.norm(reach, axis=-1, keepdims=True)
    along = reach / length
    foot = (_UPPER_ARM**2 - _FOREARM**2 + length**2) / (2 * length)  # of the elbow, by the law of cosines
    across = np.cross(np.cross(along, UPWARDS), along)
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    elbow = _SHOULDER + along * foot + across * np.sqrt(_UPPER_ARM**2 - foot**2)
    shoulder = np.broadcast_to(_SHOULDER, elbow.shape)
    cuff_start, cuff_end = wrist + 0.16 * (elbow - wrist), wrist + 0.24 * (elbow - wrist)
    return [
        Rod(view, shoulder, elbow, (0.040, 0.034), _ARM),
        Rod(view, hand + 0.08 * UPWARDS, wrist, (0.022, 0.024), _ARM),
        Rod(view, elbow, wrist, (0.032, 0.026), _ARM),
        Rod(view, cuff_start, cuff_end, (0.029, 0.029), _ACCENT),
        Rod(view, elbow, elbow + 1e-4 * along, (0.040, 0.040), _ACCENT),
    ]


@dataclass(frozen=True)
class _Background:
    """What never changes; float32, colours 0 to 255."""

    image: np.ndarray
    """(3, H, W), without the shadows."""
    catches_shadow: np.ndarray
    """(H, W), how much light a full shadow (255) takes, over 255."""
    front_wall: np.ndarray
    """(3, H, W), the wall that may hide what is behind it, premultiplied."""
    behind_front_wall: np.ndarray
    """(H, W), how much is seen of what is behind it, 0 to 1."""


@functools.cache
def _background(camera: str, size: int) -> _Background:
    view = View(CAMERAS[camera], size, factor=8)
    side, texels = size * view.factor, 512
    floor_corners = world.BIN * np.array([[-1, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]])
    texture_corners = texels * np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    on_canvas = (view.camera.project(floor_corners)[0] * side).astype(np.float32)
    warp = cv2.getPerspectiveTransform(texture_corners, on_canvas)
    floor = cv2.warpPerspective(_floor_texture(texels), warp, (side, side))
    canvas = np.where(floor[..., 3:] > 127, floor, np.array(rgba(_TABLE), np.uint8))
    walls = sorted(_walls(view), key=lambda wall: -wall.distance[0])
    view.paint(canvas, walls, 0)
    camera_outside = max(map(abs, view.camera.position[:2])) > world.BIN
    front = view.layer(walls[-1:] if camera_outside else [], 0)
    on_floor = view.shrink(np.ascontiguousarray(floor[..., 3])).astype(np.float32) / 255
    image = view.shrink(canvas)[..., :3].transpose(2, 0, 1)
    return _Background(
        np.ascontiguousarray(image).astype(np.float32),
        np.float32(_FLOOR_SHADE / 255) * (0.45 + 0.55 * on_floor),  # a wall is nearer to the light than the floor
        front[:3],
        1 - front[3] / 255,
    )


def _walls(view: View) -> list[Solid]:
    """The four walls, mitred at the corners."""
    inner, outer, half = world.BIN, world.BIN + _WALL_THICKNESS, _WALL_THICKNESS / 2
    outline = np.array([[-inner, half], [-outer, -half], [outer, -half], [inner, half]])
    angles = math.pi / 2 * np.arange(4)
    poses = np.stack([(inner + half) * np.sin(angles), -(inner + half) * np.cos(angles), angles], 1)
    return [Prism(view, outline, pose[None], np.zeros(1), world.WALL_HEIGHT, _WALL) for pose in poses]


def _floor_texture(texels: int) -> np.ndarray:
    """Boards with a grain, darker towards the walls: uint8 RGBA (texels, texels, 4), first row at the back."""
    rng = np.random.default_rng(7)
    board = math.ceil(texels / 5)
    tint = np.repeat(rng.uniform(0.955, 1.03, 5), board)[:texels]
    grain = cv2.GaussianBlur(rng.random((texels, texels)), (0, 0), sigmaX=24, sigmaY=3.5)
    grain = (grain - grain.mean()) / grain.std()
    position = (np.arange(texels) + 0.5) / texels
    occlusion = 1 - 0.22 * np.exp(-np.minimum(position, 1 - position) / 0.035)
    shade = tint[:, None] * (1 + 0.022 * grain) * occlusion[:, None] * occlusion
    shade[np.arange(texels) % board < texels / 120] *= 0.93
    shade *= 1.03 - 0.09 * (0.6 * position + 0.4 * position[:, None])  # the light comes from the upper left
    return np.array(rgba(_FLOOR * shade[..., None]), np.uint8)
