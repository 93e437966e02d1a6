"""train.py as a user runs it: killed and resumed, stopped, on two processes, told wrong things."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

import svg
import train
from data.clips import ClipStore, ClipWriter
from data.sampling import Windows
from svg import checkpoint
from svg.config import TrainConfig, config_from_dict
from svg.runtime.program import Stop
from svg.runtime.reading import read_yaml
from svg.training import runs
from svg.training.meter import Display, Meter, Units
from svg.training.optim import Average, learning_rate
from tests.helpers.device_reads import DeviceReads

ROOT = Path(__file__).parents[1]
TINY = """
data: {frames: 4, workers: 1, path: PATH}
model: {backbone: dcgan, width: 2, g_dim: 4, z_dim: 2, rnn_size: 8}
train: {steps: 12, batch_size: 4, warmup: 2, log_every: 2, eval_every: 6, eval_clips: 3, save_every: 4, trackers: []}
eval: {horizon: 3, gifs: 1}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A tiny configuration, and its data: blocks that move at random over noise."""
    folder = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        with ClipWriter(folder / "data" / split, frame_shape=(64, 64, 3), fps=10, source="test", split=split) as writer:
            for _ in range(5):
                frames = rng.integers(0, 50, (6, 64, 64, 3), dtype=np.uint8)
                for frame in frames:
                    x = rng.integers(0, 40)
                    frame[20:40, x : x + 20] = 255
                writer.append(frames)
    path = folder / "tiny.yaml"
    path.write_text(TINY.replace("PATH", str(folder / "data")))
    return path


@pytest.fixture
def run(config, tmp_path, monkeypatch, capsys):
    """Calls train.py in this process: run(*options) gives (exit code, what was printed); the run is in tmp_path/run."""

    def call(*options: str) -> tuple[int, str]:
        for state in (AcceleratorState, PartialState, GradientState):
            state._reset_state()
        arguments = ["train.py", "--config", str(config), "--data.workers", "0", "--train.out", str(tmp_path / "run")]
        monkeypatch.setattr(sys, "argv", [*arguments, *options])
        code = train.main()
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def start(config: Path, out: Path, *options: str, launch: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*(launch or (sys.executable,)), "train.py", "--config", str(config), "--train.out", str(out), *options]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        output = process.communicate(timeout=400)[0]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output


def checkpoints(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "checkpoints").glob("step_*"))


def rows(out: Path) -> list[dict[str, float]]:
    """metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "frames_per_s")} for line in lines]


SLOW = """
import runpy, sys, time
from svg import checkpoint
write = checkpoint.save_file
def slowly(tensors, path):
    if list(path.parents[1].glob("step_*")):
        time.sleep(600)
    write(tensors, path)
checkpoint.save_file = slowly
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a program that takes for ever to write its second checkpoint."""
ALL_AT_ONCE = ("--train.steps", "24", "--train.ema", "0.9", "--train.accumulate", "2", "--train.precision", "bf16")


