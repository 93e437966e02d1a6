"""Evaluates trained models on the test clips, shows their futures, and predicts other videos.

    python eval.py --checkpoint runs/robot_push                       # metrics, likelihood, calibration, report
    python eval.py --checkpoint runs/a runs/b runs/c                  # one table and one set of curves
    python eval.py export --checkpoint runs/robot_push --pick best    # videos and rollouts, without a metrics run
    python eval.py predict --checkpoint runs/robot_push --video my.mp4
    python eval.py calibrate --checkpoint runs/robot_push             # futures as uncertain as the truth
    accelerate launch --num_processes 4 eval.py --checkpoint runs/bair      # shares the clips

The data set and the protocol are those of the (first) checkpoint's configuration; any field of `data` and `eval` can be
overridden. The same command again goes on where an interrupted one was. docs/evaluation.md explains the numbers. The
first form writes, into RUN/eval or --out (runs/comparison for several checkpoints):

    metrics.json            what was measured, how, and the results
    NAME.PROTOCOL.jsonl     what was measured of each clip (clips: scores, bounds: likelihood, features: of FVD,
                            frames: of FID)
    report.html             all of it to look at, with clips that play: one file, no network
    curves.png              the metrics over the predicted frames
    gifs/                   context | truth | best | samples of the first clips

Of an image VAE it writes metrics.json with bounds, errors, FID and diagnostics of the latents, the grids
reconstructions.png, samples.png and interpolations.png, and the plots latents.png and training.png.
"""

from __future__ import annotations

if __name__ == "__main__":  # first, since what follows takes seconds
    from svg.runtime import program

    program.begin()

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState

import svg
from data.registry import data_sets, has_split, open_split
from data.sampling import Windows, first_frames
from svg import pretrained
from svg.config import DataConfig, EvalConfig, carried, command_line
from svg.evaluation import exports, gallery, images, protocol
from svg.evaluation.calibrate import Fit
from svg.evaluation.calibrate import calibrate as fit_calibration
from svg.evaluation.gallery import Shown, choose
from svg.evaluation.options import CalibrateOptions, ExportOptions, MetricsOptions, PredictOptions
from svg.evaluation.scores import Futures, drawn_arrays
from svg.evaluation.summary import Entry
from svg.evaluation.videos import Batches, Evaluation, name_apart
from svg.media.read import read_clip
from svg.metrics.fid import ImageFeatures, check_images
from svg.metrics.weights import check_channels
from svg.models.calibrated import digest_of
from svg.models.svg_lp import SVG
from svg.models.vae import VAE
from svg.objective import Objective
from svg.report import image_figures
from svg.report.curves import write_curves
from svg.report.sections import write_report
from svg.report.tables import (
    calibration_table,
    image_table,
    like_the_papers,
    likelihood_table,
    rollout_table,
    uncertainty_table,
)
from svg.runtime import named, program
from svg.runtime.allocator import keep_freed_memory
from svg.runtime.files import write_json
from svg.runtime.memory import require_memory
from svg.runtime.precision import exact

SHOWN_SAMPLES = 3
"""Futures of a GIF, besides the best."""
REPORT_SAMPLES = 5
"""Futures of a clip in the report, besides the best."""
REFIT_BATCH = 8
IMAGE_BATCH = 128
TRAINING_IMAGES = 50_000
"""Training images, at most, that samplers and refits see."""

T = TypeVar("T", MetricsOptions, ExportOptions, PredictOptions, CalibrateOptions)


def main() -> None:
    """The command line: one of four commands, metrics by default."""
    commands: dict[str, Callable[[list[str]], None]] = {
        "metrics": metrics,
        "export": export,
        "predict": predict,
        "calibrate": calibrate,
    }
    named = len(sys.argv) > 1 and not sys.argv[1].startswith("-")
    name, *rest = sys.argv[1:] if named else ["metrics", *sys.argv[1:]]
    if name not in commands:
        raise ValueError(f"{name!r} is no command of eval.py: choose from {', '.join(commands)}")
    commands[name](rest)


