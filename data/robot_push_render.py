"""The two cameras of the simulated robot: a software renderer for prisms and tapered rods, with soft shadows.

A clip is drawn in two layers at SUPERSAMPLE times the frame size, which are area-averaged down (the antialiasing) and
put together over a background that is drawn once: floor and its shadows, what stands on the floor (back to front), the
front wall, then what is above everything, the arm. The arm's shadow falls on all that is below it.

World coordinates as in data/robot_push_world.py; image coordinates have x to the right and y downwards.
T frames, K corners of a prism, H W pixels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from data import robot_push_world as world
from data.robot_push_world import Trajectory

cv2.setNumThreads(1)

SUPERSAMPLE = 4
SIZES = (16, 512)
"""Smallest and largest frame size (pixels)."""

PALETTE = np.array(
    [[214, 64, 58], [52, 118, 200], [74, 158, 84], [240, 184, 48], [142, 84, 172], [44, 168, 172]], np.float64
)
"""Colours of the objects (RGB)."""
_HAND, _PALM, _ARM, _ACCENT = (
    np.array(c, np.float64) for c in ([38, 42, 52], [58, 64, 78], [52, 58, 72], [244, 122, 38])
)
_TABLE, _WALL, _FLOOR = (np.array(c, np.float64) for c in ([96, 108, 122], [196, 150, 104], [226, 219, 206]))

_LIGHT = np.array([-0.30, 0.22, 1.0])
"""Towards the light; a point at height z throws its shadow -z * _LIGHT[:2] away."""
_FLOOR_SHADOW, _ARM_SHADOW = 0.42, 0.30
_SHIFT = 4
"""Fractional bits of the corners handed to OpenCV."""

_BASE = np.array([0.0, 0.64, 0.22])
_UPPER_ARM, _FOREARM = 0.47, 0.48
_WRIST_HEIGHT = 0.13
_WALL_THICKNESS = 0.022


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

    def project(self, points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """World points (..., 3) to image points (..., 2) in pixels and their scale (...) in pixels per metre."""
        seen = (points - np.array(self.position)) @ self.axes.T
        scale = self.focal * size / seen[..., 2]
        return seen[..., :2] * scale[..., None] + size / 2, scale


CAMERAS = {
    "oblique": Camera((0.0, -0.98, 1.08), (0.0, 0.012, 0.0), (0.0, 0.0, 1.0), 2.16),
    "top": Camera((0.0, 0.0, 1.9), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0), 3.12),
}
BAIR_NAMES = {"oblique": "image_main", "top": "image_aux1"}
"""The keys that the cameras' frames have in BAIR's records."""


def render(trajectory: Trajectory, camera: str, size: int) -> np.ndarray:
    """The frames that a camera of CAMERAS sees: uint8 RGB (T, H, W, 3), H = W = size."""
    view = _View(CAMERAS[camera], size)
    frames = len(trajectory.hand)
    raised = trajectory.hand[:, 2] >= world.CLEARANCE
    things, hand, arm = _things(trajectory, view), _hand_parts(trajectory, view), _arm_parts(trajectory, view)
    shadows = [[part.shadow for part in parts] for parts in (things + hand, arm, hand)]
    floor_layer, arm_layer = view.layers(frames), view.layers(frames)
    floor_shadow, arm_shadow = np.zeros((2, frames, size, size), np.uint8)
    canvas, mask = view.canvas()
    for t in range(frames):
        above = hand + arm if raised[t] else arm
        standing = things if raised[t] else things + hand
        canvas.fill(0)
        for part in sorted(standing, key=lambda part: -part.distance[t]):
            part.draw(canvas, t)
        _shrink(canvas, floor_layer[t])
        canvas.fill(0)
        for part in above:
            part.draw(canvas, t)
        _shrink(canvas, arm_layer[t])
        _draw_shadows(mask, shadows[0], t, 0.7 * size / 64, floor_shadow[t])
        _draw_shadows(mask, shadows[1] + (shadows[2] if raised[t] else []), t, 1.5 * size / 64, arm_shadow[t])
    return _compose(_background(camera, size), floor_layer, arm_layer, floor_shadow, arm_shadow)


def _shrink(canvas: np.ndarray, out: np.ndarray) -> None:
    cv2.resize(canvas, out.shape[1::-1], dst=out, interpolation=cv2.INTER_AREA)


def _draw_shadows(mask: np.ndarray, outlines: list[np.ndarray], t: int, blur: float, out: np.ndarray) -> None:
    mask.fill(0)
    for outline in outlines:
        cv2.fillConvexPoly(mask, cv2.convexHull(outline[t]), 255, cv2.LINE_8, _SHIFT)
    _shrink(mask, out)
    cv2.GaussianBlur(out, (0, 0), blur, dst=out)


def _compose(
    background: _Background, low: np.ndarray, high: np.ndarray, low_shadow: np.ndarray, high_shadow: np.ndarray
):
    """Background, shadows and layers put together; layers are premultiplied RGBA (T, H, W, 4)."""
    high_shade = high_shadow[..., None].astype(np.float32) / 255
    shade = np.maximum(low_shadow[..., None].astype(np.float32) / 255, high_shade)
    image = background.image * (1 - _FLOOR_SHADOW * background.catches_shadow * shade)
    image *= 1 - low[..., 3:].astype(np.float32) / 255
    image += low[..., :3] * (1 - _ARM_SHADOW * high_shade)
    image *= 1 - background.front_wall[..., 3:] / 255
    image += background.front_wall[..., :3]
    image *= 1 - high[..., 3:].astype(np.float32) / 255
    image += high[..., :3]
    return np.rint(image, out=image).astype(np.uint8)


@dataclass(frozen=True)
class _View:
    """A camera and the supersampled canvas that it draws on."""

    camera: Camera
    size: int
    factor: int = SUPERSAMPLE

    def canvas(self) -> tuple[np.ndarray, np.ndarray]:
        side = self.size * self.factor
        return np.zeros((side, side, 4), np.uint8), np.zeros((side, side), np.uint8)

    def layers(self, frames: int) -> np.ndarray:
        return np.zeros((frames, self.size, self.size, 4), np.uint8)

    def corners(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) to OpenCV's fixed-point canvas coordinates, int32 (..., 2)."""
        return self.fixed(self.camera.project(points, self.size * self.factor)[0])

    @staticmethod
    def fixed(pixels: np.ndarray) -> np.ndarray:
        return np.rint((pixels - 0.5) * (1 << _SHIFT)).astype(np.int32)

    def distance(self, points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points - np.array(self.camera.position), axis=-1)

    def shadow(self, points: np.ndarray) -> np.ndarray:
        """Where the shadows of world points (..., 3) fall on the floor, on the canvas."""
        on_floor = points - points[..., 2:] * _LIGHT
        return self.corners(on_floor)