@pytest.mark.timeout(900)
def test_killed_twice_and_resumed_the_weights_are_bit_equal(config, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    code, output = finish(start(config, straight, *ALL_AT_ONCE))
    assert code == 0, output
    # While it trains on and writes its second checkpoint:
    process = start(config, killed, *ALL_AT_ONCE, launch=(sys.executable, "-c", SLOW))
    while not (killed / "metrics.jsonl").exists() or not any(row["step"] > 8 for row in rows(killed)):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert checkpoints(killed) == ["step_00000004"] and list((killed / "checkpoints").glob(".step_00000008.*"))
    # At any time:
    process = start(config, killed, *ALL_AT_ONCE)
    while newest(killed) == 4:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    time.sleep(random.random() * 0.1)
    process.kill()
    process.communicate()
    assert newest(killed) < 24
    code, output = finish(start(config, killed, *ALL_AT_ONCE))
    assert code == 0 and "resumed at step" in output, output
    assert checkpoints(killed) == checkpoints(straight) == ["step_00000020", "step_00000024"]
    assert not list((killed / "checkpoints").glob(".*"))
    for name in ("model.safetensors", "training.safetensors"):
        ours, theirs = (out / "checkpoints/step_00000024" / name for out in (killed, straight))
        assert ours.read_bytes() == theirs.read_bytes(), name
    assert rows(killed) == rows(straight)
    assert [row["step"] for row in rows(killed)] == list(range(2, 25, 2))


def newest(out: Path) -> int:
    return max(int(path.name.removeprefix("step_")) for path in (out / "checkpoints").glob("step_*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_first(config, tmp_path, number, code):
    out = tmp_path / "run"
    process = start(config, out, "--train.steps", "100000", "--train.save_every", "100000", "--train.eval_every", "0")
    while not (out / "metrics.jsonl").exists() or not rows(out):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(number)
    returned, output = finish(process)
    assert returned == code, output
    step = newest(out)
    assert f"stopped at step {step}, which is saved: the same command goes on" in output
    assert "Traceback" not in output and "orker" not in output


@pytest.mark.timeout(900)
def test_two_processes_train_and_resume(config, run, tmp_path):
    launcher = (sys.executable, "-m", "svg.runtime.launch", "--processes", "2")
    out = tmp_path / "two"
    for steps, clips, words in (("6", "1", "2 x cpu"), ("12", "3", "resumed at step 6")):
        options = ("--train.steps", steps, "--train.eval_clips", clips, "--train.decay", "none", "--train.ema", "0.9")
        code, output = finish(start(config, out, *options, launch=launcher))
        assert code == 0 and words in output, output
        assert output.count("is finished after") == 1 and "Warning" not in output
    assert checkpoints(out) == ["step_00000008", "step_00000012"]
    assert [row["step"] for row in rows(out)] == [2, 4, 6, 8, 10, 12]
    # The same clips and noise as one process; BatchNorm sees half of the batch at a time.
    run("--train.steps", "2", "--train.decay", "none")
    alone = rows(tmp_path / "run")[0]
    assert rows(out)[0]["nll"] == pytest.approx(alone["nll"], rel=0.02)
    assert rows(out)[0]["kl"] != alone["kl"]


@pytest.mark.timeout(900)
def test_two_processes_end_with_their_launcher(config, tmp_path):
    """Nothing runs on, and the next one gets the run's lock. (One of two that is killed: tests/faults.)"""
    launcher = (sys.executable, "-m", "svg.runtime.launch", "--processes", "2")
    out = tmp_path / "two"
    endless = ("--train.steps", "1000000", "--train.decay", "none", "--train.eval_every", "0")
    process = start(config, out, *endless, launch=launcher)
    while not checkpoints(out):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    launched = psutil.Process(process.pid)
    ranks = [child for child in launched.children() if child.environ().get("RANK")]
    running = launched.children(recursive=True)
    launched.kill()
    _, left = psutil.wait_procs(running, timeout=45)
    output = finish(process)[1]
    assert len(ranks) == 2 and not left
    with runs.locked(out):
        assert checkpoint.latest(out)
    assert "Traceback" not in output and "error" not in output


@pytest.mark.timeout(900)
@pytest.mark.parametrize("trouble", ["locked", "full"])
def test_what_one_of_two_processes_cannot_do_is_one_line(config, tmp_path, trouble):
    launcher = [sys.executable, "-m", "svg.runtime.launch", "--processes", "2"]
    if trouble == "full":  # no file may have more than 20 KB, which the second one of a checkpoint has
        launcher = ["bash", "-c", 'ulimit -f 40; exec "$@"', "bash", *launcher]
    out = tmp_path / "two"
    with runs.locked(out) if trouble == "locked" else nullcontext():
        code, output = finish(start(config, out, launch=tuple(launcher)))
    assert code == 2, output
    assert "Traceback" not in output
    errors = [line for line in output.splitlines() if "error" in line.lower()]
    assert len(errors) == 1 and errors[0].startswith("error: "), output


def validated(rank: int, processes: int, config: Path, out: Path) -> None:
    """Writes what a process's `validate` gives, whose weights and statistics differ from those of others."""
    if processes > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": (out / "port").read_text()}
    torch.set_num_threads(1)
    values = read_yaml(config)
    values["train"] |= {"out": str(out / "run"), "ema": 0.9}
    settings = config_from_dict(values)
    accelerator = train.make_accelerator(settings)
    learner = train.make_learner(settings, accelerator, None)
    for tensor in learner.model.state_dict().values():
        tensor.add_(rank)
    windows = Windows(ClipStore(config.parent / "data/val"), 4, 0)
    row = train.validate(settings, accelerator, learner, windows, Units(settings), Display(0, 1, False), 1)
    (out / f"{processes}-{rank}.json").write_text(json.dumps(row))


def test_processes_validate_one_model_together(config, tmp_path):
    """The first one's, whatever the others' statistics are."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(probe.getsockname()[1]))
    torch.multiprocessing.spawn(validated, (2, config, tmp_path), 2)
    torch.multiprocessing.spawn(validated, (1, config, tmp_path), 1)
    one, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert first == second == pytest.approx(one, rel=1e-6) and "val_bits_per_dim" in one


def test_a_run_leaves_what_the_readme_promises(run, tmp_path):
    code, output = run("--train.trackers", "tensorboard")
    out = tmp_path / "run"
    assert code == 0
    assert output.splitlines()[-1].endswith(f"next: python eval.py --checkpoint {out}")
    assert "step 12/12  " in output and "bits/dim" in output and "PSNR" in output and "frames/s" in output
    assert json.loads((out / "config.json").read_text())["train"]["steps"] == 12
    assert list((out / "svg-lp").glob("events*"))
    with Image.open(out / "samples/step_00000012.gif") as gif:
        assert gif.n_frames == 5  # 2 of context, 3 predicted
    row = rows(out)[-1]
    names = {"step", "loss", "nll", "kl", "neg_elbo", "bits_per_dim", "psnr", "sigma", "lr", "grad_norm"}
    assert names <= row.keys() and {"val_neg_elbo", "val_bits_per_dim", "val_psnr"} <= row.keys()
    assert row["neg_elbo"] == pytest.approx(row["nll"] + row["kl"])
    dims = 3 * 64 * 64
    assert row["bits_per_dim"] == pytest.approx((row["neg_elbo"] / dims + np.log(255)) / np.log(2))
    model = svg.load(out)
    context = torch.zeros(1, 2, 3, 64, 64, dtype=torch.uint8)
    assert model.rollout(context, horizon=2, samples=2).shape == (1, 2, 2, 3, 64, 64)

    assert run() == (0, f"{out} is finished (12 steps): a larger train.steps goes on with it\n")
    code, output = run("--train.steps", "14", "--train.log_every", "1", "--eval.gifs", "2")
    assert code == 0 and "resumed at step 12\nthe learning rate's decay now ends at step 14" in output
    assert [row["step"] for row in rows(out)][-3:] == [12, 13, 14]


def test_what_does_not_fit_is_refused_by_name(run, tmp_path):
    def refusal(*options: str) -> str:
        with pytest.raises(ValueError) as error:
            run(*options)
        assert len(str(error.value).splitlines()) <= 2
        return str(error.value)

    assert "make it with: python -m data.bair" in refusal("--data.path", str(tmp_path / "none"), "--data.name", "bair")
    assert "set them to the data's" in refusal("--model.size", "128")
    assert "model.channels 1" in refusal("--model.channels", "1")
    assert "lower data.frames to at most 6" in refusal("--data.frames", "7")
    assert "make it a multiple of 3" in refusal("--train.accumulate", "3")
    assert "'wandbb'; known are" in refusal("--train.trackers", "wandbb")
    assert "likelihood.name is 'x'" in refusal("--likelihood.name", "x")
    assert "likelihood.options.x is not an option" in refusal("--likelihood.options.x", "1")
    assert "no_such_run does not exist" in refusal("--train.init_from", "no_such_run")
    assert not (tmp_path / "run/checkpoints").exists()

    run("--train.steps", "1", "--train.eval_every", "0")
    changed = refusal("--train.lr", "0.5", "--model.width", "3")
    assert "started with other settings: model.width 3 (was 2), train.lr 0.5 (was 0.001)" in changed
    (tmp_path / "run/checkpoints/step_00000001/model.safetensors").unlink()
    assert "has no checkpoint that is whole" in refusal()


def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_it_used(run, tmp_path, caplog):
    run()
    first = rows(tmp_path / "run")
    newest = tmp_path / "run/checkpoints/step_00000012/training.safetensors"
    content = newest.read_bytes()
    newest.write_bytes(content[:-4])
    code, output = run()
    assert code == 0 and "resumed at step 8" in output
    assert "step_00000012/training.safetensors is damaged" in caplog.text
    assert newest.read_bytes() == content
    assert rows(tmp_path / "run") == first


def test_a_loss_that_is_not_finite_stops_the_run(run, tmp_path, capsys):
    """The step that breaks the weights is not saved, however soon a checkpoint is due."""
    code, output = run("--train.lr", "1e30", "--train.warmup", "0", "--train.grad_clip", "0", "--train.save_every", "1")
    assert code == 1
    assert "is not finite at step 2; there is no checkpoint yet: start anew with a lower train.lr" in output
    assert checkpoints(tmp_path / "run") == []


@pytest.mark.parametrize("rate", [1e30, math.inf])
def test_the_last_good_checkpoint_is_good(run, tmp_path, monkeypatch, rate):
    """The sixth step breaks the weights, and leaves them finite or not; the fifth's are named, and work."""
    monkeypatch.setattr(train, "learning_rate", lambda step, config: rate if step == 5 else 1e-3)
    code, output = run("--train.save_every", "1", "--train.grad_clip", "0", "--train.ema", "0.9")
    assert code == 1 and "is not finite at step " in output
    named = re.search(r"the last good checkpoint is (\S+): start anew", output)
    assert named and Path(named[1]).name == "step_00000005" and newest(tmp_path / "run") == 5
    context = torch.zeros(1, 2, 3, 64, 64, dtype=torch.uint8)
    assert svg.load(named[1]).rollout(context, horizon=2, samples=2).isfinite().all()
    monkeypatch.undo()
    saved = checkpoint.read(Path(named[1]))
    assert all(tensor.isfinite().all() for tensor in (saved.weights | saved.training).values())


def test_the_log_of_a_resumed_run_is_that_of_an_uninterrupted_one(run, tmp_path, monkeypatch):
    """Stopped between two lines of the log, the next one averages over the steps before the stop too."""
    options = ("--train.log_every", "5", "--train.save_every", "3", "--train.accumulate", "2")
    run(*options)
    straight = rows(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "straight")
    steps, step = [], Display.step

    def killed(display: Display) -> None:
        steps.append(step(display))
        if len(steps) in (5, 9):  # at step 5, and from the checkpoint of step 3 on, at step 7
            raise KeyboardInterrupt

    monkeypatch.setattr(Display, "step", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(*options)
    assert run(*options)[0] == 0 and len(steps) > 12
    assert rows(tmp_path / "run") == straight
    assert [row["step"] for row in straight] == [5, 6, 10, 12]


def test_a_log_goes_on_in_a_run_of_more_processes():
    """Means over those of the one process and of the two: each step's batch is as large."""
    accelerator = SimpleNamespace(scaler=None, gather=lambda terms: terms)
    meter = Meter(accelerator, 4)
    meter.add(0, {"nll": torch.tensor(3.0)})
    meter.end_step(torch.tensor(1.0))
    saved = checkpoint.Checkpoint(1, {}, {}, meter.check(), {"seconds": 2.0, "read_at": 0.0})
    accelerator.gather = lambda terms: torch.cat([terms, terms + 2])
    meter = Meter(accelerator, 4, saved)
    assert 2.0 <= meter.seconds < 3.0
    meter.add(1, {"nll": torch.tensor(5.0)})
    meter.end_step(torch.tensor(2.0))
    row = meter.read()
    assert (row["nll"], row["grad_norm"]) == (4.5, 1.5) and 0 < row["frames_per_s"] <= 4


def test_a_checkpoint_that_cannot_be_written_ends_the_run(run, tmp_path, monkeypatch):
    write, written = checkpoint.save_file, []

    def full(tensors, path):
        written.append(path)
        if len(written) > 2:
            raise SafetensorError("No space left on device (os error 28)")
        write(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    message = r"step_00000008 could not be written \(No space left on device \(os error 28\)\): once that is mended"
    with pytest.raises(checkpoint.CheckpointError, match=message):
        run()
    assert os.listdir(tmp_path / "run/checkpoints") == ["step_00000004"]


FULL = """
import runpy, sys
from safetensors import SafetensorError
from svg import checkpoint
def full(tensors, path):
    raise SafetensorError("No space left on device (os error 28)")
checkpoint.save_file = full
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a program that finds the disk full."""


def test_it_ends_in_one_line_and_its_loader_ends_with_it(config, tmp_path):
    out = tmp_path / "run"
    process = start(config, out, "--train.eval_every", "0", launch=(sys.executable, "-c", FULL))
    code, output = finish(process)
    assert code == 2
    errors = [line for line in output.splitlines() if not line.startswith((str(out), "step "))]
    assert len(errors) == 1 and errors[0].startswith(f"error: {out}/checkpoints/step_00000004 could not be written (No")


def test_a_run_of_an_earlier_version_goes_on(run, tmp_path):
    run("--train.steps", "2", "--train.decay", "none")
    saved = checkpoint.read(tmp_path / "run/checkpoints/step_00000002")
    saved.config["train"]["channels_last"] = False
    del saved.config["train"]["checkpoint_activations"]
    checkpoint.save(tmp_path / "run", saved, keep=1)
    code, output = run("--train.steps", "4", "--train.decay", "none")
    assert code == 0 and "resumed at step 2" in output
    assert svg.load(tmp_path / "run").config.width == 2


def test_stages_computed_twice_may_be_wished_for_later_and_change_nothing(run, tmp_path):
    constant = ("--train.decay", "none", "--train.precision", "bf16")
    run(*constant)
    plain = rows(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "plain")
    run(*constant, "--train.steps", "6")
    code, output = run(*constant, "--train.checkpoint_activations")
    assert code == 0 and "resumed at step 6" in output
    assert rows(tmp_path / "run") == plain


def test_nothing_waits_for_the_device_between_log_lines(run, tmp_path):
    """Twice as many steps before the one log line read the device as often."""
    options = ("--train.log_every", "100", "--train.save_every", "100", "--train.eval_every", "0", *ALL_AT_ONCE[2:])
    seen = []
    for steps in ("4", "8"):
        with DeviceReads() as reads:
            run(*options, "--train.checkpoint_activations", "--train.steps", steps)
        seen.append(reads.seen)
        (tmp_path / "run").rename(tmp_path / steps)
    assert seen[0] == seen[1] != []


def test_another_run_is_not_trained_over(run, tmp_path):
    from svg.training import runs

    with runs.locked(tmp_path / "run"), pytest.raises(ValueError, match="is being trained by another process"):
        run()


def test_starting_from_another_run_with_a_new_head(run, tmp_path):
    run("--train.steps", "2", "--train.eval_every", "0")
    (tmp_path / "run").rename(tmp_path / "old")
    before = load_file(tmp_path / "old/checkpoints/step_00000002/model.safetensors")
    options = ("--train.init_from", str(tmp_path / "old"), "--train.steps", "1", "--train.lr", "1e-12")
    code, output = run(*options, "--likelihood.name", "pixel_sigma", "--train.eval_every", "0")
    assert code == 0 and f"weights of {tmp_path / 'old'}, but new: decoder." in output
    after = load_file(tmp_path / "run/checkpoints/step_00000001/model.safetensors")
    weights = [name for name in after if name.endswith("weight") and after[name].shape == before[name].shape]
    assert len(weights) > 10
    for name in weights:
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=1e-5)


def test_a_simulated_data_set_that_is_missing_is_made(run, tmp_path):
    path = tmp_path / "made"
    code, _ = run("--data.path", str(path), "--data.clips", "2", "--train.steps", "1", "--eval.horizon", "1")
    assert code == 0
    assert sorted(folder.name for folder in path.iterdir() if folder.is_dir()) == ["test", "train", "val"]
    shutil.rmtree(path)


def test_training_on_what_is_there_needs_no_simulator(config, tmp_path):
    """Nor what reads BAIR's records: both are extras."""
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name in ("pymunk", "cv2", "google_crc32c", "av", "mujoco"):
        (stubs / f"{name}.py").write_text(f"raise ModuleNotFoundError('gone', name={name!r})")
    environment = os.environ | {"PYTHONPATH": str(stubs), "OMP_NUM_THREADS": "1"}

    def call(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "train.py", "--config", str(config), "--train.out", str(tmp_path / "run"), *options]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)

    done = call("--train.steps", "1")
    assert done.returncode == 0, done.stderr
    done = call("--train.steps", "2", "--data.path", str(tmp_path / "none"))
    assert done.returncode == 2
    assert "google_crc32c, by which it is made, is not installed: pip install -e '.[data]'" in done.stderr


def test_the_learning_rate_rises_to_its_peak_and_ends_where_it_should():
    for decay, last in (("none", 1.0), ("linear", 0.1), ("cosine", 0.1)):
        config = TrainConfig(lr=2.0, warmup=3, steps=11, decay=decay, final_lr=0.1)
        rates = [learning_rate(step, config) for step in range(12)]
        assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
        assert rates[10] == rates[11] == pytest.approx(2.0 * last)
        assert all(a >= b for a, b in itertools.pairwise(rates[3:]))
    assert learning_rate(7, config) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * 4 / 7))))
    assert learning_rate(0, TrainConfig(lr=2.0, warmup=0, steps=1)) == 2.0


