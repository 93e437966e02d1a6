"""Where clips of the simulated Sawyer are written: clip stores, or files in BAIR's layout; both are carried on.

T frames, H W pixels.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from tqdm import tqdm

from data import bair_writer
from data.clips import MANIFEST, ClipStore, ClipWriter, StoreError
from data.files import check, naming, read_json, writing
from data.sawyer_push_rules import ARRAYS, FPS
from data.sawyer_push_studio import SPLITS, Clip
from data.staging import locked
from data.store_files import JOURNAL

CAMERAS = {"aux1": "image_aux1", "main": "image_main"}
"""The cameras, and the names of their counterparts in BAIR's records."""
Simulate = Callable[[Iterable[tuple[str, int]]], Generator[Clip]]
"""The clips of jobs (split, index), in their order."""
CHECKPOINT = 64
"""Clips between checkpoints."""


@dataclass
class Costs:
    """What making clips took, added up over processes."""

    began: float = field(default_factory=time.monotonic)
    clips: int = 0
    pictures: int = 0
    takes: int = 0
    physics: float = 0.0
    """Processor time (s)."""
    painting: float = 0.0
    """Processor time (s)."""

    def add(self, clip: Clip) -> None:
        """Count a clip."""
        self.clips += 1
        self.pictures += sum(len(frames) for frames in clip.frames.values())
        self.takes += clip.takes
        self.physics += clip.seconds[0]
        self.painting += clip.seconds[1]

    def __str__(self) -> str:
        busy, elapsed = self.physics + self.painting, time.monotonic() - self.began
        if not self.clips:
            return "nothing was left to make"
        return (
            f"{self.clips:,} clips of {self.takes:,} takes, {self.pictures:,} pictures in {elapsed:,.0f} s; "
            f"{self.pictures / busy:.0f} pictures a second of processor time: physics {self.physics / busy:.0%}, "
            f"rendering {self.painting / busy:.0%}"
        )


@dataclass(frozen=True)
class Watch:
    """Whoever is told of each clip."""

    bar: tqdm
    costs: Costs

    def skip(self, clips: int) -> None:
        """Clips that were there."""
        self.bar.update(clips)

    def clip(self, clip: Clip) -> None:
        """A clip that was made."""
        self.costs.add(clip)
        self.bar.update()


class Progress(TypedDict):
    """What the journal says at a checkpoint."""

    takes: int


class Stores:
    """A data set of clip stores."""

    def __init__(self, out: Path, size: int, camera: str) -> None:
        self.out, self.size, self.camera = out, size, camera
        self.done: set[str] = set()

    def check(self, counts: dict[str, int], wanted: dict[str, Any], overwrite: bool) -> None:
        """Find the stores that are there; refuse those that are otherwise than wanted."""
        hidden = (f".{split}.{end}" for split in SPLITS for end in ("partial", "old", "lock"))
        _refuse_others(self.out, {*SPLITS, *hidden})
        self.overwrite = overwrite
        for split, count in counts.items():
            if not (self.out / split / MANIFEST).exists():
                continue
            store = ClipStore(self.out / split)
            there = store.manifest["details"] | {"clips": len(store), "size": store.frame_shape[0]}
            asked = wanted | {"camera": self.camera, "clips": count, "size": self.size}
            different = [name for name, value in asked.items() if there.get(name) != value]
            if not different:
                self.done.add(split)
            elif not overwrite:
                raise StoreError(
                    f"{store.folder} is there, with another {', '.join(different)}: choose another --out, or give "
                    "--overwrite to replace it"
                )

    def write(
        self,
        split: str,
        count: int,
        simulate: Simulate,
        details: dict[str, Any],
        watch: Watch,
    ) -> None:
        """Write a split, from its last checkpoint on."""
        if split in self.done:
            watch.skip(count)
            return
        with ClipWriter(
            self.out / split,
            frame_shape=(self.size, self.size, 3),
            fps=FPS,
            source="simulated Sawyer pushing toys",
            split=split,
            arrays=ARRAYS,
            details=details | {"camera": self.camera, "clips": count},
            overwrite=self.overwrite,
            resume=True,
        ) as writer:
            progress = writer.state or Progress(takes=0)
            with naming(writer.partial / JOURNAL, f"delete {writer.partial} to start again"):
                check(progress, Progress)
            takes = progress["takes"]
            watch.skip(len(writer))
            jobs = ((split, index) for index in range(len(writer), count))
            with closing(simulate(jobs)) as made:
                for clip in made:
                    arrays = {"actions": clip.actions, "endeffector_pos": clip.positions, "toy_pos": clip.toys}
                    writer.append(clip.frames[self.camera], **arrays, gripper_pixel=clip.gripper[self.camera])
                    takes += clip.takes
                    watch.clip(clip)
                    if len(writer) % CHECKPOINT == 0:
                        writer.checkpoint({"takes": takes})
            writer.details["takes"] = takes


