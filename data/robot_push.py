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
import fcntl
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.clips import ClipWriter, StoreError
from data.robot_push_render import BAIR_NAMES, CAMERAS, PALETTE, SIZES, render
from data.robot_push_world import FPS, simulate
from data.tfrecord import encode_example, write_record

SPLITS = {"train": 0, "val": 1, "test": 2}
BAIR_FOLDER = "softmotion30_44k"
RECORDS_PER_FILE = 256
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
    workers = _cores() if workers is None else workers
    least = {"clips": (clips, 1), "val_clips": (val_clips, 1), "test_clips": (test_clips, 1), "frames": (frames, 1)}
    for name, (value, minimum) in (least | {"seed": (seed, 0), "workers": (workers, 1)}).items():
        if value < minimum:
            raise ValueError(f"{name} is {value}, but it must be at least {minimum}")
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"size is {size}, but it must be from {SIZES[0]} to {SIZES[1]} pixels")
    if camera not in CAMERAS:
        raise ValueError(f"camera is {camera!r}, but it must be one of {', '.join(CAMERAS)}")

    counts = {"train": clips, "val": 0 if tfrecords else val_clips, "test": test_clips}
    total = sum(counts.values())
    cameras = list(CAMERAS) if tfrecords else [camera]
    recipe = partial(make_clip, seed, frames=frames, size=size, cameras=cameras)
    jobs = [(split, index) for split, count in counts.items() for index in range(count)]
    with (
        _staged(Path(out), overwrite, total * frames * size**2 * 3 * len(cameras)) as stage,
        closing(_in_parallel(recipe, jobs, workers)) as simulated,
        tqdm(simulated, f"simulating {out}", total, unit="clip", disable=not progress) as bar,
    ):
        clips_in_order = zip(jobs, bar, strict=True)
        for split, group in itertools.groupby(clips_in_order, key=lambda pair: pair[0][0]):
            made = (clip for _, clip in group)
            if tfrecords:
                _write_tfrecords(stage / BAIR_FOLDER / split, made, counts[split])
            else:
                _write_store(stage / split, made, size, camera, seed)


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
    """BAIR's files, 256 records each: raw uint8 RGB under a name that ends in `encoded`, one key a frame."""
    folder.mkdir(parents=True)
    for first in range(0, count, RECORDS_PER_FILE):
        last = min(first + RECORDS_PER_FILE, count) - 1
        with open(folder / f"traj_{first}_to_{last}.tfrecords", "wb") as file:
            for clip in itertools.islice(clips, last + 1 - first):
                write_record(file, encode_example(_features(clip)))


def _features(clip: Clip) -> dict[str, bytes | np.ndarray]:
    features: dict[str, bytes | np.ndarray] = {}
    for t, (action, position) in enumerate(zip(clip.actions, clip.positions, strict=True)):
        for camera, frames in clip.frames.items():
            features[f"{t}/{BAIR_NAMES[camera]}/encoded"] = frames[t].tobytes()
        features[f"{t}/action"], features[f"{t}/endeffector_pos"] = action, position
    return features


@contextmanager
def _staged(out: Path, overwrite: bool, size: int) -> Iterator[Path]:
    """A folder to fill with `size` bytes, which becomes `out` when the block ends without an exception."""
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - {*SPLITS, BAIR_FOLDER}):
        raise StoreError(f"{out} exists and is not a simulated data set, so it is left alone: choose another folder")
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise StoreError(f"{out} exists: choose another folder, or give --overwrite to replace it")
    target = out.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if size * 1.02 > free:
        raise StoreError(
            f"{out} needs {size / 2**30:.2f} GiB, but {free / 2**30:.2f} GiB are free there: "
            "make fewer clips (--clips) or choose another disk (--out)"
        )
    stage, old = (target.with_name(f".{target.name}.{suffix}") for suffix in ("partial", "old"))
    stage.mkdir(exist_ok=True)
    lock = os.open(stage, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StoreError(f"{out} is being made by another process: wait for it to end") from None
    try:
        for leftover in stage.iterdir():
            shutil.rmtree(leftover)
        yield stage
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        stage.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def _in_parallel(recipe: partial[Clip], jobs: Sequence[tuple[str, int]], workers: int) -> Generator[Clip]:
    """The clips of the jobs (split, index), in their order, by processes that run only a little ahead."""
    if workers == 1 or len(jobs) <= _CHUNK:
        yield from itertools.starmap(recipe, jobs)
        return
    chunks = (jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK))
    context = multiprocessing.get_context("spawn")  # a fork of a process that runs torch's threads can hang
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    pending: deque[Future[list[Clip]]] = deque()
    try:
        for chunk in chunks:
            pending.append(pool.submit(_make_chunk, recipe, chunk))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        for future in pending:
            yield from future.result()
    except BrokenProcessPool:
        raise StoreError(
            "the processes that simulate ended unexpectedly (out of memory?): --workers 1 does without them"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _make_chunk(recipe: partial[Clip], jobs: Sequence[tuple[str, int]]) -> list[Clip]:
    return [recipe(*job) for job in jobs]


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it does, however that happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    add("--workers", type=int, default=_cores(), help="processes; the clips do not depend on it")
    add("--tfrecords", action="store_true", help="write both cameras in BAIR's layout instead, train and test")
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
    layout = (
        f"{BAIR_FOLDER}/train and test, in BAIR's layout" if options["tfrecords"] else "clip stores train, val and test"
    )
    print(f"{options['out']}: {layout}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