class _Prism:
    """An upright prism with a convex outline that moves: its faces on the canvas, shaded, for all frames."""

    def __init__(
        self, view: _View, outline: np.ndarray, poses: np.ndarray, bottom: np.ndarray, height: float, colour: np.ndarray
    ) -> None:
        """`outline` (K, 2) in its own frame, `poses` (T, 3) x, y, angle, `bottom` (T,) height of its lower face."""
        cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
        turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)  # (T, 2, 2)
        plane = np.einsum("tij,kj->tki", turn, outline) + poses[:, None, :2]  # (T, K, 2)
        inner = np.einsum("tij,kj->tki", turn, outline * 0.78) + poses[:, None, :2]
        floor = np.broadcast_to(bottom[:, None, None], (*plane.shape[:2], 1))
        low, high = np.concatenate([plane, floor], -1), np.concatenate([plane, floor + height], -1)
        below, above = view.corners(low), view.corners(high)
        next_below, next_above = np.roll(below, -1, 1), np.roll(above, -1, 1)
        self.sides = np.stack([below, next_below, next_above, above], 2)  # (T, K, 4, 2)
        self.top, self.inner = above, view.corners(np.concatenate([inner, floor + height], -1))
        edge = (next_above - above).astype(np.int64)
        drop = (below - above).astype(np.int64)
        facing = edge[..., 0] * drop[..., 1] - edge[..., 1] * drop[..., 0] > 0
        self.visible = [np.flatnonzero(row).tolist() for row in facing]
        along = np.roll(plane, -1, 1) - plane
        normal = np.stack([along[..., 1], -along[..., 0]], -1) / np.linalg.norm(along, axis=-1, keepdims=True)
        light = _LIGHT[:2] / np.linalg.norm(_LIGHT[:2])
        self.side_colours = _rgba(colour * (0.62 + 0.20 * (normal @ light))[..., None])
        self.rim_colour, self.top_colour = _rgba(colour * 1.16 + 10), _rgba(colour)
        self.distance = view.distance(high.mean(1) * [1, 1, 0])
        self.shadow = view.shadow(np.concatenate([low, high], 1))

    def draw(self, canvas: np.ndarray, t: int) -> None:
        sides, colours = self.sides[t], self.side_colours[t]
        for k in self.visible[t]:
            cv2.fillConvexPoly(canvas, sides[k], colours[k], cv2.LINE_8, _SHIFT)
        cv2.fillConvexPoly(canvas, self.top[t], self.rim_colour, cv2.LINE_8, _SHIFT)
        cv2.fillConvexPoly(canvas, self.inner[t], self.top_colour, cv2.LINE_8, _SHIFT)


