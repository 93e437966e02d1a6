"""Cameras and shaded solids: prisms and rods that move, drawn with OpenCV's polygons, and the soft shadows they throw.

What a solid needs for drawing, it computes for all frames at once; what is left to do for a frame is to fill polygons.

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

cv2.setNumThreads(1)  # the images are small, and the processes many

LIGHT = np.array([-0.28, 0.20, 1.0])
"""Towards the light; a point at height z throws its shadow -z * LIGHT[:2] away."""
UPWARDS = np.array([0.0, 0.0, 1.0])
_BEVEL = 0.007
"""Width of the light rim around a prism's top (m)."""
_FRACTION_BITS = 4


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


@dataclass(frozen=True)
class View:
    """A camera with a canvas of `size * factor` pixels, `factor` a power of two, that is averaged down to a frame."""

    camera: Camera
    size: int
    factor: int

    @functools.cached_property
    def _canvases(self) -> tuple[np.ndarray, np.ndarray]:
        side, coarse = self.size * self.factor, self.size * 2
        return np.empty((side, side, 4), np.uint8), np.empty((coarse, coarse), np.uint8)

    @staticmethod
    def paint(canvas: np.ndarray, solids: Sequence[Solid], t: int) -> None:
        """Draw solids, the last one on top, on an RGBA canvas."""
        for solid in solids:
            for outline, colour in solid.faces(t):
                cv2.fillConvexPoly(canvas, outline, colour, cv2.LINE_8, _FRACTION_BITS)

    def layer(self, solids: Sequence[Solid], t: int) -> np.ndarray:
        """Solids, the last one on top: premultiplied RGBA, float32 (4, H, W), 0 to 255."""
        canvas = self._canvases[0]
        canvas.fill(0)
        self.paint(canvas, solids, t)
        return np.ascontiguousarray(self.shrink(canvas).transpose(2, 0, 1)).astype(np.float32)

    def shadow(self, solids: Sequence[Solid], t: int, blur: float) -> np.ndarray:
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
        return fixed_point(self.camera.project(points)[0] * (self.size * self.factor))

    def shadow_corners(self, points: np.ndarray) -> np.ndarray:
        """Where the shadows of world points (..., 3) fall on the floor, on the shadows' canvas."""
        return fixed_point(self.camera.project(points - points[..., 2:] * LIGHT)[0] * (self.size * 2))

    def distance(self, points: np.ndarray) -> np.ndarray:
        """From the camera to world points (..., 3), in metres: (...)."""
        return np.linalg.norm(points - np.array(self.camera.position), axis=-1)


def fixed_point(pixels: np.ndarray) -> np.ndarray:
    """Pixel coordinates as OpenCV's polygons take them, int32; (0, 0) is the image's corner, not a pixel's centre."""
    return np.rint((pixels - 0.5) * (1 << _FRACTION_BITS)).astype(np.int32)


def rgba(colour: np.ndarray) -> list:
    """Opaque OpenCV colours of RGB (..., 3), as nested lists."""
    opaque = np.full((*colour.shape[:-1], 1), 255.0)
    return np.concatenate([np.clip(np.rint(colour), 0, 255), opaque], -1).tolist()


class Solid:
    """Something that moves: its faces on the canvas at each frame."""

    distance: np.ndarray
    """From the camera (T,), which decides what hides what."""
    shadow: np.ndarray
    """Points (T, P, 2) on the shadows' canvas, whose convex hull is the shadow."""

    def faces(self, t: int) -> list[tuple[np.ndarray, list[float]]]:
        """Outline and RGBA colour of each face that is seen, to be drawn in this order."""
        raise NotImplementedError