class Records:
    """A data set in BAIR's layout, with a note of how it was made beside it."""

    NOTE = "sawyer_push.json"

    def __init__(self, out: Path, size: int) -> None:
        self.out, self.size = out, size
        self.stale = False

    def check(self, counts: dict[str, int], wanted: dict[str, Any], overwrite: bool) -> None:
        """Refuse files that are there and were made otherwise, or delete them."""
        _refuse_others(self.out, {bair_writer.FOLDER, self.NOTE, f".{self.NOTE}.partial"})
        self.wanted = wanted | {"size": self.size, "clips": counts}
        note = self.out / self.NOTE
        again = f"delete {self.out} to start again"
        there = read_json(note, dict[str, Any], again) if note.exists() else {}
        different = [name for name, value in self.wanted.items() if there.get(name) != value]
        if different and (self.out / bair_writer.FOLDER).exists():
            if not overwrite:
                raise StoreError(
                    f"{self.out} is there, with another {', '.join(different)}: choose another --out, or give "
                    "--overwrite to replace it"
                )
            self.stale = True

    def write(
        self,
        split: str,
        count: int,
        simulate: Simulate,
        details: dict[str, Any],
        watch: Watch,
    ) -> None:
        """Write the files of a split that are not there."""
        if not count:
            return
        with locked(self.out):
            self._write(split, count, simulate, details, watch)

    def _write(self, split: str, count: int, simulate: Simulate, details: dict[str, Any], watch: Watch) -> None:
        if self.stale:
            shutil.rmtree(self.out / bair_writer.FOLDER)
            self.stale = False
        self.out.mkdir(parents=True, exist_ok=True)
        partial = self.out / f".{self.NOTE}.partial"
        with writing(self.out / self.NOTE):
            partial.write_text(json.dumps(details | self.wanted, indent=2), encoding="utf-8")
        partial.rename(self.out / self.NOTE)
        folder = self.out / bair_writer.FOLDER / split
        folder.mkdir(parents=True, exist_ok=True)
        spans = bair_writer.file_spans(count)
        missing = [span for span in spans if not (folder / bair_writer.file_name(*span)).exists()]
        watch.skip(count - sum(last + 1 - first for first, last in missing))
        jobs = ((split, index) for first, last in missing for index in range(first, last + 1))
        with closing(simulate(jobs)) as made:

            def records() -> Iterator[dict[str, Any]]:
                for clip in made:
                    watch.clip(clip)
                    yield bair_writer.features(clip.frames, CAMERAS, clip.actions, clip.positions)

            stream = records()
            for first, last in missing:
                bair_writer.write_file(folder / bair_writer.file_name(first, last), stream, last + 1 - first)


def _refuse_others(out: Path, ours: set[str]) -> None:
    """Leave alone what is not a data set of this program."""
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - ours):
        raise StoreError(f"{out} exists and is not such a data set, so it is left alone: choose another --out")


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder; none, where there is no folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
