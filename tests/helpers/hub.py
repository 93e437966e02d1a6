"""A Hub on 127.0.0.1 that keeps models in memory, with what huggingface_hub needs for uploads and downloads."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "a" * 40


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    models: dict[str, dict[str, bytes]]
    blobs: dict[str, bytes]

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0].strip("/")
        parts = path.split("/")
        if path == "api/validate-yaml":
            self.reply({"errors": [], "warnings": []})
        elif path == "api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.models.setdefault(name, {})
            self.reply({"name": name, "url": f"{self.address}/{name}"})
        elif parts[-2:-1] == ["preupload"]:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = ["lfs" if name.endswith(".safetensors") else "regular" for name in names]
            files = [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in zip(names, modes, strict=True)]
            self.reply({"files": files})
        elif path.endswith("info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for item in objects:
                item["actions"] = {"upload": {"href": f"{self.address}/blobs/{item['oid']}", "header": {}}}
            self.reply({"transfer": "basic", "objects": objects})
        elif parts[0] == "blobs":
            assert hashlib.sha256(body).hexdigest() == parts[1]
            self.blobs[parts[1]] = body
            self.reply({})
        elif parts[-2:-1] == ["commit"]:
            self.commit("/".join(parts[2:4]), [json.loads(line) for line in body.splitlines()])
        elif parts[2:3] == ["resolve"]:
            self.resolve("/".join(parts[:2]), parts[3], parts[4])
        else:
            self.reply({}, 404)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def commit(self, name: str, entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            value = entry["value"]
            if entry["key"] == "file":
                self.models[name][value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.models[name][value["path"]] = self.blobs[value["oid"]]
        self.reply({"success": True, "commitUrl": f"{self.address}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    def resolve(self, name: str, revision: str, file: str) -> None:
        known = [(name in self.models, "RepoNotFound"), (revision in ("main", COMMIT), "RevisionNotFound")]
        known.append((file in self.models.get(name, {}), "EntryNotFound"))
        missing = [code for there, code in known if not there]
        if missing:
            self.reply({}, 404, {"X-Error-Code": missing[0], "X-Error-Message": missing[0]})
        else:
            content = self.models[name][file]
            etag = hashlib.sha256(content).hexdigest()
            self.reply(content, headers={"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    @property
    def address(self) -> str:
        return f"http://{self.headers['Host']}"

    def reply(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@contextmanager
def hub() -> Iterator[tuple[str, dict[str, dict[str, bytes]]]]:
    """A running Hub: its address, and its models' files by name."""
    models: dict[str, dict[str, bytes]] = {}
    handler = type("Handler", (_Handler,), {"models": models, "blobs": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", models
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
