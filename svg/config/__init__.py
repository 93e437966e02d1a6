"""The configuration: one frozen dataclass a group, refused when built if a value is wrong.

YAML files under configs/ hold the same fields; any of them is overridden on the command line (`--train.steps 100`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_type_hints

from svg.config.options import NotEmpty, Range, check_fields, from_dict, require

SEED = Range(0, 2**63, below_high=True)


class OnlyGiven:
    """An annotation of options that count only where the user gives them, and never from a model's stored
    configuration: paths outside of the run, hashes that let code run, and what the machine allows."""


@dataclass(frozen=True)
class DataConfig:
    """What is read: a data set is a folder of clip stores, one a split."""

    name: str = "robot_push"
    """How the data set is made (robot_push, bair, ...): names the command to run when it is missing."""
    path: Annotated[str, NotEmpty()] = "datasets/robot_push"
    """Folder with the stores train, val and test; several with commas between, or a glob, are read as one."""
    clips: Annotated[int, Range(1, 10**7)] = 1500
    """Training clips to simulate when a robot_push data set is missing."""
    frames: Annotated[int, Range(1, 10**4)] = 12
    """Length of a training window, context included (frames)."""
    workers: Annotated[int, Range(0, 256), OnlyGiven] = 2
    """Loader processes per training process."""
    augment_crop: Annotated[int, Range(0, 1024)] = 0
    """Training windows are moved by up to so many pixels, one draw a window; for small data sets."""
    augment_flip: bool = False
    """Every second training window is mirrored, left for right."""
    augment_colour: Annotated[float, Range(0, 1, below_high=True)] = 0.0
    """Brightness, contrast and colour of training windows change by up to 1 +- this, one draw a window."""

    def __post_init__(self) -> None:
        check_fields(self, "data.")


@dataclass(frozen=True)
class ModelConfig:
    """SVG (Denton & Fergus 2018), whose defaults are the published BAIR sizes, or a VAE of single images."""

    name: Literal["svg", "vae"] = "svg"
    """svg: the video model; vae: each frame is an image of its own."""
    backbone: Literal["vgg", "dcgan", "conv", "mlp", "linear"] = "vgg"
    """Frame encoder and decoder: vgg or dcgan for svg; conv (sigma-VAE), mlp (four dense layers) or linear for vae."""
    size: Literal[28, 32, 64, 128] = 64
    """Frame height and width (pixels): 64 or 128 for svg; 28, 32 or 64 for vae."""
    channels: Annotated[int, Range(1, 256)] = 3
    """Image channels C."""
    width: Annotated[int, Range(1, 1024)] = 64
    """Channels of the backbone's first stage (the published width is 64, 32 for conv); hidden units of mlp (200)."""
    g_dim: Annotated[int, Range(1, 8192)] = 128
    """Size G of a frame's feature vector."""
    z_dim: Annotated[int, Range(1, 8192)] = 64
    """Size Z of a frame's latent."""
    rnn_size: Annotated[int, Range(1, 8192)] = 256
    """Width R of the LSTMs."""
    predictor_layers: Annotated[int, Range(1, 16)] = 2
    """LSTM layers of the frame predictor."""
    posterior_layers: Annotated[int, Range(1, 16)] = 1
    """LSTM layers of the posterior."""
    prior_layers: Annotated[int, Range(1, 16)] = 1
    """LSTM layers of the learned prior."""
    prior: Literal["learned", "mixture", "learned_mean", "fixed", "none"] = "learned"
    """learned: SVG-LP; mixture: learned, of prior_components Gaussians; learned_mean: a learned mean, variance 1;
    fixed: N(0, I), SVG-FP and vae; none: the deterministic baseline, without z. With a constant posterior, bilbo fits
    the variance of learned_mean and fixed."""
    prior_components: Annotated[int, Range(1, 256)] = 8
    """Gaussians of the mixture prior."""
    posterior: Literal["diagonal", "isotropic", "constant", "deterministic"] = "diagonal"
    """diagonal: a variance for each latent and frame; constant: posterior_variance; for vae also isotropic: one learned
    variance for all; deterministic: no variance, the autoencoders."""
    posterior_variance: Annotated[float, Range(0, above_low=True)] = 1.0
    """The variance of a constant posterior (1 for simple data, 0.01 for CelebA: Fyffe)."""
    n_past: Annotated[int, Range(1, 10**4)] = 2
    """Context frames that training conditions on; a rollout's context has at least as many."""
    skip_frame: Literal["last_context", "published", "previous"] = "last_context"
    """Whose skip connections the decoder gets: the last context frame's; frame n_past-2 as the published code does; or
    the previous frame's throughout (the published last_frame_skip)."""

    def __post_init__(self) -> None:
        check_fields(self, "model.")
        least = 2 if self.skip_frame == "published" else 1
        require(self.n_past >= least, "model.n_past", self.n_past, f"must be at least {least}")
        for name, choices in _MODEL_CHOICES[self.name].items():
            value = getattr(self, name)
            rule = f"must be {' or '.join(str(choice) for choice in choices)} with model.name {self.name}"
            require(value in choices, f"model.{name}", value, rule)

    @property
    def floats_prior(self) -> bool:
        """Whether the prior's variance S^2 can be fitted in closed form: no net makes it, and q's is constant."""
        return self.posterior == "constant" and self.prior in ("fixed", "learned_mean")