def test_the_average_follows_the_weights_and_copies_the_counters():
    model = torch.nn.BatchNorm1d(2)
    average = Average(model, 0.5)
    model.weight.data.fill_(3.0)
    model.num_batches_tracked.fill_(7)
    average.update(0)  # decay 1/10
    assert torch.allclose(average.model.weight, torch.tensor(0.1 * 1 + 0.9 * 3))
    model._apply(torch.clone)  # as Accelerate does on several CPU processes: the model has other tensors from here on
    model.weight.data.fill_(5.0)
    average.update(1000)  # decay 1/2
    assert torch.allclose(average.model.weight, torch.tensor(0.5 * 2.8 + 0.5 * 5))
    assert average.model.num_batches_tracked == 7
    assert not average.model.training and not average.model.weight.requires_grad


def test_a_second_interrupt_is_obeyed_unless_it_is_the_first_told_twice(monkeypatch):
    with pytest.raises(KeyboardInterrupt), Stop() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert stop.number == signal.SIGINT
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 2)
        signal.raise_signal(signal.SIGINT)


def first_row(run, tmp_path: Path, *options: str) -> dict[str, float]:
    """The log of one step."""
    once = ("--train.steps", "1", "--train.log_every", "1", "--train.eval_every", "0")
    code, said = run(*once, *options)
    assert code == 0, said
    (row,) = rows(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    return row


def test_a_compiled_step_is_the_same(run, tmp_path, monkeypatch):
    """As torch.compile captures it, forwards and backwards; inductor, which turns that into C++, takes minutes here."""
    graphs = []

    def capture(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]):
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    plain = first_row(run, tmp_path)
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend=capture))
    monkeypatch.setattr(train, "require_compiler", lambda device: None)
    compiled = first_row(run, tmp_path, "--train.compile", "true")
    assert len(graphs) >= 2  # of the encoder and the decoder
    for name in ("nll", "kl", "grad_norm"):
        assert compiled[name] == pytest.approx(plain[name], rel=1e-4), name


def test_compiling_without_a_compiler_is_refused(run, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(ValueError, match=r"train\.compile needs a C\+\+ compiler, and there is no no-such-compiler: "):
        run("--train.compile", "true")
