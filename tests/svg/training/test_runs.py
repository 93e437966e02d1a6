"""A run's folder: its log outlives whatever happens, and what is no run is not trained over."""

import json
import math
import os

import pytest

from svg import checkpoint
from svg.checkpoint import Checkpoint
from svg.config import Config
from svg.runtime import files
from svg.training import runs
from svg.training.runs import MetricsLog
from tests.svg.test_pretrained import tiny


def test_the_log_goes_on_where_the_run_does_without_what_is_damaged(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": step, "nll": 1 / 3 + step} for step in range(1, 6)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text + '{"nll": 1}\n{"step": "2"}\n{"step": 2, "nl')
    log = MetricsLog(tmp_path, 3)
    log.write({"step": 4, "nll": math.nan, "kl": -math.inf, "psnr": None, "lr": 1e-3})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        *rows[:3],
        {"step": 4, "nll": None, "kl": None, "psnr": None, "lr": 1e-3},
    ]
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


@pytest.mark.parametrize("end", ["", '{"step": 4, "nl'])
def test_a_log_with_damaged_lines_is_kept(tmp_path, caplog, end):
    path = tmp_path / "metrics.jsonl"
    text = f'{{"step": 1}}\n{{"st\x00p": 2\n{{"step": 3}}\n{end}'
    path.write_text(text)
    MetricsLog(tmp_path, 3)
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'
    assert (tmp_path / "metrics.1.jsonl").read_text() == text
    assert f"{path} has 1 damaged lines and is kept as {tmp_path / 'metrics.1.jsonl'}" in caplog.text


def test_a_run_that_starts_anew_keeps_the_log_of_an_earlier_one(tmp_path, caplog):
    for number in range(3):
        MetricsLog(tmp_path, 0).write({"step": number})
    assert sorted(os.listdir(tmp_path)) == ["metrics.1.jsonl", "metrics.2.jsonl", "metrics.jsonl"]
    assert [(tmp_path / f"metrics.{n}jsonl").read_text() for n in ("1.", "2.", "")] == [
        f'{{"step": {number}}}\n' for number in range(3)
    ]
    assert f"whose checkpoints are gone, is kept as {tmp_path / 'metrics.2.jsonl'}" in caplog.text


def test_the_log_reaches_the_disk_before_the_checkpoint(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(runs, "flush", flushed.append)
    log = MetricsLog(tmp_path, 0)
    assert flushed == [log.path, tmp_path]
    log.sync()
    assert flushed[2:] == [log.path]


def test_a_log_that_can_not_be_written_is_one_line(tmp_path, monkeypatch):
    log = MetricsLog(tmp_path, 0)

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "flush", full)
    with pytest.raises(ValueError, match=r"metrics.jsonl could not be written \(No space left on device\): once"):
        log.sync()
    log.path.unlink()
    log.path.mkdir()
    with pytest.raises(ValueError, match=r"metrics.jsonl could not be written \(Is a directory\): once"):
        log.write({"step": 1})


def refusal(folder) -> str:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError) as error, runs.locked(folder):
        pass
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_no_run_is_not_trained_over(tmp_path):
    tiny().save_pretrained(tmp_path / "model")
    start = f"--train.init_from {tmp_path / 'model'} starts from its weights"
    assert refusal(tmp_path / "model") == (
        f"train.out {tmp_path / 'model'} holds a model (model.safetensors), which is no run: "
        f"name another folder ({start})"
    )
    saved = checkpoint.save(tmp_path / "run", Checkpoint(3, Config().to_dict(), {}, {}, {}), keep=1)
    assert "holds a model" in refusal(saved)
    for text in ("{}", "not JSON", '{"format": 1, "model": {}}', '{"name": "mine"}', "[" * 10_000):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other/config.json").write_text(text)
        assert refusal(tmp_path / "other").endswith("config.json that is no run's: name another folder")


def test_a_run_is_gone_on_with_whatever_befell_its_config(tmp_path):
    with runs.locked(tmp_path / "new"):
        runs.write_config(tmp_path / "new", Config())
    with runs.locked(tmp_path / "new"):
        checkpoint.save(tmp_path / "new", Checkpoint(3, Config().to_dict(), {}, {}, {}), keep=1)
    (tmp_path / "new/config.json").write_text("")
    with runs.locked(tmp_path / "new"):
        pass
    (tmp_path / "empty").mkdir()
    files.write_json(tmp_path / "empty/notes.json", {})
    with runs.locked(tmp_path / "empty"):
        pass
