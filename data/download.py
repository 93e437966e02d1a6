"""Downloading one large file: resumed where it stopped, accepted only with the right size and SHA-256."""

from __future__ import annotations

import errno
import os
import shutil
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from tqdm import tqdm

from data.files import writing
from data.staging import locked
from data.store_files import file_digests

_BLOCK = 1 << 20
_TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as lost."""


class DownloadError(ValueError):
    """A download that failed; the text is the line that a user reads."""


def download(
    url: str, path: str | os.PathLike[str], size: int, sha256: str, *, attempts: int = 5, wait: float = 5.0
) -> None:
    """Downloads a file, or what is missing of it; nothing is done where it is there.

    Until it is whole and checked it is `PATH.partial`. A lost connection is taken up again, after `wait` seconds, until
    `attempts` in a row have brought nothing; then the same call again carries on.

    Args:
        url: http or https; the server should know ranges (RFC 9110, section 14), else each attempt starts anew.
        size: bytes.
        sha256: hexadecimal.

    Raises:
        StoreError: another process downloads it.
        DownloadError: the disk is too small, the server refuses or can't be reached, or size or checksum are wrong.
    """
    path = Path(path)
    if path.exists():
        if not path.is_file() or path.stat().st_size != size:
            raise DownloadError(f"{path} is there already, but is not the file of {size:,} bytes: move it away")
        return
    with locked(path):
        _download(url, path, size, sha256, attempts, wait)


def _download(url: str, path: Path, size: int, sha256: str, attempts: int, wait: float) -> None:
    partial = path.with_name(f"{path.name}.partial")
    if _size(partial) > size:
        partial.unlink()
    missing, free = size - _size(partial), shutil.disk_usage(path.parent).free
    if missing > free:
        raise DownloadError(
            f"{path} needs {missing / 2**30:.1f} GiB more, but {free / 2**30:.1f} GiB are free there: free some"
        )
    failures = 0
    with tqdm(total=size, initial=_size(partial), unit="B", unit_scale=True, desc=path.name) as bar:
        while _size(partial) < size:
            before = _size(partial)
            try:
                _fetch(url, partial, size, bar)
                reason = "the connection was lost"
            except urllib.error.HTTPError as error:
                raise DownloadError(f"{url}: the server answers {error.code} {error.reason}") from None
            except (OSError, HTTPException) as error:  # URLError is an OSError; so are timeouts and resets
                if getattr(error, "errno", None) == errno.ENOSPC:
                    raise
                reason = str(getattr(error, "reason", error))
            if _size(partial) < size:
                failures = 0 if _size(partial) > before else failures + 1
                if failures == attempts:
                    raise DownloadError(
                        f"{url}: {reason}; {_size(partial):,} of {size:,} bytes are there, the same command carries on"
                    )
                time.sleep(wait)
    digest = file_digests(partial.parent, {partial.name: size})[partial.name]
    if digest != sha256:
        partial.unlink()
        raise DownloadError(
            f"{url}: what arrived has SHA-256 {digest}, not {sha256}; it was deleted: run the same command again"
        )
    partial.rename(path)


def _fetch(url: str, partial: Path, size: int, bar: tqdm) -> None:
    """Appends what is missing to the partial file, as far as the connection lasts."""
    start = _size(partial)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        ranged = response.status == HTTPStatus.PARTIAL_CONTENT
        offered = _offered(response, ranged)
        if offered not in (None, size):
            raise DownloadError(f"{url}: the server's file has {offered:,} bytes, not {size:,}: it is another file")
        with open(partial, "ab" if ranged else "wb") as file:
            bar.update(file.tell() - bar.n)
            while block := response.read(_BLOCK):
                with writing(partial):
                    file.write(block)
                bar.update(len(block))


def _offered(response: HTTPResponse, ranged: bool) -> int | None:
    """Bytes of the whole file, as far as the server says."""
    text = (
        response.headers.get("Content-Range", "").rpartition("/")[2] if ranged else response.headers["Content-Length"]
    )
    return int(text) if text and text.isdecimal() and len(text) < 20 else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
