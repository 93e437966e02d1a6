"""The simulated Sawyer scene as a MuJoCo model: the arm, a wooden bin, a chest of toys, cameras and lights.

The arm is read from the installed package metaworld, of which nothing but the robot's description and meshes is used
(and nothing imported); the rest is made here. The model is compiled once a process. It has SLOTS loose bodies, and a
chest with one copy of every toy, which never moves and is never seen: a clip lays toys into the bin by copying their
shapes from the chest into the slots' fields of the model, at a scale of its own.

World coordinates are the robot's: metres, z up, the floor of the bin at z = 0, the robot's base at the origin, the bin
around CENTRE; the robot looks along +y.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fast_simplification
import mujoco
import numpy as np
from numpy.typing import NDArray

from data.sawyer_push_rules import BIN, CENTRE, SLOTS, Unavailable
from data.sawyer_push_textures import PATTERNS, WOODS, Texture, pattern, wood
from data.sawyer_push_toys import MOST_PARTS, TOYS

WALL_HEIGHT, WALL_THICKNESS = 0.055, 0.014
FACES = 500
"""Triangles that are kept of each mesh of the arm."""
CAMERAS = {
    "aux1": ((0.0, 1.30, 0.86), (0.0, 0.60, 0.055), 38.5),
    "main": ((0.80, 0.98, 0.70), (0.0, 0.60, 0.04), 38.0),
}
"""Position, target (m) and vertical field of view (degrees); clips move them a little."""
BAIR_NAMES = {"aux1": "image_aux1", "main": "image_main"}
"""The names that the cameras' counterparts have in BAIR's records."""
TIMESTEP = 0.005
"""Seconds of a physics step."""
SHADOW_MAP = 512
"""Side of the shadow map for frames of 64 pixels (pixels); larger frames have a larger one."""
POSTURE = {
    "right_j0": 1.37,
    "right_j1": -1.10,
    "right_j2": -0.11,
    "right_j3": 1.71,
    "right_j4": 0.06,
    "right_j5": 0.96,
    "right_j6": 2.99,
}
"""Joint angles (rad) over the middle of the bin, elbow up; weak springs keep the arm near them."""
SHOWN, HIDDEN = 0, 5
"""Geom groups that the renderer draws and leaves out."""

_XML = "assets/sawyer_xyz/sawyer_push_v3.xml"
_UNUSED = ("obj", "RetainingWall", "tablelink", "controller_box", "pedestal_feet", "torso", "pedestal", "head")
_LINK, _JOINT, _DARK = (0.80, 0.80, 0.79, 1), (0.62, 0.63, 0.64, 1), (0.10, 0.10, 0.11, 1)
_LINK_COLOURS = {"l0": _LINK, "l1": _LINK, "l2": _JOINT, "l3": _LINK, "l4": _LINK, "l5": _LINK, "l6": _JOINT}
_CONTACT = {"solref": [0.01, 1], "solimp": [0.95, 0.99, 0.001, 0.5, 2], "condim": 4}
_CHEST_AT = (0.0, 0.0, -3.0)


@dataclass(frozen=True)
class Assets:
    """The files of the arm, as an installed package has them."""

    folder: Path
    """The package's folder."""
    version: str

    @property
    def xml(self) -> Path:
        """The scene whose robot is taken."""
        return self.folder / _XML

    @cached_property
    def meshes(self) -> dict[str, Path]:
        """The arm's meshes (STL) by name."""
        folder = self.folder / "assets/objects/meshes/xyz_base"
        return {path.stem: path for path in sorted(folder.glob("*.stl"))}

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the robot's description and meshes."""
        description = self.folder / "assets/objects/assets"
        paths = [self.xml, *sorted(description.glob("xyz_base*.xml")), *self.meshes.values()]
        return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def find_assets() -> Assets:
    """The installed assets; the package is not imported.

    Raises:
        Unavailable: there are none.
    """
    remedy = "pip install 'svg-lp[sim]' brings them"
    found = importlib.util.find_spec("metaworld")
    if found is None or found.origin is None:
        raise Unavailable(f"the Sawyer's meshes are missing (package metaworld): {remedy}")
    assets = Assets(Path(found.origin).parent, importlib.metadata.version("metaworld"))
    if not assets.xml.is_file() or set(_LINK_COLOURS) - set(assets.meshes):
        raise Unavailable(f"metaworld {assets.version} lacks {_XML} or its meshes: {remedy} (metaworld==3.0.0)")
    return assets


