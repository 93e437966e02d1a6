"""What an evaluation measures: the metrics that can be had, and the statement that stands beside their numbers."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from svg.checkpoint import MODEL
from svg.config import Config, EvalConfig
from svg.evaluation.bounds import Bounds
from svg.evaluation.scores import Futures
from svg.metrics import LPIPS, METRICS, Score, WeightsError, find_weights
from svg.metrics.fid import REMEDY, ImageFeatures, check_images
from svg.metrics.fvd import CONVENTIONS, Convention, VideoFeatures, check_clips, load_features
from svg.metrics.i3d import LEAST_FRAMES
from svg.metrics.weights import check_channels, is_url, sha256

VERSION = 3
"""Number of the protocol: raised when the same model and clips would be measured differently."""
OWN = "of the model"
"""What is said of a scale that training didn't fit to the frames that it scored."""
OTHERS = ("fvd", "fid", "likelihood", "calibration")
"""What can be asked for besides the metrics of frames."""


@dataclass(frozen=True)
class Measures:
    """The metrics of an evaluation."""

    scores: dict[str, Score]
    lpips: dict[str, Any]
    """LPIPS's weights, or why it is missing."""
    features: VideoFeatures | None = None
    """I3D, where FVD is measured."""
    convention: Convention | None = None
    """Of FVD."""
    inception: ImageFeatures | None = None
    """Inception, where FID is measured."""
    likelihood: bool = False
    """Whether the likelihood of the true clips is bounded."""
    calibration: bool = False
    """Whether the calibration of rollouts is measured."""

    @property
    def rollouts(self) -> bool:
        """Whether futures are drawn and scored."""
        return bool(self.scores) or self.calibration


def choose(
    names: Sequence[str], config: EvalConfig, futures: Futures, clips: int, device: torch.device, channels: int = 3
) -> Measures:
    """What was asked for; without names PSNR, SSIM, LPIPS if its weights are at hand, FVD and FID if theirs are given,
    likelihood and calibration.

    Args:
        channels: of the frames, 1 or 3 for the metrics of networks that see pictures.

    Raises:
        ValueError: an unknown name, FVD of too few clips or of other videos than its convention's, FID of too few
            frames, or any of these, or LPIPS by its name or weights, of other channels.
        WeightsError: a metric asked for by name, or by its weights, has none that can be used.
    """
    known = [*METRICS, *OTHERS]
    for name in names:
        if name not in known:
            raise ValueError(f"--metrics {name} is unknown: choose from {', '.join(known)}")
    given = {"fvd": config.fvd_weights, "fid": config.fid_weights}
    check_weights(config)
    distances = [name for name, weights in given.items() if weights]
    usual = [name for name, metric in METRICS.items() if metric.by_default]
    wanted = names or [*usual, *distances, "likelihood", "calibration"]
    for name in ("fvd", "fid"):
        if name in wanted:
            check_channels(name.upper(), channels)
    scores = {name: metric.score for name, metric in METRICS.items() if metric.score and name in wanted}
    status: dict[str, Any] = {}
    features = chosen = inception = None
    if "fvd" in wanted:
        check_clips(clips)
        chosen = _convention(config, futures)
        if config.fvd_weights is None:
            raise WeightsError(
                "FVD needs I3D of Kinetics-400: name i3d_torchscript.pt or i3d_pretrained_400.pt by --eval.fvd_weights"
            )
        features = load_features(config.fvd_weights, device, config.fvd_sha256)
    if "fid" in wanted:
        check_images(clips * futures.horizon)
        if config.fid_weights is None:
            raise WeightsError(f"eval.fid_weights is not given; {REMEDY}")
        inception = ImageFeatures(config.fid_weights, device)
    if "lpips" in wanted:
        try:
            check_channels("LPIPS", channels)
            lpips = LPIPS(find_weights(config.lpips_weights))
            scores, status = scores | {"lpips": lpips.to(device)}, {"weights": lpips.source}
        except ValueError as error:
            if "lpips" in names or config.lpips_weights is not None:
                raise
            status = {"missing": str(error)}
    ordered = {name: scores[name] for name in METRICS if name in scores}
    return Measures(ordered, status, features, chosen, inception, "likelihood" in wanted, "calibration" in wanted)


def check_weights(config: EvalConfig) -> None:
    """Raises WeightsError where weights are named that are not there, whether they are needed or not."""
    for option in ("lpips_weights", "fvd_weights", "fid_weights"):
        path = getattr(config, option)
        if path is not None and not is_url(path) and not Path(path).is_file():
            raise WeightsError(f"eval.{option}: there is no file {path}")


def _convention(config: EvalConfig, futures: Futures) -> Convention:
    """FVD's convention. Raises ValueError where these futures are not those that it compares."""
    custom = Convention("custom", config.fvd_context, config.fvd_samples)
    chosen = CONVENTIONS.get(config.fvd_convention, custom)
    for name in ("context", "horizon"):
        needed, found = getattr(chosen, name), getattr(futures, name)
        if needed not in (None, found):
            raise ValueError(f"FVD's convention {chosen.name} needs eval.{name} {needed}, not {found}")
    if (frames := chosen.frames(futures.context, futures.horizon)) < LEAST_FRAMES:
        raise ValueError(f"FVD needs videos of at least {LEAST_FRAMES} frames, not {frames}: raise eval.horizon")
    return chosen


