"""The configuration refuses what is wrong by name and rebuilds exactly from its JSON."""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svg.config import Config, LikelihoodConfig, ModelConfig, TrainConfig, config_from_dict
from svg.config.options import Range, from_dict
from svg.evaluation.options import ExportOptions, MetricsOptions, PredictOptions

options = st.dictionaries(
    st.text(min_size=1), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.floats(0, 1))
)
texts = st.text(st.characters(exclude_characters="\0"), min_size=1)
trains = st.builds(
    TrainConfig,
    out=texts.filter(str.strip),
    steps=st.integers(1, 10**8 - 1),
    lr=st.floats(1e-12, 1e3),
    adam_betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    trackers=st.lists(texts),
    init_from=st.none() | st.just("runs/a"),
    precision=st.sampled_from(["no", "bf16", "fp16"]),
)


@given(options, trains)
def test_json_rebuilds_the_nested_configuration_exactly(options, train):
    config = Config(likelihood=LikelihoodConfig("pixel_sigma", options), train=train, model=ModelConfig(prior="none"))
    rebuilt = config_from_dict(json.loads(json.dumps(config.to_dict())))
    assert rebuilt == config
    assert isinstance(rebuilt.train.adam_betas, tuple) and type(rebuilt.train.lr) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": {"stps": 3}}, "unknown option train.stps: did you mean train.steps?"),
        ({"train": {"beta": 3}}, "unknown option train.beta: did you mean objective.beta?"),
        ({"modl": {}}, "unknown option modl: did you mean model?"),
        ({"zzzz": 1}, "unknown option zzzz: --help lists the options"),
        ({"train": 3}, "train is 3, but it must be a group of options"),
        ({"train": {"steps": "3"}}, "train.steps is '3', but it must be a whole number"),
        ({"train": {"steps": True}}, "train.steps is True, but it must be a whole number"),
        ({"train": {"steps": 1.5}}, "train.steps is 1.5, but it must be a whole number"),
        ({"train": {"steps": float("nan")}}, "train.steps is nan, but it must be a whole number"),
        ({"train": {"steps": float("inf")}}, "train.steps is inf, but it must be a whole number"),
        ({"train": {"lr": float("nan")}}, "train.lr is nan, but it must be positive and finite"),
        ({"train": {"ema": False}}, "train.ema is False, but it must be a number"),
        ({"train": {"compile": 1}}, "train.compile is 1, but it must be true or false"),
        ({"train": {"out": 3}}, "train.out is 3, but it must be text"),
        ({"train": {"trackers": "wandb"}}, "train.trackers is 'wandb', but it must be a list"),
        ({"train": {"adam_betas": [0.9]}}, "train.adam_betas is [0.9], but it must have 2 entries"),
        ({"train": {"adam_betas": [0.9, 1.0]}}, "train.adam_betas is (0.9, 1.0), but it must be in [0, 1)"),
        ({"train": {"batch_size": 1e12}}, "train.batch_size is 1000000000000, but it must be at most 1,048,576"),
        ({"train": {"seed": 2**64}}, f"train.seed is {2**64}, but it must be below 9,223,372,036,854,775,808"),
        ({"train": {"init_from": ""}}, "train.init_from is '', but it must not be empty"),
        ({"train": {"out": "a\0b"}}, "train.out is 'a\\x00b', but it must not have a null character"),
        ({"model": {"predictor_layers": 1e9}}, "model.predictor_layers is 1000000000, but it must be at most 16"),
        ({"model": {"width": 10**6}}, "model.width is 1000000, but it must be at most 1,024"),
        ({"model": {"z_dim": 1e30}}, f"model.z_dim is {int(1e30)}, but it must be at most 8,192"),
        (
            {"likelihood": {"options": {"channels": 3}}},
            "likelihood.options.channels is no option of a likelihood: set model.channels instead",
        ),
        ({"model": {"size": 63}}, "model.size is 63, but it must be 28 or 32 or 64 or 128"),
        (
            {"model": {"prior": False}},
            "model.prior is False, but it must be learned or mixture or learned_mean or fixed or none",
        ),
        ({"likelihood": {"options": [1]}}, "likelihood.options is [1], but it must be a group of options"),
        ({"data": {"frames": 2}}, "data.frames is 2, but it must be more than the 2 context frames of model.n_past"),
        (
            {"train": {"compile": True}, "objective": {"name": "rae", "options": {"gradient_penalty": 1}}},
            "train.compile is True, but it must be false with objective.options.gradient_penalty: PyTorch compiles no "
            "second derivatives",
        ),
        (
            {"train": {"compile": True, "checkpoint_activations": True}},
            "train.checkpoint_activations is True, but it must be false with train.compile",
        ),
        (
            {"train": {"checkpoint_activations": True}, "model": {"name": "vae", "backbone": "conv", "prior": "fixed"}},
            "train.checkpoint_activations is True, but it must be false with model.name vae",
        ),
    ],
)
def test_what_is_wrong_is_named(values, message):
    with pytest.raises(ValueError) as error:
        config_from_dict(values)
    assert str(error.value) == message


@pytest.mark.parametrize("options", [Config, MetricsOptions, ExportOptions, PredictOptions])
def test_every_number_has_its_range(options):
    """Those of whole numbers end somewhere; infinity is in none."""
    for name, kind in get_type_hints(options, include_extras=True).items():
        rules = getattr(kind, "__metadata__", ())
        bare = kind.__origin__ if rules else kind
        if dataclasses.is_dataclass(bare):
            test_every_number_has_its_range(bare)
        elif bare in (int, float, tuple[float, float]):
            (given,) = (rule for rule in rules if isinstance(rule, Range))
            assert given.refusal(math.inf) and given.refusal(math.nan), name
            assert bare is not int or given.high < math.inf, name


def test_a_configuration_of_an_earlier_version_is_read():
    saved = {"train": {"channels_last": False, "steps": 3}}
    assert config_from_dict(saved) == Config(train=TrainConfig(steps=3))
    assert saved["train"]["channels_last"] is False
    with pytest.raises(ValueError, match="unknown option model.channels_last"):
        config_from_dict({"model": {"channels_last": True}})


def test_whole_floats_are_integers_and_integers_are_floats():
    train = config_from_dict({"train": {"steps": 1e5, "lr": 1}}).train
    assert (train.steps, train.lr) == (100_000, 1.0)
    assert type(train.steps) is int and type(train.lr) is float


def test_a_field_without_default_is_required():
    @dataclass
    class Options:
        checkpoint: str

    with pytest.raises(ValueError, match="--checkpoint is required"):
        from_dict(Options, {})