class _Rod:
    """A round rod between two moving balls, with highlights along its lit side."""

    STRIPES = ((1.0, 0.0, 0.72), (0.70, 0.22, 1.0), (0.28, 0.42, 1.45))
    """Width, offset towards the light (both as a fraction of the radius) and brightness of each stripe."""

    def __init__(
        self, view: _View, start: np.ndarray, end: np.ndarray, radii: tuple[float, float], colour: np.ndarray
    ) -> None:
        """`start`, `end` (T, 3): the balls' centres; `radii` theirs (m)."""
        side = view.size * view.factor
        (p, p_scale), (q, q_scale) = view.camera.project(start, side), view.camera.project(end, side)
        p_radius, q_radius = radii[0] * p_scale, radii[1] * q_scale
        along = q - p
        across = np.stack([-along[:, 1], along[:, 0]], -1) / np.maximum(np.linalg.norm(along, axis=-1), 1e-9)[:, None]
        lit = view.camera.axes[:2] @ _LIGHT
        across *= np.where(across @ lit < 0, -1.0, 1.0)[:, None]
        circle = _circle(16)
        self.stripes = []
        for width, offset, brightness in self.STRIPES:
            ends = [
                (centre + across * (radius * offset)[:, None])[:, None] + circle * (radius * width)[:, None, None]
                for centre, radius in ((p, p_radius), (q, q_radius))
            ]
            hulls = [cv2.convexHull(points) for points in view.fixed(np.concatenate(ends, 1))]
            self.stripes.append((hulls, _rgba(colour * brightness)))
        self.shadow = view.shadow(
            np.concatenate([c[:, None] + r * _circle3(8) for c, r in ((start, radii[0]), (end, radii[1]))], 1)
        )
        self.distance = view.distance((start + end) / 2)

    def draw(self, canvas: np.ndarray, t: int) -> None:
        for hulls, colour in self.stripes:
            cv2.fillConvexPoly(canvas, hulls[t], colour, cv2.LINE_8, _SHIFT)


def _circle(corners: int) -> np.ndarray:
    angles = 2 * math.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def _circle3(corners: int) -> np.ndarray:
    return np.pad(_circle(corners), ((0, 0), (0, 1)))


def _rgba(colour: np.ndarray) -> list:
    """Opaque OpenCV colours of (..., 3) RGB, as nested lists."""
    opaque = np.full((*colour.shape[:-1], 1), 255.0)
    return np.concatenate([np.clip(np.rint(colour), 0, 255), opaque], -1).tolist()


def _things(trajectory: Trajectory, view: _View) -> list[_Prism | _Rod]:
    ground = np.zeros(len(trajectory.hand))
    return [
        _Prism(view, thing.outline, trajectory.poses[:, i], ground, thing.height, PALETTE[thing.colour])
        for i, thing in enumerate(trajectory.things)
    ]


def _hand_parts(trajectory: Trajectory, view: _View) -> list[_Prism | _Rod]:
    """Two fingers that reach down to the tips' height, and the palm above them."""
    poses, tip = trajectory.hand[:, [0, 1, 3]], trajectory.hand[:, 2] + 0.004
    palm, *fingers = world.hand_outlines()
    parts: list[_Prism | _Rod] = []
    for finger in fingers:
        centre = finger.mean(0)
        cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
        offset = np.stack([cos * centre[0] - sin * centre[1], sin * centre[0] + cos * centre[1]], -1)
        placed = np.concatenate([poses[:, :2] + offset, poses[:, 2:]], -1)
        parts.append(_Prism(view, finger - centre, placed, tip, 0.062, _HAND))
    parts.append(_Prism(view, palm, poses, tip + 0.03, 0.05, _PALM))
    return parts


def _arm_parts(trajectory: Trajectory, view: _View) -> list[_Prism | _Rod]:
    """Upper arm, forearm and wrist: the elbow lies in the upright plane through base and hand, and points up."""
    hand = trajectory.hand[:, :3]
    wrist = hand + np.array([0, 0, _WRIST_HEIGHT])
    reach = wrist - _BASE
    distance = np.linalg.norm(reach, axis=-1, keepdims=True)
    along = reach / distance
    shoulder = (_UPPER_ARM**2 - _FOREARM**2 + distance**2) / (2 * distance)
    sideways = np.cross(along, [0.0, 0.0, 1.0])
    upwards = np.cross(sideways, along)
    upwards /= np.linalg.norm(upwards, axis=-1, keepdims=True)
    elbow = _BASE + along * shoulder + upwards * np.sqrt(_UPPER_ARM**2 - shoulder**2)
    base = np.broadcast_to(_BASE, elbow.shape)
    cuff, band = wrist + (elbow - wrist) * 0.16, wrist + (elbow - wrist) * 0.24
    return [
        _Rod(view, base, elbow, (0.040, 0.034), _ARM),
        _Rod(view, hand + np.array([0, 0, 0.08]), wrist, (0.022, 0.024), _ARM),
        _Rod(view, elbow, wrist, (0.032, 0.026), _ARM),
        _Rod(view, cuff, band, (0.029, 0.029), _ACCENT),
        _Rod(view, elbow - [0, 0, 0.001], elbow, (0.040, 0.040), _ACCENT),
    ]


