"""Checkpoints are whole or not there, whatever happens, and give back every bit."""

import io
import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from svg import checkpoint
from svg.checkpoint import Checkpoint, CheckpointError
from svg.training.writer import Writer
from tests.helpers.disk import files_up_to

FILES = ("config.json", "model.safetensors", "training.json", "training.safetensors", "manifest.json")


def some(step: int) -> Checkpoint:
    weights = {"a": torch.full((2, 3), float(step)), "count": torch.tensor(step), "half": torch.ones(1).bfloat16()}
    training = {"a": torch.full((2, 3), -1.0), "optimizer.exp_avg/a": torch.rand(3)}
    return Checkpoint(
        step, {"train": {"lr": 0.1}, "x": [1, None]}, weights, training, {"seconds": 1.25, "scaler": None}
    )


def steps(run: Path) -> list[int]:
    return [int(path.name.removeprefix("step_")) for path in sorted((run / "checkpoints").glob("step_????????"))]


def test_what_was_saved_is_read(tmp_path):
    saved = some(7)
    folder = checkpoint.save(tmp_path, saved, keep=1)
    assert folder == tmp_path / "checkpoints/step_00000007" == checkpoint.latest(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    read = checkpoint.read(folder)
    assert (read.step, read.config, read.state) == (saved.step, saved.config, saved.state)
    for ours, theirs in ((saved.weights, read.weights), (saved.training, read.training)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours)


def test_the_last_n_are_kept(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    for step in (1, 2, 3, 10):
        checkpoint.save(tmp_path, some(step), keep=2)
    assert steps(tmp_path) == [3, 10]
    # Going on from an earlier one, because the newest was damaged, what came after it is kept under another name.
    checkpoint.save(tmp_path, some(4), keep=2)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["step_00000003", "step_00000004", "step_00000010.aside"]
    # The same step may be saved again.
    for _ in range(2):
        checkpoint.save(tmp_path, some(4), keep=2)
    assert steps(tmp_path) == [3, 4]
    assert {"step_00000004.aside", "step_00000004.aside1"} < set(os.listdir(tmp_path / "checkpoints"))


def test_what_the_user_keeps_among_the_checkpoints_is_left_alone(tmp_path, monkeypatch):
    """Neither gone on from nor rotated away, renamed or removed: copies, archives, notes, protected checkpoints."""
    newest = [checkpoint.save(tmp_path, some(step), keep=2) for step in (1, 2)][-1]
    folder = tmp_path / "checkpoints"
    for name in ("step_best", "step_00000002_mine", "step_000000021", "step_0000009", "step_", ".step_mine", "zz"):
        shutil.copytree(newest, folder / name)
    for name in ("step_00000002.tar", "step_00000009", ".step_00000003.txt"):
        (folder / name).write_text(name)
    own = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    own = {path: content for path, content in own.items() if path.parts[0] not in ("step_00000001", "step_00000002")}
    assert checkpoint.latest(tmp_path) == newest
    for step in (3, 4, 5):
        checkpoint.save(tmp_path, some(step), keep=2)
    checkpoint.remove_leftovers(tmp_path)
    assert checkpoint.latest(tmp_path) == folder / "step_00000005"
    assert all((folder / path).read_bytes() == content for path, content in own.items())
    assert len(list(folder.iterdir())) == 2 + 10

    # A file in the place of a checkpoint is moved aside, and a folder that may not be written to is not removed.
    checkpoint.save(tmp_path, some(9), keep=2)
    assert (folder / "step_00000009.aside").read_text() == "step_00000009"
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "step_00000005" and access(path, mode))
    checkpoint.save(tmp_path, some(10), keep=2)
    assert steps(tmp_path) == [5, 9, 10]


def test_a_checkpoint_elsewhere_is_unlinked_not_removed(tmp_path):
    first = checkpoint.save(tmp_path / "run", some(1), keep=1)
    elsewhere = first.rename(tmp_path / "elsewhere")
    first.symlink_to(elsewhere)
    assert checkpoint.latest(tmp_path / "run") == first
    checkpoint.save(tmp_path / "run", some(2), keep=1)
    assert steps(tmp_path / "run") == [2] and (elsewhere / "model.safetensors").exists()


@pytest.mark.parametrize("name", FILES)
def test_what_can_not_be_read_now_is_neither_passed_over_nor_removed(tmp_path, monkeypatch, name):
    """It may be whole: permissions and disks that fail for a while."""
    checkpoint.save(tmp_path, some(1), keep=2)
    newest = checkpoint.save(tmp_path, some(2), keep=2)
    opened = io.open

    def failing(path, *args, **kwargs):
        if Path(path) == newest / name:
            raise OSError(5, "Input/output error", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(io, "open", failing)
    with pytest.raises(CheckpointError) as error:
        checkpoint.latest(tmp_path)
    remedy = f"mend that, or move {newest} away to do without it"
    assert str(error.value) == f"{newest / name} can't be read (input/output error): {remedy}"
    monkeypatch.undo()
    assert steps(tmp_path) == [1, 2] and checkpoint.latest(tmp_path) == newest


def test_a_checkpoint_that_can_not_be_removed_costs_a_warning(tmp_path, monkeypatch, caplog):
    def failing(path, *args, **kwargs):
        raise OSError(5, "Input/output error", str(path))

    checkpoint.save(tmp_path, some(1), keep=1)
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors=False: ignore_errors or failing(path))
    checkpoint.save(tmp_path, some(2), keep=1)
    assert steps(tmp_path) == [2] and "could not be removed (Input/output error)" in caplog.text
    checkpoint.remove_leftovers(tmp_path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_a_damaged_newest_is_reported_and_the_one_before_it_used(tmp_path, caplog, name, damage):
    first = checkpoint.save(tmp_path, some(1), keep=2)
    path = checkpoint.save(tmp_path, some(2), keep=2) / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-2])
    elif damage == "changed":
        middle = content.index(b"lr") if name == "config.json" else len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    assert checkpoint.latest(tmp_path) == first
    assert len(caplog.records) == 1
    assert name in caplog.text or name == "manifest.json"
    assert "trying the checkpoint before it" in caplog.text