_MODEL_CHOICES: dict[str, dict[str, tuple[Any, ...]]] = {
    "svg": {"backbone": ("vgg", "dcgan"), "size": (64, 128), "posterior": ("diagonal", "constant")},
    "vae": {"backbone": ("conv", "mlp", "linear"), "size": (28, 32, 64), "prior": ("fixed",)},
}
"""What only one of the models has."""


@dataclass(frozen=True)
class LikelihoodConfig:
    """The observation model p(x | decoder output)."""

    name: str = "optimal_sigma"
    """A name of the registry in svg/likelihoods."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of that likelihood, each as `--likelihood.options.NAME VALUE`."""

    def __post_init__(self) -> None:
        for name in ("name", "channels", "size"):
            if name in self.options:
                raise ValueError(f"likelihood.options.{name} is no option of a likelihood: set model.{name} instead")


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised."""

    name: str = "elbo"
    """A name of the registry in svg/objective: elbo, bilbo; for vae also ae, rae, wae_mmd, dip_vae."""
    beta: Annotated[float, Range(0)] = 1.0
    """Weight of the KL term; 1 is the evidence lower bound."""
    beta_warmup: Annotated[int, Range(0, 10**9)] = 0
    """Steps over which beta rises linearly from 0."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of that objective, each as `--objective.options.NAME VALUE`."""

    def __post_init__(self) -> None:
        check_fields(self, "objective.")


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained."""

    out: Annotated[str, NotEmpty()] = "runs/svg"
    """Run folder; the same command again resumes the run in it."""
    seed: Annotated[int, SEED] = 0
    """The one seed: weights, data order and noise follow from it."""
    steps: Annotated[int, Range(1, 10**8, below_high=True)] = 100_000
    """Optimiser steps."""
    batch_size: Annotated[int, Range(1, 2**20)] = 16
    """Clips per optimiser step, over all processes and accumulation steps together."""
    accumulate: Annotated[int, Range(1, 2**16)] = 1
    """Micro-batches per optimiser step and process. A fitted sigma is then that of a micro-batch over all processes."""
    lr: Annotated[float, Range(0, above_low=True)] = 1e-3
    """Peak learning rate (Adam)."""
    warmup: Annotated[int, Range(0, 10**9)] = 100
    """Steps of linear learning-rate warm-up."""
    decay: Literal["none", "linear", "cosine"] = "cosine"
    """Learning-rate decay from the end of the warm-up to the last step."""
    final_lr: Annotated[float, Range(0, 1)] = 0.05
    """Learning rate at the last step, as a fraction of the peak."""
    adam_betas: Annotated[tuple[float, float], Range(0, 1, below_high=True)] = (0.9, 0.999)
    """Adam's moment decays."""
    adam_eps: Annotated[float, Range(0, above_low=True)] = 1e-8
    """Adam's epsilon."""
    grad_clip: Annotated[float, Range(0)] = 1e5
    """Largest gradient norm; 0 turns clipping off. Losses sum over pixels: usual norms are 1e4 at 64 px."""
    ema: Annotated[float, Range(0, 1, below_high=True)] = 0.0
    """Decay of the exponential moving average of the weights; 0 turns it off."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the backbones; likelihoods, KL and LSTMs stay float32."""
    compile: bool = False
    """torch.compile the encoder and the decoder."""
    checkpoint_activations: bool = False
    """Compute the stages of svg's encoder and decoder again in the backward pass: less memory, more time, same
    numbers."""
    log_every: Annotated[int, Range(1, 10**9)] = 10
    """Steps between lines of metrics.jsonl."""
    eval_every: Annotated[int, Range(0, 10**9)] = 500
    """Steps between validation bounds and sample GIFs; 0 turns them off."""
    eval_clips: Annotated[int, Range(1, 10**7)] = 64
    """Validation clips for the bound."""
    save_every: Annotated[int, Range(1, 10**9)] = 500
    """Steps between checkpoints."""
    keep: Annotated[int, Range(1, 10**6)] = 2
    """Checkpoints kept, newest first."""
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """Accelerate trackers (tensorboard, wandb, ...)."""
    init_from: Annotated[str | None, NotEmpty()] = None
    """Run, checkpoint or Hub id whose weights to start from; a new likelihood head is allowed."""

    def __post_init__(self) -> None:
        check_fields(self, "train.")


