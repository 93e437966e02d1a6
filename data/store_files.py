"""The files of a clip store (`data/clips.py` says what they hold): manifest, growing .npy files, journal, checksums."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

FORMAT = "svg-lp clips"
VERSION = 1
MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"


class StoreError(ValueError):
    """A clip store that is damaged, missing or misused; the text is the line that a user reads."""


class Column:
    """A .npy file (rows, *row) that grows at its end; numpy pads the header so that it can be rewritten in place.

    Args:
        rows: how many rows of a file that is there to keep; what follows them is cut off.
    """

    def __init__(self, path: Path, dtype: type, row: tuple[int, ...], rows: int) -> None:
        self.path, self.dtype, self.row, self.rows = path, np.dtype(dtype), row, rows
        path.touch()
        self.file = open(path, "r+b")
        self._write_header()
        size = self.file.tell() + rows * self.dtype.itemsize * int(np.prod(row))
        if path.stat().st_size < size:
            raise StoreError(f"{path} is truncated: delete {path.parent} to start again")
        self.file.truncate(size)
        self.file.seek(size)

    def __enter__(self) -> Column:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def append(self, values: NDArray[Any]) -> None:
        """Adds rows (n, *row)."""
        self.file.write(np.ascontiguousarray(values, self.dtype).data)
        self.rows += len(values)

    def sync(self) -> None:
        """Makes the rows so far safe from a crash."""
        sync(self.file)

    def finish(self) -> None:
        """Writes the number of rows into the header, safely; until then a reader finds those of the beginning."""
        self._write_header()
        self.sync()

    def _write_header(self) -> None:
        self.file.seek(0)
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *self.row)}
        np.lib.format.write_array_header_1_0(self.file, header)
        self.file.flush()


class Journal:
    """What an interrupted writer had safely written, in journal.jsonl: its arguments, then a line a checkpoint.

    It is locked while it is open, so that two processes never write one store; the lock ends with its process.

    Args:
        folder: where the journal and the files are.
        heading: the writer's arguments.
        resume: keep the entries that are there, which then are in `entries`.

    Raises:
        StoreError: another process has it open, or it was begun with other arguments.
    """

    def __init__(self, folder: Path, heading: Mapping[str, Any], resume: bool) -> None:
        self.path = folder / JOURNAL
        self.entries: list[dict[str, Any]] = []
        self.file = open(self.path, "a+b")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._begin(json.loads(json.dumps(heading)), resume)
        except BlockingIOError:
            self.file.close()
            raise StoreError(f"{folder} is being written by another process: wait for it to end") from None
        except BaseException:
            self.file.close()
            raise

    def _begin(self, heading: dict[str, Any], resume: bool) -> None:
        self.file.seek(0)
        *lines, unfinished = self.file.read().split(b"\n")
        if not resume or not lines:
            self.file.truncate(0)
            self.write(heading)
            return
        again = f"delete {self.path.parent} to start again"
        try:
            begun, *self.entries = [json.loads(line) for line in lines]
        except ValueError:
            raise StoreError(f"{self.path} is damaged: {again}") from None
        begun, heading = ({**of.pop("details"), **of} for of in (begun, heading))
        if different := [key for key in heading if begun.get(key) != heading[key]]:
            raise StoreError(f"{self.path.parent} was begun with another {', '.join(different)}: {again}")
        self.file.truncate(self.file.tell() - len(unfinished))

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, entry: Mapping[str, Any]) -> None:
        """Adds a line, safe from a crash when this returns."""
        self.file.write(json.dumps(entry).encode() + b"\n")
        sync(self.file)


def file_names(arrays: Mapping[str, int]) -> list[str]:
    """The .npy files of a store with these per-frame arrays."""
    return [f"{name}.npy" for name in ("frames", "starts", "lengths", *arrays)]


def read_manifest(folder: Path) -> dict[str, Any]:
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
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}): make the store again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise StoreError(f"{path} is some other program's: {folder} is not a clip store")
    version = manifest.get("version")
    if version != VERSION:
        raise StoreError(f"{folder} has format version {version}, this code reads {VERSION}: update svg-lp")
    return manifest


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


def sync(file: IO[bytes]) -> None:
    """Flushes a file to the disk."""
    file.flush()
    os.fsync(file.fileno())
