"""Results that outlive an interruption: one JSON line a clip, appended as each is done.

    FOLDER/NAME.PROTOCOL.jsonl      all that was kept: the line {"protocol": DIGEST}, then one line a clip, in order
    FOLDER/NAME.PROTOCOL.3.jsonl    what process 3 has added since

PROTOCOL is the digest's beginning, so that results of another checkpoint, seed, horizon, ... are never taken over, nor
overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from svg.files import replacing

Record = dict[str, Any]
"""JSON values; `clip` is the clip's number."""


class Journal:
    """The results of one protocol in a folder.

    Args:
        folder: made as needed.
        protocol: digest of all that the results depend on.
        name: of what they are.
    """

    def __init__(self, folder: Path, protocol: str, name: str = "clips") -> None:
        self.folder, self.protocol = folder, protocol
        self.path = folder / f"{name}.{protocol[:8]}.jsonl"

    def merge(self) -> None:
        """Gathers into one file what all processes wrote. For one process, while the others wait."""
        parts = sorted(self.folder.glob(f"{self.path.stem}.*.jsonl"))
        records = {record["clip"]: record for path in [self.path, *parts] for record in self._read(path)}
        with replacing(self.path) as temporary:
            temporary.write_text(self._lines(records[clip] for clip in sorted(records)), encoding="utf-8")
        for path in parts:
            path.unlink()

    def records(self) -> dict[int, Record]:
        """What the last `merge` gathered, by clip."""
        return {record["clip"]: record for record in self._read(self.path)}

    def append(self, records: Iterable[Record], process: int) -> None:
        """Adds results of one process; they are on their way to the disk when this returns."""
        path = self.path.with_suffix(f".{process}.jsonl")
        start = "" if path.exists() else self._lines([])
        with path.open("a", encoding="utf-8") as file:
            file.write(start + "".join(json.dumps(record) + "\n" for record in records))

    def _lines(self, records: Iterable[Record]) -> str:
        return "".join(json.dumps(line) + "\n" for line in [{"protocol": self.protocol}, *records])

    def _read(self, path: Path) -> list[Record]:
        """The records of a file of this protocol, up to the first line that is damaged or was being written."""
        values: list[Record] = []
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
                try:
                    values.append(json.loads(line if line.endswith("\n") else ""))
                except ValueError:
                    break
        return values[1:] if values[:1] == [{"protocol": self.protocol}] else []