def build(assets: Assets) -> mujoco.MjModel:
    """Compile the scene. Toys are in the chest; the slots are empty until `lay` fills them."""
    spec = mujoco.MjSpec.from_file(str(assets.xml))
    _keep_the_arm(spec, assets)
    _add_materials(spec)
    _add_bin(spec)
    _add_toys(spec)
    _add_views(spec)
    model = spec.compile()
    _tune(model)
    return model


def _keep_the_arm(spec: mujoco.MjSpec, assets: Assets) -> None:
    """Delete everything but the arm, paint it, and replace its meshes by coarse ones."""
    for name in _UNUSED:
        spec.delete(spec.body(name))
    for item in (*spec.lights, *spec.cameras, *spec.sites, *spec.materials, *spec.textures):
        if item.name != "xyz_col":
            spec.delete(item)
    for geom in spec.geoms:
        invisible = geom.rgba[3] == 0 or geom.name == "floor"
        if invisible and geom.parent.name != "mocap":
            spec.delete(geom)
        elif geom.type == mujoco.mjtGeom.mjGEOM_MESH:
            geom.rgba = _LINK_COLOURS.get(geom.meshname, _DARK if geom.meshname == "eGripperBase" else _LINK)
        else:
            geom.rgba = _DARK if geom.rgba[3] else geom.rgba
    for mesh in spec.meshes:
        if mesh.name not in {geom.meshname for geom in spec.geoms}:
            spec.delete(mesh)
            continue
        points, faces = _coarse(*_read_stl(assets.meshes[mesh.name]))
        mesh.file, mesh.uservert, mesh.userface = "", points.ravel(), faces.ravel()
        mesh.smoothnormal = True


