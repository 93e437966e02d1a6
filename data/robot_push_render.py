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
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data import robot_push_world as world
from data.robot_push_world import Trajectory

cv2.setNumThreads(1)  # the images are small, and the processes many

SUPERSAMPLE = 4
SIZES = (16, 512)
"""Smallest and largest frame size (pixels)."""


def _colours(*codes: str) -> np.ndarray:
    return np.array([list(bytes.fromhex(code)) for code in codes], np.float64)


PALETTE = _colours("d6403a", "3476c8", "4a9e54", "f0b830", "8e54ac", "2ca8ac")
"""Colours of the objects (RGB)."""
_FINGERS, _PALM, _ARM, _ACCENT = _colours("282d38", "3c4252", "363c4a", "f47a26")
_TABLE, _WALL, _FLOOR = _colours("8795a3", "c4966a", "e4ddd0")

_LIGHT = np.array([-0.28, 0.20, 1.0])
"""Towards the light; a point at height z throws its shadow -z * _LIGHT[:2] away."""
_FLOOR_SHADE, _ARM_SHADE = 0.40, 0.28
"""How much light a shadow takes from the floor, and the arm's from what stands on the floor."""
_FLOOR_BLUR, _ARM_BLUR = 0.7, 1.5
"""Softness of the two shadows (pixels of a 64-pixel frame)."""

_SHOULDER = np.array([0.0, 0.64, 0.22])
_UPPER_ARM, _FOREARM = 0.47, 0.48
_WRIST_HEIGHT = 0.13
"""The arm's geometry (m); the wrist's height is above the finger tips."""
_WALL_THICKNESS = 0.022

_FRACTION_BITS = 4
_UPWARDS = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at a point; `focal` is in units of the frame size."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float]
    focal: float

    @functools.cached_property
    def axes(self) -> np.ndarray:
        """Rows: the image's right, its down, and the viewing direction (3, 3)."""
        forward = np.subtract(self.target, self.position)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, self.up)
        right = right / np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (..., 3) to image points (..., 2) and magnifications (...), in frame sizes (per metre)."""
        seen = (points - np.array(self.position)) @ self.axes.T
        scale = self.focal / seen[..., 2]
        return seen[..., :2] * scale[..., None] + 0.5, scale


CAMERAS = {
    "top": Camera((0.0, 0.0, 1.9), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0), 3.12),
    "oblique": Camera((0.0, -0.86, 1.26), (0.0, 0.014, 0.0), (0.0, 0.0, 1.0), 2.24),
}
BAIR_NAMES = {"top": "image_aux1", "oblique": "image_main"}
"""The names that the cameras' counterparts have in BAIR's records."""


def render(trajectory: Trajectory, camera: str, size: int) -> np.ndarray:
    """The frames that a camera of CAMERAS sees: uint8 RGB (T, H, W, 3), H = W = size."""
    view = _View(CAMERAS[camera], size, SUPERSAMPLE)
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


@dataclass(frozen=True)
class _View:
    """A camera with a canvas of `size * factor` pixels, `factor` a power of two, that is averaged down to a frame."""

    camera: Camera
    size: int
    factor: int

    @functools.cached_property
    def _canvases(self) -> tuple[np.ndarray, np.ndarray]:
        side, coarse = self.size * self.factor, self.size * 2
        return np.empty((side, side, 4), np.uint8), np.empty((coarse, coarse), np.uint8)

    def layer(self, solids: Sequence[_Solid], t: int) -> np.ndarray:
        """Solids, the last one on top: premultiplied RGBA, float32 (4, H, W), 0 to 255."""
        canvas = self._canvases[0]
        canvas.fill(0)
        for solid in solids:
            for outline, colour in solid.faces(t):
                cv2.fillConvexPoly(canvas, outline, colour, cv2.LINE_8, _FRACTION_BITS)
        return np.ascontiguousarray(self.shrink(canvas).transpose(2, 0, 1)).astype(np.float32)

    def shadow(self, solids: Sequence[_Solid], t: int, blur: float) -> np.ndarray:
        """The soft shadow of solids on the floor, float32 (H, W), 0 to 255."""
        canvas = self._canvases[1]
        canvas.fill(0)
        for solid in solids:
            cv2.fillConvexPoly(canvas, cv2.convexHull(solid.shadow[t]), 255, cv2.LINE_8, _FRACTION_BITS)
        mask = cv2.resize(canvas, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(mask, (0, 0), blur * self.size / 64).astype(np.float32)

    def shrink(self, canvas: np.ndarray) -> np.ndarray:
        """The canvas averaged down to a frame, by halves: much faster in OpenCV than at once."""
        while len(canvas) > self.size:
            canvas = cv2.resize(canvas, (len(canvas) // 2, len(canvas) // 2), interpolation=cv2.INTER_AREA)
        return canvas

    def corners(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) on the canvas."""
        return _fixed_point(self.camera.project(points)[0] * (self.size * self.factor))

    def shadow_corners(self, points: np.ndarray) -> np.ndarray:
        """Where the shadows of world points (..., 3) fall on the floor, on the shadows' canvas."""
        return _fixed_point(self.camera.project(points - points[..., 2:] * _LIGHT)[0] * (self.size * 2))

    def distance(self, points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points - np.array(self.camera.position), axis=-1)


