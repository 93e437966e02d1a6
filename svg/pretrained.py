"""Models by name: of a run, a checkpoint, a folder of `save_pretrained`, or the Hugging Face Hub.

model = svg.load("runs/robot_push")          # the newest checkpoint of a run, or any folder with a model, or a Hub id
model.save_pretrained("my_model")            # config.json + model.safetensors, and their checksums in manifest.json
svg.push_to_hub("runs/robot_push", "me/robot-push")
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from torch import Tensor

from svg import checkpoint, likelihoods
from svg.checkpoint import CheckpointError
from svg.config import Config, config_from_dict
from svg.models.base import Model
from svg.models.calibrated import TENSORS, VALUES, Calibration, digest_of
from svg.models.svg_lp import SVG
from svg.models.vae import VAE
from svg.runtime.memory import require_memory

MODELS: dict[str, type[SVG] | type[VAE]] = {"svg": SVG, "vae": VAE}
"""The models by their `model.name`."""
_SIZES = (
    *("name", "backbone", "size", "channels", "width", "g_dim", "z_dim", "rnn_size"),
    *("prior", "prior_components", "posterior", "predictor_layers", "posterior_layers", "prior_layers"),
)
"""The options that the weights' shapes depend on, the likelihood's apart."""
_HUB_ERRORS: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__bases__[0])  # whatever the HTTP library raises


def build(config: Config) -> SVG | VAE:
    """The model that a configuration describes, with new weights.

    Raises:
        ValueError: the likelihood's name or an option of it is wrong, or the model is larger than the free memory.
    """
    with torch.device("meta"):
        planned = _build(config)
    count = sum(parameter.numel() for parameter in planned.parameters())
    require_memory(
        4 * count,
        f"a model of these sizes ({count / 1e6:,.0f} million parameters)",
        "lower model.width, model.g_dim, model.rnn_size or the layers",
    )
    return _build(config)


def _build(config: Config) -> SVG | VAE:
    size = (config.model.size, config.model.size)
    head = likelihoods.build(
        config.likelihood.name, channels=config.model.channels, size=size, **config.likelihood.options
    )
    return MODELS[config.model.name](config.model, head)


def find(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a model: config.json and model.safetensors.

    Args:
        name: a run (its newest checkpoint that is whole is taken), a checkpoint, a folder of `save_pretrained`, or a
            Hub id OWNER/NAME, which is downloaded to the Hub's cache.
        revision: branch, tag or commit, for a Hub id.

    Raises:
        CheckpointError: there is no such folder or Hub model, or a run has no checkpoint that is whole.
    """
    if not str(name).strip():
        raise CheckpointError("the model's name is empty: name a run, a checkpoint, a folder with a model, or a Hub id")
    folder = Path(name)
    if (folder / "checkpoints").is_dir():
        newest = checkpoint.latest(folder)
        if newest is None:
            raise CheckpointError(f"{folder} has no checkpoint yet")
        return newest
    if folder.is_dir():
        if not (folder / checkpoint.CONFIG).exists():
            raise CheckpointError(
                f"{folder} holds no model (no {checkpoint.CONFIG}): name a run or one of its checkpoints"
            )
        return folder
    if folder.exists():
        raise CheckpointError(f"{folder} is a file: name the folder that holds it")
    return _download(str(name), revision)


def load_config(name: str | Path, revision: str | None = None) -> Config:
    """The configuration of a model; groups that were not saved with it have their defaults. Errors as `load`."""
    return _config(find(name, revision))


def load(
    name: str | Path, *, device: torch.device | str = "cpu", revision: str | None = None, calibrated: bool = True
) -> SVG | VAE:
    """A trained model, in eval mode.

    Args:
        name, revision: as `find`.
        device: where to put it.
        calibrated: bring its calibration along, where there is one (`model.calibration`).

    Raises:
        CheckpointError: there is no such model, or it is damaged (it differs from the manifest that lies beside it, or
            has weights that are not finite), incomplete or of a newer version, or its calibration is, or is of other
            weights.
        ValueError: its configuration has an unknown option or a wrong value.
    """
    folder = find(name, revision)
    config = _config(folder)
    options = likelihoods.without_paths(config.likelihood.name, config.likelihood.options)
    model = build(replace(config, likelihood=replace(config.likelihood, options=options)))
    load_weights(model, checkpoint.read_weights(folder), folder)
    home = calibration_folder(folder)
    if calibrated and isinstance(model, SVG) and (home / VALUES).exists():
        model.calibration = Calibration.load(home)
        if model.calibration.fitted.get("weights") != digest_of(model.state_dict()):
            raise CheckpointError(
                f"{home} is the calibration of other weights than {folder / checkpoint.MODEL}: calibrate again"
            )
    return model.to(device).eval()


def calibration_folder(folder: Path) -> Path:
    """Where the calibration of a model belongs: RUN/calibration/STEP of a run's checkpoint, FOLDER/calibration else."""
    if folder.resolve().parent.name == "checkpoints":
        return folder.resolve().parents[1] / "calibration" / folder.resolve().name
    return folder / "calibration"


def load_weights(model: Model, weights: dict[str, Tensor], source: str | Path) -> None:
    """Puts all weights into a model. Raises CheckpointError, naming the first tensor that does not fit."""
    own = model.state_dict()
    for problem, names in (("lacks", own.keys() - weights.keys()), ("has an unknown", weights.keys() - own.keys())):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(f"{source} {problem} tensor {min(names)}{more}: it is not a model of this kind")
    free = {f"likelihood.{name}" for name in model.likelihood.of_any_length}
    for name, tensor in own.items():
        if weights[name].shape != tensor.shape and name not in free:
            found, wanted = tuple(weights[name].shape), tuple(tensor.shape)
            raise CheckpointError(f"{source}: tensor {name} has shape {found}, but its configuration needs {wanted}")
    model.load_state_dict(weights)