def test_all_damaged_is_an_error_that_names_the_remedy(tmp_path):
    folder = checkpoint.save(tmp_path, some(1), keep=2)
    (folder / "training.json").unlink()
    with pytest.raises(
        CheckpointError,
        match=r"has no checkpoint that is whole \(.*training.json is missing\): move .*/checkpoints away",
    ):
        checkpoint.latest(tmp_path)


class Killed(BaseException):
    pass


def test_killed_at_any_moment_a_whole_checkpoint_remains(tmp_path, monkeypatch):
    """Every operation on the disk is, in turn, the one that never returns."""
    countdown = [0]

    def dying(operation):
        def wrapped(*args, **kwargs):
            countdown[0] -= 1
            if countdown[0] == 0:
                raise Killed
            return operation(*args, **kwargs)

        return wrapped

    for module, name in ((os, "fsync"), (os, "unlink"), (os, "rmdir"), (Path, "rename"), (checkpoint, "save_file")):
        monkeypatch.setattr(module, name, dying(getattr(module, name)))
    for moment in range(1, 1000):
        run = tmp_path / str(moment)
        countdown[0] = 0
        for step in (1, 2):
            checkpoint.save(run, some(step), keep=2)
        countdown[0] = moment
        try:
            checkpoint.save(run, some(3), keep=2)
        except Killed:
            countdown[0] = 0
            newest = checkpoint.latest(run)
            assert newest is not None and newest.name in ("step_00000002", "step_00000003")
            checkpoint.remove_leftovers(run)
            assert sorted(os.listdir(run / "checkpoints")) == [f"step_{step:08d}" for step in steps(run)]
            checkpoint.save(run, some(4), keep=1)
            assert steps(run) == [4]
            shutil.rmtree(run)
        else:
            assert moment > 10
            return
    raise AssertionError("never finished")


def test_a_full_disk_is_one_line_and_changes_nothing(tmp_path):
    """A limit on the size of files, which the system enforces as it would a full disk."""
    large = replace(some(2), training={"a": torch.zeros(2**20)})
    checkpoint.save(tmp_path, some(1), keep=1)
    with files_up_to(2**20), pytest.raises(CheckpointError) as error:
        checkpoint.save(tmp_path, large, keep=1)
    assert str(error.value).startswith(f"{tmp_path}/checkpoints/step_00000002 could not be written (")
    assert "ile too large" in str(error.value) and "the same command goes on" in str(error.value)
    assert os.listdir(tmp_path / "checkpoints") == ["step_00000001"]


