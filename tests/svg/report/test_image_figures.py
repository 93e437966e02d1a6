"""Plots of a training log, however it ended."""

import json

from PIL import Image

from svg.report.image_figures import write_training


def test_a_half_line_costs_no_picture(tmp_path):
    rows = [{"step": step, "sigma": 1 / step, "kl": None, "neg_elbo": 10.0 - step} for step in range(1, 5)]
    lines = [*map(json.dumps, rows), '{"step": "x", "sigma": 1}', '{"step": 5, "sigma": "y", "neg_elbo": NaN}', "[]"]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 6, "sig')
    write_training(tmp_path / "training.png", tmp_path / "metrics.jsonl")
    with Image.open(tmp_path / "training.png") as image:
        assert image.width == 2 * 4.4 * 150


def test_a_log_without_numbers_is_no_picture_and_no_error(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    write_training(tmp_path / "training.png", tmp_path / "metrics.jsonl")
    assert not (tmp_path / "training.png").exists()
