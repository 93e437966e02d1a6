"""An evaluation's digests: other values are another protocol, other words are not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from svg.config import Config, EvalConfig, config_from_dict
from svg.evaluation import protocol
from svg.evaluation.bounds import Bounds
from svg.evaluation.protocol import Measures, Protocol, Scale
from svg.evaluation.scores import Futures
from svg.metrics import METRICS, psnr, ssim
from svg.metrics.fvd import Convention


@pytest.fixture
def stated(tmp_path: Path) -> Protocol:
    folder = tmp_path / "step_1"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    files = {f"{name}.npy": {"bytes": 1, "sha256": name} for name in ("frames", "starts", "lengths")}
    manifest = {"source": "where they are from", "split": "test", "frame_shape": [64, 64, 3], "files": files}
    measures = Measures({"psnr": psnr}, {"weights": {"file": "alexnet.pth", "sha256": "a"}}, calibration=True)
    return Protocol(Futures(2, 10, 5, 0), measures, Scale("refit", 8), Config(), folder, manifest)


class Network:
    """Stands in for I3D: what a digest knows of it is its hash."""

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256


def digests(stated: Protocol, network: Any = None) -> tuple[str, str, str]:
    features = stated.features_digest(network or Network("n"), Convention("srvp", True, 1))
    return stated.scores_digest(), features, stated.bounds_digest(Bounds((5, 10), 0, 3))


def with_file(stated: Protocol, name: str) -> Protocol:
    files = stated.data["files"] | {name: {"bytes": 1, "sha256": "other"}}
    return replace(stated, data={**stated.data, "files": files})


def test_the_three_kinds_differ(stated):
    assert len(set(digests(stated))) == 3


@pytest.mark.parametrize(
    "config",
    [
        {"likelihood": {"options": {"floor": -3}}},
        {"model": {"skip_frame": "previous"}},
        {"objective": {"beta": 0.5}},
        {"data": {"frames": 13}},  # these two: windows of the refit
        {"train": {"seed": 1}},
    ],
)
def test_another_model_is_another_protocol(stated, config):
    other = replace(stated, config=config_from_dict(config))
    assert not set(digests(stated)) & set(digests(other))


@pytest.mark.parametrize("name", ["frames.npy", "starts.npy", "lengths.npy"])
def test_other_data_are_another_protocol(stated, name):
    assert not set(digests(stated)) & set(digests(with_file(stated, name)))


def test_other_weights_are_another_protocol(stated, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"Weights")
    assert not set(digests(stated)) & set(digests(replace(stated, source=folder)))


@pytest.mark.parametrize("change", [{"context": 3}, {"horizon": 11}, {"seed": 1}])
def test_other_futures_have_other_scores_and_features(stated, change):
    other = digests(replace(stated, futures=replace(stated.futures, **change)))
    assert all(a != b for a, b in zip(digests(stated)[:2], other[:2], strict=True)) and other[2] == digests(stated)[2]


def test_what_else_changes_a_record(stated, monkeypatch):
    scores, features, bounds = digests(stated)
    more = replace(stated, futures=replace(stated.futures, samples=6))
    assert more.scores_digest() != scores and digests(more)[1] == features  # the convention takes one sample
    for measures in (
        replace(stated.measures, scores={"psnr": psnr, "ssim": ssim}),
        replace(stated.measures, lpips={"weights": {"sha256": "b"}}),
        replace(stated.measures, calibration=False),
    ):
        assert replace(stated, measures=measures).scores_digest() != scores
    assert digests(stated, Network("m"))[1] != features
    assert stated.features_digest(Network("n"), Convention("srvp", False, 1)) != features
    for other in (Bounds((5, 11), 0, 3), Bounds((5, 10), 1, 3), Bounds((5, 10), 0, 4)):
        assert stated.bounds_digest(other) != bounds
    for scale in (Scale(), Scale("running"), Scale("refit", 9)):
        assert not set(digests(replace(stated, scale=scale))) & {scores, features, bounds}
    assert not set(digests(replace(stated, calibration="c"))) & {scores, features, bounds}
    monkeypatch.setattr(protocol, "VERSION", 0)
    assert not set(digests(stated)) & {scores, features, bounds}


def test_words_and_places_change_nothing(stated, tmp_path, monkeypatch):
    moved = tmp_path / "elsewhere" / "model"
    shutil.copytree(stated.source, moved)
    config = config_from_dict({"train": {"out": "elsewhere"}, "data": {"path": "elsewhere"}, "eval": {"gifs": 1}})
    data = {**stated.data, "source": "in other words"}
    measures = replace(stated.measures, lpips={"weights": {"file": "elsewhere.pth", "sha256": "a"}})
    other = Protocol(replace(stated.futures, memory=1.0), measures, stated.scale, config, moved, data)
    monkeypatch.setitem(METRICS, "psnr", replace(METRICS["psnr"], definition="in other words"))
    assert digests(other) == digests(stated)


@pytest.mark.parametrize("channels", [2, 5])
def test_metrics_of_networks_that_see_pictures_are_left_out_or_refused(channels: int, tmp_path: Path) -> None:
    def choose(names: list[str], **options: Any) -> Measures:
        futures = Futures(2, 14, 4, seed=0)
        return protocol.choose(names, EvalConfig(**options), futures, 500, torch.device("cpu"), channels)

    measures = choose([])
    assert "lpips" not in measures.scores and f"1 or 3 channels, not {channels}" in measures.lpips["missing"]
    (tmp_path / "weights.pt").touch()
    for name in ("lpips", "fvd", "fid"):
        with pytest.raises(ValueError, match=f"{name.upper()} takes frames of 1 or 3 channels, not {channels}"):
            choose([name], **{f"{name}_weights": str(tmp_path / "weights.pt")})
