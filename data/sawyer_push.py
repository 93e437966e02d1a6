"""Simulated Sawyer: a robot arm that pushes toys about in a wooden bin, at random; a stand-in for BAIR's data set.

BAIR's robot is a Sawyer too. Physics and pictures are MuJoCo's, the arm's meshes those of the package metaworld, read
where it is installed (`pip install 'svg-lp[sim]'`); everything else is made here (sawyer_push_scene.py). 30 frames a
clip at 10 frames/s. A clip is a pure function of (seed, split, index); splits draw from disjoint seeds. The same seed
gives bit-equal stores on the same machine, with any number of workers; other renderers may differ by rounding.

    python -m data.sawyer_push --out datasets/sawyer_push

writes a clip store a split (data/clips.py) with one camera: `aux1`, opposite the robot, is the counterpart of BAIR's
image_aux1, which nearly every paper uses, `main`, from the side, that of image_main. Interrupted at any moment, the
same command carries on. The per-frame arrays are
    actions          (4,) commanded velocity of the hand until the next frame: along x, y, up (m/s), turn (rad/s)
    endeffector_pos  (3,) where the hand is (m)
    toy_pos          (15,) where up to five toys are (m); (0, 0, -1) for a toy that is not there
    gripper_pixel    (2,) where the finger tips are in the picture: right, down, 0 to 1

    python -m data.sawyer_push --out FOLDER --tfrecords

writes the same clips, from both cameras, in BAIR's own layout instead, FOLDER/softmotion30_44k/{train,test}, for
whatever reads that. BAIR has no validation split, so none is written; its readers hold out traj_256_to_511 of train.

    python -m data.sawyer_push report DIR

tells what happens in the clips of a store, or of a data set.

T frames, H W pixels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data import bair_writer
from data.pool import cores, in_order, processes
from data.program import Parser, folder, program
from data.ranges import Range, refuse_outside
from data.sawyer_push_files import CAMERAS, Costs, Records, Stores, Watch, size_of
from data.sawyer_push_report import report
from data.sawyer_push_rules import ARRAYS
from data.sawyer_push_studio import RECIPE, make_clip, studio
from data.staging import check_disk

SIZES = (64, 128)
LIMITS = {"frames": Range(2, 1000), "workers": Range(1, 256)}
"""What numbers may be, where it is not as elsewhere (data/ranges.py)."""


def make(
    out: str | Path,
    *,
    clips: int = 2000,
    val_clips: int = 128,
    test_clips: int = 256,
    frames: int = 30,
    size: int = 64,
    camera: str = "aux1",
    seed: int = 0,
    held_out: bool = False,
    workers: int | None = None,
    tfrecords: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Costs:
    """Simulate a data set: the folder `out` with the clip stores train, val and test, each of which appears whole.

    Stores that are there are left; an interrupted one is carried on.

    Args:
        frames: length of a clip.
        size: frame height and width (pixels): 64 or 128.
        camera: aux1 or main.
        held_out: five kinds of toys appear in the test split only, which has no others.
        workers: processes; one a core by default. The result does not depend on it. They are spawned, so a script that
            calls this needs its `if __name__ == "__main__":`.
        tfrecords: write both cameras in BAIR's layout instead, without the validation clips.
        overwrite: replace stores that are there and were made otherwise.
        progress: show a progress bar.

    Raises:
        StoreError: `out` holds other data, is being made by another process, or does not fit on the disk.
        Unavailable: MuJoCo, the assets or OpenGL are not installed.
        ValueError: an argument is out of range.
    """
    workers = cores() if workers is None else workers
    refuse_outside(
        LIMITS, clips=clips, val_clips=val_clips, test_clips=test_clips, frames=frames, seed=seed, workers=workers
    )
    for name, choice, choices in (("size", size, SIZES), ("camera", camera, tuple(CAMERAS))):
        if choice not in choices:
            raise ValueError(f"{name} is {choice}, but it must be {' or '.join(map(str, choices))}")
    out = Path(out)
    counts = {"train": clips, "val": 0 if tfrecords else val_clips, "test": test_clips}
    cameras = list(CAMERAS) if tfrecords else [camera]
    wanted: dict[str, Any] = {"seed": seed, "held_out": held_out, "recipe": RECIPE, "frames_per_clip": frames}
    target = Records(out, size) if tfrecords else Stores(out, size, camera)
    target.check(counts, wanted, overwrite)
    frame_bytes = size**2 * 3 * len(cameras) + 4 * sum(ARRAYS.values())
    needed = sum(counts.values()) * frames * frame_bytes - size_of(out)
    check_disk(out, needed, "make fewer clips (--clips), or choose another disk (--out)")
    details = wanted | studio(size).software
    recipe = partial(make_clip, seed, frames=frames, size=size, cameras=cameras, held_out=held_out)
    costs, total = Costs(), sum(counts.values())
    with (
        processes(workers) as pool,
        tqdm(desc=f"simulating {out}", total=total, unit="clip", disable=not progress) as bar,
    ):
        for split, count in counts.items():
            target.write(split, count, partial(in_order, recipe, pool=pool), details, Watch(bar, costs))
    return costs


def _parser() -> Parser:
    parser = Parser(
        prog="python -m data.sawyer_push",
        description="Simulate a Sawyer arm that pushes toys about in a bin, and write the videos as a data set. "
        "`python -m data.sawyer_push report DIR` tells what happens in the clips of one.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=folder, default="datasets/sawyer_push", help="folder to make")
    add("--clips", type=int, default=2000, help="training clips")
    add("--val-clips", type=int, default=128, help="validation clips")
    add("--test-clips", type=int, default=256, help="test clips")
    add("--frames", type=int, default=30, help="frames a clip, 10 a second")
    add("--size", type=int, choices=SIZES, default=64, help="frame height and width (pixels)")
    add("--camera", choices=list(CAMERAS), default="aux1", help="aux1, opposite the robot, is like BAIR's image_aux1")
    add("--seed", type=int, default=0, help="clips follow from it and from their split and index")
    add("--held-out", action="store_true", help="keep five kinds of toys for the test split, which has no others")
    add("--workers", type=int, default=cores(), help="processes; the clips do not depend on it")
    add("--tfrecords", action="store_true", help="write both cameras in BAIR's layout instead, train and test")
    add("--overwrite", action="store_true", help="replace stores that are there and were made otherwise")
    return parser


@program("data.sawyer_push", interrupted="the same command carries on")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["report"]:
        parser = Parser(
            prog="python -m data.sawyer_push report", description="Tell what happens in the clips of a data set."
        )
        parser.add_argument("folder", type=folder, help="a store, or a data set (a folder of stores)")
        print(report(parser.parse_args(words[1:]).folder))
        return 0
    options = vars(_parser().parse_args(words))
    costs = make(**options)
    layout = (
        f"{bair_writer.FOLDER}/train and test, in BAIR's layout"
        if options["tfrecords"]
        else "clip stores train, val and test"
    )
    print(f"{options['out']}: {layout}\n{costs}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
