"""Where clips of the simulated Sawyer are made: a model and a GL context a process, and the choice of takes.

A clip is a pure function of (seed, split, index): takes 0, 1, ... of the clip are each drawn from a generator of their
own, and the first that passes is the clip. A take passes if nothing is wrong with it (sawyer_push_world.py) and, in
nine clips of ten, if a toy moves; the tenth may stand still, so that models see that too. Clips of less than a second
may, and so may the rare one of which no take in a dozen moves.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data.sawyer_push_rules import SLOTS, Unavailable, moves
from data.sawyer_push_toys import HELD_OUT, TOYS

if TYPE_CHECKING:
    from data.sawyer_push_render import Painter
    from data.sawyer_push_world import World

SPLITS = {"train": 0, "val": 1, "test": 2}
STILL = 0.1
"""Share of clips that may stand still."""
SHORT = 10
"""Shorter clips may stand still (frames)."""
PATIENCE, MOST_TAKES = 12, 40
"""Takes after which a clip may stand still, and after which it is an error."""
RECIPE = 1
"""Version of the rules by which clips are made; clips of different versions differ."""


@dataclass(frozen=True)
class Clip:
    """One simulated clip."""

    frames: dict[str, NDArray[np.uint8]]
    """RGB (T, H, W, 3) of each camera."""
    actions: NDArray[np.float32]
    """(T, 4)."""
    positions: NDArray[np.float32]
    """(T, 3), of the hand (m)."""
    toys: NDArray[np.float32]
    """(T, 3 S): where the toy in each slot is (m)."""
    gripper: dict[str, NDArray[np.float32]]
    """(T, 2) of each camera: where the finger tips are in the picture."""
    takes: int
    """How many were drawn."""
    seconds: tuple[float, float]
    """Processor time of the physics, rejected takes included, and of the pictures."""


@dataclass(frozen=True)
class Studio:
    """What a process needs to make clips."""

    world: World
    painter: Painter
    software: dict[str, str]
    """Engine, renderer, assets and their versions, for the manifest."""


def make_clip(
    seed: int,
    split: str,
    index: int,
    *,
    frames: int = 30,
    size: int = 64,
    cameras: Sequence[str] = ("aux1",),
    held_out: bool = False,
) -> Clip:
    """Simulate and render clip `index` of a split: the same for the same arguments, whatever was made before it.

    Args:
        frames: T.
        size: H = W (pixels): 64 or 128.
        cameras: of sawyer_push_scene.CAMERAS; they see the same events.
        held_out: some toys are kept for the test split, which has no others.

    Raises:
        Unavailable: something is not installed.
        ValueError: no take passes.
    """
    room = studio(size)
    kinds = [kind for kind in TOYS if not held_out or (kind in HELD_OUT) == (split == "test")]
    key = (SPLITS[split], index)
    chance = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key)).random()
    may_stand_still = chance < STILL or frames < SHORT
    started = time.process_time()
    for number in range(MOST_TAKES):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(*key, number)))
        take = room.world.play(rng, frames, kinds)
        if not take.fault and (may_stand_still or number >= PATIENCE or moves(take.toys)):
            break
    else:
        raise ValueError(f"clip {index} of {split}: no take passes, the last as {take.fault}: give another --seed")
    played = time.process_time()
    pictures = {camera: room.painter.paint(room.world, take, camera) for camera in cameras}
    return Clip(
        pictures,
        take.actions.astype(np.float32),
        take.hand.astype(np.float32),
        take.toys.reshape(frames, 3 * SLOTS).astype(np.float32),
        {camera: take.gripper[camera].astype(np.float32) for camera in cameras},
        number + 1,
        (played - started, time.process_time() - played),
    )


@functools.cache
def studio(size: int) -> Studio:
    """The process's model and GL context for frames of a size, made at the first call.

    MuJoCo is imported here and not before, so that --help and the report need neither it nor OpenGL, and after the
    environment says how to draw: by EGL on Linux, Mesa's software renderer on the core of its process.

    Raises:
        Unavailable: something is not installed; the text names the remedy.
    """
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        from data.sawyer_push_render import Painter
        from data.sawyer_push_scene import build, find_assets
        from data.sawyer_push_world import World

        assets = find_assets()
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed: pip install 'svg-lp[sim]' brings it") from None
    except Unavailable:
        raise
    except Exception as error:  # importing MuJoCo imports OpenGL, which raises what it likes
        raise Unavailable(_no_opengl(error)) from None
    model = build(assets)
    world = World(model)
    try:
        with warnings.catch_warnings(action="ignore"):  # what is wrong is in the error
            painter = Painter(model, size)
    except Exception as error:  # so does making a context
        raise Unavailable(_no_opengl(error)) from None
    version = importlib.metadata.version
    software = {
        "engine": f"mujoco {version('mujoco')}",
        "renderer": painter.device,
        "assets": f"metaworld {assets.version}, sha256 {assets.sha256}",
        "decimation": f"fast-simplification {version('fast-simplification')}",
        "numpy": version("numpy"),
    }
    return Studio(world, painter, software)


def _no_opengl(error: Exception) -> str:
    reason = " ".join(str(error).split())
    reason = reason if len(reason) < 100 else f"{reason[:97]}..."
    return (
        f"no pictures can be drawn with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')} ({reason}): with MUJOCO_GL=egl, "
        "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri (Debian, Ubuntu); with osmesa, libosmesa6"
    )
