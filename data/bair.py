"""BAIR robot pushing (Ebert et al. 2017, "Self-supervised visual planning with temporal skip connections").

    python -m data.bair --source bair_robot_pushing_dataset_v0.tar --out datasets/bair [--download]

writes the clip stores train, val and test, of one camera, straight from the tar or from a folder it was unpacked into.
`traj_256_to_511` of train becomes val. Interrupted at any moment, the same command carries on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

import numpy as np
from tqdm import tqdm

from data.bair_records import ARRAYS, CAMERAS, SIZE, Clip, decode, find
from data.clips import MANIFEST, ClipStore, ClipWriter, StoreError
from data.download import download
from data.files import check, naming
from data.program import Parser, folder, program
from data.ranges import refuse_outside
from data.staging import check_disk
from data.store_files import JOURNAL
from data.tfrecord import FramingError, Record, RecordError, RecordFile

URL = "http://rail.eecs.berkeley.edu/datasets/bair_robot_pushing_dataset_v0.tar"
SHA256 = "c6f8d164ab2be07174ef597e3e070d7466f3142caddc467b6af119b9458cd9cd"

SPLITS = ("train", "val", "test")
COUNTS = {"train and val": 43_264, "test": 256}
WHERE = {"train": "train/traj_*.tfrecords", "val": "train/traj_256_to_511.tfrecords", "test": "test/traj_*.tfrecords"}
FPS = 10.0
"""The data set doesn't say; for showing it."""
CHECKPOINT = 256
"""Clips between checkpoints, about 100 MB."""

Position = tuple[int, int, int]
"""Where a conversion is: file of the split, and in it the number and the offset of the next record."""


class Details(TypedDict):
    """What the manifest says of where a store comes from."""

    camera: str
    source_bytes: int
    dropped: list[str]


class Progress(TypedDict):
    """What the journal says at a checkpoint."""

    position: tuple[int, int, int]
    dropped: list[str]


def finished(out: Path, camera: str) -> dict[str, ClipStore]:
    """The stores of a data set that are there.

    Raises:
        StoreError: one is damaged, or shows another camera.
    """
    stores = {split: ClipStore(out / split) for split in SPLITS if (out / split / MANIFEST).exists()}
    for store in stores.values():
        with naming(store.folder / MANIFEST, "choose another --out"):
            check(store.manifest["details"], Details)
        if (other := store.manifest["details"]["camera"]) != camera:
            raise StoreError(f"{store.folder} is there, with camera {other}, not {camera}: choose another --out")
    return stores


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    camera: str = CAMERAS[0],
    skip_corrupt: bool = False,
    workers: int = 4,
) -> dict[str, ClipStore]:
    """Writes the clip stores of a data set; whole ones that are there are left, an interrupted one is carried on, and
    one that lacks what the source has, because its own was damaged, is made again.

    Args:
        source: the tar, or its unpacked folder.
        out: the data set's folder.
        camera: image_aux1, which nearly all papers use, or image_main.
        skip_corrupt: leave damaged records out, and list them in the manifest as `dropped`, instead of stopping.
        workers: threads that read and decode; a few records each are in memory.

    Raises:
        RecordError: a record is truncated or corrupt.
        ValueError: the source, the folder or the disk won't do.
    """
    refuse_outside(workers=workers)
    out = Path(out)
    stores, found = finished(out, camera), find(Path(source), skip_corrupt)
    missing: dict[str, list[RecordFile]] = {}
    for split, files in found.splits.items():
        if split not in stores:
            missing[split] = files
        elif not _has_all_of(stores[split], files, found.damage):
            print(f"{stores[split].folder} lacks some of what {source} has: it is made again", file=sys.stderr)
            missing[split] = files
    firsts = {split: _first_clip(files, camera, skip_corrupt) for split, files in missing.items()}
    _check_disk(out, missing, firsts)
    for split, files in missing.items():
        writer = ClipWriter(
            out / split,
            frame_shape=firsts[split][0].frames.shape[1:],
            fps=FPS,
            source="BAIR robot pushing (softmotion30_44k)",
            split=split,
            arrays={name: width for name, (_, width) in ARRAYS.items()},
            details={
                "camera": camera,
                "source_bytes": sum(file.size for file in files),
                "source_damage": found.damage,
            },
            overwrite=split in stores,
            resume=True,
        )
        with writer:
            _convert_split(files, writer, camera, skip_corrupt, workers)
    return finished(out, camera)


