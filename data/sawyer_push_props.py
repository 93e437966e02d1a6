"""What a clip of the simulated Sawyer scene looks like: its light, cameras, wood, and the toys in its slots.

Everything that one clip sets in the model, the next one sets again, so that clips leave no trace.

Units are metres; world coordinates as in sawyer_push_scene.py.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from data.sawyer_push_rules import CENTRE, SLOTS
from data.sawyer_push_scene import CAMERAS, HIDDEN, SHOWN, look_at
from data.sawyer_push_textures import PATTERNS, WOODS
from data.sawyer_push_toys import MOST_PARTS, TOYS

_DENSITY, _FRICTION, _SCALE = (150.0, 350.0), (0.55, 0.95), (0.92, 1.22)
"""Of toys: kg/m^3, Coulomb's coefficient, size."""

Paints = dict[str, NDArray[np.float64]]
"""RGB (3,), 0 to 1, of each paint of a toy's parts."""


def dress(model: mujoco.MjModel, rng: np.random.Generator, kinds: Sequence[str]) -> list[float]:
    """Write light, cameras, wood and toys into the model's fields.

    Args:
        kinds: names of TOYS to draw from.

    Returns:
        Radius of each toy seen from above (m), for the first slots; the others are empty.
    """
    _light(model, rng)
    for name, (position, target, field) in CAMERAS.items():
        camera = model.camera(name)
        camera.pos[:] = position + rng.uniform(-0.02, 0.02, 3)
        camera.quat[:] = look_at(camera.pos, target + rng.uniform(-0.012, 0.012, 3))
        camera.fovy[:] = field + rng.uniform(-0.8, 0.8)
    tint = rng.uniform(0.82, 1.0) * rng.uniform(0.96, 1.0, 3)
    model.geom("floor").matid[:] = model.material(f"floor {rng.integers(WOODS)}").id
    model.geom("floor").rgba[:3] = tint
    for name in ("left", "right", "near", "far"):
        model.geom(name).matid[:] = model.material(f"wall {rng.integers(WOODS)}").id
        model.geom(name).rgba[:3] = tint * rng.uniform(0.9, 1.0)
    model.geom("table").rgba[:3] = rng.uniform(0.40, 0.62) * rng.uniform(0.95, 1.0, 3)
    chosen = rng.choice(len(kinds), rng.integers(3, SLOTS, endpoint=True))
    hue = rng.random()
    reaches = [
        _fill(model, slot, kinds[kind], rng, _paints(rng, hue + slot / SLOTS)) for slot, kind in enumerate(chosen)
    ]
    for slot in range(len(chosen), SLOTS):
        _empty(model, slot)
    return reaches


def _light(model: mujoco.MjModel, rng: np.random.Generator) -> None:
    """Draw the lights' directions, brightness and warmth."""
    warmth = np.array([1.0, 1.0, 1.0]) + rng.uniform(-0.04, 0.04) * np.array([1.0, 0.0, -1.0])
    lamp, fill = model.light("lamp"), model.light("fill")
    direction = np.array([-0.15, -0.30, -1.0])
    direction[:2] += rng.uniform(-0.18, 0.18, 2)
    lamp.dir[:] = direction / np.linalg.norm(direction)
    lamp.pos[:] = [*CENTRE, 0.0] - 1.2 * lamp.dir
    lamp.diffuse[:] = rng.uniform(0.42, 0.54) * warmth
    fill.diffuse[:] = rng.uniform(0.14, 0.22) * warmth
    model.vis.headlight.ambient[:] = rng.uniform(0.34, 0.42) * warmth


def _paints(rng: np.random.Generator, hue: float) -> Paints:
    """The paints of a toy (RGB, 0 to 1): hues well apart, a pale or grey toy now and then."""
    if rng.random() < 0.15:
        first = np.full(3, rng.choice([0.92, 0.80, 0.30])) * rng.uniform(0.94, 1.0, 3)
    else:
        first = np.array(colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.60, 0.95), rng.uniform(0.60, 0.95)))
    second = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.3, 0.95), rng.uniform(0.6, 0.95)))
    if rng.random() < 0.3:
        second = np.array([0.93, 0.92, 0.90])
    return {"first": first, "second": second, "dark": np.full(3, 0.12)}


def _fill(model: mujoco.MjModel, slot: int, kind: str, rng: np.random.Generator, paints: Paints) -> float:
    """Copy a toy from the chest into a slot, at a random size; returns its radius seen from above (m)."""
    scale, density, friction = rng.uniform(*_SCALE), rng.uniform(*_DENSITY), rng.uniform(*_FRICTION)
    plain = rng.random() < 0.45
    name = "plain" if plain else f"{list(PATTERNS)[rng.integers(len(PATTERNS))]} {rng.integers(2)}"
    body, source = model.body(f"toy {slot}").id, model.body(f"chest {kind}").id
    model.body_mass[body] = model.body_mass[source] * density * scale**3
    model.body_inertia[body] = model.body_inertia[source] * density * scale**5
    model.body_ipos[body] = model.body_ipos[source] * scale
    model.body_iquat[body] = model.body_iquat[source]
    reach = 0.0
    first, chest = model.body_geomadr[body], model.body_geomadr[source]
    for number in range(MOST_PARTS):
        geom = first + number
        if number >= model.body_geomnum[source]:
            _hide(model, geom)
            continue
        part, paint = chest + number, TOYS[kind][number].paint
        for field in ("geom_size", "geom_pos", "geom_rbound", "geom_aabb"):
            values = getattr(model, field)
            values[geom] = values[part] * scale
        model.geom_type[geom], model.geom_quat[geom] = model.geom_type[part], model.geom_quat[part]
        model.geom_contype[geom] = model.geom_conaffinity[geom] = 1
        model.geom_friction[geom] = [friction, 0.01, 0.0005]
        model.geom_group[geom] = SHOWN
        model.geom_rgba[geom, :3] = paints[paint]
        model.geom_matid[geom] = model.material(name if paint == "first" else "plain").id
        reach = max(reach, float(np.linalg.norm(model.geom_pos[geom, :2]) + _flat_radius(model, geom)))
    return reach


def _flat_radius(model: mujoco.MjModel, geom: int) -> float:
    """The radius of a geom seen from above: its upright box's (m)."""
    half = model.geom_aabb[geom, 3:]
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
    x, y, _ = np.abs(rotation.reshape(3, 3)) @ half
    return math.hypot(x, y) if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX else max(x, y)


def _empty(model: mujoco.MjModel, slot: int) -> None:
    body = model.body(f"toy {slot}").id
    model.body_mass[body], model.body_inertia[body] = 0.1, 1e-4
    model.body_ipos[body], model.body_iquat[body] = 0.0, [1.0, 0.0, 0.0, 0.0]
    for number in range(MOST_PARTS):
        _hide(model, model.body_geomadr[body] + number)


def _hide(model: mujoco.MjModel, geom: int) -> None:
    model.geom_contype[geom] = model.geom_conaffinity[geom] = 0
    model.geom_group[geom] = HIDDEN
    model.geom_pos[geom] = 0.0
