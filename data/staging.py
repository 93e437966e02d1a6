"""Folders that appear whole or not at all, made by one process at a time, on a disk that has room for them."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from data.files import StoreError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from making a folder, or a file; the lock is a hidden sibling, and ends with the process.

    Raises:
        StoreError: another process is making it.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    lock = FileLock(path)
    while not (lock.is_locked and path.exists()):  # another process, which has just ended, may have removed it
        lock.release()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(f"{folder} is being written by another process: wait for it to end") from None
    try:
        yield
    finally:
        with suppress(PermissionError):  # Windows removes it on release
            path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def staged(out: Path, names: Collection[str], size: int, *, overwrite: bool, what: str) -> Iterator[Path]:
    """A folder to fill, which becomes `out` when the block ends without an exception.

    Args:
        names: what the folder may have; one with anything else is somebody's, and left alone.
        size: bytes that it will have, about.
        overwrite: replace an `out` that is there; it stays until the new one is whole.
        what: what is made, for messages.

    Raises:
        StoreError: `out` is there, is being made by another process, or does not fit on the disk.
    """
    target = out.resolve()
    with locked(out):
        recover_folder(target)
        if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - {*names}):
            raise StoreError(f"{out} exists and is not {what}, so it is left alone: choose another folder (--out)")
        if out.exists() and any(out.iterdir()) and not overwrite:
            raise StoreError(f"{out} exists: choose another folder, or give --overwrite to replace it")
        check_disk(out, size)
        stage = target.with_name(f".{target.name}.partial")
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        try:
            yield stage
            replace_folder(target, stage)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise


def replace_folder(target: Path, whole: Path) -> None:
    """Gives a whole folder the name of another, which is deleted; a kill leaves one of them under the name `target`,
    or, at the worst moment, both under hidden names, from which `recover_folder` brings the old one back."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    whole.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(target: Path) -> None:
    """Undoes a `replace_folder` that was killed half-way."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        old.rename(target)


def check_disk(folder: Path, size: float, remedy: str = "free some, or choose another --out") -> None:
    """Refuses to begin what won't fit.

    Args:
        folder: where `size` bytes will be written; its nearest ancestor that exists is asked.

    Raises:
        StoreError: there is less room than that.
    """
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if size * 1.02 > free:
        raise StoreError(f"{folder} needs {_gib(size)} GiB more, but {_gib(free)} GiB are free there: {remedy}")


def _gib(size: float) -> str:
    return f"{size / 2**30:,.2f}"
