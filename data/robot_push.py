"""Simulated robot pushing: an arm that pushes objects about in a bin, at random, as in BAIR's data set.

Made, not downloaded: rigid-body physics (robot_push_world.py), two cameras (robot_push_render.py), 30 frames a clip at
10 frames/s. A clip is a pure function of (seed, split, index); splits draw from disjoint seeds. A longer clip begins
with the same frames as a shorter one.

    python -m data.robot_push --out datasets/robot_push

writes a clip store a split (data/clips.py) with one camera: `top` is the counterpart of BAIR's image_aux1, which nearly
every paper uses, `oblique` that of image_main. The per-frame arrays are
    actions          (4,) commanded velocity of the hand until the next frame: along x, y, up (m/s), turn (rad/s)
    endeffector_pos  (3,) where the hand is: x, y, height of the finger tips (m)

    python -m data.robot_push --out FOLDER --tfrecords

writes the same clips, from both cameras, in BAIR's own layout instead, FOLDER/softmotion30_44k/{train,test}, for
whatever reads that. BAIR has no validation split, so none is written; its readers hold out traj_256_to_511 of train.

T frames, H W pixels.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data import bair_writer
from data.clips import ClipWriter
from data.pool import CHUNK, cores, in_order, processes
from data.program import Parser, folder, program
from data.ranges import Range, refuse_outside
from data.robot_push_render import BAIR_NAMES, CAMERAS, PALETTE, SIZES, render
from data.robot_push_world import FPS, simulate
from data.staging import staged

SPLITS = {"train": 0, "val": 1, "test": 2}
_NAMES = (*SPLITS, bair_writer.FOLDER)


@dataclass(frozen=True)
class Clip:
    """One simulated clip."""

    frames: dict[str, np.ndarray]
    """uint8 RGB (T, H, W, 3) of each camera."""
    actions: np.ndarray
    """float32 (T, 4)."""
    positions: np.ndarray
    """float32 (T, 3)."""


def make_clip(
    seed: int, split: str, index: int, *, frames: int = 30, size: int = 64, cameras: Sequence[str] = ("top",)
) -> Clip:
    """Simulate and render clip `index` of a split: the same for the same arguments, whatever was made before it."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SPLITS[split], index)))
    trajectory = simulate(rng, frames, len(PALETTE))
    return Clip(
        {camera: render(trajectory, camera, size) for camera in cameras},
        trajectory.actions.astype(np.float32),
        trajectory.hand[:, :3].astype(np.float32),
    )


def make(
    out: str | os.PathLike[str],
    *,
    clips: int = 1500,
    val_clips: int = 128,
    test_clips: int = 256,
    frames: int = 30,
    size: int = 64,
    camera: str = "top",
    seed: int = 0,
    workers: int | None = None,
    tfrecords: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Simulate a data set: the folder `out` with the clip stores train, val and test; it appears whole or not at all.

    Args:
        frames: length of a clip.
        size: frame height and width (pixels).
        camera: top or oblique.
        workers: processes; one a core by default. The result does not depend on it. They are spawned, so a script that
            calls this needs its `if __name__ == "__main__":`.
        tfrecords: write both cameras in BAIR's layout instead, without the validation clips.
        overwrite: replace a data set that is there.
        progress: show a progress bar.

    Raises:
        StoreError: `out` exists, is being made by another process, or does not fit on the disk.
        ValueError: an argument is out of range.
    """
    workers = cores() if workers is None else workers
    refuse_outside(
        {"size": Range(*SIZES, "pixels")},
        clips=clips,
        val_clips=val_clips,
        test_clips=test_clips,
        frames=frames,
        size=size,
        seed=seed,
        workers=workers,
    )
    if camera not in CAMERAS:
        raise ValueError(f"camera is {camera!r}, but it must be one of {', '.join(CAMERAS)}")

    counts = {"train": clips, "val": 0 if tfrecords else val_clips, "test": test_clips}
    total = sum(counts.values())
    cameras = list(CAMERAS) if tfrecords else [camera]
    recipe = partial(make_clip, seed, frames=frames, size=size, cameras=cameras)
    jobs = ((split, index) for split, count in counts.items() for index in range(count))
    bytes_needed = total * frames * size**2 * 3 * len(cameras)
    with (
        staged(Path(out), _NAMES, bytes_needed, overwrite=overwrite, what="a simulated data set") as stage,
        processes(min(workers, -(-total // CHUNK))) as pool,
        closing(in_order(recipe, jobs, pool)) as simulated,
        tqdm(desc=f"simulating {out}", total=total, unit="clip", disable=not progress) as bar,
    ):
        for split, count in counts.items():
            made = _counted(itertools.islice(simulated, count), bar)
            if tfrecords and count:
                _write_tfrecords(stage / bair_writer.FOLDER / split, made, count)
            elif count:
                _write_store(stage / split, made, size, camera, seed)


def _counted(clips: Iterator[Clip], bar: tqdm) -> Iterator[Clip]:
    for clip in clips:
        bar.update()
        yield clip


def _write_store(folder: Path, clips: Iterable[Clip], size: int, camera: str, seed: int) -> None:
    with ClipWriter(
        folder,
        frame_shape=(size, size, 3),
        fps=FPS,
        source="simulated robot pushing",
        split=folder.name,
        arrays={"actions": 4, "endeffector_pos": 3},
        details={"seed": seed, "camera": camera},
    ) as writer:
        for clip in clips:
            writer.append(clip.frames[camera], actions=clip.actions, endeffector_pos=clip.positions)


def _write_tfrecords(folder: Path, clips: Iterator[Clip], count: int) -> None:
    folder.mkdir(parents=True)
    records = (bair_writer.features(clip.frames, BAIR_NAMES, clip.actions, clip.positions) for clip in clips)
    for first, last in bair_writer.file_spans(count):
        bair_writer.write_file(folder / bair_writer.file_name(first, last), records, last + 1 - first)


@program("data.robot_push", interrupted="nothing was written")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(
        prog="python -m data.robot_push",
        description="Simulate a robot arm that pushes objects about in a bin, and write the videos as a data set.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=folder, default="datasets/robot_push", help="folder to make")
    add("--clips", type=int, default=1500, help="training clips")
    add("--val-clips", type=int, default=128, help="validation clips")
    add("--test-clips", type=int, default=256, help="test clips")
    add("--frames", type=int, default=30, help="frames a clip, 10 a second")
    add("--size", type=int, default=64, help="frame height and width (pixels)")
    add("--camera", choices=list(CAMERAS), default="top", help="top is the counterpart of BAIR's image_aux1")
    add("--seed", type=int, default=0, help="clips follow from it and from their split and index")
    add("--workers", type=int, default=cores(), help="processes; the clips do not depend on it")
    add("--tfrecords", action="store_true", help="write both cameras in BAIR's layout instead, train and test")
    add("--overwrite", action="store_true", help="replace a data set that is there")
    options = vars(parser.parse_args(arguments))
    make(**options)
    layout = (
        f"{bair_writer.FOLDER}/train and test, in BAIR's layout"
        if options["tfrecords"]
        else "clip stores train, val and test"
    )
    print(f"{options['out']}: {layout}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
