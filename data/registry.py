"""Data sets by name: how each is made, and its splits, opened."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from data import images
from data.clips import ClipStore, JoinedStore, Store, StoreError
from data.store_files import list_splits

COMMANDS = {
    "robot_push": "python -m data.robot_push --out {path}",
    "sawyer_push": "python -m data.sawyer_push --out {path}",
    "bair": "python -m data.bair --source TAR_OR_FOLDER --out {path}",
    **{name: f"python -m data.images --name {name} --out {{path}}" for name in images.SOURCES},
}
"""The command that makes each data set."""


def data_sets(path: str | os.PathLike[str]) -> list[Path]:
    """The folders that data.path names: one, several after one another with commas between, or a glob's, sorted."""
    if Path(path).is_dir():
        return [Path(path)]
    folders: list[Path] = []
    for name in filter(None, (part.strip() for part in str(path).split(","))):
        matches = sorted(Path(match) for match in glob.glob(name) if Path(match).is_dir())
        folders += matches if glob.has_magic(name) and matches else [Path(name)]
    return folders


def can_be_made(path: str | os.PathLike[str]) -> bool:
    """Whether data.path names a single folder, which is not there."""
    return not Path(path).exists() and data_sets(path) == [Path(path)] and not glob.has_magic(str(path))


def has_split(path: str | os.PathLike[str], split: str) -> bool:
    """Whether every data set that data.path names has a split."""
    folders = data_sets(path)
    return bool(folders) and all((folder / split).is_dir() for folder in folders)


def open_split(
    path: str | os.PathLike[str], split: str, *, name: str = "", size: int | None = None, channels: int | None = None
) -> Store:
    """One split of a data set, or of several that are read as one.

    Args:
        path: the data set's folder, several with commas between, or a glob.
        split: train, val or test.
        name: how the data set is made, of `COMMANDS`; said where it is missing.
        size, channels: frames of another height, width or channel number are refused.

    Raises:
        StoreError: a data set or the split is missing or damaged, its frames have another shape, or the data sets are
            unlike each other.
    """
    folders = data_sets(path)
    if not folders:
        raise StoreError(f"data.path is {str(path)!r}, but it must name a data set's folder, several, or a glob")
    found = [_open_one(folder, split, name, size, channels) for folder in folders]
    return found[0] if len(found) == 1 else JoinedStore(found)


def _open_one(path: Path, split: str, name: str, size: int | None, channels: int | None) -> ClipStore:
    if not path.is_dir() and glob.has_magic(str(path)):
        raise StoreError(f"data.path {path} matches no folder: put it in quotes, or name the folders")
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
