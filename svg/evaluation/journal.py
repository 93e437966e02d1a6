"""Results that outlive an interruption: one JSON line a clip, appended as each is done; and the work on one clip after
another, shared by processes, that goes on from them.

    FOLDER/NAME.PROTOCOL.jsonl      all that was kept: the line {"format": 2, "protocol": DIGEST}, then a line a clip,
                                    each with a checksum of its own
    FOLDER/NAME.PROTOCOL.3.jsonl    what process 3 has added since

PROTOCOL is the digest's beginning, so that results of another checkpoint, seed, horizon, ... are never taken over, nor
overwritten. Journals of an earlier format, whose digests meant something else, are set aside under `.old`.

B clips, T frames, C channels, H W pixels.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from svg.runtime.files import replacing, writing

Record = dict[str, Any]
"""JSON values; `clip` is the clip's number."""
Work = Callable[[Tensor, Tensor, Callable[[int], object]], list[Record]]
"""uint8 frames (B, T, C, H, W) on the device, clip numbers (B,), and what to tell of futures that are done, to
records."""

FORMAT = 2
"""Number of the journal's format; the first, which was not numbered, had digests of prose."""
GPU_FUTURES = 1024
"""Futures that a GPU has at once, as far as the memory budget allows."""


class Journal:
    """The results of one protocol in a folder.

    Args:
        folder: made as needed.
        protocol: digest of all that the results depend on.
        name: of what they are.
    """

    def __init__(self, folder: Path, protocol: str, name: str = "clips") -> None:
        self.folder, self.protocol, self.name = folder, protocol, name
        self.path = folder / f"{name}.{protocol[:8]}.jsonl"

    def merge(self) -> None:
        """Gathers into one file what all processes wrote. For one process, while the others wait."""
        parts = sorted(self.folder.glob(f"{self.path.stem}.*.jsonl"))
        records = {record["clip"]: record for path in [self.path, *parts] for record in self._read(path)}
        with replacing(self.path) as temporary:
            temporary.write_text(self._lines(records[clip] for clip in sorted(records)), encoding="utf-8")
        for path in parts:
            path.unlink()

    def set_aside(self) -> list[Path]:
        """Renames the journals of earlier formats, and gives their new names. For one process, as `merge`."""
        old = []
        for path in sorted(self.folder.glob(f"{self.name}.*.jsonl")):
            with path.open(encoding="utf-8", errors="replace") as file:
                earlier = file.readline().startswith('{"protocol":')
            if earlier:
                old.append(path.replace(path.with_name(path.name + ".old")))
        return old

    def records(self) -> dict[int, Record]:
        """What the last `merge` gathered, by clip."""
        return {record["clip"]: record for record in self._read(self.path)}

    def append(self, records: Iterable[Record], process: int) -> None:
        """Adds results of one process; they are on their way to the disk when this returns."""
        path = self.path.with_suffix(f".{process}.jsonl")
        start = "" if path.exists() else self._lines([])
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(start + "".join(map(_line, records)))

    @property
    def _header(self) -> Record:
        return {"format": FORMAT, "protocol": self.protocol}

    def _lines(self, records: Iterable[Record]) -> str:
        return json.dumps(self._header) + "\n" + "".join(map(_line, records))

    def _read(self, path: Path) -> list[Record]:
        """The records of a file of this protocol, without those that are damaged or were being written."""
        if not path.exists():
            return []
        header, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        if header != json.dumps(self._header):
            return []
        return [record for record in map(_record, lines) if record is not None]


def _line(record: Record) -> str:
    """A record as a line of JSON, with the checksum of the rest as its last entry."""
    return json.dumps({**record, "crc32": _checksum(record)}) + "\n"


def _record(line: str) -> Record | None:
    """The record of a line; None where its checksum is another."""
    try:
        record = json.loads(line)
        found = record.pop("crc32")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None
    return record if found == _checksum(record) else None


def _checksum(record: Record) -> int:
    return zlib.crc32(json.dumps(record).encode())


def each_clip(
    state: PartialState,
    clips: Sequence[int],
    read: Callable[[Sequence[int], int], Iterable[Mapping[str, Any]]],
    journal: Journal,
    title: str,
    work: Work,
    samples: int = 1,
) -> list[Record]:
    """A record of every clip: those that an interrupted evaluation left, and the others, which the processes share.

    Args:
        read: some clips and a batch size to batches of `frames` and `index`.
        title: what the progress bar says.
        samples: futures that `work` draws of a clip.
    """
    if state.is_main_process:
        for path in journal.set_aside():
            tqdm.write(f"{title}: {path} is of an earlier version and set aside; its clips are measured again")
        journal.merge()
    state.wait_for_everyone()
    done = journal.records()
    if state.is_main_process and (kept := sum(clip in done for clip in clips)):
        tqdm.write(f"{title}: kept {kept} of {len(clips)} clips from before")
    size = 1 if state.device.type == "cpu" else max(1, GPU_FUTURES // samples)
    groups = [clips[first : first + size] for first in range(0, len(clips), size)]
    share = [clip for group in groups[state.process_index :: state.num_processes] for clip in group if clip not in done]
    hidden = None if state.is_main_process else True  # None: where nobody watches
    unit = "future" if samples > 1 else "clip"
    with tqdm(total=len(share) * samples, desc=title, unit=unit, disable=hidden) as bar:
        for batch in read(share, size):
            journal.append(work(batch["frames"].to(state.device), batch["index"], bar.update), state.process_index)
    state.wait_for_everyone()
    if state.is_main_process:
        journal.merge()
    state.wait_for_everyone()
    done = journal.records()
    return [done[clip] for clip in clips]
