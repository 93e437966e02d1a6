"""FID through eval.py, of images and of video frames, with a random projection in Inception's place."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import PartialState
from torch import Tensor, nn

import eval as program
import svg
from data.clips import ClipStore, ClipWriter
from svg import checkpoint
from svg.metrics import fid
from svg.metrics.fvd import frechet_distance
from svg.runtime.program import run as run_program

SIZE, HORIZON = 28, 4


class Projection(nn.Module):
    """Called as torch-fidelity's network is."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3 * SIZE**2, fid.FEATURES, generator=generator), requires_grad=False)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        assert images.dtype == torch.uint8 and images.shape[1] == 3
        small = nn.functional.interpolate(images.float(), size=(SIZE, SIZE))
        return (small.flatten(1) / 255 @ self.weight,)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fid, "_load", lambda path: Projection())
    (tmp_path / "inception.pth").write_bytes(b"weights")
    return tmp_path / "inception.pth"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The program in this process; its exit code."""
    PartialState._reset_state()
    monkeypatch.chdir(Path(str(arguments[1])).parent)  # where the data set is, too
    monkeypatch.setattr(sys, "argv", ["eval.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run_program(program.main)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def write(folder: Path, clips: int, length: int, shape: tuple[int, int, int], splits: tuple[str, ...]) -> Path:
    rng = np.random.default_rng(0)
    for split in splits:
        with ClipWriter(folder / split, frame_shape=shape, fps=7, source="noise", split=split) as writer:
            for _ in range(clips):
                writer.append(rng.integers(0, 256, (length, *shape), dtype=np.uint8))
    return folder


def by_bytes(images: Tensor) -> Tensor:
    """Features of images (N, C, H, W) in [0, 1]."""
    return Projection()((255 * images).round().to(torch.uint8).expand(-1, 3, -1, -1))[0]


def save(folder: Path, data: Path, **model) -> Path:
    torch.manual_seed(0)
    config = svg.config_from_dict({"model": model, "data": {"path": str(data), "frames": 1 if "name" in model else 12}})
    checkpoint.write_model(folder, config.to_dict(), svg.build(config).state_dict())
    return folder


def test_of_images(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data", 260, 1, (SIZE, SIZE, 1), ("train", "test"))
    sizes = {"name": "vae", "backbone": "mlp", "size": SIZE, "channels": 1, "width": 8, "z_dim": 3, "prior": "fixed"}
    model_folder = save(tmp_path / "model", data, **sizes)
    line = ["--checkpoint", model_folder, "--out", tmp_path / "out", "--eval.samples", 1, "--eval.samplers", "floating"]
    written = tmp_path / "out" / "metrics.json"
    assert run(monkeypatch, *line, "--eval.clips", 8) == 0
    missing = json.loads(written.read_text())["fid"]["missing"]
    assert missing.startswith("not measured: ") and missing.endswith("--eval.fid_weights PATH") and "\n" not in missing
    assert f"FID: {missing}" in capsys.readouterr().out

    line += ["--eval.fid_weights", weights]
    assert run(monkeypatch, *line, "--eval.clips", 255) == 2
    assert "FID needs at least 256 images, not 255" in capsys.readouterr().err
    assert run(monkeypatch, *line) == 0
    said, found = capsys.readouterr().out, json.loads(written.read_text())["fid"]
    assert set(found) == {"reconstructions", "interpolations", "floating"}
    store = ClipStore(data / "test")
    frames = torch.from_numpy(np.stack([store.frames(clip) for clip in range(260)])).permute(0, 1, 4, 2, 3)
    model = svg.load(model_folder)
    assert isinstance(model, svg.VAE)
    wanted = frechet_distance(by_bytes(frames[:, 0] / 255), by_bytes(model.reconstruct(frames)[:, 0]))
    assert found["reconstructions"]["value"] == pytest.approx(wanted, rel=1e-3)
    assert found["floating"]["real"] == found["floating"]["fake"] == 260
    assert re.search(rf"FID, floating +{found['floating']['value']:.2f}", said)
    assert "FID: N = 260 true and 260 predicted images" in said and "not the published weights" in said


def test_of_frames(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data", 64, 2 + HORIZON, (64, 64, 3), ("test",))
    model_folder = save(tmp_path / "model", data, backbone="dcgan", width=2, g_dim=4, z_dim=2, rnn_size=4)
    line = ["--checkpoint", model_folder, "--out", tmp_path / "out", "--eval.samples", 2, "--eval.horizon", HORIZON]
    line += ["--metrics", "fid"]
    assert run(monkeypatch, *line) == 2
    assert "eval.fid_weights is not given; get them once with" in capsys.readouterr().err
    line += ["--eval.fid_weights", weights]
    assert run(monkeypatch, *line, "--eval.clips", 63) == 2
    assert "FID needs at least 256 images, not 252" in capsys.readouterr().err
    assert run(monkeypatch, *line) == 0
    said, stated = capsys.readouterr().out, json.loads((tmp_path / "out" / "metrics.json").read_text())["fid"]
    assert stated["text"] in said and stated["text"] in (tmp_path / "out" / "report.html").read_text()
    assert (stated["real"], stated["fake"]) == (256, 256)
    store, model = ClipStore(data / "test"), svg.load(model_folder)
    frames = torch.from_numpy(np.stack([store.frames(clip) for clip in range(64)])).permute(0, 1, 4, 2, 3) / 255
    assert isinstance(model, svg.SVG)
    predicted = model.rollout(frames[:, :2], HORIZON, samples=2, seed=0)[:, 0]
    wanted = frechet_distance(*(by_bytes(video.flatten(0, 1)) for video in (frames[:, 2:], predicted)))
    assert stated["value"] == pytest.approx(wanted, rel=1e-3)
    assert run(monkeypatch, *line) == 0 and "FID: kept 64 of 64 clips" in capsys.readouterr().out
