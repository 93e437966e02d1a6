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
    python -m data.clips sheet DIR --out FILE.png                 a contact sheet of a store
    python -m data.clips merge --out OUT DIR DIR ...              several stores, or data sets, into one
    python -m data.clips split --out OUT DIR --val N --test N     a store into a data set of train, val and test
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from data.files import StoreError
from data.program import Parser, folder, program
from data.store_files import MANIFEST
from data.store_joined import JoinedStore, Store
from data.store_reader import ClipStore, stores
from data.store_sheet import write_sheet
from data.store_tools import merge, split
from data.store_writer import ClipWriter

__all__ = ["MANIFEST", "ClipStore", "ClipWriter", "JoinedStore", "Store", "StoreError", "merge", "split", "stores"]


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


def _parser() -> Parser:
    parser = Parser(prog="python -m data.clips", description="Look at, check, join clip stores.")
    commands = parser.add_subparsers(dest="command", required=True)
    where = "a store, or a data set (a folder of stores)"
    commands.add_parser("info", help="what is there").add_argument("folder", type=folder, help=where)
    commands.add_parser("verify", help="compare checksums").add_argument("folder", type=folder, help=where)
    sheet = commands.add_parser("sheet", help="a contact sheet: clips below one another, their frames side by side")
    sheet.add_argument("folder", type=folder, help="a store")
    sheet.add_argument("--out", type=folder, required=True, help="picture to write")
    sheet.add_argument("--clips", type=int, default=12, help="rows at most")
    sheet.add_argument("--frames", type=int, default=8, help="columns at most")
    sheet.add_argument("--scale", type=int, default=1, help="pixels of the sheet a pixel of a frame")
    merging = commands.add_parser("merge", help="several stores, or data sets split by split, into one")
    merging.add_argument("folders", type=folder, nargs="+", help="two or more stores, or two or more data sets")
    merging.add_argument("--out", type=folder, required=True, help="store, or data set, to make")
    splitting = commands.add_parser("split", help="a store into a data set of train, val and test")
    splitting.add_argument("folder", type=folder, help="a store")
    splitting.add_argument("--out", type=folder, required=True, help="data set to make")
    splitting.add_argument("--val", type=int, default=0, help="validation clips, drawn at random")
    splitting.add_argument("--test", type=int, default=0, help="test clips, drawn at random")
    splitting.add_argument("--seed", type=int, default=0, help="of the draw")
    return parser


@program("data.clips", interrupted="nothing was written")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.command == "info":
        for store in stores(options.folder):
            print(_describe(store))
    elif options.command == "verify":
        for store in stores(options.folder):
            store.verify()
            print(f"{store.folder}: {len(store.verified)} files as written")
    elif options.command == "sheet":
        numbers = {"clips": options.clips, "frames": options.frames, "scale": options.scale}
        print(write_sheet(options.folder, options.out, **numbers))
    else:
        if options.command == "merge":
            made = merge(options.out, options.folders)
        else:
            made = split(options.folder, options.out, val=options.val, test=options.test, seed=options.seed)
        for store in map(ClipStore, made):
            print(_describe(store))
    return 0


if __name__ == "__main__":
    sys.exit(main())
