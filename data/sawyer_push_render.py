"""Pictures of the simulated Sawyer scene, by MuJoCo's own renderer without a window.

Each frame is drawn at SUPERSAMPLE times its size, with shadows, and averaged down. T frames, H W pixels.
"""

from __future__ import annotations

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from data.sawyer_push_scene import SHADOW_MAP, SHOWN
from data.sawyer_push_world import Take, World

SUPERSAMPLE = 2
SIZES = (64, 128)
"""Frame sizes (pixels)."""

cv2.setNumThreads(1)


class Painter:
    """A GL context and the model's meshes and textures in it, made once.

    Args:
        model: the scene; its shadow map is set for the size.
        size: H = W of a frame, of SIZES.

    Attributes:
        device: the driver that draws, as it names itself.
    """

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        self.size = size
        model.vis.quality.shadowsize = SHADOW_MAP * size // 64
        self._renderer = mujoco.Renderer(model, size * SUPERSAMPLE, size * SUPERSAMPLE)
        from OpenGL.GL import GL_RENDERER, GL_VERSION, glGetString  # which library that is, MUJOCO_GL decides

        name, version = (bytes(glGetString(key) or b"").decode() for key in (GL_RENDERER, GL_VERSION))
        self.device = f"{name}, OpenGL {version}"
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[[SHOWN, 1, 2]] = 1

    def paint(self, world: World, take: Take, camera: str) -> NDArray[np.uint8]:
        """The frames of the world's last take: uint8 RGB (T, H, W, 3)."""
        frames = np.empty((len(take.states), self.size, self.size, 3), np.uint8)
        for frame, state in zip(frames, take.states, strict=True):
            self._renderer.update_scene(world.show(state), camera, self._option)
            canvas = self._renderer.render()
            frame[:] = cv2.resize(canvas, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return frames