@dataclass(frozen=True)
class _Background:
    """What never changes: the image without shadows, where shadows fall, and the wall in front of everything."""

    image: np.ndarray
    """float32 (H, W, 3), 0 to 255."""
    catches_shadow: np.ndarray
    """float32 (H, W, 1), 0 to 1."""
    front_wall: np.ndarray
    """float32 (H, W, 4), premultiplied RGBA, 0 to 255."""


@functools.cache
def _background(camera: str, size: int) -> _Background:
    view = _View(CAMERAS[camera], size, factor=8)
    side = view.size * view.factor
    texels = 512
    half = world.BIN
    square = np.array([[-half, half], [half, half], [half, -half], [-half, -half]])
    on_canvas = view.camera.project(np.pad(square, ((0, 0), (0, 1))), side)[0].astype(np.float32)
    texture_corners = np.array([[0, 0], [texels, 0], [texels, texels], [0, texels]], np.float32)
    warp = cv2.getPerspectiveTransform(texture_corners, on_canvas)
    canvas = np.zeros((side, side, 4), np.uint8)
    canvas[...] = _rgba(_TABLE)
    floor = cv2.warpPerspective(_floor_texture(texels), warp, (side, side))
    inside = cv2.warpPerspective(np.full((texels, texels), 255, np.uint8), warp, (side, side))
    canvas[inside > 127] = floor[inside > 127]
    walls = sorted(_walls(view), key=lambda wall: -wall.distance[0])
    for wall in walls:
        wall.draw(canvas, 0)
    image, catches = np.zeros((size, size, 4), np.uint8), np.zeros((size, size), np.uint8)
    _shrink(canvas, image)
    _shrink(inside, catches)
    front = view.canvas()[0]
    walls[-1].draw(front, 0)
    front_wall = np.zeros((size, size, 4), np.uint8)
    if camera == "oblique":
        _shrink(front, front_wall)
    shade = 0.45 + 0.55 * catches[..., None].astype(np.float32) / 255
    return _Background(image[..., :3].astype(np.float32), shade, front_wall.astype(np.float32))


def _walls(view: _View) -> Iterator[_Prism]:
    """The four walls, mitred at the corners."""
    inner, outer = world.BIN, world.BIN + _WALL_THICKNESS
    outline = np.array([[-inner, -inner], [-outer, -outer], [outer, -outer], [inner, -inner]])
    for quarter in range(4):
        centre = outline.mean(0)
        angle = quarter * math.pi / 2
        cos, sin = math.cos(angle), math.sin(angle)
        pose = np.array([[cos * centre[0] - sin * centre[1], sin * centre[0] + cos * centre[1], angle]])
        yield _Prism(view, outline - centre, pose, np.zeros(1), world.WALL_HEIGHT, _WALL)


def _floor_texture(texels: int) -> np.ndarray:
    """Boards with a grain, darker towards the walls: uint8 RGBA (texels, texels, 4), first row at the back."""
    rng = np.random.default_rng(7)
    boards = 5
    tint = np.repeat(rng.uniform(0.955, 1.03, boards), math.ceil(texels / boards))[:texels]
    grain = cv2.GaussianBlur(rng.random((texels, texels)), (0, 0), sigmaX=24, sigmaY=3.5)
    grain = (grain - grain.mean()) / grain.std()
    position = (np.arange(texels) + 0.5) / texels
    seam = np.abs(np.arange(texels) % math.ceil(texels / boards)) < texels / 120
    wall_distance = np.minimum(position, 1 - position)
    occlusion = 1 - 0.22 * np.exp(-wall_distance / 0.035)
    shade = tint[:, None] * (1 + 0.022 * grain) * occlusion[:, None] * occlusion[None]
    shade[seam] *= 0.93
    shade *= 1.03 - 0.09 * (0.6 * position[None] + 0.4 * position[:, None])
    return np.array(_rgba(_FLOOR * shade[..., None]), np.uint8)