def metrics(argv: Sequence[str]) -> None:
    """Measures models on the test clips, and writes the table, curves, GIFs and report."""
    description = (
        "Score models' possible futures on the test clips; write metrics.json, report.html, curves and GIFs. Other "
        "commands: eval.py export, eval.py predict, eval.py calibrate."
    )
    options = read_options(MetricsOptions, argv, "eval.py [metrics]", description)
    sources = [pretrained.find(name) for name in options.checkpoint]
    configs = [svg.load_config(source) for source in sources]
    if configs[0].model.name == "vae":
        if len(sources) > 1:
            raise ValueError(f"{options.checkpoint[0]} is an image model, which is evaluated alone: name no other")
        if options.metrics:
            raise ValueError("--metrics chooses among the metrics of video models: leave it out for an image model")
        if options.split != "test":
            raise ValueError("--split is for video models: an image model is evaluated on its test images")
        return evaluate_images(options, sources[0])
    context = options.eval.context or max(config.model.n_past for config in configs)
    runs = [
        set_up(
            name,
            source,
            options.data,
            options.eval,
            context,
            folder(options, name),
            options.split,
            calibrated=options.calibrated,
        )
        for name, source in zip(options.checkpoint, sources, strict=True)
    ]
    if options.verify:
        for run in runs:
            run.store.verify()
    name_apart(runs, options.checkpoint)
    if options.calibrated:
        runs = [each for run in runs for each in (run, with_calibration(run)) if each]
    entries: list[Entry] = []
    measured = []
    for run in runs:
        device = run.state.device
        channels = run.model.config.channels
        chosen = protocol.choose(options.metrics, options.eval, run.futures, len(run.clips), device, channels)
        if "missing" in chosen.lpips and run is runs[0]:
            run.say(f"LPIPS is left out: {chosen.lpips['missing']}")
        if run.futures.calibrated:  # of the same likelihood, and with a scale of its own
            chosen, scale = dataclasses.replace(chosen, likelihood=False), protocol.Scale("calibrated")
        else:
            scale = run.freeze_scale(training_batches(run, options.data), options.refit)
        entry, records = run.measure(chosen, scale, options.iwae)
        entries.append(entry)
        measured.append({record["clip"]: record for record in records})
    if runs[0].state.is_main_process:
        publish(options, runs, entries, measured)


def with_calibration(run: Evaluation) -> Evaluation | None:
    """The same of the model's calibrated futures, where it has a calibration for them."""
    calibration = run.model.calibration
    if calibration is None:
        return None
    try:
        calibration.check(run.futures.context, run.futures.horizon)
    except ValueError as error:
        run.say(f"{run.name} calibrated is left out: {error}")
        return None
    return dataclasses.replace(
        run,
        name=f"{run.name}, calibrated",
        model=load(run.name, run.source, run.state),  # whose scale is not refitted
        futures=dataclasses.replace(run.futures, calibrated=True),
        out=run.out / "calibrated",
    )


