"""The experiments: what is exact in them, that each runs and publishes, and that the page shows what they published."""

import importlib
import itertools
import json
import math
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from experiments import combinations, common, convergence, hypersphere, ppca, scale_invariance, sigma_maps
from svg import likelihoods
from svg.evaluation.gallery import Shown
from svg.objective import REGISTRY

ROOT = Path(__file__).parents[1]
NAMES = [
    "hypersphere",
    "heteroscedastic",
    "ppca",
    "scale_invariance",
    "collapse",
    "likelihoods",
    "convergence",
    "two_stage",
]
PUBLISHED = sorted(path.stem for path in (ROOT / "docs/experiments").glob("*.json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder whose datasets/ the experiments share."""
    return tmp_path_factory.mktemp("experiments")


def options(*arguments: str, rows: Path, **defaults):
    made = common.parser("example", "An example.")
    made.add_argument("--steps", type=int, default=7)
    return common.parse(made, ["--rows", str(rows), *arguments], quick=defaults)


@pytest.mark.parametrize(
    ("radius", "expected"), [(1.4, 0), (1.5, 0.6807), (2, 1.6629), (3, 2.8164), (5, 4.8968), (10, 9.9496)]
)
def test_the_hypersphere_is_learned_with_the_exact_radius(radius, expected):
    assert hypersphere.optimal_radius(2, radius, 1.0) == pytest.approx(expected, abs=5e-5)
    assert hypersphere.likeliest_radius(2, radius, 1.0) == pytest.approx(expected, abs=5e-4)
    assert hypersphere.optimal_radius(2, 3 * radius, 3.0) == pytest.approx(3 * expected, abs=2e-4)


@pytest.mark.parametrize("dimension", hypersphere.DIMENSIONS)
def test_the_hypersphere_is_kept_above_sigma_times_sqrt_of_the_dimension(dimension):
    assert hypersphere.threshold(dimension) == pytest.approx(math.sqrt(dimension), rel=1e-6)
    assert hypersphere.optimal_radius(dimension, 0.999 * math.sqrt(dimension), 1.0) == 0
    assert hypersphere.optimal_radius(dimension, 1.001 * math.sqrt(dimension), 1.0) > 0


def test_bessel_ratios_are_those_of_scipy():
    from scipy.special import ive

    for order in (1.0, 1.5, 5.0, 50.0):
        for k in (1e-6, 0.1, 3.0, 40.0):
            if ive(order - 1, k) > 1e-200:
                assert hypersphere.bessel_ratio(order, k) == pytest.approx(ive(order, k) / ive(order - 1, k), rel=1e-12)


def test_a_linear_vae_with_the_optimal_sigma_reaches_ppca():
    x = ppca.images(40)
    variance, log_p = ppca.analytic(x, 1)
    reached, elbo = ppca.optimised(x, 1, 300)
    assert reached == pytest.approx(variance, rel=1e-6)
    assert elbo == pytest.approx(log_p, abs=1e-4)
    assert elbo <= log_p + 1e-6


@pytest.mark.parametrize("scale", [0.01, 100.0])
@pytest.mark.parametrize("name", ["baggins", "optimal_sigma"])
def test_a_rescaling_of_the_data_shifts_the_loss_by_d_ln_lambda_all_along(name, scale, folder, monkeypatch):
    monkeypatch.chdir(folder)
    first, other = (scale_invariance.run(name, value, Namespace(steps=6)) for value in (1.0, scale))
    shift = [b - a for a, b in zip(first["losses"], other["losses"], strict=True)]
    assert shift == pytest.approx([784 * math.log(scale)] * 6, rel=1e-11)
    assert other["errors"] == pytest.approx(first["errors"], rel=1e-9)


def test_a_rescaling_of_the_data_changes_what_a_fixed_sigma_learns(folder, monkeypatch):
    monkeypatch.chdir(folder)
    first, other = (scale_invariance.run("fixed_gaussian", value, Namespace(steps=6)) for value in (1.0, 100.0))
    assert other["errors"] != pytest.approx(first["errors"], rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_each_experiment_publishes_and_goes_on_from_its_rows(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    experiment = importlib.import_module(f"experiments.{name}")
    experiment.main(["--quick"])
    out = folder / "runs/experiments/quick"
    written = json.loads((out / f"{name}.json").read_text())
    text = (out / f"{name}.md").read_text()
    assert written["command"] == f"python -m experiments.{name} --quick"
    assert all(title in text and table for title, table in written["tables"].items())
    assert not re.search(r"\b(nan|inf)\b", text)
    assert (out / f"{name}.png").stat().st_size < 150_000

    rows = (out / f"{name}.json").read_bytes()
    experiment.main(["--quick"])
    assert (out / f"{name}.json").read_bytes() == rows


def test_rows_are_computed_once_for_each_setting(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"value": len(calls)}

    for steps, expected in (("7", 1), ("7", 1), ("8", 2)):
        rows = common.Rows(options("--steps", steps, rows=tmp_path), 1)
        assert rows.get("a row", compute) == {"value": expected}


def test_an_interrupted_experiment_keeps_its_finished_rows(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    rows = common.Rows(options(rows=tmp_path), 2)
    rows.get("first", lambda: {"value": 1})
    with pytest.raises(KeyboardInterrupt):
        rows.get("second", interrupted)
    assert common.Rows(options(rows=tmp_path), 2).get("first", interrupted) == {"value": 1}


def test_quick_changes_the_defaults_and_where_it_is_published(tmp_path):
    assert options(rows=tmp_path).steps == 7
    assert options("--quick", rows=tmp_path, steps=1).steps == 1
    assert options("--quick", "--steps", "3", rows=tmp_path, steps=1).given == ["steps"]
    assert Path(options("--quick", rows=tmp_path).out) == tmp_path / "quick"
    assert options(rows=tmp_path).out == "docs/experiments"


@pytest.mark.parametrize("wrong", [["--steps", "0"], ["--steps", "many"], ["--stps", "3"]])
def test_a_wrong_option_is_named(wrong, tmp_path):
    with pytest.raises(ValueError, match=wrong[0]):
        options(*wrong, rows=tmp_path)


def test_the_command_line_says_what_is_wrong_without_a_traceback():
    command = [sys.executable, "-m", "experiments.hypersphere", "--stepz", "3"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr.startswith("error: ") and "--stepz" in found.stderr and "Traceback" not in found.stderr


def test_tables_align_numbers_and_say_what_was_not_run():
    rows = [{"name": "a", "value": 0.123456, "published": None}, {"name": "b", "value": "-", "published": 3}]
    table = common.markdown(rows)
    assert table.splitlines() == [
        "| name | value | published |",
        "| --- | --: | --: |",
        "| a | 0.1235 | not run |",
        "| b | - | 3 |",
    ]


def test_a_page_gets_a_table_between_its_marks(tmp_path):
    page = tmp_path / "experiments.md"
    page.write_text("before\n<!-- one -->\nold\n<!-- /one -->\nafter\n<!-- two -->\nkept\n<!-- /two -->\n")
    common.update_page(page, "one", "new \\1\n")
    assert page.read_text() == (
        "before\n<!-- one -->\nnew \\1\n<!-- /one -->\nafter\n<!-- two -->\nkept\n<!-- /two -->\n"
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_page_shows_what_was_published(name):
    page, folder = (ROOT / "docs/experiments.md").read_text(), ROOT / "docs/experiments"
    assert f"<!-- {name} -->\n{(folder / f'{name}.md').read_text()}<!-- /{name} -->" in page
    assert f"](experiments/{name}.png)" in page or not (folder / f"{name}.png").exists()
    assert json.loads((folder / f"{name}.json").read_text())["command"] == f"python -m experiments.{name}"


def test_convergence_is_from_where_sigma_stays_near_the_error():
    near, far = [0.0, 0.05, 0.0], [0.0, 0.5, 0.0]
    assert convergence.steps_to_converge({"history": [near] * 30}) == 0
    assert convergence.steps_to_converge({"history": [far] * 10 + [near] * 20}) == 10
    assert convergence.steps_to_converge({"history": [near] * 20 + [far] * 10}) is None


def test_combinations_are_trained_and_measured_or_refused_with_the_reason(folder, monkeypatch):
    def cell(posterior, objective):
        return combinations.combination("vae", "baggins", objective, {"model.prior": "fixed"}) | {
            "model.posterior": posterior
        }

    cells = {"a": cell("constant", "bilbo"), "b": cell("diagonal", "elbo"), "c": cell("none of them", "ae")}
    monkeypatch.setattr(combinations, "planned", lambda names: {"Table": [({"likelihood": "`baggins`"}, cells)]})
    monkeypatch.chdir(folder)
    combinations.main(["--quick"])
    written = json.loads((folder / "runs/experiments/quick/combinations.json").read_text())
    (row,), reasons, (total,) = written["tables"].values()
    assert math.isfinite(float(row["a"])) and (row["b"], row["c"]) == ("refused (1)", "refused (2)")
    assert "error: likelihood.name baggins is undefined" in reasons[0]["train.py says"]
    assert "error: model.posterior is 'none of them'" in reasons[1]["train.py says"]
    assert total["trained and evaluated"] == 1 and total["refused with the reason"] == 2
    assert total["numbers checked"] > 50

    monkeypatch.setattr(combinations, "foretold", lambda typed: "it should not be defined")
    with pytest.raises(ValueError, match="should say 'it should not be defined'"):
        combinations.run(cells["b"], Namespace(rows="runs/other", steps=4))


def test_every_likelihood_meets_every_objective_and_every_latent():
    plan = combinations.planned(list(likelihoods.REGISTRY))
    cells = {combinations.key(cell): cell for table in plan.values() for _, cells in table for cell in cells.values()}
    for model, likelihood, objective in itertools.product(("svg", "vae"), likelihoods.REGISTRY, REGISTRY):
        wanted = {"model.name": model, "likelihood.name": likelihood, "objective.name": objective}
        assert any(wanted.items() <= cell.items() for cell in cells.values())
    for latents, likelihood, objective in itertools.product(combinations.LATENTS, combinations.SOME, REGISTRY):
        wanted = dict(zip(("model.name", "model.prior", "model.posterior"), latents, strict=True))
        wanted |= {"likelihood.name": likelihood, "objective.name": objective}
        assert any(wanted.items() <= cell.items() for cell in cells.values())


def test_numbers_are_found_wherever_they_are():
    found = dict(combinations.numbers({"a": [1.5, {"b": None}, "text"], "c": {"d": float("nan")}}))
    assert found.keys() == {"a.0", "c.d"} and math.isnan(found["c.d"])


def test_sigma_maps_need_the_runs_of_the_video_table(tmp_path):
    with pytest.raises(ValueError, match="python -m experiments.video makes them"):
        sigma_maps.main(["--rows", str(tmp_path)])


def test_a_picture_of_sigma_maps_has_a_row_for_each_head():
    frames = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    sigma = np.linspace(0, 0.5, 28 * 64 * 64, dtype=np.float32).reshape(1, 28, 64, 64)
    shown = Shown(0, frames[:2], frames[2:], frames[None, 2:], ["sample"], sigma)
    one, two = (sigma_maps.picture({f"head_{i}": shown for i in range(count)}) for count in (1, 2))
    assert one.shape[1] == two.shape[1] and two.shape[0] - one.shape[0] == 2 * 64 + 8
