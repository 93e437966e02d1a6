"""The clip store: the one format that training and evaluation read.

A store is a folder:
    manifest.json   format version, source, split, frame shape, fps, counts; size and SHA-256 of each file
    frames.npy      uint8 (F, H, W, C), the frames of all clips one after another, memory-mapped
    starts.npy      int64 (N,), the row of each clip's first frame
    lengths.npy     int64 (N,), the frames of each clip (clips may differ; an image is a clip of length 1)
    NAME.npy        float32 (F, K), one file for each per-frame array (actions, end-effector positions)

F frames of all clips, N clips, T frames of one clip, H W pixels, C channels, K values per frame.

    python -m data.clips info DIR      what a store, or a data set of stores, holds
    python -m data.clips verify DIR    compare every byte with the checksums
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Literal

from data.files import StoreError
from data.program import folder, program
from data.store_files import MANIFEST
from data.store_reader import ClipStore, stores
from data.store_writer import ClipWriter

__all__ = ["MANIFEST", "ClipStore", "ClipWriter", "StoreError", "stores"]


def _describe(store: ClipStore) -> str:
    height, width, channels = store.frame_shape
    shortest, longest = store.lengths.min(), store.lengths.max()
    span = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
    arrays = ", ".join(f"{name} ({width})" for name, width in store.arrays.items()) or "none"
    size = sum(store.sizes.values()) / 2**20
    return (
        f"{store.folder}: {store.split}, {len(store):,} clips of {span} frames, {height}x{width}x{channels} at "
        f"{store.fps:g} fps, {size:,.1f} MiB\n  source: {store.manifest['source']}\n  arrays: {arrays}"
    )


@program("data.clips", interrupted="nothing was changed")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m data.clips", description="Look at or check clip stores.")
    parser.add_argument("command", choices=("info", "verify"), help="info: what is there; verify: compare checksums")
    parser.add_argument("folder", type=folder, help="a store, or a data set (a folder of stores)")
    options = parser.parse_args(arguments)
    command: Literal["info", "verify"] = options.command
    for store in stores(options.folder):
        if command == "info":
            print(_describe(store))
        else:
            store.verify()
            print(f"{store.folder}: {len(store.verified)} files as written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