class Prism(Solid):
    """An upright prism with flat shading and a bevelled top.

    Args:
        outline: (K, 2), convex, counter-clockwise, in its own frame.
        poses: (T, 3), x, y and angle.
        bottom: (T,), height of its lower face.
        height: from the lower face to the upper.
        colour: RGB (3,).
    """

    def __init__(
        self, view: View, outline: np.ndarray, poses: np.ndarray, bottom: np.ndarray, height: float, colour: np.ndarray
    ) -> None:
        cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
        turn = np.stack([cos, -sin, sin, cos], -1).reshape(-1, 1, 2, 2)
        rims = np.concatenate([outline, _inset(outline, _BEVEL)])
        plane = (turn @ rims[..., None])[..., 0] + poses[:, None, :2]  # (T, 2K, 2)
        ceiling = np.broadcast_to((bottom + height)[:, None, None], (*plane.shape[:2], 1))
        upper = np.concatenate([plane, ceiling], -1)
        count = len(outline)
        lower = upper[:, :count] - height * UPWARDS
        top, self._bevel = np.split(view.corners(upper), 2, axis=1)
        base = view.corners(lower)
        self._top = top
        self._sides = np.stack([base, np.roll(base, -1, 1), np.roll(top, -1, 1), top], 2)  # (T, K, 4, 2)
        edge, drop = np.roll(top, -1, 1) - top, base - top
        facing = edge[..., 0] * drop[..., 1] > edge[..., 1] * drop[..., 0]
        self._visible = [np.flatnonzero(row).tolist() for row in facing]
        along = np.roll(plane[:, :count], -1, 1) - plane[:, :count]
        light = np.array([LIGHT[1], -LIGHT[0]]) / np.linalg.norm(LIGHT[:2])
        brightness = 0.62 - 0.20 * (along @ light) / np.linalg.norm(along, axis=-1)
        self._side_colours = rgba(colour * brightness[..., None])
        self._rim_colour, self._top_colour = rgba(colour * 1.16 + 10), rgba(colour)
        self.distance = view.distance(poses * [1, 1, 0])
        self.shadow = view.shadow_corners(np.concatenate([lower, upper[:, :count]], 1))

    def faces(self, t: int) -> list[tuple[np.ndarray, list[float]]]:
        sides, colours = self._sides[t], self._side_colours[t]
        seen = [(sides[k], colours[k]) for k in self._visible[t]]
        return [*seen, (self._top[t], self._rim_colour), (self._bevel[t], self._top_colour)]


def _inset(outline: np.ndarray, width: float) -> np.ndarray:
    """A convex, counter-clockwise outline (K, 2), made smaller by a margin of that width."""
    edges = np.roll(outline, -1, 0) - outline
    inwards = np.stack([-edges[:, 1], edges[:, 0]], 1) / np.linalg.norm(edges, axis=1, keepdims=True)
    before = np.roll(inwards, 1, 0)
    return outline + width * (before + inwards) / (1 + (before * inwards).sum(1, keepdims=True))


class Rod(Solid):
    """A round rod, shaded by stripes along its lit side.

    Args:
        start, end: (T, 3), the centres of the balls at its ends.
        radii: of the two balls.
        colour: RGB (3,).
    """

    STRIPES = ((1.0, 0.0, 0.72), (0.70, 0.22, 1.0), (0.28, 0.42, 1.45))
    """Width, offset towards the light (fractions of the radius) and brightness of each stripe."""

    def __init__(
        self, view: View, start: np.ndarray, end: np.ndarray, radii: tuple[float, float], colour: np.ndarray
    ) -> None:
        (p, p_scale), (q, q_scale) = view.camera.project(start), view.camera.project(end)
        along = (q - p) / np.maximum(np.linalg.norm(q - p, axis=-1, keepdims=True), 1e-9)
        across = np.stack([-along[:, 1], along[:, 0]], -1)
        lit = np.sign(across @ (view.camera.axes[:2] @ LIGHT))[:, None] * across
        angles = np.linspace(-math.pi / 2, math.pi / 2, 8)[:, None]
        cap = np.cos(angles) * along[:, None] + np.sin(angles) * across[:, None]  # (T, 8, 2), around the end
        p_radius, q_radius = (radii[0] * p_scale)[:, None], (radii[1] * q_scale)[:, None]
        self._stripes = []
        for width, offset, brightness in self.STRIPES:
            far = (q + offset * q_radius * lit)[:, None] + width * q_radius[..., None] * cap
            near = (p + offset * p_radius * lit)[:, None] - width * p_radius[..., None] * cap
            outline = np.concatenate([far, near], 1) * (view.size * view.factor)
            self._stripes.append((fixed_point(outline), rgba(colour * brightness)))
        ring = 2 * math.pi * np.arange(8) / 8
        circle = np.stack([np.cos(ring), np.sin(ring), 0 * ring], 1)
        balls = [centre[:, None] + radius * circle for centre, radius in zip((start, end), radii, strict=True)]
        self.shadow = view.shadow_corners(np.concatenate(balls, 1))
        self.distance = view.distance((start + end) / 2)

    def faces(self, t: int) -> list[tuple[np.ndarray, list[float]]]:
        return [(outline[t], colour) for outline, colour in self._stripes]
