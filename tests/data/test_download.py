"""Downloads against a real server on this machine: resumed, checked, and never taken for whole when they aren't."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from data import download as module
from data.download import DownloadError, download
from data.files import StoreError
from data.staging import locked

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; how badly is set by its attributes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.ranges = True
        self.cuts: list[int] = []
        """Bytes after which each next response breaks off."""
        self.requested: list[int] = []
        """First byte of each request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.tar"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content, start = self.server.content, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if self.path != "/set.tar":
            return self.send_error(404)
        if asked and self.server.ranges:
            start = int(asked[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.server.requested.append(start)
        until = start + self.server.cuts.pop(0) if self.server.cuts else len(content)
        self.wfile.write(content[start:until])
        return None

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "set.tar"


def test_a_file_is_downloaded_once(server: Server, path: Path) -> None:
    for _ in range(2):
        download(server.url, path, len(CONTENT), SHA256)
        assert path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]
    assert server.requested == [0]


def test_a_broken_connection_is_taken_up_where_it_broke(server: Server, path: Path) -> None:
    server.cuts = [1_000_001, 70_000]
    download(server.url, path, len(CONTENT), SHA256, wait=0)
    assert path.read_bytes() == CONTENT and server.requested == [0, 1_000_001, 1_070_001]


def test_the_same_command_carries_on(server: Server, path: Path) -> None:
    server.cuts = [1_500_000, 0]
    with pytest.raises(DownloadError, match=r"1,500,000 of 3,000,000 bytes are there, the same command carries on"):
        download(server.url, path, len(CONTENT), SHA256, attempts=1, wait=0)
    assert not path.exists()
    download(server.url, path, len(CONTENT), SHA256)
    assert path.read_bytes() == CONTENT and server.requested == [0, 1_500_000, 1_500_000]


def test_a_killed_download_leaves_a_partial_file_that_is_finished(server: Server, path: Path) -> None:
    path.parent.mkdir()
    path.with_name("set.tar.partial").write_bytes(CONTENT)  # whole, but not yet checked
    download(server.url, path, len(CONTENT), SHA256)
    assert path.read_bytes() == CONTENT and server.requested == []


def test_an_overlong_partial_file_is_begun_anew(server: Server, path: Path) -> None:
    path.parent.mkdir()
    path.with_name("set.tar.partial").write_bytes(CONTENT + b"x")
    download(server.url, path, len(CONTENT), SHA256)
    assert path.read_bytes() == CONTENT and server.requested == [0]


def test_a_server_without_ranges_starts_again(server: Server, path: Path) -> None:
    server.ranges, server.cuts = False, [1_000_000]
    download(server.url, path, len(CONTENT), SHA256, wait=0)
    assert path.read_bytes() == CONTENT and server.requested == [0, 0]


def test_wrong_bytes_are_not_kept(server: Server, path: Path) -> None:
    server.content = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    with pytest.raises(DownloadError, match=rf"has SHA-256 [0-9a-f]{{64}}, not {SHA256}; it was deleted"):
        download(server.url, path, len(CONTENT), SHA256)
    assert list(path.parent.iterdir()) == []


def test_another_file_is_not_downloaded(server: Server, path: Path) -> None:
    server.content = CONTENT[:-1]
    with pytest.raises(DownloadError, match=r"the server's file has 2,999,999 bytes, not 3,000,000"):
        download(server.url, path, len(CONTENT), SHA256)
    assert list(path.parent.iterdir()) == []


def test_a_file_that_is_in_the_way_is_left(server: Server, path: Path) -> None:
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(DownloadError, match=r"is there already, but is not the file of 3,000,000 bytes: move it away"):
        download(server.url, path, len(CONTENT), SHA256)
    assert path.read_text() == "mine"


def test_what_the_server_refuses(server: Server, path: Path) -> None:
    with pytest.raises(DownloadError, match="the server answers 404"):
        download(server.url.replace("set", "pet"), path, len(CONTENT), SHA256)


def test_nobody_there(path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/set.tar"
        with pytest.raises(DownloadError, match=r"refused; 0 of 3,000,000 bytes are there"):
            download(url, path, len(CONTENT), SHA256, attempts=2, wait=0)


def test_a_small_disk(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2_999_999}))
    with pytest.raises(DownloadError, match=r"needs 0\.0 GiB more, but 0\.0 GiB are free"):
        download(server.url, path, len(CONTENT), SHA256)
    assert server.requested == []


def test_two_downloads_of_one_file(server: Server, path: Path) -> None:
    """The second is refused; else both would append to the same partial file."""
    with locked(path), pytest.raises(StoreError, match="set.tar is being written by another process"):
        download(server.url, path, len(CONTENT), SHA256)
    download(server.url, path, len(CONTENT), SHA256)
    assert [found.name for found in path.parent.iterdir()] == ["set.tar"]
