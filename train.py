"""Trains a model; the same command again resumes the run.

    python train.py --config configs/robot_push.yaml
    python train.py --config configs/robot_push.yaml --likelihood.name pixel_sigma --train.out runs/pixel
    accelerate launch --num_processes 4 train.py --config configs/bair.yaml --train.precision bf16

It writes, into train.out:

    config.json      the configuration
    metrics.jsonl    the log, a line of JSON every train.log_every steps
    svg-lp/          the same for TensorBoard
    samples/         futures of a few validation clips: context | truth | best | samples
    checkpoints/     the last train.keep; each is a model for eval.py and svg.load, and what a resumed run goes on from
"""

from __future__ import annotations

if __name__ == "__main__":  # first, since what follows takes seconds
    from svg.runtime import program

    program.begin()

import logging
import math
import os
import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration, gather_object
from torch import Tensor

from data.augment import Augmentation
from data.clips import Store
from data.registry import can_be_made, data_sets, open_split
from data.sampling import Windows, batches, first_frames, loader
from svg import checkpoint, pretrained
from svg.checkpoint import Checkpoint
from svg.config import Config, command_line
from svg.models.base import Model, evaluating
from svg.models.svg_lp import SVG
from svg.models.vae import VAE
from svg.objective import Objective
from svg.runtime import named, program
from svg.runtime.allocator import keep_freed_memory
from svg.runtime.parallel import broadcast, double
from svg.runtime.precision import allow_tf32
from svg.training import preview, runs
from svg.training.learner import Learner
from svg.training.meter import Display, Meter, NotFinite, Row, Units, describe, unread
from svg.training.optim import Average, adam, learning_rate, set_learning_rate
from svg.training.writer import Writer


def main() -> int:
    """Finds out where the run is, and trains from there."""
    config = command_line.parse(
        Config, program="train.py", description=(__doc__ or "").split("\n")[0], config_files=True
    )
    out, steps = Path(config.train.out), config.train.steps
    accelerator = make_accelerator(config)
    if not accelerator.is_main_process:
        logging.getLogger("svg").setLevel(logging.ERROR)  # the first process warns for all
    with runs.locked(out) if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process:
            checkpoint.remove_leftovers(out)
        accelerator.wait_for_everyone()
        resumed = runs.resume_point(out, config)
        if resumed and resumed.step >= steps:
            accelerator.print(f"{out} is finished ({resumed.step} steps): a larger train.steps goes on with it")
            accelerator.end_training()
            return 0
        stores = open_data(config, accelerator)
        learner = make_learner(config, accelerator, resumed)
        if resumed:
            resumed = replace(resumed, weights={}, training=unread(resumed.training))  # the learner has the others now
        try:
            return train(config, accelerator, stores, learner, resumed)
        except NotFinite as error:
            newest = checkpoint.latest(out)
            kept = f"the last good checkpoint is {newest}" if newest else "there is no checkpoint yet"
            remedy = "start anew with a lower train.lr or train.grad_clip"
            if accelerator.is_main_process:
                print(f"error: {error}; {kept}: {remedy}", file=sys.stderr)
            accelerator.end_training()
            return 1


def train(
    config: Config, accelerator: Accelerator, stores: dict[str, Store], learner: Learner, resumed: Checkpoint | None
) -> int:
    """The loop; gives the program's exit code."""
    c, out, first = config.train, Path(config.train.out), accelerator.is_main_process
    start, processes = resumed.step if resumed else 0, accelerator.num_processes
    windows = make_windows(config, stores)
    order = batches(start, c.steps, c.batch_size, c.accumulate, accelerator.process_index, processes)
    data = loader(windows["train"], order, config.data.workers)
    objective, optimizer = accelerator.prepare(learner.objective, learner.optimizer)

    units, display = Units(config), Display(start, c.steps, first)
    meter = Meter(accelerator, c.batch_size * config.data.frames, resumed)
    begin(config, accelerator, learner, display, resumed)
    log = runs.MetricsLog(out, start) if first else None

    with data, program.Stop() as stop, Writer(out, c.keep) if first else nullcontext() as writer:
        for step in range(start, c.steps):
            # Gradients: of each micro-batch in turn, summed over the processes with the last one.
            set_learning_rate(optimizer, learning_rate(step, c))
            optimizer.zero_grad(set_to_none=True)
            for micro in range(c.accumulate):
                batch = {name: part.to(accelerator.device, non_blocking=True) for name, part in next(data).items()}
                with nullcontext() if micro == c.accumulate - 1 else accelerator.no_sync(objective):
                    loss, terms = objective(batch["frames"], batch["index"], step)
                    accelerator.backward(loss / c.accumulate)
                meter.add(step, terms | {"loss": loss})

            # Step.
            meter.end_step(accelerator.clip_grad_norm_(objective.parameters(), c.grad_clip or math.inf))
            optimizer.step()
            if learner.average:
                learner.average.update(step)
            display.step()
            done, row, stopped = step + 1, Row(), stop.number if processes == 1 else 0

            # Log, which is where the device is waited for.
            if done % c.log_every == 0 or done == c.steps:
                row |= units.convert(meter.read()) | {"lr": learning_rate(step, c)}
                if (sigma := learner.objective.model.likelihood.sigma) is not None:
                    row["sigma"] = sigma.item()
                stopped = agreed(accelerator, stop.number)

            # Validate.
            if c.eval_every and (done % c.eval_every == 0 or done == c.steps):
                with meter.paused():
                    row |= validate(config, accelerator, learner, windows["val"], units, display, done)
            if row and log:
                log.write({"step": done} | row)
                accelerator.log({name: value for name, value in row.items() if value is not None}, step=done)
                display.show(done, row)

            # Save, in the background.
            if writer:
                writer.check()
            if done % c.save_every == 0 or done == c.steps or stopped:
                with meter.paused():
                    unsaid = meter.check()
                    learner.check(batch["frames"], batch["index"], done)
                    if writer and log:
                        log.sync()
                        writer.save(learner.checkpoint(done, config, meter.clock, unsaid))
            if stopped:
                break
    code, outcome = 128 + stopped, f"stopped at step {done}, which is saved: the same command goes on"
    if done == c.steps:
        code, minutes = 0, meter.seconds / 60
        outcome = f"{out} is finished after {minutes:.1f} minutes; next: python eval.py --checkpoint {out}"
    end(accelerator, display, outcome)
    return code