def init_from(model: Model, name: str) -> list[str]:
    """Starts from a model's weights; what belongs to another likelihood and does not fit keeps its new weights.

    Returns:
        The names of the tensors that were left new.

    Raises:
        CheckpointError: there is no such model, or its sizes differ.
    """
    folder = find(name)
    other, config = _config(folder).model, model.config
    differ = [option for option in _SIZES if getattr(other, option) != getattr(config, option)]
    if differ:
        listed = ", ".join(f"model.{o} {getattr(other, o)} (here {getattr(config, o)})" for o in differ)
        raise CheckpointError(f"train.init_from {name} has {listed}: give this run the same sizes")
    weights, own = checkpoint.read_weights(folder), model.state_dict()
    fitting = {key: weights[key] for key, new in own.items() if key in weights and weights[key].shape == new.shape}
    left = [key for key in own if key not in fitting]
    wrong = [key for key in left if not key.startswith(("decoder.", "likelihood."))]
    if wrong:
        raise CheckpointError(f"{folder} lacks tensor {wrong[0]}: it is not a model of this kind")
    model.load_state_dict(fitting, strict=False)
    return left


def push_to_hub(
    source: Model | str | Path, repo_id: str, *, private: bool = False, commit_message: str = "Upload an svg-lp model"
) -> str:
    """Uploads a model to the Hugging Face Hub, with a short model card, and gives its address.

    Args:
        source: a model, or the name of one (a run's configuration goes with it).
        repo_id: OWNER/NAME; made if it does not exist.
        private: whether a new repository is private.

    Raises:
        CheckpointError: the source is not there, or the Hub can't be reached or refuses.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if isinstance(source, Model):
            source.save_pretrained(folder)
        else:
            found = find(source)
            checkpoint.write_model(folder, checkpoint.read_config(found), checkpoint.read_weights(found))
            if (calibration_folder(found) / VALUES).exists():
                Calibration.load(calibration_folder(found)).save(folder / "calibration")
        (folder / "README.md").write_text(_card(_config(folder), repo_id), encoding="utf-8")
        api = HfApi()
        try:
            url = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=url.repo_id,
                folder_path=folder,
                commit_message=commit_message,
                ignore_patterns=checkpoint.MANIFEST,  # the Hub has checksums of its own, and edits files in place
            )
        except HFValidationError as error:
            raise CheckpointError(f"{repo_id} is no Hub id: {error}") from None
        except _HUB_ERRORS as error:
            raise CheckpointError(f"{repo_id} could not be uploaded: {_last_line(error)}") from None
    return str(url)


def _download(repo_id: str, revision: str | None) -> Path:
    owner, slash, name = repo_id.partition("/")
    if not slash or "/" in name or Path(owner).is_dir() or owner in (".", "..", "~"):
        raise CheckpointError(f"{repo_id} does not exist (nor is it a Hub id, OWNER/NAME, with OWNER no folder here)")
    try:
        fetch = partial(hf_hub_download, repo_id, revision=revision)
        paths = [fetch(file) for file in (checkpoint.CONFIG, checkpoint.MODEL)]
        with suppress(EntryNotFoundError):
            for file in (TENSORS, VALUES):
                fetch(f"calibration/{file}")
    except RepositoryNotFoundError:
        problem = "the Hub has no such model (or it is private: set HF_TOKEN)"
    except RevisionNotFoundError:
        problem = f"the Hub's {repo_id} has no revision {revision}"
    except LocalEntryNotFoundError:
        problem = "the Hub can't be reached to look for it there"
    except EntryNotFoundError:
        problem = f"the Hub's {repo_id} is no model of svg-lp (it lacks {checkpoint.CONFIG} or {checkpoint.MODEL})"
    except _HUB_ERRORS as error:
        problem = f"the Hub does not give it: {_last_line(error)}"
    except HFValidationError:
        problem = "it does not have the form of a Hub id (OWNER/NAME)"
    else:
        return Path(paths[0]).parent
    raise CheckpointError(f"{repo_id} is no folder here, and {problem}")


def _config(folder: Path) -> Config:
    values = checkpoint.read_config(folder)
    try:
        return config_from_dict(values)
    except ValueError as error:
        raise CheckpointError(f"{folder / checkpoint.CONFIG}: {error}") from None


def _last_line(error: Exception) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def _card(config: Config, repo_id: str) -> str:
    model = config.model
    tags, kind, given, example = {
        "svg": (
            "video-prediction, stochastic-video-generation",
            "Stochastic video prediction (SVG-LP)",
            f", at least {model.n_past} context frames",
            "futures = model.rollout(context, horizon=28, samples=10, seed=0)"
            "  # context (B, T, C, H, W), uint8 or in [0, 1]",
        ),
        "vae": ("vae", "Image VAE", "", "images = model.sample(64, seed=0)  # (64, 1, C, H, W) in [0, 1]"),
    }[model.name]
    return f"""---
library_name: svg-lp
tags: [{tags}]
---
# {repo_id.rpartition("/")[2]}

{kind}: backbone {model.backbone}, {model.size}x{model.size} pixels,
{model.channels} channels{given}, likelihood {config.likelihood.name}.

```python
import svg

model = svg.load("{repo_id}")
{example}
```
"""