def _has_all_of(store: ClipStore, files: list[RecordFile], damage: list[str]) -> bool:
    """Whether a store lacks nothing that a source has; what it dropped is looked at again."""
    details, size = store.manifest["details"], sum(file.size for file in files)
    if details["source_bytes"] != size:
        return details["source_bytes"] > size
    doubtful = [file for file in files if any(text.startswith(file.name) for text in details["dropped"])]
    outcomes = _in_parallel(doubtful, (0, 0, 0), details["camera"], workers=1)
    dropped = {str(outcome) for _, outcome in outcomes if isinstance(outcome, RecordError)}
    return dropped >= {*details["dropped"]} and {*damage} >= {*details.get("source_damage", [])}


def _convert_split(files: list[RecordFile], writer: ClipWriter, camera: str, skip_corrupt: bool, workers: int) -> None:
    """Appends the records that the writer does not have yet."""
    position: Position = (0, 0, 0)
    dropped: list[str] = []
    if writer.state is not None:
        again = f"delete {writer.partial} to start again"
        with naming(writer.partial / JOURNAL, again):
            check(writer.state, Progress)
        position, dropped = tuple(writer.state["position"]), writer.state["dropped"]
        if not (0 <= position[0] <= len(files) and min(position) >= 0):
            raise StoreError(f"{writer.partial / JOURNAL} is of another source: {again}")
        if dropped and not skip_corrupt:
            raise StoreError(f"{writer.partial} was begun with --skip-corrupt, and left records out: {again}")
    ends = np.cumsum([0, *(file.size for file in files)])  # where each file begins in the split
    begun = int(ends[position[0]]) + position[2]
    with tqdm(total=int(ends[-1]), initial=begun, unit="B", unit_scale=True, desc=writer.folder.name) as bar:
        for after, outcome in _in_parallel(files, position, camera, workers):
            if isinstance(outcome, Clip):
                writer.append(outcome.frames, **outcome.arrays)
            elif skip_corrupt:
                dropped.append(str(outcome))
                bar.set_postfix(dropped=len(dropped))
            else:
                writer.checkpoint({"position": position, "dropped": dropped})
                raise _with_remedy(outcome)
            position = after
            bar.update(int(ends[position[0]]) + position[2] - bar.n)
            if len(writer) % CHECKPOINT == 0:
                writer.checkpoint({"position": position, "dropped": dropped})
    writer.details["dropped"] = dropped


def _walk(files: list[RecordFile], position: Position) -> Iterator[tuple[Position, RecordFile, Record | FramingError]]:
    """The records from a position on, each with the position after it; where framing is lost, the next file is next."""
    first, number, offset = position
    for index, file in enumerate(files[first:], start=first):
        try:
            for record in file.records(number, offset):
                yield (index, record.number + 1, record.end), file, record
        except FramingError as error:
            yield (index + 1, 0, 0), file, error
        number = offset = 0


