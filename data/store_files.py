"""The files of a clip store (`data/clips.py` says what they hold): manifest, growing .npy files, journal, checksums."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data.files import StoreError, check, close, naming, parse_json, read_json, sync, writing
from data.ranges import RANGES, Range

FORMAT = "svg-lp clips"
VERSION = 1
MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"

T = TypeVar("T")


_Count = Annotated[int, Range(1, 2**62)]
_Side = Annotated[int, Range(1, 2**16, "pixels")]


class Heading(TypedDict):
    """What a writer is given: the beginning of a manifest, and the first line of a journal."""

    format: str
    version: int
    source: str
    split: str
    frame_shape: tuple[_Side, _Side, Annotated[int, Range(1, 2**10)]]
    fps: Annotated[float, RANGES["fps"]]
    arrays: dict[str, Annotated[int, Range(1, 2**20)]]
    details: dict[str, Any]


class FileEntry(TypedDict):
    """One file of a store, as the manifest has it."""

    bytes: _Count
    sha256: str


class Manifest(Heading):
    """manifest.json."""

    clips: _Count
    frames: _Count
    files: dict[str, FileEntry]


class Entry(TypedDict):
    """A checkpoint: a line of the journal."""

    lengths: list[_Count]
    crc32: dict[str, int]
    """Of the rows of each column so far."""
    state: Any


class Column:
    """A .npy file (rows, *row) that grows at its end; numpy pads the header so that it can be rewritten in place.

    Args:
        rows: how many rows of a file that is there to keep; what follows them is cut off.
        crc32: of those rows.

    Attributes:
        crc32: of all rows.

    Raises:
        StoreError: the rows to keep are not there any more, or others.
    """

    def __init__(self, path: Path, dtype: type, row: tuple[int, ...], rows: int = 0, crc32: int = 0) -> None:
        self.path, self.dtype, self.row, self.rows, self.crc32 = path, np.dtype(dtype), row, rows, 0
        path.touch()
        self.file = open(path, "r+b")
        try:
            self._write_header()
            size = self.file.tell() + rows * self.dtype.itemsize * math.prod(row)
            if path.stat().st_size < size:
                raise StoreError(f"{path} is truncated: delete {path.parent} to start again")
            self.file.truncate(size)
            while block := self.file.read(1 << 22):
                self.crc32 = zlib.crc32(block, self.crc32)
            if self.crc32 != crc32:
                raise StoreError(f"{path} is not as it was written: delete {path.parent} to start again")
        except BaseException:
            close(self.file)
            raise

    def __enter__(self) -> Column:
        return self

    def __exit__(self, *_: object) -> None:
        close(self.file)

    def append(self, values: NDArray[Any]) -> None:
        """Adds rows (n, *row)."""
        data = np.ascontiguousarray(values, self.dtype).data
        with writing(self.path):
            self.file.write(data)
        self.crc32 = zlib.crc32(data, self.crc32)
        self.rows += len(values)

    def sync(self) -> None:
        """Makes the rows so far safe from a crash."""
        with writing(self.path):
            sync(self.file)

    def finish(self) -> None:
        """Writes the number of rows into the header, safely; until then a reader finds those of the beginning."""
        self._write_header()
        self.sync()

    def _write_header(self) -> None:
        self.file.seek(0)
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *self.row)}
        with writing(self.path):
            np.lib.format.write_array_header_1_0(self.file, header)
            self.file.flush()


class Journal:
    """What an interrupted writer had safely written, in journal.jsonl: its heading, then a line a checkpoint.

    Each line is the CRC-32 of its JSON, in hexadecimal, and the JSON.

    Args:
        folder: where the journal and the files are.
        heading: the writer's arguments.
        resume: keep the entries that are there, which then are in `entries`.

    Raises:
        StoreError: it is damaged, or was begun with other arguments.
    """

    def __init__(self, folder: Path, heading: Mapping[str, Any], resume: bool) -> None:
        self.path = folder / JOURNAL
        self.entries: list[Entry] = []
        self.file = open(self.path, "a+b")
        try:
            self._begin(json.loads(json.dumps(heading)), resume)
        except BaseException:
            close(self.file)
            raise

    def _begin(self, heading: dict[str, Any], resume: bool) -> None:
        self.file.seek(0)
        *lines, unfinished = self.file.read().split(b"\n")
        if not resume or not lines:
            self.file.truncate(0)
            self.write(heading)
            return
        again = f"delete {self.path.parent} to start again"
        with naming(self.path, again):
            begun: dict[str, Any] = dict(_parse_line(lines[0], Heading))
            self.entries = [_parse_line(line, Entry) for line in lines[1:]]
        begun, heading = ({**of.pop("details"), **of} for of in (begun, heading))
        if different := [key for key in heading if begun.get(key) != heading[key]]:
            raise StoreError(f"{self.path.parent} was begun with another {', '.join(different)}: {again}")
        self.file.truncate(self.file.tell() - len(unfinished))

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        close(self.file)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Adds a line, safe from a crash when this returns."""
        text = json.dumps(entry).encode()
        with writing(self.path):
            self.file.write(b"%08x %s\n" % (zlib.crc32(text), text))
            sync(self.file)


