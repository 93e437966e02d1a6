"""Simulated clips in BAIR's own layout (data/bair_records.py says what it is), for whatever reads that."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from data.bair_records import ARRAYS
from data.files import writing
from data.tfrecord import encode_example, write_record

FOLDER = "softmotion30_44k"
"""Where the folders train and test are."""
RECORDS_PER_FILE = 256


def file_spans(count: int) -> list[tuple[int, int]]:
    """First and last clip of each file of a split of `count` clips."""
    return [(first, min(first + RECORDS_PER_FILE, count) - 1) for first in range(0, count, RECORDS_PER_FILE)]


def file_name(first: int, last: int) -> str:
    """The file's name for clips `first` to `last`."""
    return f"traj_{first}_to_{last}.tfrecords"


def write_file(path: Path, records: Iterator[Mapping[str, bytes | np.ndarray]], count: int) -> None:
    """Write the next `count` records to a file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with writing(path), open(partial, "wb") as file:
        for features in itertools.islice(records, count):
            write_record(file, encode_example(features))
    partial.rename(path)


def features(
    frames: Mapping[str, np.ndarray], names: Mapping[str, str], actions: np.ndarray, positions: np.ndarray
) -> dict[str, bytes | np.ndarray]:
    """A clip as BAIR's features: raw uint8 RGB under a name that ends in `encoded`, one key a frame.

    Args:
        frames: uint8 (T, H, W, 3) of each camera.
        names: BAIR's name of each camera.
        actions: float32 (T, 4).
        positions: float32 (T, 3), of the end effector.
    """
    record: dict[str, bytes | np.ndarray] = {}
    for t, (action, position) in enumerate(zip(actions, positions, strict=True)):
        for camera, pictures in frames.items():
            record[f"{t}/{names[camera]}/encoded"] = pictures[t].tobytes()
        record[f"{t}/{ARRAYS['actions'][0]}"] = action
        record[f"{t}/{ARRAYS['endeffector_pos'][0]}"] = position
    return record
