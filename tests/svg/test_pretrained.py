"""Models come back from where they were saved, bit for bit; what is wrong is one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import svg
from svg import checkpoint, pretrained
from svg.checkpoint import Checkpoint, CheckpointError
from svg.likelihoods import scheduled_sigma
from tests.helpers.hub import hub

ROOT = Path(__file__).parents[2]
SIZES = {"backbone": "dcgan", "width": 2, "g_dim": 4, "z_dim": 2, "rnn_size": 4, "n_past": 3}


def tiny(likelihood="optimal_sigma", options=None, **sizes) -> svg.SVG:
    config = {"model": SIZES | sizes, "likelihood": {"name": likelihood, "options": options or {}}}
    torch.manual_seed(0)
    return svg.build(svg.config_from_dict({"data": {"frames": 5}} | config))


def assert_same(a: torch.nn.Module, b: torch.nn.Module) -> None:
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, tensor in a.state_dict().items():
        assert torch.equal(tensor, b.state_dict()[name]), name


@pytest.mark.parametrize(
    ("likelihood", "options"),
    [
        ("optimal_sigma", {"floor": -4.5, "decay": 0.5}),
        ("pixel_sigma", {}),
        ("iso_i", {}),
        ("shared_sigma", {"init": 2}),
    ],
)
def test_a_saved_model_is_rebuilt_with_its_configuration_and_weights(tmp_path, likelihood, options):
    model = tiny(likelihood, options, skip_frame="published", prior="fixed").train()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)
    model.save_pretrained(tmp_path / "model")
    loaded = svg.load(tmp_path / "model")
    assert not loaded.training
    assert loaded.config == model.config
    assert (loaded.likelihood.name, loaded.likelihood.options) == (likelihood, options)
    assert_same(loaded, model)
    assert svg.load_config(str(tmp_path / "model")).likelihood.options == options


def test_channels_last_weights_are_saved_too(tmp_path):
    model = tiny().to(memory_format=torch.channels_last)
    model.save_pretrained(tmp_path)
    assert_same(svg.load(tmp_path), model)


def test_a_run_gives_its_newest_whole_checkpoint(tmp_path, caplog):
    models = []
    for step in (1, 2):
        models.append(tiny())
        next(iter(models[-1].state_dict().values())).fill_(step)
        config = {"model": SIZES, "data": {"frames": 4, "path": "somewhere"}}
        checkpoint.save(tmp_path, Checkpoint(step, config, models[-1].state_dict(), {}, {}), keep=2)
    assert_same(svg.load(tmp_path), models[1])
    assert svg.load_config(tmp_path).data.path == "somewhere"
    (tmp_path / "checkpoints/step_00000002/model.safetensors").write_bytes(b"")
    assert_same(svg.load(tmp_path), models[0])
    assert "step_00000002/model.safetensors is damaged" in caplog.text


def spoil(folder: Path, **config) -> None:
    """Changes the configuration, as a user may who deletes the manifest."""
    (folder / "manifest.json").unlink(missing_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


def test_what_is_wrong_with_a_folder_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def error_of(name) -> str:
        with pytest.raises(CheckpointError) as error:
            svg.load(name)
        assert "\n" not in str(error.value)
        return str(error.value)

    nothing = "does not exist (nor is it a Hub id, OWNER/NAME, with OWNER no folder here)"
    assert error_of("nothing") == f"nothing {nothing}"
    assert error_of("").startswith("the model's name is empty: name a run")
    Path("runs/a/checkpoints").mkdir(parents=True)
    assert error_of("runs/nothing") == f"runs/nothing {nothing}"
    assert error_of("runs/a") == "runs/a has no checkpoint yet"
    assert error_of("runs") == "runs holds no model (no config.json): name a run or one of its checkpoints"
    tiny().save_pretrained("m")
    assert error_of("m/config.json") == "m/config.json is a file: name the folder that holds it"

    weights = Path("m/model.safetensors").read_bytes()
    Path("m/model.safetensors").write_bytes(weights[:-1])
    assert error_of("m").startswith("m/model.safetensors is damaged (")
    Path("m/model.safetensors").write_bytes(weights)
    spoil(Path("m"), model=SIZES | {"z_dim": 3})
    assert "its configuration needs" in error_of("m")
    spoil(Path("m"), model=SIZES | {"z_dims": 3})
    assert error_of("m") == "m/config.json: unknown option model.z_dims: did you mean model.z_dim?"
    spoil(Path("m"), model=SIZES, format=2)
    assert error_of("m") == "m/config.json has format 2, this version of svg-lp reads 1: upgrade svg-lp"
    spoil(Path("m"), format="x")
    assert error_of("m") == "m/config.json is not a model of svg-lp: it states no format"
    Path("m/config.json").write_text("{")
    assert error_of("m").startswith("m/config.json is damaged (")
    Path("m/model.safetensors").unlink()
    tiny(prior="fixed").save_pretrained("m")
    spoil(Path("m"), model=SIZES)
    assert "m lacks tensor prior." in error_of("m")
    tiny().save_pretrained("m")
    spoil(Path("m"), model=SIZES | {"prior": "fixed"})
    assert "m has an unknown tensor prior." in error_of("m")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["checkpoint", "saved"])
def test_a_flipped_bit_in_a_named_model_is_noticed(tmp_path, name, kind):
    model = tiny()
    if kind == "saved":
        folder = tmp_path / "saved"
        model.save_pretrained(folder)
        assert sorted(os.listdir(folder)) == ["config.json", "manifest.json", "model.safetensors"]
    else:
        config = {"model": SIZES, "data": {"frames": 5}, "train": {"steps": 24}}
        folder = checkpoint.save(tmp_path, Checkpoint(1, config, model.state_dict(), {}, {}), keep=1)
    path = folder / name
    content = path.read_bytes()
    flipped = content.replace(b'"z_dim": 2', b'"z_dim": 3') if name == "config.json" else content[:-2] + b"\x01\x01"
    path.write_bytes(flipped)
    remedy = "take it from a copy (or, if you changed it, delete manifest.json)"
    for load in (svg.load, lambda name: pretrained.init_from(tiny(), name), lambda name: svg.push_to_hub(name, "a/b")):
        with pytest.raises(CheckpointError) as error:
            load(str(folder))
        assert str(error.value) == f"{path} is damaged (its checksum differs): {remedy}"
    # Without a manifest, as earlier versions saved models, what can be read is taken.
    path.write_bytes(content)
    (folder / "manifest.json").unlink()
    assert_same(svg.load(folder), model)


def test_a_model_is_not_saved_over_what_is_no_model(tmp_path):
    (tmp_path / "manifest.json").write_text('{"frames": 3}')
    with pytest.raises(CheckpointError, match=r"manifest.json .*: it is not written over, name another folder"):
        tiny().save_pretrained(tmp_path)
    assert os.listdir(tmp_path) == ["manifest.json"]


def test_a_stored_models_paths_are_not_followed(tmp_path, monkeypatch):
    """Its schedule was read from a file that is the user's now, or somebody else's; the weights have it."""
    (tmp_path / "log").mkdir()
    rows = [{"step": step, "sigma": 0.5 + step} for step in range(3)]
    (tmp_path / "log/metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = tiny("scheduled_sigma", {"schedule": str(tmp_path / "log"), "mean": "identity"})
    model.save_pretrained(tmp_path / "model")

    def opened(path):
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(scheduled_sigma, "whole_lines", opened)
    loaded = svg.load(tmp_path / "model")
    assert_same(loaded, model)
    assert loaded.likelihood.options == {"mean": "identity"} and loaded.likelihood.steps.tolist() == [0, 1, 2]
    with pytest.raises(AssertionError, match="was opened"):
        tiny("scheduled_sigma", {"schedule": str(tmp_path / "log")})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, value):
    model = tiny()
    with torch.no_grad():
        model.get_parameter("posterior.mean.bias")[1] = value
    model.save_pretrained(tmp_path)
    for load in (svg.load, lambda name: pretrained.init_from(tiny(), name)):
        with pytest.raises(CheckpointError) as error:
            load(str(tmp_path))
        where = f"{tmp_path / 'model.safetensors'}: tensor posterior.mean.bias"
        assert str(error.value) == f"{where} is not finite (its training diverged): use another model"


def test_starting_from_another_likelihood_leaves_only_its_head_new(tmp_path):
    old = tiny("shared_sigma")
    with torch.no_grad():
        for parameter in old.parameters():
            parameter.fill_(0.5)
    old.save_pretrained(tmp_path)

    same = tiny("shared_sigma")
    assert pretrained.init_from(same, str(tmp_path)) == []
    assert_same(same, old)

    new = tiny("pixel_sigma", skip_frame="previous")
    fresh = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    left = pretrained.init_from(new, str(tmp_path))
    assert left and all(name.startswith(("decoder.", "likelihood.")) for name in left)
    assert len([name for name in left if name.startswith("decoder.")]) <= 2
    for name, tensor in new.state_dict().items():
        assert torch.equal(tensor, fresh[name] if name in left else old.state_dict()[name]), name

    with pytest.raises(
        CheckpointError, match=r"has model.z_dim 2 \(here 3\), model.prior learned \(here fixed\): give"
    ):
        pretrained.init_from(tiny(z_dim=3, prior="fixed"), str(tmp_path))


ROUND_TRIP = """
import sys, svg
from svg.checkpoint import CheckpointError
folder = sys.argv[1]
print(svg.push_to_hub(svg.load(folder), "me/tiny"))
svg.load("me/tiny").save_pretrained(folder + "/back")
print(svg.push_to_hub(folder, "me/of-a-folder", private=True))
for name, revision in (("me/none", None), ("me/tiny", "v2"), ("me/empty", None), ("a b/c", None)):
    try:
        svg.load(name, revision=revision)
    except CheckpointError as error:
        print(error)
