"""eval.py from the command line: results, resumption, several processes, and what it says to wrong input."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image, ImageSequence
from torch import Tensor

import eval as program
import svg
from data.clips import ClipStore, ClipWriter
from svg import checkpoint
from svg.evaluation import videos
from svg.media.write import write_video
from svg.metrics.fvd import frechet_distance
from svg.runtime import named
from svg.runtime.program import run as run_program

ROOT = Path(__file__).parents[1]
SIZES = {"backbone": "dcgan", "width": 2, "g_dim": 4, "z_dim": 2, "rnn_size": 4}
CLIPS, HORIZON, SAMPLES = 5, 4, 3
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TORCH_HOME": "/nowhere"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set and, in `model`, a random model whose configuration names it."""
    folder = tmp_path_factory.mktemp("eval")
    rng = np.random.default_rng(0)
    with ClipWriter(folder / "data" / "test", frame_shape=(64, 64, 3), fps=7, source="noise", split="test") as writer:
        for length in (8, 7, 6, 9, 8):
            writer.append(rng.integers(0, 256, (length, 64, 64, 3), dtype=np.uint8))
    torch.manual_seed(0)
    model = svg.build(svg.config_from_dict({"model": SIZES}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    config = svg.config_from_dict(
        {
            "model": SIZES,
            "data": {"path": str(folder / "data")},
            "eval": {"horizon": HORIZON, "samples": SAMPLES, "gifs": 2},
        }
    )
    checkpoint.write_model(folder / "model", config.to_dict(), model.state_dict())
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user is in the folder of the data set and the model."""
    monkeypatch.chdir(folder)


def command(*arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *launcher, str(ROOT / "eval.py"), *map(str, arguments)]
    return subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The program in this process; its exit code."""
    monkeypatch.setenv("TORCH_HOME", "/nowhere")
    monkeypatch.setattr(sys, "argv", ["eval.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run_program(program.main)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def results(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())["results"]


def numbers(value: object) -> list[float]:
    """All numbers of nested results, in order."""
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in numbers(value[key])]
    return [number for item in value for number in numbers(item)] if isinstance(value, list) else [float(value)]  # type: ignore[arg-type]


def test_command_writes_what_the_rollouts_say(folder: Path, tmp_path: Path) -> None:
    done = command("--checkpoint", folder / "model", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    model, store = svg.load(folder / "model"), ClipStore(folder / "data" / "test")
    frames = torch.from_numpy(np.stack([store.frames(clip, 0, 2 + HORIZON) for clip in range(CLIPS)]))
    frames = frames.permute(0, 1, 4, 2, 3)
    assert isinstance(model, svg.SVG)
    futures = model.rollout(frames[:, :2], horizon=HORIZON, samples=SAMPLES, seed=0)
    written = json.loads((tmp_path / "metrics.json").read_text())
    for name in ("psnr", "ssim"):
        scores = getattr(svg.metrics, name)(futures, frames[:, 2:]).double()
        best = scores.mean(dim=-1).amax(dim=1)
        found = written["results"][name]["best"]
        assert found["mean"] == pytest.approx(best.mean().item(), abs=1e-4)
        assert found["half"] == pytest.approx(1.96 * best.std().item() / CLIPS**0.5, abs=1e-4)
        assert len(found["frames"]) == HORIZON
        assert f"{found['mean']:.2f}" in done.stdout
    protocol = written["protocol"]
    assert (protocol["context"], protocol["horizon"], protocol["samples"], protocol["seed"]) == (2, HORIZON, SAMPLES, 0)
    assert protocol["data"]["verified"] == ["lengths.npy", "starts.npy"]
    assert protocol["data"]["not_verified"] == ["frames.npy"]
    assert list(protocol["metrics"]) == ["psnr", "ssim"] and "lpips_weights PATH" in protocol["lpips"]["missing"]
    assert done.stdout.count("LPIPS is left out") == 1
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 800
    gifs = sorted((tmp_path / "gifs").iterdir())
    assert [gif.name for gif in gifs] == ["clip_00000.gif", "clip_00001.gif"]
    with Image.open(gifs[0]) as gif:
        milliseconds = sum(frame.info["duration"] for frame in ImageSequence.Iterator(gif))
    assert milliseconds == pytest.approx(1000 * (2 + HORIZON) / store.fps, abs=5)


def test_a_metric_is_one_entry_of_the_registry(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """As CONTRIBUTING.md says: a file with the function and the `Metric`, and its line in svg/metrics/__init__.py."""

    def mae(prediction: Tensor, truth: Tensor) -> Tensor:
        return svg.metrics.frames.per_frame(
            prediction, truth, lambda true: lambda x: (x - true).abs().mean((-3, -2, -1))
        )

    definition = "mean absolute error over values in [0, 1]"
    metric = svg.metrics.Metric(mae, "MAE", definition, higher_is_better=False, digits=5)
    monkeypatch.setitem(svg.metrics.METRICS, "mae", metric)
    assert run(monkeypatch, "--checkpoint", folder / "model", "--out", tmp_path, "--metrics", "psnr", "mae") == 0
    entry = json.loads((tmp_path / "metrics.json").read_text())
    assert entry["protocol"]["metrics"]["mae"] == definition
    found = entry["results"]["mae"]
    assert found["best"]["mean"] < found["mean"]["mean"]  # lower is better
    assert f"{found['best']['mean']:.5f}" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert "MAE" in page and definition in page
    assert run(monkeypatch, "--checkpoint", folder / "model", "--out", tmp_path / "all") == 0
    assert "mae" in json.loads((tmp_path / "all" / "metrics.json").read_text())["results"]


def test_two_processes_share_the_clips(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    launcher = ("-m", "svg.runtime.launch", "--processes", "2")
    done = command("--checkpoint", folder / "model", "--out", tmp_path / "two", launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert run(monkeypatch, "--checkpoint", folder / "model", "--out", tmp_path / "one") == 0
    assert json.loads((tmp_path / "two" / "metrics.json").read_text())["run"]["processes"] == 2
    assert numbers(results(tmp_path / "two")) == pytest.approx(numbers(results(tmp_path / "one")), abs=1e-6)
    (records,) = (tmp_path / "two").glob("clips.*.jsonl")
    assert [json.loads(line)["clip"] for line in records.read_text().splitlines()[1:]] == list(range(CLIPS))
    assert done.stdout.count("PSNR (dB)") == 1
    assert len(list((tmp_path / "two" / "gifs").iterdir())) == 2


def test_what_is_measured_is_kept_whatever_becomes_of_the_pictures(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(program.exports, "write_gif", full)
    assert run(monkeypatch, "--checkpoint", folder / "model", "--out", tmp_path, "--metrics", "psnr") != 0
    assert results(tmp_path)["psnr"]["best"]["mean"] > 0
    other = shutil.copytree(folder / "model", tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    shared = ("--data.path", folder / "data", "--metrics", "psnr")
    assert run(monkeypatch, "--checkpoint", folder / "model", other, *shared) != 0
    assert len(json.loads((tmp_path / "runs" / "comparison" / "metrics.json").read_text())["models"]) == 2


def test_chunks_do_not_change_the_result(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for memory in ("2", "1e-6"):
        assert (
            run(monkeypatch, "--checkpoint", folder / "model", "--out", tmp_path / memory, "--eval.memory", memory) == 0
        )
    assert numbers(results(tmp_path / "2")) == pytest.approx(numbers(results(tmp_path / "1e-6")), abs=1e-4)


def test_interrupted_it_goes_on_where_it_was(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = videos.score_clips
    scored: list[int] = []

    def score_two(model, frames, clips, *rest, **options):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.extend(clips.tolist())
        return whole(model, frames, clips, *rest, **options)

    line = ("--checkpoint", folder / "model", "--out", tmp_path)
    monkeypatch.setattr(videos, "score_clips", score_two)
    assert run(monkeypatch, *line) == 130
    scored.clear()

    def score_and_note(model, frames, clips, *rest, **options):
        scored.extend(clips.tolist())
        return whole(model, frames, clips, *rest, **options)

    monkeypatch.setattr(videos, "score_clips", score_and_note)
    capsys.readouterr()
    assert run(monkeypatch, *line) == 0
    assert scored == [2, 3, 4] and "kept 2 of 5 clips" in capsys.readouterr().out
    resumed = results(tmp_path)
    assert run(monkeypatch, *line) == 0
    assert scored == [2, 3, 4] and results(tmp_path) == resumed
    assert run(monkeypatch, *line, "--eval.seed", "1") == 0
    assert scored == [2, 3, 4, 0, 1, 2, 3, 4] and results(tmp_path) != resumed
    assert run(monkeypatch, *line, "--eval.clips", "3") == 0
    assert len(scored) == 8
    whole_anew = ("--checkpoint", folder / "model", "--out", tmp_path / "anew")
    assert run(monkeypatch, *whole_anew) == 0 and results(tmp_path / "anew") == resumed


def test_lpips_with_local_weights(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    state = torchvision.models.alexnet().state_dict()
    torch.save({name: value for name, value in state.items() if "features" in name}, tmp_path / "alexnet.pth")
    line = ("--checkpoint", folder / "model", "--out", tmp_path, "--eval.gifs", "0")
    weights = ("--eval.lpips_weights", tmp_path / "alexnet.pth")
    assert run(monkeypatch, *line, "--metrics", "lpips", "ssim_svg", *weights) == 0
    lpips = results(tmp_path)["lpips"]
    assert lpips["best"]["mean"] < lpips["mean"]["mean"]
    assert set(results(tmp_path)) == {"lpips", "ssim_svg"}
    stated = json.loads((tmp_path / "metrics.json").read_text())["protocol"]["lpips"]["weights"]
    assert stated["file"] == "alexnet.pth" and not stated["published"]


def mean_colours(videos: Tensor, weight: Tensor) -> Tensor:
    """400 features of videos (N, 3, T, H, W) from the mean colour of each frame, in place of I3D's."""
    return (videos.mean(dim=(3, 4)).transpose(1, 2) @ weight).std(dim=1)


class MeanColours(torch.nn.Module):
    """Called as i3d_torchscript.pt is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, 400, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        return mean_colours(x, self.weight)


def test_fvd(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    with ClipWriter(tmp_path / "data" / "test", frame_shape=(64, 64, 3), fps=7, source="noise", split="test") as writer:
        for _ in range(65):
            writer.append(rng.integers(0, 256, (9, 64, 64, 3), dtype=np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is deprecated
        torch.jit.script(MeanColours()).save(str(tmp_path / "i3d.pt"))
    line: list[object] = ["--checkpoint", folder / "model", "--out", tmp_path, "--data.path", tmp_path / "data"]
    line += ["--metrics", "fvd", "--eval.horizon", 7, "--eval.fvd_weights", tmp_path / "i3d.pt"]
    assert run(monkeypatch, *line) == 2
    digest = capsys.readouterr().err.split()[-1]
    line += ["--eval.fvd_sha256", digest]
    assert run(monkeypatch, *line) == 0
    said = capsys.readouterr().out
    stated = json.loads((tmp_path / "metrics.json").read_text())["fvd"]
    assert (stated["clips"], stated["samples"], stated["frames"], stated["sha256"]) == (65, 1, 9, digest)
    for part in (f"FVD {stated['value']:.1f} ±", "srvp", "N = 65 clips x 1 samples", "T = 9", digest[:8], "singular"):
        assert part in said
    model, store = svg.load(folder / "model"), ClipStore(tmp_path / "data" / "test")
    frames = torch.from_numpy(np.stack([store.frames(clip) for clip in range(65)])).permute(0, 1, 4, 2, 3) / 255
    assert isinstance(model, svg.SVG)
    videos = torch.cat((frames[:, :2], model.rollout(frames[:, :2], horizon=7, samples=3, seed=0)[:, 0]), dim=1)
    weight = MeanColours().weight.detach()
    real, fake = (mean_colours(2 * v.transpose(1, 2) - 1, weight) for v in (frames, videos))
    assert stated["value"] == pytest.approx(frechet_distance(real, fake), rel=1e-3)

    assert run(monkeypatch, *line) == 0 and "FVD: kept 65 of 65 clips" in capsys.readouterr().out
    refused = {
        "1to15 needs eval.context 1, not 2": "--eval.fvd_convention 1to15",
        "at least 64 clips, not 63": "--eval.clips 63",
        "at least 9 frames, not 8": "--eval.horizon 6",
        "at least 9 frames, not 7": "--eval.fvd_convention custom --eval.fvd_samples 2 --eval.fvd_context false",
    }
    for message, changes in refused.items():
        assert run(monkeypatch, *line, *changes.split()) == 2
        assert message in capsys.readouterr().err


def test_several_checkpoints_share_a_table(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    config = svg.load_config(folder / "model")
    other = svg.config_from_dict({**config.to_dict(), "likelihood": {"name": "bernoulli"}})
    checkpoint.write_model(tmp_path / "other", other.to_dict(), svg.build(other).state_dict())
    line = ["--checkpoint", folder / "model", tmp_path / "other", "--out", tmp_path / "out", "--refit", "2"]
    assert run(monkeypatch, *line, "--metrics", "psnr", "likelihood", "--iwae", "2") == 0
    said = capsys.readouterr().out
    for row in ("model, best of 3", "other, posterior", "copy last frame", "IWAE-2 bits/dim, T = 6"):
        assert said.count(row) == 1, row
    assert "other   not reported: bernoulli is a density of binary frames only" in said
    models = json.loads((tmp_path / "out" / "metrics.json").read_text())["models"]
    assert [entry["name"] for entry in models] == ["model", "other"]
    likelihood = models[0]["likelihood"]
    assert likelihood["scale"] == "running average" and list(likelihood["lengths"]) == ["6"]
    assert "missing" in models[1]["likelihood"]
    line = ["--checkpoint", tmp_path / "other", "--out", tmp_path / "one", "--eval.clips", "1"]
    assert run(monkeypatch, *line) == 0  # calibration, which it hasn't either, is left out
    assert "calibration" not in json.loads((tmp_path / "one" / "metrics.json").read_text())
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count("not reported") == 1 and "model, other" in report


def test_a_fitted_sigma_is_refitted_on_training_clips(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "test"):
        rng = np.random.default_rng(2)
        with ClipWriter(
            tmp_path / "data" / split, frame_shape=(64, 64, 3), fps=7, source="noise", split=split
        ) as writer:
            for _ in range(3):  # clips shorter than data.frames, which a model of save_pretrained does not know
                writer.append(rng.integers(0, 256, (9, 64, 64, 3), dtype=np.uint8))
    line = ["--checkpoint", folder / "model", "--data.path", tmp_path / "data", "--metrics", "likelihood"]
    assert run(monkeypatch, *line, "--out", tmp_path / "out", "--refit", "3") == 0
    entry = json.loads((tmp_path / "out" / "metrics.json").read_text())
    found = entry["likelihood"]
    assert found["scale"] == entry["protocol"]["scale"] == "frozen refit, 3 training windows"
    assert 0.2 < found["sigma"] < 0.7 and found["sigma"] != pytest.approx((1 / 12) ** 0.5, abs=1e-4)  # not the start
    assert "results" not in entry and (tmp_path / "out" / "report.html").exists()


def test_exports_need_no_metrics_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["export", "--checkpoint", folder / "model", "--out", tmp_path]
    formats = ["--formats", "gif", "mp4", "webp", "apng", "png", "npz"]
    assert run(monkeypatch, *line, "--clips", "3", "--samples", "1", *formats) == 0
    names = {path.name for path in tmp_path.iterdir() if path.suffix != ".jsonl"}
    assert names == {f"clip_00003.{suffix}" for suffix in ("gif", "mp4", "webp", "apng", "png", "npz")}
    with np.load(tmp_path / "clip_00003.npz", allow_pickle=False) as arrays:
        futures = torch.from_numpy(arrays["futures"]).permute(0, 1, 4, 2, 3)
        assert arrays["fps"] == 7 and arrays["truth"].shape == (HORIZON, 64, 64, 3)
        context = torch.from_numpy(arrays["context"]).permute(0, 3, 1, 2)
    model = svg.load(folder / "model")
    assert isinstance(model, svg.SVG)
    again = model.rollout(context[None], HORIZON, SAMPLES, seed=0, clip_ids=torch.tensor([3]))
    torch.testing.assert_close(futures, again[0], atol=1e-5, rtol=1e-5)
    for rule in ("best", "worst", "diverse", "random"):
        assert run(monkeypatch, *line, "--pick", rule, "--count", "1", "--formats", "png") == 0
    assert len(list(tmp_path.glob("clip_*.png"))) >= 2
    capsys.readouterr()
    for wrong, message in {
        "--formats avi": "--formats avi is unknown: choose from gif",
        "--clips 9": "--clips 9 is not among the clips 0 to 4",
        "--scale 0": "--scale is 0, but it must be at least 1",
        "--pick nice": "pick is 'nice'",
    }.items():
        assert run(monkeypatch, *line, *wrong.split()) == 2
        assert message in capsys.readouterr().err


def test_own_videos(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(3)
    write_video(tmp_path / "mine.mp4", rng.integers(0, 256, (9, 80, 100, 3), dtype=np.uint8), 12)
    line = ["predict", "--checkpoint", folder / "model", "--video", tmp_path / "mine.mp4", "--out", tmp_path / "out"]
    assert run(monkeypatch, *line, "--samples", "2", "--formats", "gif", "npz") == 0
    assert "frames 1 to 2 given, 4 predicted, at 12 frames/s" in capsys.readouterr().out
    with np.load(tmp_path / "out" / "mine.npz", allow_pickle=False) as arrays:
        assert arrays["futures"].shape == (2, HORIZON, 64, 64, 3) and "truth" in arrays
    assert run(monkeypatch, *line, "--at", "last", "--eval.context", "3", "--formats", "npz") == 0
    assert "frames 7 to 9 given" in capsys.readouterr().out
    with np.load(tmp_path / "out" / "mine.npz", allow_pickle=False) as arrays:
        assert arrays["context"].shape == (3, 64, 64, 3) and "truth" not in arrays
    for wrong, message in {
        "--eval.context 10": "has 9 frames, but 10",
        "--eval.context 1": "at least 2 frames",
    }.items():
        assert run(monkeypatch, *line, *wrong.split()) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        (("--samples", "1000000"), r"1000000 futures of 4 frames would take [\d.]+ [GT]iB of memory"),
        (("--samples", "1e9"), "--samples is 1000000000, but it must be at most 1,000,000"),
        (("--eval.horizon", "1e10"), "eval.horizon is 10000000000, but it must be at most 10,000"),
        (("--fps", ".nan"), "--fps is nan"),
        (("--fps", ".inf"), "--fps is inf"),
        (("--fps", "1e-9"), "--fps is 1e-09, but it must be at least 0.01 or 0"),
        (("--video", ""), "--video is '', but it must not be empty"),
        (("--eval.memory", ".inf"), "eval.memory is inf"),
        (("--eval.seed", "18446744073709551616"), "eval.seed is 18446744073709551616, but it must be below 9,223,"),
        (("--scale", "9" * 5000), r"scale is '9999.*\(5,002 characters\), but it must be a whole number"),
    ],
)
def test_what_is_far_too_much_is_refused_at_once(folder, tmp_path, monkeypatch, capsys, options, message) -> None:
    write_video(tmp_path / "mine.mp4", np.zeros((9, 64, 64, 3), np.uint8), 12)
    line = ["predict", "--checkpoint", folder / "model", "--video", tmp_path / "mine.mp4", "--out", tmp_path / "out"]
    assert run(monkeypatch, *line, *options) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert re.search(message, said) and len(said) < 300 and not (tmp_path / "out").exists()


def test_a_models_own_configuration_runs_nothing(folder, tmp_path, monkeypatch, capsys) -> None:
    """A model that names code, with the hash that would let it run, and a data set outside of the user's folder."""
    shutil.copytree(folder / "model", tmp_path / "model")
    (tmp_path / "model/manifest.json").unlink(missing_ok=True)  # nobody who changes a model would leave it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is deprecated
        torch.jit.script(torch.nn.ReLU()).save(str(tmp_path / "code.pt"))
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    weights = tmp_path / "code.pt"
    config["eval"] |= {"fvd_weights": str(weights), "fvd_sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    config["eval"] |= {"lpips_weights": str(weights), "fid_weights": str(weights), "memory": 1e6}
    path.write_text(json.dumps(config))

    def loaded(*arguments: object, **options: object) -> None:
        raise AssertionError("the model's file was loaded")

    monkeypatch.setattr(torch.jit, "load", loaded)
    monkeypatch.setattr(torch, "load", loaded)
    line = ["--checkpoint", tmp_path / "model", "--out", tmp_path / "out"]
    assert run(monkeypatch, *line) == 0
    assert "fvd" not in json.loads((tmp_path / "out" / "metrics.json").read_text())
    said = capsys.readouterr().err
    assert "eval.lpips_weights, eval.fvd_weights, eval.fid_weights" in said and "give" in said
    assert run(monkeypatch, *line, "--eval.lpips_weights", weights) == 2  # what the user names counts
    assert "the model's file was loaded" in capsys.readouterr().err

    shutil.copytree(folder / "data", tmp_path / "elsewhere")
    config["data"]["path"] = str(tmp_path / "elsewhere")
    path.write_text(json.dumps(config))
    assert run(monkeypatch, *line) == 2
    assert "lies outside of this folder" in capsys.readouterr().err
    assert run(monkeypatch, *line, "--data.path", folder / "data") == 0
    named.note(tmp_path / "elsewhere")  # as train.py does
    assert run(monkeypatch, *line) == 0


def test_damaged_frames_are_found_where_that_is_asked_for(folder, tmp_path, monkeypatch, capsys) -> None:
    shutil.copytree(folder / "data", tmp_path / "data")
    with (tmp_path / "data" / "test" / "frames.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    line = ["--checkpoint", folder / "model", "--data.path", tmp_path / "data", "--out", tmp_path / "out"]
    line += ["--metrics", "psnr", "--eval.clips", "1"]
    assert run(monkeypatch, *line, "--verify", "true") == 2
    assert "frames.npy" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert run(monkeypatch, *line) == 0
    assert run(monkeypatch, *line, "--data.path", folder / "data", "--verify") == 0
    data = json.loads((tmp_path / "out" / "metrics.json").read_text())["protocol"]["data"]
    assert data["verified"] == ["frames.npy", "lengths.npy", "starts.npy"] and data["not_verified"] == []


def test_no_picture_costs_the_numbers(folder, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "gifs").write_text("in the way")
    line = ["--checkpoint", folder / "model", "--out", tmp_path / "out", "--metrics", "psnr", "--eval.clips", "1"]
    assert run(monkeypatch, *line) == 2
    assert f"{tmp_path}/out/gifs: file exists" in capsys.readouterr().err
    assert "psnr" in results(tmp_path / "out")


def test_results_go_beside_the_model(folder: Path) -> None:
    run_folder = folder / "a_run"
    step = run_folder / "checkpoints" / "step_00000002"
    step.mkdir(parents=True)
    assert program.default_folder(str(run_folder)) == run_folder / "eval"
    assert program.default_folder(str(step)) == run_folder.resolve() / "eval" / "step_00000002"
    assert program.default_folder("someone/robot") == Path("runs/someone--robot/eval")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--checkpoint", "{model}_not"], "does not exist"),
        ([], "--checkpoint is required"),
        (["--checkpoint", ""], "--checkpoint is '', but it must not be empty"),
        (["--checkpoint", "{model}", " "], "--checkpoint is ' ', but it must not be empty"),
        (["predict", "--checkpoint", "", "--video", "x"], "--checkpoint is '', but it must not be empty"),
        (["--checkpoint", "{model}", "--data.path", "{model}/none"], "python -m data.robot_push --out"),
        (
            ["--checkpoint", "{model}", "--eval.horizon", "28"],
            "clip 2 of .* has 6 frames, 2 of them context: --eval.horizon 4",
        ),
        (["--checkpoint", "{model}", "--eval.context", "1"], "conditions on at least 2 frames"),
        (["--checkpoint", "{model}", "--eval.context", "6"], "lower eval.context"),
        (["--checkpoint", "{model}", "--eval.clips", "6"], "eval.clips is 6, but .* has 5 clips"),
        (["--checkpoint", "{model}", "--metrics", "lpips"], "lpips_weights PATH"),
        (["--checkpoint", "{model}", "--metrics", "fvd"], "at least 64 clips, not 5"),
        (["--checkpoint", "{model}", "--metrics", "mse"], "choose from psnr"),
        *(
            (
                ["--checkpoint", "{model}", "--metrics", "psnr", f"--eval.{name}_weights", "/nonexistent"],
                f"^error: eval.{name}_weights: there is no file /nonexistent",
            )
            for name in ("lpips", "fvd", "fid")
        ),
        (["--checkpoint", "{model}", "--refit", "-1"], "--refit is -1"),
        (["--checkpoint", "{model}", "--iwae", "-1"], "--iwae is -1"),
        (["export", "--checkpoint", "{model}", "--count", "0"], "--count is 0"),
        (["export", "--checkpoint", "{model}", "--formats"], "--formats names none"),
        (["--checkpoint", "{model}/.."], "holds no model"),
        (["metric", "--checkpoint", "{model}"], "choose from metrics, export, predict"),
        (["--checkpoint", "{model}", "--eval.horizonn", "3"], "did you mean --eval.horizon"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert run(monkeypatch, *(argument.format(model=folder / "model") for argument in arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    assert re.search(message, lines[0])