@pytest.fixture
def gate(monkeypatch):
    """Writes wait until it is set; `gate.writing` is the number of those that do."""
    gate, save = threading.Event(), checkpoint.save

    def waiting(*args):
        gate.writing += 1
        assert gate.wait(60)
        return save(*args)

    gate.writing = 0
    monkeypatch.setattr(checkpoint, "save", waiting)
    return gate


def test_what_is_written_is_what_was_saved_whatever_training_does_next(tmp_path, gate):
    weight = torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last)
    before = weight.clone()
    with Writer(tmp_path, keep=2) as writer:
        writer.save(Checkpoint(1, {}, {"weight": weight}, {"model.weight": weight.detach()}, {}))
        weight.zero_()
        writer.check()
        assert steps(tmp_path) == []
        gate.set()
    read = checkpoint.read(checkpoint.latest(tmp_path))
    assert torch.equal(read.weights["weight"], before) and torch.equal(read.training["model.weight"], before)


def test_a_snapshot_holds_what_is_there_twice_once():
    base = torch.arange(6.0).reshape(2, 3)
    weights = {"base": base, "row": base[:1], "transposed": base.T, "bits": base.view(torch.int32)}
    taken = Checkpoint(1, {}, weights, {"base": base.detach(), "empty": torch.empty(0)}, {}).snapshot()
    assert taken.weights["base"].data_ptr() == taken.training["base"].data_ptr() != base.data_ptr()
    assert all(torch.equal(taken.weights[name], weights[name]) for name in weights)
    assert len({tensor.data_ptr() for tensor in taken.weights.values()}) == len(weights)


def test_one_checkpoint_is_written_at_a_time_and_the_last_is_waited_for(tmp_path, gate):
    with Writer(tmp_path, keep=2) as writer:
        writer.save(some(1))
        second = threading.Thread(target=writer.save, args=(some(2),))
        second.start()
        time.sleep(0.1)
        assert second.is_alive() and gate.writing == 1
        gate.set()
        second.join(60)
        writer.save(some(3))
    assert steps(tmp_path) == [2, 3] and gate.writing == 3


def test_an_error_of_the_thread_reaches_the_loop(tmp_path, monkeypatch, caplog):
    def full(*args):
        raise OSError(28, "No space left on device")

    checkpoint.save(tmp_path, some(1), keep=1)
    monkeypatch.setattr(checkpoint, "save_file", full)
    message = r"step_00000002 could not be written \(No space left on device\): once that is mended"
    with pytest.raises(CheckpointError, match=message), Writer(tmp_path, keep=1) as writer:
        writer.save(some(2))
        while True:
            writer.check()
            time.sleep(0.001)
    with pytest.raises(CheckpointError, match=message), Writer(tmp_path, keep=1) as writer:
        writer.save(some(2))
        writer.save(some(3))
    with pytest.raises(CheckpointError, match=message), Writer(tmp_path, keep=1) as writer:
        writer.save(some(2))
    assert not caplog.records
    with pytest.raises(ZeroDivisionError), Writer(tmp_path, keep=1) as writer:
        writer.save(some(2))
        _ = 1 / 0
    assert "could not be written (No space left on device)" in caplog.text
    assert os.listdir(tmp_path / "checkpoints") == ["step_00000001"]


def test_json_that_is_not_an_object_is_damage(tmp_path):
    folder = checkpoint.save(tmp_path, some(1), keep=1)
    (folder / "manifest.json").unlink()
    (folder / "config.json").write_text(json.dumps([1]))
    with pytest.raises(CheckpointError, match=r"config.json is damaged \(it holds '\[1\]', which is no group\)"):
        checkpoint.read_config(folder)


@pytest.mark.parametrize(
    "value", [[], {}, {"files": 1}, {"files": {"model.safetensors": 1}}, {"files": {"a": {}}}, "x"]
)
def test_a_manifest_of_another_form_is_damage(tmp_path, value):
    folder = checkpoint.save(tmp_path, some(1), keep=1)
    (folder / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(CheckpointError, match=r"manifest.json is damaged \("):
        checkpoint.verify(folder)
