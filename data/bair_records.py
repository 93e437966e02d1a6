"""What BAIR's files hold: record files in a tar or a folder, and the clips in them.

The files are softmotion30_44k/{train,test}/traj_A_to_B.tfrecords, a record a clip, with these keys for each frame t:
    {t}/image_main/encoded, {t}/image_aux1/encoded    raw uint8 RGB (despite the name), H = W
    {t}/action (4,), {t}/endeffector_pos (3,)         float32

T frames of a clip, H W pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.tar import read_tar
from data.tfrecord import Feature, Record, RecordFile, decode_example

SIZE = 32_274_964_480
"""Bytes of the published tar."""
CAMERAS = ("image_aux1", "image_main")
ARRAYS = {"actions": ("action", 4), "endeffector_pos": ("endeffector_pos", 3)}
"""Name in the store: key in a record, width."""

_TRAJECTORIES = re.compile(r"(?:^|/)(train|test)/(traj_(\d{1,9})_to_(\d{1,9})\.tfrecords)$")
_STEP = re.compile(r"([0-9]+)/")


@dataclass(frozen=True)
class Clip:
    """A record, decoded."""

    frames: NDArray[np.uint8]
    """(T, H, W, 3)"""
    arrays: dict[str, NDArray[np.float32]]
    """actions (T, 4), endeffector_pos (T, 3)"""


def decode(file: RecordFile, record: Record, camera: str) -> Clip:
    """Reads a record; its features may come in any order.

    Raises:
        RecordError: it is damaged, a feature is missing, or has the wrong size.
    """
    payload = file.payload(record)
    try:
        return _clip(decode_example(payload), camera)
    except ValueError as error:
        raise file.error(record, str(error)) from None


def _clip(features: Mapping[str, Feature], camera: str) -> Clip:
    steps = 1 + max((int(match[1]) for key in features if (match := _STEP.match(key))), default=0)
    images = _column(features, f"{camera}/encoded", steps)
    side = math.isqrt(len(images[0]) // 3)
    if not side or any(not isinstance(image, bytes) or len(image) != side * side * 3 for image in images):
        raise ValueError(f"has {camera} frames that are not raw, square RGB images of one size")
    arrays = {}
    for name, (key, width) in ARRAYS.items():
        values = _column(features, key, steps)
        if any(np.shape(value) != (width,) or not np.isfinite(value).all() for value in values):
            raise ValueError(f"has values of {key} that are not {width} finite numbers")
        arrays[name] = np.array(values, np.float32)
    return Clip(np.frombuffer(b"".join(images), np.uint8).reshape(steps, side, side, 3), arrays)


def _column(features: Mapping[str, Feature], name: str, steps: int) -> list[Any]:
    """One feature of all frames."""
    keys = [f"{t}/{name}" for t in range(min(steps, len(features) + 1))]
    if missing := [key for key in keys if key not in features]:
        raise ValueError(f"has no {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}")
    return [features[key] for key in keys]


@dataclass(frozen=True)
class Source:
    """A tar or a folder, looked through."""

    splits: dict[str, list[RecordFile]]
    """The record files of each split, in the order of their trajectories."""
    damage: list[str]
    """What is wrong with the tar, so that `splits` lacks files: phrases to follow its name."""


def find(source: Path, skip_corrupt: bool = False) -> Source:
    """The record files of a source.

    Args:
        source: the tar, or a folder that has train/ and test/ somewhere in it.
        skip_corrupt: take what a damaged tar still has.

    Raises:
        ValueError: the source is missing, damaged, or is something else.
    """
    if not (source.is_file() or source.is_dir()):
        raise ValueError(f"{source} does not exist: give --source the tar or its unpacked folder, or add --download")
    damage: list[str] = []
    if source.is_dir():
        paths = sorted(source.rglob("*.tfrecords"))
        entries = [(path.relative_to(source.parent).as_posix(), path, 0, path.stat().st_size) for path in paths]
    else:
        members, damage = read_tar(source)
        entries = [(member.name, source, member.start, member.size) for member in members]
    if damage and not skip_corrupt:
        raise ValueError(
            f"{source} {damage[0]} ({source.stat().st_size:,} bytes; BAIR's has {SIZE:,}): get it again, or "
            "take what is there with --skip-corrupt"
        )
    found: dict[str, dict[int, RecordFile]] = {"train": {}, "val": {}, "test": {}}
    for name, path, start, size in entries:
        if match := _TRAJECTORIES.search(name):
            split, basename, first, last = match[1], match[2], int(match[3]), int(match[4])
            file = RecordFile(path, start, size, f"{split}/{basename}", count=last + 1 - first)
            found["val" if split == "train" and first == 256 else split][first] = file
    splits = {split: [files[first] for first in sorted(files)] for split, files in found.items() if files}
    if not splits:
        raise ValueError(f"{source} has no train/traj_*_to_*.tfrecords or test/traj_*_to_*.tfrecords: is it BAIR's?")
    return Source(splits, damage)