def _read_stl(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Corners (P, 3) and triangles (F, 3) of a binary STL file."""
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("flags", "<u2")])
    corners = np.frombuffer(path.read_bytes(), record, offset=84)["corners"].reshape(-1, 3)
    points, faces = np.unique(corners, axis=0, return_inverse=True)
    return points, faces.reshape(-1, 3).astype(np.int32)


def _coarse(points: NDArray[np.float32], faces: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A mesh of at most about FACES triangles of the same shape."""
    if len(faces) <= FACES:
        return points, faces
    return fast_simplification.simplify(points, faces, target_count=FACES)


def _add_materials(spec: mujoco.MjSpec) -> None:
    """Woods for the bin, patterns for the toys."""
    for number in range(WOODS):
        board = wood(number)
        _add_material(spec, f"floor {number}", board, mujoco.mjtTexture.mjTEXTURE_2D, repeat=(1.0, 1.0))
        _add_material(spec, f"wall {number}", wood(number, planks=1), mujoco.mjtTexture.mjTEXTURE_CUBE)
    for name in PATTERNS:
        for number, second in enumerate((0.15, 0.55)):
            _add_material(spec, f"{name} {number}", pattern(name, second), mujoco.mjtTexture.mjTEXTURE_CUBE)
    spec.add_material(name="plain", specular=0.3, shininess=0.4)
    sky = {"rgb1": [0.62, 0.63, 0.63], "rgb2": [0.45, 0.46, 0.46], "width": 32, "height": 32}
    spec.add_texture(type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT, **sky)


def _add_material(spec: mujoco.MjSpec, name: str, image: Texture, kind: Any, repeat: Any = (1.0, 1.0)) -> None:
    height, width, _ = image.shape
    faces = 6 if kind == mujoco.mjtTexture.mjTEXTURE_CUBE else 1
    texture = spec.add_texture(name=name, type=kind, width=width, height=height * faces, nchannel=3)
    texture.data = np.tile(image, (faces, 1, 1)).tobytes()
    material = spec.add_material(name=name, specular=0.15, shininess=0.2, texrepeat=repeat)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _add_bin(spec: mujoco.MjSpec) -> None:
    """The table, and the bin's floor and four walls."""
    (x, y), (width, depth), box = CENTRE, BIN, mujoco.mjtGeom.mjGEOM_BOX
    world, half = spec.worldbody, WALL_THICKNESS / 2
    table = {"pos": [x, y, -0.03], "size": [1.2, 0.9, 0.01], "rgba": [0.52, 0.53, 0.52, 1]}
    world.add_geom(name="table", type=box, contype=0, conaffinity=0, **table)
    floor = {"pos": [x, y, -0.01], "size": [width, depth, 0.01]}
    world.add_geom(name="floor", type=box, material="floor 0", **floor, **_CONTACT)
    middle = WALL_HEIGHT / 2 - 0.01
    sides = {
        "left": ([x - width - half, y, middle], [half, depth + 2 * half, WALL_HEIGHT / 2 + 0.01]),
        "right": ([x + width + half, y, middle], [half, depth + 2 * half, WALL_HEIGHT / 2 + 0.01]),
        "near": ([x, y - depth - half, middle], [width, half, WALL_HEIGHT / 2 + 0.01]),
        "far": ([x, y + depth + half, middle], [width, half, WALL_HEIGHT / 2 + 0.01]),
    }
    for name, (at, size) in sides.items():
        world.add_geom(name=name, type=box, material="wall 0", pos=at, size=size, **_CONTACT)


def _add_toys(spec: mujoco.MjSpec) -> None:
    """The chest, and the slots with as many geoms as the largest toy has parts."""
    shapes = {
        name: getattr(mujoco.mjtGeom, f"mjGEOM_{name.upper()}") for name in ("box", "cylinder", "capsule", "ellipsoid")
    }
    for name, parts in TOYS.items():
        body = spec.worldbody.add_body(name=f"chest {name}", pos=_CHEST_AT)
        for part in parts:
            rotation = np.zeros(4)
            mujoco.mju_euler2Quat(rotation, np.array(part.turn), "xyz")
            size = [*part.size, *[0.0] * (3 - len(part.size))]
            geom = body.add_geom(type=shapes[part.shape], size=size, pos=part.at, quat=rotation)
            geom.density, geom.contype, geom.conaffinity, geom.group = 1.0, 0, 0, 4
    for slot in range(SLOTS):
        body = spec.worldbody.add_body(name=f"toy {slot}", pos=[*CENTRE, -1.0 - slot])
        body.add_freejoint(name=f"toy {slot}")
        for number in range(MOST_PARTS):
            at = [0.01 * number, 0.02, 0.03]  # off the centre, or the compiler takes the body for a simple one
            ball = mujoco.mjtGeom.mjGEOM_SPHERE
            body.add_geom(type=ball, size=[0.01, 0, 0], pos=at, group=4, **_CONTACT)


def _add_views(spec: mujoco.MjSpec) -> None:
    """The cameras, the lamp that throws the shadows and a fill light that throws none."""
    for name, (position, target, field) in CAMERAS.items():
        spec.worldbody.add_camera(name=name, pos=position, quat=look_at(position, target), fovy=field)
    kind = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    spec.worldbody.add_light(name="lamp", type=kind, castshadow=True, specular=[0.2] * 3)
    spec.worldbody.add_light(
        name="fill", type=kind, pos=[0, 2, 2], dir=[0.3, -0.8, -0.6], castshadow=False, specular=[0] * 3
    )


def _tune(model: mujoco.MjModel) -> None:
    """Set what the description leaves open: the weld of hand and target, the arm's posture, shadows."""
    model.eq_data[0] = 0
    model.eq_data[0, 6:11] = [
        -1,
        0,
        0,
        0,
        1,
    ]  # the hand is where the target is, turned as it is; torques count as forces
    model.opt.timestep = TIMESTEP
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE  # its boxes are those of the empty slots
    model.body_gravcomp[:] = 0
    for name, angle in POSTURE.items():
        joint = model.joint(name)
        joint.stiffness[:] = 3.0
        model.qpos_spring[joint.qposadr[0]] = angle
    model.vis.quality.numslices, model.vis.quality.numstacks, model.vis.quality.numquads = 16, 8, 1
    model.vis.quality.offsamples = 0  # the painter averages instead
    model.vis.map.shadowclip = 1.0
    model.vis.headlight.diffuse[:], model.vis.headlight.specular[:] = 0.08, 0.0
    model.vis.map.znear, model.vis.map.zfar, model.vis.map.fogstart = 0.05, 10.0, 100.0
    model.stat.extent, model.stat.center[:] = 1.0, [*CENTRE, 0.1]


def look_at(position: Any, target: Any) -> NDArray[np.float64]:
    """The quaternion (4,) of a camera at a position that looks at a target, upright."""
    back = np.subtract(position, target)
    back = back / np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(back, right), back], 1)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    return quaternion


def about_z(angle: float) -> NDArray[np.float64]:
    """The quaternion (4,) of a turn about the vertical (rad)."""
    return np.array([math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)])
