"""One model's evaluation on the clips of a store, by all processes together: scores, bounds, FVD, and clips to look
at."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from svg.config import Config
from svg.evaluation.bounds import Bounds, clip_bounds, needs_refit, refit, summarise_bounds, why_undefined
from svg.evaluation.gallery import Shown, show
from svg.evaluation.journal import Journal, Work, each_clip
from svg.evaluation.protocol import Measures, Protocol, Scale, versions
from svg.evaluation.scores import Futures, Record, clip_features, drawn_arrays, score_clips, unpack_features
from svg.evaluation.summary import Entry, summarise, summarise_ensemble, summarise_intervals, summarise_rollouts
from svg.metrics import METRICS
from svg.metrics.fid import FEATURES, FID, ImageFeatures, fid
from svg.metrics.fvd import FVD, Convention, VideoFeatures, fvd
from svg.models.svg_lp import SVG

Batches = Iterable[Mapping[str, Any]]


class Clips(typing.Protocol):
    """What is needed of a clip store (data/clips.py)."""

    folder: Path

    @property
    def lengths(self) -> Any: ...
    @property
    def fps(self) -> float: ...
    @property
    def manifest(self) -> Any: ...
    @property
    def verified(self) -> Collection[str]: ...
    def frames(self, clip: int, start: int = 0, length: int | None = None) -> Any: ...
    def verify(self) -> None: ...


@dataclass(frozen=True)
class Evaluation:
    """A model, the clips it is evaluated on, and the processes that share them."""

    name: str
    model: SVG
    config: Config
    """Of its training."""
    source: Path
    """The folder of its weights."""
    store: Clips
    clips: list[int]
    read: Callable[[Sequence[int], int, int], Batches]
    """The first frames of some clips: (clips, frames, batch size) to batches."""
    futures: Futures
    out: Path
    state: PartialState

    def say(self, line: str) -> None:
        """Prints a line, once."""
        if self.state.is_main_process:
            tqdm.write(line)

    def freeze_scale(self, training: Callable[[Sequence[int]], Batches] | None, windows: int) -> Scale:
        """Refits what training fitted to its own batches, over some training windows that the processes share.

        Args:
            training: numbers of windows to batches, where there are training clips.

        Returns:
            Where the scale is from.
        """
        if not needs_refit(self.model):
            return Scale()
        if training is None or not windows:
            return Scale("running")
        share = range(self.state.process_index, windows, self.state.num_processes)
        bar = tqdm(training(share), desc="refit", unit="batch", disable=None if self.state.is_main_process else True)
        batches = ({name: value.to(self.state.device) for name, value in batch.items()} for batch in bar)
        refit(self.model, self.config, batches)
        return Scale("refit", windows)

    def measure(self, measures: Measures, scale: Scale, importance: int) -> tuple[Entry, list[Record]]:
        """All that was asked for: what metrics.json holds, and the records of the clips' rollouts."""
        if why_undefined(self.model):
            measures = dataclasses.replace(measures, calibration=False)
        protocol = self.protocol(measures, scale)
        run = {"clips": len(self.clips), "device": self.state.device.type, "processes": self.state.num_processes}
        entry: Entry = {"name": self.name, "protocol": protocol.stated(), "run": run | versions()}
        records = self.scores(protocol) if measures.rollouts else []
        if records:
            entry |= {"results": summarise(records), "ensemble": summarise_ensemble(records)}
        if measures.calibration:
            entry["calibration"] = summarise_rollouts(records)
            if self.futures.calibrated:
                entry["intervals"] = summarise_intervals(records)
        if measures.likelihood:
            entry["likelihood"] = self.likelihood(protocol, importance)
        if measures.features:
            distance = self.distance(protocol)
            entry["fvd"] = dataclasses.asdict(distance) | {"note": distance.note, "text": str(distance)}
        if measures.inception:
            of_frames = self.frame_distance(measures.inception, protocol)
            entry["fid"] = dataclasses.asdict(of_frames) | {"note": of_frames.note, "text": str(of_frames)}
        return entry, records

    def protocol(self, measures: Measures, scale: Scale) -> Protocol:
        """What the numbers of these measures depend on."""
        return Protocol(
            self.futures,
            measures,
            scale,
            self.config,
            self.source,
            self.store.manifest,
            self.store.verified,
            self.model.calibration.digest if self.futures.calibrated and self.model.calibration else None,
        )

    def scores(self, protocol: Protocol) -> list[Record]:
        """The records of all clips' futures: see `svg.evaluation.scores.score_clips`."""
        measures = protocol.measures

        def work(frames: Tensor, clips: Tensor, advance: Callable[[int], object]) -> list[Record]:
            return score_clips(
                self.model, frames, clips, self.futures, measures.scores, advance, calibrate=measures.calibration
            )

        length = self.futures.context + self.futures.horizon
        return self._each("clips", protocol.scores_digest(), "scores", work, length, self.futures.samples)

    def likelihood(self, protocol: Protocol, importance: int) -> dict[str, Any]:
        """The bounds of all clips, or why there is none."""
        if reason := why_undefined(self.model):
            return {"missing": reason}
        full = int(min(self.store.lengths[clip] for clip in self.clips))
        bounds = Bounds(tuple(sorted({min(self.config.data.frames, full), full})), self.futures.seed, importance)

        def work(frames: Tensor, clips: Tensor, advance: Callable[[int], object]) -> list[Record]:
            records = clip_bounds(self.model, frames, clips, bounds)
            advance(len(records))
            return records

        records = self._each("bounds", protocol.bounds_digest(bounds), "likelihood", work, full)
        sigma = self.model.likelihood.sigma
        size = self.model.config.size
        return {
            "name": self.model.likelihood.name,
            "scale": str(protocol.scale),
            "sigma": None if sigma is None else sigma.item(),
            "training_length": self.config.data.frames,
            "importance": importance,
            **summarise_bounds(records, bounds, self.model.config.channels * size * size),
        }

    def distance(self, protocol: Protocol) -> FVD:
        """The distance of the futures' I3D features from those of the true clips."""
        extract, convention = protocol.measures.features, protocol.measures.convention
        assert extract and convention
        real, fake = self._features("features", "FVD", extract, extract, convention, protocol)
        frames = convention.frames(self.futures.context, self.futures.horizon)
        return fvd(real, fake, frames, convention.name, extract.sha256)

    def frame_distance(self, extract: ImageFeatures, protocol: Protocol) -> FID:
        """The distance of predicted frames, one sample of each clip, from the true ones."""
        found = self._features("frames", "FID", extract, extract.of_videos, Convention("frames", False), protocol)
        real, fake = (features.reshape(-1, FEATURES) for features in found)
        return fid(real, fake, extract)

    def _features(
        self,
        name: str,
        title: str,
        network: VideoFeatures | ImageFeatures,
        extract: Callable[[Tensor], Tensor],
        convention: Convention,
        protocol: Protocol,
    ) -> tuple[Tensor, Tensor]:
        """Features of the true clips (B, D) and of their futures (B, S, D), under a convention."""
        futures = dataclasses.replace(self.futures, samples=convention.samples or self.futures.samples)

        def work(frames: Tensor, clips: Tensor, advance: Callable[[int], object]) -> list[Record]:
            return clip_features(self.model, frames, clips, futures, extract, convention.with_context, advance)

        digest, length = protocol.features_digest(network, convention), futures.context + futures.horizon
        return unpack_features(self._each(name, digest, title, work, length, futures.samples))

    def show(self, record: Record, count: int) -> Shown:
        """The truth of a clip that `scores` has measured, its best future, by the first metric, and `count` others."""
        clip, length = record["clip"], self.futures.context + self.futures.horizon
        best = next(record[name]["sample"] for name in METRICS if name in record)
        count = min(count, self.futures.samples)
        captions = [f"best of {self.futures.samples}", *(f"sample {i + 1}" for i in range(count))]
        frames = torch.from_numpy(self.store.frames(clip, 0, length)).permute(0, 3, 1, 2).to(self.state.device)
        return show(self.model, frames, clip, self.futures, [best, *range(count)], captions)

    def rollouts(self, clip: int) -> dict[str, Any]:
        """All futures of a clip as arrays: see `svg.evaluation.exports.write_arrays`."""
        n = self.futures.context
        frames = self.store.frames(clip, 0, n + self.futures.horizon)
        context = torch.from_numpy(frames[:n]).permute(0, 3, 1, 2).to(self.state.device)
        return {"context": frames[:n], "truth": frames[n:]} | drawn_arrays(self.model, context, clip, self.futures)

    def _each(self, name: str, digest: str, title: str, work: Work, length: int, samples: int = 1) -> list[Record]:
        journal = Journal(self.out, digest, name)

        def read(clips: Sequence[int], size: int) -> Batches:
            return self.read(clips, length, size)

        return each_clip(self.state, self.clips, read, journal, title, work, samples)


def name_apart(runs: list[Evaluation], checkpoints: Sequence[str]) -> None:
    """Gives models the names of their folders, or their whole paths where those are the same."""
    short = [Path(name).resolve().name if Path(name).exists() else name for name in checkpoints]
    for i, (name, path) in enumerate(zip(short, checkpoints, strict=True)):
        runs[i] = dataclasses.replace(runs[i], name=name if short.count(name) == 1 else path)
