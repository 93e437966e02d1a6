"""Clip stores made of clip stores: merged into one, or split into train, val and test.

T frames of a clip.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.files import StoreError
from data.staging import check_disk
from data.store_files import list_splits
from data.store_joined import check_alike
from data.store_reader import ClipStore, stores
from data.store_writer import ClipWriter


def merge(out: str | os.PathLike[str], folders: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Write the clips of several stores, or split by split of several data sets, into one; returns the stores made.

    The clips keep their order, and those per-frame arrays that all have. What was merged stands in the manifest.

    Args:
        out: the store, or the data set, to make.
        folders: two or more stores, or two or more data sets.

    Raises:
        StoreError: they are missing, damaged or unlike each other, `out` exists, or it does not fit on the disk.
    """
    if len(folders) < 2:
        raise StoreError("merge takes two or more folders: give --out and all of them")
    found = [list(stores(folder)) for folder in folders]
    sets = [bool(list_splits(Path(folder))) for folder in folders]
    if any(sets) != all(sets):
        raise StoreError("merge takes either stores or data sets, not both: name the splits, as in DATA_SET/train")
    groups: dict[Path, list[ClipStore]] = {}
    for one in found:
        for store in one:
            groups.setdefault(Path(out) / store.folder.name if all(sets) else Path(out), []).append(store)
    for target, group in groups.items():
        check_alike(group)
        _refuse_existing(target)
    check_disk(Path(out), sum(sum(store.sizes.values()) for one in found for store in one))
    for store in itertools.chain(*found):
        store.verify()  # or damage would go into the new store's checksums
    for target, group in groups.items():
        parts = [_origin(store) for store in group]
        arrays = set.intersection(*(set(store.arrays.items()) for store in group))
        clips = [(store, clip) for store in group for clip in range(len(store))]
        source = " + ".join(dict.fromkeys(str(store.manifest["source"]) for store in group))
        _write(target, group[0].split, source, dict(sorted(arrays)), {"merged": parts}, clips)
    return list(groups)


def split(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], *, val: int, test: int, seed: int = 0
) -> list[Path]:
    """Write a store's clips into the splits of a new data set; returns the stores made.

    Args:
        folder: a store.
        out: the data set to make.
        val, test: clips of those splits, drawn at random; the others are train's. 0 leaves a split out.
        seed: the draw is a pure function of it.

    Raises:
        StoreError: the store is missing or has too few clips, `out` exists, or it does not fit on the disk.
    """
    store = ClipStore(folder)
    if val < 0 or test < 0 or seed < 0:
        raise StoreError(f"--val {val}, --test {test} and --seed {seed} must not be negative")
    if not val + test:
        raise StoreError("--val and --test are both 0: give one of them")
    if val + test >= len(store):
        raise StoreError(
            f"{store.folder} has {len(store)} clips, too few for --val {val}, --test {test} and some train"
        )
    order = np.random.default_rng(seed).permutation(len(store))
    parts = {"train": order[val + test :], "val": order[:val], "test": order[val : val + test]}
    targets = {name: Path(out) / name for name, clips in parts.items() if len(clips)}
    for target in targets.values():
        _refuse_existing(target)
    check_disk(Path(out), sum(store.sizes.values()))
    store.verify()  # or damage would go into the new stores' checksums
    for name, target in targets.items():
        details = {"split_of": _origin(store), "seed": seed, "val": val, "test": test}
        clips = [(store, int(clip)) for clip in np.sort(parts[name])]
        _write(target, name, str(store.manifest["source"]), store.arrays, details, clips)
    return list(targets.values())


def _write(
    target: Path,
    split: str,
    source: str,
    arrays: dict[str, int],
    details: dict[str, Any],
    clips: Sequence[tuple[ClipStore, int]],
) -> None:
    first = clips[0][0]
    with ClipWriter(
        target,
        frame_shape=first.frame_shape,
        fps=first.fps,
        source=source,
        split=split,
        arrays=arrays,
        details=details,
    ) as writer:
        for store, clip in tqdm(clips, f"writing {target}", unit="clip", delay=1):
            writer.append(store.frames(clip), **{name: store.array(name, clip) for name in arrays})


def _origin(store: ClipStore) -> dict[str, Any]:
    """What a manifest says of a store that its clips come from."""
    manifest = store.manifest
    return {
        "source": manifest["source"],
        "clips": len(store),
        "sha256": manifest["files"]["frames.npy"]["sha256"],
        "details": manifest.get("details", {}),
    }


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise StoreError(f"{target} exists: choose another --out")