@dataclass(frozen=True)
class Scale:
    """Where the scales of a likelihood are from, which some likelihoods fit to each training batch."""

    kind: Literal["own", "running", "refit", "calibrated"] = "own"
    """own: part of the model; running: training's running average; refit: over training windows, then frozen;
    calibrated: the calibration's."""
    windows: int = 0
    """How many training windows a refit saw."""

    def __str__(self) -> str:
        refit = f"frozen refit, {self.windows} training windows"
        named = {"own": OWN, "running": "running average", "refit": refit, "calibrated": "calibrated"}
        return named[self.kind]


@dataclass(frozen=True)
class Protocol:
    """All that the numbers of an evaluation depend on."""

    futures: Futures
    measures: Measures
    scale: Scale
    config: Config
    """The model's: of its training."""
    source: Path
    """The folder of the weights."""
    data: Mapping[str, Any]
    """The clip store's manifest."""
    verified: Collection[str] = ()
    """The store's files whose bytes were compared with their checksums; of the others these are only stated."""
    calibration: str | None = None
    """Digest of the calibration that the futures are drawn with, if any."""

    @cached_property
    def weights(self) -> str:
        """SHA-256 of the model's weights."""
        return sha256(self.source / MODEL)

    def scores_digest(self) -> str:
        """Digest of all that changes the scores of a clip's futures."""
        drawn, lpips = self.futures, self.measures.lpips.get("weights", {}).get("sha256")
        return self._digest(
            "scores",
            futures=[drawn.context, drawn.horizon, drawn.samples, drawn.seed],
            metrics=list(self.measures.scores),
            lpips=lpips,
            calibration=self.measures.calibration,
        )

    def features_digest(self, network: VideoFeatures | ImageFeatures, convention: Convention) -> str:
        """Digest of all that changes a clip's features for FVD or FID."""
        drawn, samples = self.futures, convention.samples or self.futures.samples
        return self._digest(
            "features",
            futures=[drawn.context, drawn.horizon, samples, drawn.seed],
            network=network.sha256,
            with_context=convention.with_context,
        )

    def bounds_digest(self, bounds: Bounds) -> str:
        """Digest of all that changes the bounds on a clip's likelihood."""
        return self._digest("bounds", bounds=[list(bounds.lengths), bounds.seed, bounds.importance])

    def _digest(self, kind: str, **values: Any) -> str:
        """Of numbers, names of registries, and hashes: no prose and no file name, so that none of these can make
        results look like another protocol's."""
        config = self.config.to_dict()
        values |= {"protocol": VERSION, "kind": kind, "weights": self.weights}
        values |= {group: config[group] for group in ("model", "likelihood", "objective")}
        values["calibrated"] = self.calibration
        files = ("frames.npy", "starts.npy", "lengths.npy")
        values["data"] = [self.data["files"][name]["sha256"] for name in files]
        values["scale"] = [self.scale.kind, self.scale.windows]
        if self.scale.kind == "refit":
            values["scale"] += [self.config.data.frames, self.config.train.seed]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def stated(self) -> dict[str, Any]:
        """The protocol in words, numbers and hashes, as it stands in metrics.json."""
        futures, measures = self.futures, self.measures
        return {
            "number": VERSION,
            "context": futures.context,
            "horizon": futures.horizon,
            "samples": futures.samples,
            "seed": futures.seed,
            "first_frame": 0,
            "predictions": "the likelihood's mean, clamped to [0, 1]",
            "best_of_n": "chosen per clip and metric, by the mean over the predicted frames",
            "posterior": "one rollout whose latents come from the posterior of the true future",
            "scale": str(self.scale),
            "calibrated": self.calibration,
            "calibration": "PIT of the mixture over the futures" if measures.calibration else "not measured",
            "interval": "1.96 sd / sqrt(clips), sd with clips - 1",
            "metrics": {name: METRICS[name].definition for name in measures.scores},
            "lpips": measures.lpips,
            "data": {name: self.data[name] for name in ("source", "split", "frame_shape")}
            | checksums(self.data, self.verified),
            "checkpoint": {"name": self.source.name, "sha256": self.weights},
            "version": version("svg-lp"),
        }


def checksums(manifest: Mapping[str, Any], verified: Collection[str]) -> dict[str, Any]:
    """What a clip store states of its frames, and which of its files were compared with what it states of them."""
    files = manifest["files"]
    not_verified = sorted(files.keys() - set(verified))
    return {"sha256": files["frames.npy"]["sha256"], "verified": sorted(verified), "not_verified": not_verified}


def versions() -> dict[str, str]:
    """Versions of what computed the numbers."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("svg-lp", "torch", "lpips", "torch-fidelity")},
    }