def make_accelerator(config: Config) -> Accelerator:
    """Processes, device and mixed precision. Raises ValueError for a tracker that is unknown or not installed."""
    out, installed = config.train.out, [str(name) for name in get_available_trackers()]
    for name in config.train.trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ValueError(f"train.trackers has {name!r}; known are {', '.join(LOGGER_TYPE_TO_CLASS)}")
        if name not in installed:
            raise ValueError(f"train.trackers has {name!r}, which is not installed: pip install {name}")
    allow_tf32()
    if not torch.accelerator.is_available():
        keep_freed_memory()
    return Accelerator(
        cpu=not torch.accelerator.is_available(),  # else torchrun's processes on a CPU would not know of each other
        mixed_precision=config.train.precision,
        log_with=config.train.trackers or None,
        project_config=ProjectConfiguration(project_dir=out, logging_dir=out),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=2))],  # others wait while data are simulated
    )


def open_data(config: Config, accelerator: Accelerator) -> dict[str, Store]:
    """The splits by name. A simulated data set that is missing is made now, by the first process."""
    data, size, channels = config.data, config.model.size, config.model.channels
    if accelerator.is_main_process and data.name == "robot_push" and can_be_made(data.path) and channels == 3:
        try:
            from data import robot_push  # late: training on what is there needs no simulator
        except ModuleNotFoundError as error:
            raise ValueError(
                f"there is no data set {data.path}, and {error.name}, by which it is made, is not installed: pip "
                "install -e '.[data]'"
            ) from None
        robot_push.make(
            data.path, clips=data.clips, val_clips=min(data.clips, 128), test_clips=min(data.clips, 256), size=size
        )
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for folder in data_sets(data.path):
            named.note(folder)
    splits = ("train", "val") if config.train.eval_every else ("train",)
    return {split: open_split(data.path, split, name=data.name, size=size, channels=channels) for split in splits}


def make_windows(config: Config, stores: dict[str, Store]) -> dict[str, Windows]:
    """What is sampled of each split; train's windows are augmented as the configuration says."""
    data = config.data
    augmentation = {"train": Augmentation(data.augment_crop, data.augment_flip, data.augment_colour)}
    seed = config.train.seed
    return {split: Windows(store, data.frames, seed, augmentation.get(split)) for split, store in stores.items()}


def make_learner(config: Config, accelerator: Accelerator, resumed: Checkpoint | None) -> Learner:
    """What is trained: from the seed (the same weights on every device), from another model, or as it was."""
    c = config.train
    torch.manual_seed(c.seed)
    model = pretrained.build(config)
    if c.init_from and not resumed:
        left = pretrained.init_from(model, c.init_from)
        accelerator.print(f"weights of {c.init_from}" + (f", but new: {', '.join(left)}" if left else ""))
    model.to(accelerator.device)
    if isinstance(model, SVG):
        model.encoder.recompute = model.decoder.recompute = c.checkpoint_activations
    average = Average(model, c.ema) if c.ema else None
    objective = Objective(model, config.objective, c.seed)
    learner = Learner(objective, adam(objective, c), average, accelerator.scaler)
    if resumed:
        learner.restore(resumed)
    if c.compile:
        require_compiler(accelerator.device)
        model.encoder.compile()
        model.decoder.compile()
    return learner