def publish(
    options: MetricsOptions,
    runs: Sequence[Evaluation],
    entries: Sequence[Entry],
    measured: Sequence[dict[int, dict[str, Any]]],
) -> None:
    """Shows some clips and says what came out: files and text of each run's entry and records by clip.

    The numbers are written first, so that no picture costs them.
    """
    run, first = runs[0], entries[0]
    out = run.out if len(options.checkpoint) == 1 or options.out else Path("runs/comparison")
    title = (
        f"{', '.join(options.checkpoint)} on {len(run.clips)} clips of {run.store.folder}: "
        f"{run.futures.context} frames given, {run.futures.horizon} predicted"
    )
    for r, entry in zip(runs, entries, strict=True):
        write_json(r.out / "metrics.json", entry)
    if len(options.checkpoint) > 1:
        write_json(out / "metrics.json", {"models": entries})
    shown_clips: list[list[Shown]] = []
    if measured[0]:
        for clip in run.clips[: options.eval.gifs]:
            shown_clips.append([r.show(of[clip], REPORT_SAMPLES) for r, of in zip(runs, measured, strict=True)])
            for r, shown in zip(runs, shown_clips[-1], strict=True):
                exports.write_gif(r.out, shown, SHOWN_SAMPLES, run.store.fps)
    if any(entry.get("results") for entry in entries):
        write_curves(out / "curves.png", entries, title)
    write_report(out / "report.html", entries, shown_clips, run.store.fps, title)
    run.say(f"\n{title}, seed {run.futures.seed}\n")
    if measured[0]:
        run.say(f"{rollout_table(entries, like_the_papers(first))}\n")
    if (uncertainty := uncertainty_table(entries)).rows:
        run.say(f"{uncertainty}\n")
    if any("likelihood" in entry for entry in entries):
        run.say(f"{likelihood_table(entries)}\n")
    for entry in entries:
        for name in ("fvd", "fid"):
            if name in entry:
                run.say(f"{entry['name']}: {entry[name]['text']}" if len(runs) > 1 else entry[name]["text"])
    run.say(f"means over clips, with 95 % intervals; to look at: {out / 'report.html'}")


def export(argv: Sequence[str]) -> None:
    """Writes clips and their futures as videos, filmstrips and arrays."""
    description = "Write test clips and their predicted futures as videos, filmstrips and arrays."
    options = read_options(ExportOptions, argv, "eval.py export", description)
    exports.check(options)
    source = pretrained.find(options.checkpoint)
    context = options.eval.context or svg.load_config(source).model.n_past
    out = Path(options.out) if options.out else default_folder(options.checkpoint, "export")
    run = set_up(options.checkpoint, source, options.data, options.eval, context, out)

    # Choose clips: by number or rule, the futures of no more clips being drawn than the rule needs.
    wanted = options.clips
    unknown = [clip for clip in wanted if clip not in run.clips]
    if unknown:
        raise ValueError(f"--clips {unknown[0]} is not among the clips 0 to {len(run.clips) - 1} of {run.store.folder}")
    if not wanted and options.pick in ("first", "random"):
        wanted = choose(options.pick, options.count, run.clips, seed=options.eval.seed)
    some = dataclasses.replace(run, clips=wanted or run.clips)
    chosen = protocol.choose(["psnr"], options.eval, run.futures, len(some.clips), run.state.device)
    records = {record["clip"]: record for record in some.scores(some.protocol(chosen, protocol.Scale()))}
    wanted = wanted or choose(options.pick, options.count, run.clips, list(records.values()))

    # Write them.
    for clip in wanted[run.state.process_index :: run.state.num_processes]:
        stem = out / f"clip_{clip:05d}"
        exports.write(stem, run.show(records[clip], options.samples), options, run.store.fps)
        if "npz" in options.formats:
            exports.write_arrays(stem, run.rollouts(clip), run.store.fps, run.futures.seed)
    run.say(f"{', '.join(options.formats)} of clips {', '.join(map(str, wanted))} are in {out}")