def _parse_line(line: bytes, kind: type[T]) -> T:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise ValueError("is damaged (or of an earlier version)")
    return parse_json(text, kind)


def file_names(arrays: Mapping[str, int]) -> list[str]:
    """The .npy files of a store with these per-frame arrays."""
    return [f"{name}.npy" for name in ("frames", "starts", "lengths", *arrays)]


def read_manifest(folder: Path) -> Manifest:
    """A store's manifest.

    Raises:
        StoreError: there is no store, the manifest is damaged, or it is another program's or a newer version's.
    """
    path = folder / MANIFEST
    if not folder.exists():
        raise StoreError(f"{folder}: there is no such folder")
    if not path.is_file():
        splits = list_splits(folder)
        hint = f"it is a data set: open one of {', '.join(splits)} in it" if splits else f"it has no {MANIFEST}"
        raise StoreError(f"{folder} is not a clip store: {hint}")
    again = "make the store again"
    manifest = read_json(path, dict, again)
    if manifest.get("format") != FORMAT:
        raise StoreError(f"{path} is some other program's: {folder} is not a clip store")
    version = manifest.get("version")
    if version != VERSION:
        raise StoreError(
            f"{folder} has format version {json.dumps(version)[:20]}, this code reads {VERSION}: update svg-lp"
        )
    with naming(path, again):
        check(manifest, Manifest)
        if strange := [name for name in manifest["arrays"] if not usable_name(name)]:
            raise ValueError(f"has arrays named {', '.join(map(repr, strange))}")
        if missing := set(file_names(manifest["arrays"])) - manifest["files"].keys():
            raise ValueError(f"has no checksums of {', '.join(sorted(missing))}")
    return cast(Manifest, manifest)


def usable_name(array: str) -> bool:
    """Whether a per-frame array may have that name, which becomes a file's."""
    return array.isidentifier() and array not in ("frames", "starts", "lengths")


def list_splits(folder: Path) -> list[str]:
    """Names of the stores in a data set's folder; those of interrupted writers are hidden and left out."""
    usual = ("train", "val", "test")
    names = {path.parent.name for path in folder.glob(f"[!.]*/{MANIFEST}")}
    return sorted(names, key=lambda name: (usual.index(name) if name in usual else len(usual), name))


def file_digests(folder: Path, sizes: Mapping[str, int]) -> dict[str, str]:
    """SHA-256 of files of a folder, under a progress bar where it takes long."""
    digests = {}
    with tqdm(total=sum(sizes.values()), unit="B", unit_scale=True, desc="checksums", delay=2, leave=False) as bar:
        for name in sizes:
            sha = hashlib.sha256()
            with open(folder / name, "rb") as file:
                while block := file.read(1 << 22):
                    sha.update(block)
                    bar.update(len(block))
            digests[name] = sha.hexdigest()
    return digests
