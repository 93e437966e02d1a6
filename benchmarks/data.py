"""What the data path delivers: windows from the store, simulated clips, converted records.

python -m benchmarks.data
"""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.harness import parse, parser, publish, timed
from data import bair, robot_push
from data.clips import ClipStore
from data.sampling import Windows, batches, loader

BATCHES = 40


def read(windows: Windows, batch: int, workers: int) -> None:
    """Takes some batches from the loader."""
    for _ in loader(windows, batches(0, BATCHES, batch), workers):
        pass


def main() -> None:
    """Measures and publishes."""
    made = parser(__doc__)
    made.add_argument("--clips", type=int, default=256)
    made.add_argument("--batch", type=int, default=100)
    options = parse(made)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"clips": options.clips, "val_clips": 1, "test_clips": 1, "progress": False}
        spent = timed(lambda: robot_push.make(f"{folder}/stores", **sizes))
        rows.append({"": "simulate, one camera", "clips/s": round((options.clips + 2) / spent)})
        spent = timed(lambda: robot_push.make(f"{folder}/records", tfrecords=True, **sizes))
        rows.append({"": "simulate to TFRecords, both cameras", "clips/s": round((options.clips + 1) / spent)})
        spent = timed(lambda: bair.convert(Path(folder, "records"), Path(folder, "bair")))
        rows.append({"": "convert TFRecords to a store", "clips/s": round((options.clips + 1) / spent)})
        windows = Windows(ClipStore(f"{folder}/stores/train"), 12, seed=0)
        for workers in (0, 1, 2):
            spent = statistics.median(
                timed(partial(read, windows, options.batch, workers)) for _ in range(options.rounds)
            )
            rate = round(BATCHES * options.batch / spent)
            rows.append({"": f"windows of 12 frames, {workers} workers", "clips/s": rate})
    publish("data", rows, options, f"Batches of {options.batch}; start-up included.")


if __name__ == "__main__":
    main()