def predict(argv: Sequence[str]) -> None:
    """Predicts how a video goes on."""
    description = "Predict possible futures of any video, GIF or folder of images."
    options = read_options(PredictOptions, argv, "eval.py predict", description)
    exports.check(options)
    source = pretrained.find(options.checkpoint)
    state = start()
    model = load(options.checkpoint, source, state)
    c, context = options.eval, options.eval.context or model.config.n_past
    require_context(context, model)
    length, pixels = context + c.horizon, model.config.size**2
    futures_bytes = options.samples * c.horizon * pixels * model.config.channels * 4 * 3  # frames, sigma and bytes
    shown_bytes = options.samples * length * pixels * options.scale**2 * 3 * 2
    require_memory(
        futures_bytes + shown_bytes,
        f"{options.samples} futures of {c.horizon} frames",
        "lower --samples, --eval.horizon or --scale",
    )
    clip = read_clip(
        options.video,
        context,
        at=options.at,
        size=model.config.size,
        channels=model.config.channels,
        crop=options.crop,
        grey=options.grey,
        after=c.horizon,
    )
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).to(state.device)
    truth = len(clip.frames) == context + c.horizon
    futures = Futures(context, c.horizon, options.samples, c.seed, c.memory)
    captions = [f"future {i + 1}" for i in range(options.samples)]
    shown = gallery.show(model, frames if truth else frames[:context], 0, futures, range(options.samples), captions)
    out = Path(options.out) if options.out else default_folder(options.checkpoint, "predict")
    stem = out / Path(options.video).resolve().stem
    if state.is_main_process:
        exports.write(stem, shown, options, clip.fps)
        if "npz" in options.formats:
            arrays = {"context": clip.frames[:context]} | ({"truth": clip.frames[context:]} if truth else {})
            arrays |= drawn_arrays(model, frames[:context], 0, futures)
            exports.write_arrays(stem, arrays, clip.fps, c.seed)
        span = f"frames {clip.start + 1} to {clip.start + context}"
        print(f"{options.video}: {span} given, {c.horizon} predicted, at {clip.fps:g} frames/s")
        print(f"{options.samples} futures are in {stem}.*")


def calibrate(argv: Sequence[str]) -> None:
    """Fits what makes a model's futures as uncertain as the truth, on validation clips."""
    description = "Fit tempering, pixel noise and intervals of rollouts to validation clips; the weights stay."
    options = read_options(CalibrateOptions, argv, "eval.py calibrate", description)
    source = pretrained.find(options.checkpoint)
    config = svg.load_config(source)
    if config.model.name != "svg":
        raise ValueError(f"{options.checkpoint} is an image model, which has no rollouts to calibrate")
    context = options.eval.context or config.model.n_past
    out = pretrained.calibration_folder(source)
    if not Path(options.checkpoint).exists():
        raise ValueError(
            f"{options.checkpoint} is a model of the Hub: save it to a folder (save_pretrained) and name that"
        )
    everything = dataclasses.replace(options.eval, clips=0)
    run = set_up(options.checkpoint, source, options.data, everything, context, out, "val", calibrated=False)
    if run.state.num_processes > 1:
        raise ValueError("eval.py calibrate runs in one process")
    train = open_split(options.data.path, "train", size=config.model.size, channels=config.model.channels)
    length = min(context + options.eval.horizon, int(train.lengths.max()))
    windows = Windows(train, length, config.train.seed)
    fit = Fit(
        validation=lambda clips: run.read(clips, context + options.eval.horizon, 1),
        clips=run.clips[: options.clips],
        training=lambda numbers: (windows.__getitems__([number]) for number in numbers),
        training_clips=len(train),
        levels=options.levels,
    )
    found, notes = fit_calibration(run.model, run.futures, fit)
    hashes = {store.manifest["split"]: store.manifest["files"]["frames.npy"]["sha256"] for store in (run.store, train)}
    provenance = {
        "weights": digest_of(run.model.state_dict()),
        "data": hashes,
        "clips": len(fit.clips),
        "seed": options.eval.seed,
        "version": protocol.versions()["svg-lp"],
        **notes,
    }
    found = dataclasses.replace(found, fitted=provenance)
    found.save(out)
    print(f"{options.checkpoint}: calibrated by {len(fit.clips)} clips of {run.store.folder}\n")
    print(calibration_table(found))
    print(f"\nin {out}; python eval.py --checkpoint {options.checkpoint} shows it beside the model's own")