def _fixed_point(pixels: np.ndarray) -> np.ndarray:
    """Pixel coordinates as OpenCV's polygons take them, int32; (0, 0) is the image's corner, not a pixel's centre."""
    return np.rint((pixels - 0.5) * (1 << _FRACTION_BITS)).astype(np.int32)


def _rgba(colour: np.ndarray) -> list:
    """Opaque OpenCV colours of RGB (..., 3), as nested lists."""
    opaque = np.full((*colour.shape[:-1], 1), 255.0)
    return np.concatenate([np.clip(np.rint(colour), 0, 255), opaque], -1).tolist()


class _Solid:
    """Something that moves: its faces on the canvas at each frame."""

    distance: np.ndarray
    """From the camera (T,), which decides what hides what."""
    shadow: np.ndarray
    """Points (T, P, 2) on the shadows' canvas, whose convex hull is the shadow."""

    def faces(self, t: int) -> list[tuple[np.ndarray, list[float]]]:
        """Outline and RGBA colour of each face that is seen, to be drawn in this order."""
        raise NotImplementedError


class _Prism(_Solid):
    """An upright prism with flat shading and a bevelled top.

    Args:
        outline: (K, 2), convex, counter-clockwise, in its own frame.
        poses: (T, 3), x, y and angle.
        bottom: (T,), height of its lower face.
        height: from the lower face to the upper.
        colour: RGB (3,).
    """

    def __init__(
        self, view: _View, outline: np.ndarray, poses: np.ndarray, bottom: np.ndarray, height: float, colour: np.ndarray
    ) -> None:
        cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
        turn = np.stack([cos, -sin, sin, cos], -1).reshape(-1, 1, 2, 2)
        bevel = np.concatenate([outline, outline * 0.78])
        plane = (turn @ bevel[..., None])[..., 0] + poses[:, None, :2]  # (T, 2K, 2)
        ceiling = np.broadcast_to((bottom + height)[:, None, None], (*plane.shape[:2], 1))
        upper = np.concatenate([plane, ceiling], -1)
        count = len(outline)
        lower = upper[:, :count] - height * _UPWARDS
        top, self._bevel = np.split(view.corners(upper), 2, axis=1)
        base = view.corners(lower)
        self._top = top
        self._sides = np.stack([base, np.roll(base, -1, 1), np.roll(top, -1, 1), top], 2)  # (T, K, 4, 2)
        edge, drop = np.roll(top, -1, 1) - top, base - top
        facing = edge[..., 0] * drop[..., 1] > edge[..., 1] * drop[..., 0]
        self._visible = [np.flatnonzero(row).tolist() for row in facing]
        along = np.roll(plane[:, :count], -1, 1) - plane[:, :count]
        light = np.array([_LIGHT[1], -_LIGHT[0]]) / np.linalg.norm(_LIGHT[:2])
        brightness = 0.62 - 0.20 * (along @ light) / np.linalg.norm(along, axis=-1)
        self._side_colours = _rgba(colour * brightness[..., None])
        self._rim_colour, self._top_colour = _rgba(colour * 1.16 + 10), _rgba(colour)
        self.distance = view.distance(poses * [1, 1, 0])
        self.shadow = view.shadow_corners(np.concatenate([lower, upper[:, :count]], 1))

    def faces(self, t: int) -> list[tuple[np.ndarray, list[float]]]:
        sides, colours = self._sides[t], self._side_colours[t]
        seen = [(sides[k], colours[k]) for k in self._visible[t]]
        return [*seen, (self._top[t], self._rim_colour), (self._bevel[t], self._top_colour)]


class _Rod(_Solid):
    """A round rod, shaded by stripes along its lit side.

    Args:
        start, end: (T, 3), the centres of the balls at its ends.
        radii: of the two balls.
        colour: RGB (3,).
    """

    STRIPES = ((1.0, 0.0, 0.72), (0.70, 0.22, 1.0), (0.28, 0.42, 1.45))
    """Width, offset towards the light (fractions of the radius) and brightness of each stripe."""

    def __init__(
        self, view: _View, start: np.ndarray, end: np.ndarray, radii: tuple[float, float], colour: np.ndarray
    ) -> None:
        (p, p_scale), (q, q_scale) = view.camera.project(start), view.camera.project(end)
        along = (q - p) / np.maximum(np.linalg.norm(q - p, axis=-1, keepdims=True), 1e-9)
        across = np.stack([-along[:, 1], along[:, 0]], -1)
        lit = np.sign(across @ (view.camera.axes[:2] @ _LIGHT))[:, None] * across
        angles = np.linspace(-math.pi / 2, math.pi / 2, 8)[:, None]
        cap = np.cos(angles) * along[:, None] + np.sin(angles) * across[:, None]  # (T, 8, 2), around the end
        p_radius, q_radius = (radii[0] * p_scale)[:, None], (radii[1] * q_scale)[:, None]
        self._stripes = []
        for width, offset, brightness in self.STRIPES:
            far = (q + offset * q_radius * lit)[:, None] + width * q_radius[..., None] * cap
            near = (p + offset * p_radius * lit)[:, None] - width * p_radius[..., None] * cap
            outline = np.concatenate([far, near], 1) * (view.size * view.factor)
            self._stripes.append((_fixed_point(outline), _rgba(colour * brightness)))
        ring = 2 * math.pi * np.arange(8) / 8
        circle = np.stack([np.cos(ring), np.sin(ring), 0 * ring], 1)
        balls = [centre[:, None] + radius * circle for centre, radius in zip((start, end), radii, strict=True)]
        self.shadow = view.shadow_corners(np.concatenate(balls, 1))
        self.distance = view.distance((start + end) / 2)

    def faces(self, t: int) -> list[tuple[np.ndarray, list[float]]]:
        return [(outline[t], colour) for outline, colour in self._stripes]