def _in_parallel(
    files: list[RecordFile], position: Position, camera: str, workers: int
) -> Iterator[tuple[Position, Clip | RecordError]]:
    """The clips from a position on, in order, decoded a few ahead by threads; an error takes a damaged one's place."""

    def outcome(file: RecordFile, record: Record | FramingError) -> Clip | RecordError:
        try:
            return record if isinstance(record, FramingError) else decode(file, record, camera)
        except RecordError as error:
            return error

    pending: deque[tuple[Position, Future[Clip | RecordError]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for after, file, record in _walk(files, position):
            pending.append((after, pool.submit(outcome, file, record)))
            if len(pending) > 4 * workers:
                after, future = pending.popleft()
                yield after, future.result()
        for after, future in pending:
            yield after, future.result()


def _first_clip(files: list[RecordFile], camera: str, skip_corrupt: bool) -> tuple[Clip, float]:
    """The first sound record, whose shape all others have, and the mean size of a record up to it (bytes)."""
    for (_, number, offset), outcome in _in_parallel(files, (0, 0, 0), camera, workers=1):
        if isinstance(outcome, Clip):
            return outcome, offset / number
        if not skip_corrupt:
            raise _with_remedy(outcome)
    raise ValueError(f"{files[0].name} and the {len(files) - 1} files after it have no sound record")


def _with_remedy(error: RecordError) -> RecordError:
    return type(error)(f"{error}\n  get the file again, or leave such records out with --skip-corrupt")


def _check_disk(out: Path, splits: dict[str, list[RecordFile]], firsts: dict[str, tuple[Clip, float]]) -> None:
    """Refuses to begin what won't fit, taking each split's first clip for its mean."""
    needed = 0.0
    for split, files in splits.items():
        clip, record_bytes = firsts[split]
        clip_bytes = clip.frames.nbytes + sum(array.nbytes for array in clip.arrays.values())
        needed += sum(file.size for file in files) / record_bytes * clip_bytes
        begun = out / f".{split}.partial" / "frames.npy"
        needed -= begun.stat().st_size if begun.exists() else 0
    check_disk(out, needed)


def _report(stores: dict[str, ClipStore]) -> None:
    """Says what was made, what is missing from it, and where it isn't the published data set."""
    for split in SPLITS:
        if split in stores:
            print(f"{stores[split].folder}: {len(stores[split]):,} clips")
        else:
            print(f"warning: no {split} clips: the source has no {WHERE[split]}", file=sys.stderr)
    counts = {split: len(stores[split]) if split in stores else 0 for split in SPLITS}
    for what, found in (("train and val", counts["train"] + counts["val"]), ("test", counts["test"])):
        if found != COUNTS[what]:
            print(f"warning: {found:,} {what} clips; the published data set has {COUNTS[what]:,}", file=sys.stderr)
    dropped = [text for store in stores.values() for text in store.manifest["details"]["dropped"]]
    damage = [text for store in stores.values() for text in store.manifest["details"].get("source_damage", [])]
    if damage:
        print("warning: the source was damaged:", *sorted(set(damage)), sep="\n  ", file=sys.stderr)
    if dropped:
        print(f"warning: left out, as --skip-corrupt asked ({len(dropped)}):", *dropped, sep="\n  ", file=sys.stderr)


@program("data.bair", interrupted="the same command carries on")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(
        prog="python -m data.bair",
        description="Make clip stores of BAIR robot pushing.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--source", type=folder, default=Path("datasets") / Path(URL).name, help="the tar, or its folder"
    )
    parser.add_argument("--out", type=folder, default=Path("datasets/bair"), help="the data set's folder")
    parser.add_argument("--camera", choices=CAMERAS, default=CAMERAS[0], help="nearly all papers use image_aux1")
    parser.add_argument(
        "--download", action="store_true", help=f"get the tar first ({SIZE / 1e9:.0f} GB), or the rest of it"
    )
    parser.add_argument("--skip-corrupt", action="store_true", help="leave damaged records out and list them")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="threads that read and decode")
    options = parser.parse_args(arguments)
    refuse_outside(workers=options.workers)
    stores = finished(options.out, options.camera)
    if len(stores) < len(SPLITS) and options.download:
        download(URL, options.source, SIZE, SHA256)
    if len(stores) < len(SPLITS) or options.source.exists():
        stores = convert(
            options.source,
            options.out,
            camera=options.camera,
            skip_corrupt=options.skip_corrupt,
            workers=options.workers,
        )
    _report(stores)
    return 0


if __name__ == "__main__":
    sys.exit(main())