def read_options(cls: type[T], argv: Sequence[str], program: str, description: str) -> T:
    """The options, over those that the (first) checkpoint was trained with."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--checkpoint", nargs="*", default=[])
    names = finder.parse_known_args(argv)[0].checkpoint
    defaults: dict[str, Any] = {}
    if names and names[0].strip():
        config = svg.load_config(pretrained.find(names[0]))
        fields = {item.name for item in dataclasses.fields(cls)}
        groups = {"data": config.data, "eval": config.eval}
        defaults = {name: carried(group) for name, group in groups.items() if name in fields}
        ignored = [
            f"eval.{name}" for name in ("lpips_weights", "fvd_weights", "fid_weights") if getattr(config.eval, name)
        ]
        if ignored:
            print(f"{names[0]} names {', '.join(ignored)}, which count only where you give them", file=sys.stderr)
        if "data" in fields and not {"-h", "--help"} & set(argv):
            require_named(config.data.path, names[0], argv)
    options = command_line.parse(cls, argv, program=program, description=description, defaults=defaults)
    if not options.checkpoint:
        raise ValueError("--checkpoint is required: a run, a checkpoint, a folder with a model, or a Hub id")
    return options


def require_named(path: str, checkpoint: str, argv: Sequence[str]) -> None:
    """Raises ValueError where a data set outside of this folder is named by a checkpoint alone."""
    here = os.path.abspath(".")
    known = all(Path(os.path.abspath(f)).is_relative_to(here) or named.was_named(f) for f in data_sets(path))
    if not known and not any(option.partition("=")[0] == "--data.path" for option in argv):
        raise ValueError(
            f"data.path {path} lies outside of this folder, and {checkpoint} alone names it: if it is the data set to "
            f"read, give --data.path {path}"
        )


def start() -> PartialState:
    """The processes that share the work."""
    on_cpu = not torch.accelerator.is_available()  # said to Accelerate, or CPU processes don't know of each other
    if on_cpu:
        keep_freed_memory()
    return PartialState(cpu=on_cpu, timeout=timedelta(days=7))  # processes wait for the slowest


def load(name: str, source: Path, state: PartialState, calibrated: bool = True) -> SVG:
    """The video model of a checkpoint, with its calibration if there is one."""
    model = svg.load(source, device=state.device, calibrated=calibrated)
    if not isinstance(model, SVG):
        raise ValueError(f"{name} is an image model, which has no futures")
    return model


def set_up(
    name: str,
    source: Path,
    data: DataConfig,
    config: EvalConfig,
    context: int,
    out: Path,
    split: str = "test",
    calibrated: bool = True,
) -> Evaluation:
    """Loads a model, and its calibration if wished, and opens the clips; a protocol that they can't meet is refused."""
    state = start()
    model = load(name, source, state, calibrated)
    size, channels = model.config.size, model.config.channels
    store = open_split(data.path, split, name=data.name, size=size, channels=channels)
    require_context(context, model)
    if config.clips > len(store):
        raise ValueError(f"eval.clips is {config.clips}, but {store.folder} has {len(store)} clips: 0 takes them all")
    clips = range(config.clips or len(store))
    shortest = min(clips, key=lambda clip: store.lengths[clip])
    left = int(store.lengths[shortest]) - context
    if left < config.horizon:
        remedy = f"--eval.horizon {left} is the most" if left > 0 else "lower eval.context"
        raise ValueError(
            f"eval.horizon is {config.horizon}, but clip {shortest} of {store.folder} has {left + context} frames, "
            f"{context} of them context: {remedy}"
        )
    futures = Futures(context, config.horizon, config.samples, config.seed, config.memory)
    read = partial(first_frames, store)
    return Evaluation(name, model, svg.load_config(source), source, store, list(clips), read, futures, out, state)


def require_context(context: int, model: SVG) -> None:
    """Raises ValueError where the model conditions on more frames."""
    if context < model.config.n_past:
        raise ValueError(
            f"eval.context is {context}, but the model conditions on at least {model.config.n_past} frames: "
            f"--eval.context {model.config.n_past}"
        )


def training_batches(run: Evaluation, data: DataConfig) -> Callable[[Sequence[int]], Batches] | None:
    """Random training windows by number, or None where there are no training clips."""
    if not has_split(data.path, "train"):
        return None
    store = open_split(data.path, "train")
    length = min(run.config.data.frames, int(store.lengths.max()))  # as in training, or what there is
    windows = Windows(store, length, run.config.train.seed)

    def read(numbers: Sequence[int]) -> Batches:
        for first in range(0, len(numbers), REFIT_BATCH):
            yield windows.__getitems__(numbers[first : first + REFIT_BATCH])

    return read


