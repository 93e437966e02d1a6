"""Data sets by name: how each is made, and its splits, opened."""

from __future__ import annotations

import os
from pathlib import Path

from data import images
from data.clips import ClipStore, StoreError
from data.store_files import list_splits

COMMANDS = {
    "robot_push": "python -m data.robot_push --out {path}",
    "bair": "python -m data.bair --source TAR_OR_FOLDER --out {path}",
    **{name: f"python -m data.images --name {name} --out {{path}}" for name in images.SOURCES},
}
"""The command that makes each data set."""


def open_split(
    path: str | os.PathLike[str], split: str, *, name: str = "", size: int | None = None, channels: int | None = None
) -> ClipStore:
    """One split of a data set.

    Args:
        path: the data set's folder.
        split: train, val or test.
        name: how the data set is made, of `COMMANDS`; said where it is missing.
        size, channels: frames of another height, width or channel number are refused.

    Raises:
        StoreError: the data set or the split is missing or damaged, or its frames have another shape.
    """
    path = Path(path)
    if not path.is_dir():
        command = COMMANDS.get(name)
        remedy = f"make it with: {command.format(path=path)}" if command else "data.path names the data set's folder"
        raise StoreError(f"there is no data set {path}: {remedy}")
    if not (path / split).is_dir():
        raise StoreError(f"{path} has no split {split}; it has: {', '.join(list_splits(path)) or 'none'}")
    store = ClipStore(path / split)
    height, width, depth = store.frame_shape
    if (size is not None and (height, width) != (size, size)) or (channels is not None and depth != channels):
        raise StoreError(
            f"{store.folder} has {height}x{width} pixels and {depth} channels, but model.size is {size} and "
            f"model.channels {channels}: set them to the data's, or data.path to other data"
        )
    return store
