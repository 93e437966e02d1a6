"""The command line: layers of values, one-line errors, and a help that shows what would be used."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import yaml

from svg.config import Config, EvalConfig
from svg.config.command_line import parse

ROOT = Path(__file__).parents[3]


def train(*argv: str, **kwargs) -> Config:
    return parse(Config, argv, program="train.py", description="Train.", config_files=True, **kwargs)


def error_of(*argv: str) -> str:
    with pytest.raises(ValueError) as error:
        train(*argv)
    return str(error.value)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text(
        "train: {steps: 10_000, lr: 2e-3, precision: no}\nlikelihood:\n  options: {floor: -4}\nmodel: {prior: none}\n"
    )
    return str(path)


def test_files_then_options_override_the_defaults(file, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("train:\n  lr: .5\n  out: '7'\n")
    config = train("--config", file, "--train.steps", "100", "--config", str(other), "--likelihood.options.floor=-5")
    assert (config.train.steps, config.train.lr, config.train.precision, config.train.out) == (100, 0.5, "no", "7")
    assert config.likelihood.options == {"floor": -5}
    assert config.model.prior == "none"
    assert train(defaults={"train": {"steps": 7}}).train.steps == 7


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["--train.trackers", "tensorboard", "wandb"], ["tensorboard", "wandb"]),
        (["--train.trackers"], []),
        (["--train.adam_betas", "0.5", "1e-1"], (0.5, 0.1)),
        (["--train.compile"], True),
        (["--train.compile", "false"], False),
        (["--train.steps", "1e3"], 1000),
        (["--train.steps", "010"], 10),
        (["--train.out", "1e3"], "1e3"),
        (["--train.init_from", "null"], None),
        (["--train.precision", "no"], "no"),
        (["--model.size", "128"], 128),
        (["--likelihood.options", "{floor: none, momentum: 1e-2}"], {"floor": "none", "momentum": 0.01}),
        (["--likelihood.options.floor", "null"], {"floor": None}),
        (["--likelihood.options.floor", "-1e-4"], {"floor": -1e-4}),
    ],
)
def test_values_are_read_as_the_type_of_their_option(argv, value):
    group, name = argv[0].removeprefix("--").split(".")[:2]
    read = getattr(getattr(train(*argv), group), name)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--train.stps", "3"], "unknown option --train.stps: did you mean --train.steps?"),
        (["--train.step", "3"], "unknown option --train.step: did you mean --train.steps?"),
        (["--beta", "3"], "unknown option --beta: did you mean --objective.beta?"),
        (["--model", "3"], "--model is a group of options, such as --model.name"),
        (["extra"], "'extra' belongs to no option; --help lists them"),
        (["--train.lr"], "--train.lr: expected one argument"),
        (["--likelihood.options.floor"], "--likelihood.options.floor: expected one argument"),
        (["--train.steps", "x"], "train.steps is 'x', but it must be a whole number"),
        (["--train.steps", "1:30"], "train.steps is '1:30', but it must be a whole number"),
        (["--train.lr", "[[["], "--train.lr is '[[[', which is not a YAML value"),
        (["--train.lr", "!!timestamp x"], "--train.lr is '!!timestamp x', which is not a YAML value"),
        (["--train.lr", "1e999"], "train.lr is inf, but it must be positive and finite"),
        (["--train.lr", "2026-13-01"], "train.lr is '2026-13-01', but it must be a number"),
        (
            ["--likelihood.options.floor", "-5", "--likelihood.options.floor.x", "3"],
            "--likelihood.options.floor.x: floor is -5, which has no options of its own",
        ),
        (["--train.compile", "yes"], "train.compile is 'yes', but it must be true or false"),
        (
            ["--model.prior", "non"],
            "model.prior is 'non', but it must be learned or mixture or learned_mean or fixed or none",
        ),
        (["--likelihood.options", "{a: "], "--likelihood.options is '{a: ', which is not a YAML value"),
        (["--config", "none.yaml"], "--config none.yaml: no such file or directory"),
    ],
)
def test_an_error_is_one_line_that_names_the_option(argv, message):
    assert error_of(*argv) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {widht: 3}", "unknown option model.widht: did you mean model.width?"),
        ("train: {steps: many}", "train.steps is 'many', but it must be a whole number"),
        ("train:", "train is None, but it must be a group of options"),
        ("model: {width: 3", "not YAML in line 1 (expected ',' or '}', but got '<stream end>')"),
        ("", "holds no options (`group:` lines with indented `name: value` lines)"),
        ("- 3", "holds no options (`group:` lines with indented `name: value` lines)"),
    ],
)
def test_an_error_in_a_file_names_the_file(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert error_of("--config", str(path)) == f"--config {path}: {message}"


def help_of(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as exit:
        train(*argv, "--help")
    assert exit.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_shows_every_field_with_its_docstring_and_the_value_it_would_have(file, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    shown = help_of(capsys)
    assert "--train.steps INT Optimiser steps. [100000]" in shown
    assert "--train.precision no|bf16|fp16 Mixed precision" in shown
    shown = help_of(capsys, "--config", file)
    assert "--train.steps INT Optimiser steps. [10000]" in shown
    assert "--likelihood.options VALUE Options of that likelihood, each as" in shown and "[{'floor': -4}]" in shown
    for group in Config().to_dict().items():
        for name in group[1]:
            assert f"--{group[0]}.{name} " in shown


def test_other_programs_have_flat_options_groups_and_required_ones():
    @dataclass(frozen=True)
    class Options:
        """What to evaluate."""

        checkpoint: list[str]
        """Runs."""
        metrics: Literal["all", "lpips"] = "all"
        eval: EvalConfig = field(default_factory=EvalConfig)

    def read(*argv):
        return parse(Options, argv, program="eval.py", description="Evaluate.", defaults={"eval": {"horizon": 5}})

    options = read("--checkpoint", "a", "b", "--eval.samples", "3")
    assert options == Options(["a", "b"], "all", EvalConfig(horizon=5, samples=3))
    with pytest.raises(ValueError, match=r"^--checkpoint is required$"):
        read()
    with pytest.raises(ValueError, match=r"unknown option --config: --help lists the options"):
        read("--config", "x")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configs_hold_known_options_and_say_how_to_run_them(path):
    text = path.read_text()
    assert text.startswith("# ") and f"python train.py --config configs/{path.name}" in text
    config = train("--config", str(path))
    for group, values in yaml.safe_load(text).items():
        for name in values:
            assert hasattr(getattr(config, group), name)