def folder(options: MetricsOptions, checkpoint: str) -> Path:
    """Where a model's results go: --out, or RUN/eval, or RUN/eval_val for the validation clips."""
    kind = "eval" if options.split == "test" else f"eval_{options.split}"
    return Path(options.out) if options.out else default_folder(checkpoint, kind)


def default_folder(checkpoint: str, kind: str = "eval") -> Path:
    """RUN/eval, RUN/eval/step_00000500 for one checkpoint of a run, runs/OWNER--NAME/eval for a model of the Hub."""
    folder = Path(checkpoint)
    if not folder.exists():
        return Path("runs") / checkpoint.replace("/", "--") / kind
    if folder.resolve().parent.name == "checkpoints":
        return folder.resolve().parents[1] / kind / folder.name
    return folder / kind


def evaluate_images(options: MetricsOptions, source: Path) -> None:
    """Evaluates an image VAE on the test images: bounds, diagnostics, grids of images, plots. In one process."""
    name, config, c = options.checkpoint[0], svg.load_config(source), options.eval
    protocol.check_weights(c)
    device = start().device
    model = svg.load(source, device=device)
    assert isinstance(model, VAE)
    objective = Objective(model, config.objective)
    known: dict[str, dict[str, Any]] = {"gmm": {"components": c.components}, "second_stage": {"epochs": c.epochs}}
    samplers = {name: known.get(name, {}) for name in c.samplers}
    size, channels = model.config.size, model.config.channels
    stores = {
        split: open_split(options.data.path, split, name=options.data.name, size=size, channels=channels)
        for split in ("train", "test")
    }
    if options.verify:
        stores["test"].verify()
    if c.clips > len(stores["test"]):
        raise ValueError(f"eval.clips is {c.clips}, but there are {len(stores['test'])} test images: 0 takes them all")
    counts = {"train": min(len(stores["train"]), TRAINING_IMAGES), "test": c.clips or len(stores["test"])}
    inception = None
    if c.fid_weights:
        check_images(counts["test"])
        check_channels("FID", channels)
        inception = ImageFeatures(c.fid_weights, device)

    def batches(split: str) -> Iterator[dict[str, Any]]:
        for batch in first_frames(stores[split], range(counts[split]), 1, IMAGE_BATCH):
            yield {"frames": batch["frames"].to(device), "index": batch["index"].to(device)}

    with exact(device):
        if model.likelihood.fits_target or config.objective.name == "bilbo":
            images.refit(objective, batches("train"))
        report, latents = images.evaluate(
            model, batches("train"), batches("test"), k=c.samples, seed=c.seed, wanted=samplers, inception=inception
        )
    checksums = protocol.checksums(stores["test"].manifest, stores["test"].verified)
    stated = {
        "data": {"path": options.data.path, **counts, **checksums},
        "importance_samples": c.samples,
        "seed": c.seed,
        "samplers": samplers,
        "checkpoint": {"name": name, "weights": source.name},
    }
    results = {"protocol": stated, "run": protocol.versions(), **images.numbers(report)}
    out = Path(options.out) if options.out else default_folder(name)
    write_json(out / "metrics.json", results)
    with exact(device):
        image_figures.write_all(out, model, next(batches("test"))["frames"], report.samplers, latents, c.seed)
    log = Path(name) / "metrics.jsonl"
    if log.exists():
        image_figures.write_training(out / "training.png", log)
    print(f"{name} on {counts['test']} images of {stores['test'].folder}\n")
    print(image_table(report, c.samples))
    print(f"\nmeans over images, with 95 % intervals; grids and plots are in {out}")


if __name__ == "__main__":
    program.run(main, memory="lower eval.memory")