def _things(trajectory: Trajectory, view: _View) -> list[_Solid]:
    floor = np.zeros(len(trajectory.hand))
    return [
        _Prism(view, thing.outline, trajectory.poses[:, i], floor, thing.height, PALETTE[thing.colour])
        for i, thing in enumerate(trajectory.things)
    ]


def _hand(trajectory: Trajectory, view: _View) -> list[_Solid]:
    """Two fingers that reach down to the tips' height, and the palm above them."""
    poses, tip = trajectory.hand[:, [0, 1, 3]], trajectory.hand[:, 2] + 0.004
    palm, *fingers = world.hand_outlines()
    solids: list[_Solid] = []
    for finger in fingers:
        x, y = finger.mean(0)
        cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
        centre = poses + np.stack([cos * x - sin * y, sin * x + cos * y, 0 * cos], -1)
        solids.append(_Prism(view, finger - [x, y], centre, tip, 0.062, _FINGERS))
    return [*solids, _Prism(view, palm, poses, tip + 0.03, 0.05, _PALM)]


def _arm(trajectory: Trajectory, view: _View) -> list[_Solid]:
    """Upper arm, forearm and wrist; the elbow lies in the upright plane through shoulder and wrist, and points up."""
    hand = trajectory.hand[:, :3]
    wrist = hand + _WRIST_HEIGHT * _UPWARDS
    reach = wrist - _SHOULDER
    length = np.linalg.norm(reach, axis=-1, keepdims=True)
    along = reach / length
    foot = (_UPPER_ARM**2 - _FOREARM**2 + length**2) / (2 * length)  # of the elbow, by the law of cosines
    across = np.cross(np.cross(along, _UPWARDS), along)
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    elbow = _SHOULDER + along * foot + across * np.sqrt(_UPPER_ARM**2 - foot**2)
    shoulder = np.broadcast_to(_SHOULDER, elbow.shape)
    cuff_start, cuff_end = wrist + 0.16 * (elbow - wrist), wrist + 0.24 * (elbow - wrist)
    return [
        _Rod(view, shoulder, elbow, (0.040, 0.034), _ARM),
        _Rod(view, hand + 0.08 * _UPWARDS, wrist, (0.022, 0.024), _ARM),
        _Rod(view, elbow, wrist, (0.032, 0.026), _ARM),
        _Rod(view, cuff_start, cuff_end, (0.029, 0.029), _ACCENT),
        _Rod(view, elbow, elbow + 1e-4 * along, (0.040, 0.040), _ACCENT),
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
    view = _View(CAMERAS[camera], size, factor=8)
    side, texels = size * view.factor, 512
    floor_corners = world.BIN * np.array([[-1, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]])
    texture_corners = texels * np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    on_canvas = (view.camera.project(floor_corners)[0] * side).astype(np.float32)
    warp = cv2.getPerspectiveTransform(texture_corners, on_canvas)
    floor = cv2.warpPerspective(_floor_texture(texels), warp, (side, side))
    canvas = np.where(floor[..., 3:] > 127, floor, np.array(_rgba(_TABLE), np.uint8))
    walls = sorted(_walls(view), key=lambda wall: -wall.distance[0])
    for outline, colour in (face for wall in walls for face in wall.faces(0)):
        cv2.fillConvexPoly(canvas, outline, colour, cv2.LINE_8, _FRACTION_BITS)
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


def _walls(view: _View) -> list[_Solid]:
    """The four walls, mitred at the corners."""
    inner, outer = world.BIN, world.BIN + _WALL_THICKNESS
    centre = -(inner + outer) / 2
    outline = np.array(
        [[-inner, -inner - centre], [-outer, -outer - centre], [outer, -outer - centre], [inner, -inner - centre]]
    )
    angles = math.pi / 2 * np.arange(4)
    poses = np.stack([-centre * np.sin(angles), centre * np.cos(angles), angles], 1)
    return [_Prism(view, outline, pose[None], np.zeros(1), world.WALL_HEIGHT, _WALL) for pose in poses]


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
    return np.array(_rgba(_FLOOR * shade[..., None]), np.uint8)