try:
    svg.push_to_hub(folder, "a b/c")
except CheckpointError as error:
    print(error)
"""


def client(code: str, address: str, tmp_path: Path, **env: str) -> list[str]:
    """Runs code with the real Hub client, which asks `address`."""
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_any", "PYTHONPATH": str(ROOT)}
    settings |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")],
        env={**os.environ, **settings, **env},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_round_trip_over_the_hub(tmp_path):
    model = tiny("pixel_sigma")
    model.save_pretrained(tmp_path / "model")
    spoil(tmp_path / "model", data={"frames": 4, "path": "somewhere"})
    with hub() as (address, models):
        models["me/empty"] = {}
        lines = client(ROUND_TRIP, address, tmp_path)
    not_ours = "is no model of svg-lp (it lacks config.json or model.safetensors)"
    assert lines[:6] == [
        f"{address}/me/tiny",
        f"{address}/me/of-a-folder",
        "me/none is no folder here, and the Hub has no such model (or it is private: set HF_TOKEN)",
        "me/tiny is no folder here, and the Hub's me/tiny has no revision v2",
        f"me/empty is no folder here, and the Hub's me/empty {not_ours}",
        "a b/c is no folder here, and it does not have the form of a Hub id (OWNER/NAME)",
    ]
    assert lines[6].startswith("a b/c is no Hub id: ") and len(lines) == 7
    assert_same(svg.load(tmp_path / "model/back"), model)
    assert json.loads(models["me/of-a-folder"]["config.json"])["data"] == {"frames": 4, "path": "somewhere"}
    assert "manifest.json" not in models["me/of-a-folder"].keys() | models["me/tiny"].keys()
    assert b'svg.load("me/tiny")' in models["me/tiny"]["README.md"]


def test_offline_says_so(tmp_path):
    code = "import svg\ntry:\n    svg.load('me/tiny')\nexcept ValueError as error:\n    print(error)"
    lines = client(code, "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    assert lines == ["me/tiny is no folder here, and the Hub can't be reached to look for it there"]