def require_compiler(device: torch.device) -> None:
    """Raises ValueError where torch.compile would find no C++ compiler, by which it computes on CPUs."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++").split()[0]
    if device.type == "cpu" and not shutil.which(compiler):
        raise ValueError(
            f"train.compile needs a C++ compiler, and there is no {compiler}: install one, or leave train.compile out"
        )


def begin(
    config: Config, accelerator: Accelerator, learner: Learner, display: Display, resumed: Checkpoint | None
) -> None:
    """Writes the configuration, starts the trackers, and says what is trained."""
    out = Path(config.train.out)
    if accelerator.is_main_process:
        runs.write_config(out, config)
    accelerator.init_trackers("svg-lp", init_kwargs={"tensorboard": {"purge_step": resumed.step + 1 if resumed else 0}})
    for tracker in accelerator.trackers:
        if tracker.name != "tensorboard":
            tracker.store_init_configuration(config.to_dict())
    weights = sum(parameter.numel() for parameter in learner.objective.parameters()) / 1e6
    where = f"{accelerator.num_processes} x {accelerator.device.type}"
    text = f"{out}: {weights:.2f} M parameters on {where}, precision {accelerator.mixed_precision}"
    display.say(text + (f", resumed at step {resumed.step}" if resumed else ""))
    if resumed and resumed.config["train"]["steps"] != config.train.steps and config.train.decay != "none":
        display.say(f"the learning rate's decay now ends at step {config.train.steps}, as train.steps says")


def end(accelerator: Accelerator, display: Display, outcome: str) -> None:
    """Waits for the first process's last checkpoint, ends the trackers, and says how it went."""
    accelerator.wait_for_everyone()
    display.close()
    accelerator.end_training()
    display.say(outcome)


def validate(
    config: Config,
    accelerator: Accelerator,
    learner: Learner,
    windows: Windows,
    units: Units,
    display: Display,
    step: int,
) -> Row:
    """Scores the model to use, tells the likelihood, and shows what the model makes of a few clips.

    All processes score the first one's model, which is saved: their BatchNorm statistics are each their own batches'.
    """
    broadcast(learner.model.state_dict().values())
    scores = score(config, accelerator, Objective(learner.model, config.objective, config.train.seed), windows)
    learner.objective.model.likelihood.on_validation(step, -(scores["nll"] + scores["kl"]))
    bound = units.convert({**scores})
    if accelerator.is_main_process:
        picture = show(config, learner.model, windows.store, Path(config.train.out) / f"samples/step_{step:08d}")
        display.say(f"step {step}  validation {describe(bound)}  {picture}")
    return {f"val_{name}": value for name, value in bound.items()}


def score(config: Config, accelerator: Accelerator, objective: Objective, windows: Windows) -> dict[str, float]:
    """The objective's terms over the first eval_clips windows of the validation split, shared by the processes."""
    c = config.train
    size = c.batch_size // (c.accumulate * accelerator.num_processes)
    share = range(accelerator.process_index, c.eval_clips, accelerator.num_processes)
    totals: dict[str, Tensor] = {}
    with evaluating(objective), accelerator.autocast():
        for at in range(0, len(share), size):
            batch = windows.__getitems__(share[at : at + size])
            frames, index = batch["frames"].to(accelerator.device), batch["index"].to(accelerator.device)
            for name, term in objective(frames, index)[1].items():
                totals[name] = totals.get(name, 0) + double(term).mean(1).sum()
    parts = gather_object([{name: total.item() for name, total in totals.items()}])  # none where there was no clip
    return {name: sum(part.get(name, 0.0) for part in parts) / c.eval_clips for name in parts[0]}


def show(config: Config, model: Model, store: Store, stem: Path) -> Path:
    """Writes what the model makes of the first validation clips, and gives the file."""
    device = next(model.parameters()).device
    if isinstance(model, VAE):
        images = next(first_frames(store, range(min(8, len(store))), 1, 8))
        preview.write_images(stem.with_suffix(".png"), model, images["frames"].to(device), config.eval.seed)
        return stem.with_suffix(".png")
    assert isinstance(model, SVG)
    length = min(config.model.n_past + config.eval.horizon, int(store.lengths.max()))
    clips = [clip for clip in range(len(store)) if store.lengths[clip] >= length][: max(1, min(config.eval.gifs, 4))]
    batch = next(first_frames(store, clips, length, len(clips)))
    frames = batch["frames"].to(device)
    preview.write_futures(stem.with_suffix(".gif"), model, frames, batch["index"], config.eval, store.fps)
    return stem.with_suffix(".gif")


def agreed(accelerator: Accelerator, number: int) -> int:
    """The signal that any of the processes has had, or 0."""
    return int(accelerator.gather(torch.tensor([number], device=accelerator.device)).max())


if __name__ == "__main__":
    program.run(main, memory="lower train.batch_size, raise train.accumulate, or set train.checkpoint_activations")
