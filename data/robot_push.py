"""Simulated robot pushing: an arm that pushes objects about in a bin, at random, as in BAIR's data set.

Made, not downloaded: rigid-body physics (robot_push_world.py), two cameras (robot_push_render.py), 30 frames a clip at
10 frames/s. A clip is a pure function of (seed, split, index); splits draw from disjoint seeds. A longer clip begins
with the same frames as a shorter one.

    python -m data.robot_push --out datasets/robot_push

writes a clip store a split (data/clips.py) with one camera: `top` is the counterpart of BAIR's image_aux1, which nearly
every paper uses, `oblique` that of image_main. The per-frame arrays:
    actions          (4,) commanded velocity of the hand until the next frame: along x, y, up (m/s), turn (rad/s)
    endeffector_pos  (3,) where the hand is: x, y, height of the finger tips (m)

    python -m data.robot_push --out FOLDER --tfrecords

writes the same clips, from both cameras, in BAIR's own layout instead: FOLDER/softmotion30_44k/{train,test}. BAIR has
no validation split, so none is written there; readers hold out traj_256_to_511 of train.

T frames, H W pixels.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import multiprocessing
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.clips import ClipWriter, StoreError
from data.robot_push_render import CAMERAS, PALETTE, SIZES, render
from data.robot_push_world import FPS, simulate

SPLITS = {"train": 0, "val": 1, "test": 2}
_CHUNK = 8
"""Clips a task of a worker process."""


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
    size: int = 64,
    camera: str = "top",
    seed: int = 0,
    frames: int = 30,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Simulate a data set: the folder `out` with the clip stores train, val and test; it appears whole or not at all.

    Args:
        size: frame height and width (pixels).
        camera: top or oblique.
        frames: length of a clip.
        workers: processes; all cores by default. The result does not depend on it.
        overwrite: replace a data set that is there.

    Raises:
        StoreError: `out` exists, is something else, or does not fit on the disk.
        ValueError: an argument is out of range.
    """
    counts = {"train": clips, "val": val_clips, "test": test_clips}
    _check(counts, size=size, camera=camera, seed=seed, frames=frames, workers=workers)
    out = Path(out)
    with _staged(out, overwrite, sum(counts.values()) * frames * size**2 * 3) as stage:
        with tqdm(total=sum(counts.values()), desc=f"simulating {out}", unit="clip", disable=not progress) as bar:
            for split, count in counts.items():
                writer = ClipWriter(
                    stage / split,
                    frame_shape=(size, size, 3),
                    fps=FPS,
                    source="simulated robot pushing",
                    split=split,
                    arrays={"actions": 4, "endeffector_pos": 3},
                    details={"seed": seed, "camera": camera},
                    overwrite=True,
                )
                recipe = functools.partial(make_clip, seed, split, frames=frames, size=size, cameras=(camera,))
                with writer:
                    for clip in _in_parallel(recipe, count, workers):
                        writer.append(clip.frames[camera], actions=clip.actions, endeffector_pos=clip.positions)
                        bar.update()


def _check(counts: dict[str, int], *, size: int, camera: str, seed: int, frames: int, workers: int | None) -> None:
    least = {f"{split} clips": (count, 1) for split, count in counts.items()}
    least |= {"frames": (frames, 2), "seed": (seed, 0), "workers": (1 if workers is None else workers, 1)}
    for name, (value, minimum) in least.items():
        if value < minimum:
            raise ValueError(f"{name} is {value}, but it must be at least {minimum}")
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"size is {size}, but it must be from {SIZES[0]} to {SIZES[1]} pixels")
    if camera not in CAMERAS:
        raise ValueError(f"camera is {camera!r}, but it must be one of {', '.join(CAMERAS)}")


@contextmanager
def _staged(out: Path, overwrite: bool, size: int) -> Iterator[Path]:
    """A folder to fill, which becomes `out` when the block ends without an exception, and else is deleted."""
    out = out.resolve()
    ours = set(SPLITS) | {"softmotion30_44k"}
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - ours):
        raise StoreError(f"{out} exists and is not a simulated data set, so it is left alone: choose another folder")
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise StoreError(f"{out} exists: delete it or choose another folder, or give --overwrite to replace it")
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if size * 1.05 > free:
        raise StoreError(
            f"{out} needs {size / 2**30:.2f} GiB, {free / 2**30:.2f} GiB are free there: "
            "make fewer clips (--clips) or choose another disk (--out)"
        )
    stage, old = (out.with_name(f".{out.name}.{suffix}") for suffix in ("partial", "old"))
    stage.mkdir(exist_ok=True)
    try:
        yield stage
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
            out.rename(old)
        stage.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _in_parallel(recipe: Callable[[int], Clip], count: int, workers: int | None) -> Iterator[Clip]:
    """`recipe` of 0 to count - 1, in that order, by several processes that run only a little ahead."""
    processes = min(workers or len(os.sched_getaffinity(0)), -(-count // _CHUNK))
    if processes == 1:
        yield from map(recipe, range(count))
        return
    chunks = (range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
    context = multiprocessing.get_context("spawn")  # forking a process that runs torch's threads can hang
    pool = ProcessPoolExecutor(processes, mp_context=context)
    try:
        pending: deque[Future[list[Clip]]] = deque()
        for chunk in itertools.islice(chunks, 2 * processes):
            pending.append(pool.submit(_map, recipe, chunk))
        while pending:
            yield from pending.popleft().result()
            pending.extend(pool.submit(_map, recipe, chunk) for chunk in itertools.islice(chunks, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def _map(recipe: Callable[[int], Clip], indices: range) -> list[Clip]:
    return [recipe(index) for index in indices]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data.robot_push",
        description="Simulate a robot arm that pushes objects about in a bin, and write the videos as a data set.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", default="datasets/robot_push", help="folder to make")
    add("--clips", type=int, default=1500, help="training clips")
    add("--val-clips", type=int, default=128, help="validation clips")
    add("--test-clips", type=int, default=256, help="test clips")
    add("--frames", type=int, default=30, help="frames a clip, 10 a second")
    add("--size", type=int, default=64, help="frame height and width (pixels)")
    add("--camera", choices=list(CAMERAS), default="top", help="top is the counterpart of BAIR's image_aux1")
    add("--seed", type=int, default=0, help="clips follow from it and from their split and index")
    add("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes; the clips do not depend on it")
    add("--overwrite", action="store_true", help="replace a data set that is there")
    options = vars(parser.parse_args(arguments))
    try:
        make(**options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    counts = ", ".join(
        f"{options[f'{key}clips']:,} {split}" for key, split in (("", "train"), ("val_", "val"), ("test_", "test"))
    )
    print(f"{options['out']}: {counts} clips")
    return 0


if __name__ == "__main__":
    sys.exit(main())