@dataclass(frozen=True)
class EvalConfig:
    """The protocol of rollouts, metrics and samples; the defaults are SRVP's for BAIR."""

    horizon: Annotated[int, Range(1, 10**4)] = 28
    """Predicted frames."""
    samples: Annotated[int, Range(1, 10**6)] = 100
    """Futures drawn per clip; the best is taken per metric. For vae: importance samples of the IWAE bound."""
    clips: Annotated[int, Range(0, 10**9)] = 0
    """Test clips, from the first; 0 means all."""
    context: Annotated[int, Range(0, 10**4)] = 0
    """Frames that a future is conditioned on; 0 means the model's n_past."""
    seed: Annotated[int, SEED] = 0
    """Seed of the futures."""
    gifs: Annotated[int, Range(0, 10**4)] = 4
    """Clips shown as GIFs."""
    memory: Annotated[float, Range(0, 10**6, above_low=True), OnlyGiven] = 2.0
    """Memory budget of a rollout (GiB); decides how many futures are drawn at once."""
    lpips_weights: Annotated[str | None, NotEmpty(), OnlyGiven] = None
    """File of torchvision's AlexNet weights; by default it is looked for in torch's cache."""
    fvd_weights: Annotated[str | None, NotEmpty(), OnlyGiven] = None
    """File or URL of I3D's weights (i3d_torchscript.pt or i3d_pretrained_400.pt); FVD is measured where it is given."""
    fvd_sha256: Annotated[str | None, NotEmpty(), OnlyGiven] = None
    """SHA-256 of that file; TorchScript, which runs the code in the file, and URLs need it."""
    fvd_convention: Literal["srvp", "1to15", "custom"] = "srvp"
    """srvp: all frames with context, one sample a clip; 1to15: 1 context and 15 predicted frames, all samples."""
    fvd_samples: Annotated[int, Range(1, 10**6)] = 1
    """Samples per clip of the custom convention."""
    fvd_context: bool = True
    """Whether the custom convention's videos begin with the context frames."""
    fid_weights: Annotated[str | None, NotEmpty(), OnlyGiven] = None
    """File of Inception's weights (weights-inception-2015-12-05-6726825d.pth); FID, of images or of the predicted
    frames, is measured where it is given."""
    samplers: list[str] = field(default_factory=lambda: ["prior", "floating", "gmm"])
    """For vae, where the latents of new images come from: prior, floating, gmm, second_stage."""
    components: Annotated[int, Range(1, 10**4)] = 10
    """Gaussians of sampler gmm."""
    epochs: Annotated[int, Range(1, 10**6)] = 800
    """Training epochs of sampler second_stage."""

    def __post_init__(self) -> None:
        check_fields(self, "eval.")


@dataclass(frozen=True)
class Config:
    """Everything that defines a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    likelihood: LikelihoodConfig = field(default_factory=LikelihoodConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        rule = f"must be more than the {self.model.n_past} context frames of model.n_past"
        enough = self.model.name == "vae" or self.data.frames > self.model.n_past
        require(enough, "data.frames", self.data.frames, rule)
        twice = self.train.compile and self.objective.options.get("gradient_penalty")
        rule = "must be false with objective.options.gradient_penalty: PyTorch compiles no second derivatives"
        require(not twice, "train.compile", True, rule)
        if self.train.checkpoint_activations:
            for option, given in (("model.name vae", self.model.name == "vae"), ("train.compile", self.train.compile)):
                require(not given, "train.checkpoint_activations", True, f"must be false with {option}")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain containers, for JSON and YAML."""
        return dataclasses.asdict(self)


def carried(group: Any) -> dict[str, Any]:
    """What an evaluation takes over of a stored group: its values but for those that count only where the user gives
    them."""
    hints = get_type_hints(type(group), include_extras=True)
    values = dataclasses.asdict(group)
    return {name: value for name, value in values.items() if OnlyGiven not in getattr(hints[name], "__metadata__", ())}


_RETIRED = (("train", "channels_last"),)  # images and weights are so without an option
"""Options that configurations saved by earlier versions may hold, and that mean nothing any more."""


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """The configuration that `to_dict` (or a YAML file) describes; what is not given keeps its default.

    Raises:
        ValueError: an unknown option or a wrong value, named.
    """
    groups = dict(values)
    for group, name in _RETIRED:
        if isinstance(groups.get(group), Mapping):
            groups[group] = {key: value for key, value in groups[group].items() if key != name}
    return from_dict(Config, groups)
