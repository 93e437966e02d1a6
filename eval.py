"""Evaluates a trained model on the test clips: best-of-N metrics, curves and GIFs of its possible futures.

    python eval.py --checkpoint runs/robot_push
    python eval.py --checkpoint runs/robot_push --eval.samples 10 --eval.clips 32
    accelerate launch --num_processes 4 eval.py --checkpoint runs/bair      # shares the clips

The data set and the protocol are those of the checkpoint's configuration; any field of `data` and `eval` can be
overridden. The same command again goes on where an interrupted one was. It writes, into RUN/eval or --out:

    metrics.json            what was measured, how, and the results
    clips.PROTOCOL.jsonl    the scores of each clip, frame by frame
    curves.png              the metrics over the predicted frames
    gifs/                   context | truth | best | samples of the first clips

Of an image VAE it writes metrics.json with bounds, errors and diagnostics of the latents, the grids
reconstructions.png, samples.png and interpolations.png, and the plots latents.png and training.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

import svg
from data.clips import ClipStore
from data.registry import open_split
from data.sampling import first_frames
from svg import cli, image_evaluation, image_figures, pretrained, protocol, video
from svg.config import DataConfig, EvalConfig
from svg.evaluation import (
    METRICS,
    Futures,
    Record,
    clip_features,
    draw,
    score_clips,
    summarise,
    table,
    unpack_features,
)
from svg.files import replacing
from svg.journal import Journal
from svg.metrics.fvd import FVD, fvd
from svg.model import SVG
from svg.objective import Objective
from svg.plots import write_curves
from svg.precision import exact
from svg.vae import VAE

SHOWN_SAMPLES = 3
IMAGE_BATCH = 128
TRAINING_IMAGES = 50_000
"""Training images, at most, that samplers and refits see."""
GPU_FUTURES = 1024
"""Futures that a GPU has at once, as far as eval.memory allows."""


@dataclass(frozen=True)
class Options:
    """What is evaluated."""

    checkpoint: str
    """Run, checkpoint, folder of save_pretrained, or Hub id OWNER/NAME."""
    out: str | None = None
    """Folder for the results; by default RUN/eval."""
    metrics: list[str] = field(default_factory=list)
    """Of psnr, ssim, lpips, ssim_svg, fvd; by default the first three, lpips only where its weights are at hand."""
    data: DataConfig = field(default_factory=DataConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)


@dataclass(frozen=True)
class Evaluation:
    """A model, the clips it is evaluated on, and the processes that share them."""

    model: SVG
    store: ClipStore
    clips: list[int]
    futures: Futures
    out: Path
    state: PartialState

    def say(self, line: str) -> None:
        """Prints a line, once."""
        if self.state.is_main_process:
            tqdm.write(line)


def main() -> None:
    # What to evaluate: the checkpoint's own configuration, overridden by the command line.
    options, source = read_options(sys.argv[1:])
    if svg.load_config(source).model.name == "vae":
        return evaluate_images(options, source)
    run = set_up(options, source)
    measures = protocol.choose(options.metrics, options.eval, run.futures, len(run.clips), run.state.device)
    if "missing" in measures.lpips:
        run.say(f"LPIPS is left out: {measures.lpips['missing']}")
    stated = protocol.describe(measures, run.futures, run.store.manifest, source)

    # Score every clip's futures.
    def score(frames: Tensor, clips: Tensor, advance: Callable[[int], object]) -> list[Record]:
        return score_clips(run.model, frames, clips, run.futures, measures.scores, advance)

    journal = Journal(run.out, protocol.scores_digest(stated))
    records = each_clip(run, journal, "scores", score, run.futures.samples) if measures.scores else []
    summary = summarise(records) if records else {}
    distance = measure_fvd(run, measures, stated) if measures.features else None

    # Show some of them, and say what came out.
    for record in records[: options.eval.gifs][run.state.process_index :: run.state.num_processes]:
        write_gif(run, record)
    if run.state.is_main_process:
        how = {"clips": len(run.clips), "scores": journal.path.name}
        how |= {"device": run.state.device.type, "processes": run.state.num_processes}
        results = {"protocol": stated, "run": how | protocol.versions(), "results": summary}
        results |= {"fvd": dataclasses.asdict(distance) | {"note": distance.note}} if distance else {}
        with replacing(run.out / "metrics.json") as temporary:
            temporary.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        title = (
            f"{options.checkpoint} on {len(run.clips)} clips of {run.store.folder}: "
            f"{run.futures.context} frames given, {run.futures.horizon} predicted"
        )
        run.say(f"\n{title}, seed {run.futures.seed}\n")
        if summary:
            write_curves(run.out / "curves.png", summary, run.futures.samples, title)
            run.say(table(summary, run.futures.samples))
        if distance:
            run.say(f"\n{distance}" if summary else str(distance))
        run.say(f"\nmeans over clips, with 95 % intervals; curves and GIFs are in {run.out}")


def read_options(argv: Sequence[str]) -> tuple[Options, Path]:
    """The options, over those that the checkpoint was trained with, and the folder of its weights."""
    argv = list(argv[1:] if argv[:1] == ["metrics"] else argv)
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--checkpoint")
    name = finder.parse_known_args(argv)[0].checkpoint
    source = pretrained.find(name) if name else Path()
    defaults: dict[str, Any] = {}
    if name:
        config = svg.load_config(source)
        defaults = {"data": dataclasses.asdict(config.data), "eval": dataclasses.asdict(config.eval)}
    description = "Score a model's possible futures on the test clips; write metrics.json, curves.png and GIFs."
    options = cli.parse(Options, argv, program="eval.py [metrics]", description=description, defaults=defaults)
    return options, source


def set_up(options: Options, source: Path) -> Evaluation:
    """Loads the model and opens the clips; a protocol that they can't meet is refused."""
    on_cpu = not torch.accelerator.is_available()  # said to Accelerate, or CPU processes don't know of each other
    state = PartialState(cpu=on_cpu, timeout=timedelta(days=7))  # processes wait for the slowest
    model = svg.load(source, device=state.device)
    if not isinstance(model, SVG):
        raise ValueError(f"{options.checkpoint} is an image model, which has no futures to score")
    size, channels = model.config.size, model.config.channels
    store = open_split(options.data.path, "test", name=options.data.name, size=size, channels=channels)
    config = options.eval
    context = config.context or model.config.n_past
    if context < model.config.n_past:
        raise ValueError(
            f"eval.context is {context}, but the model conditions on at least {model.config.n_past} frames: "
            f"--eval.context {model.config.n_past}"
        )
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
    out = Path(options.out) if options.out else default_folder(options.checkpoint)
    return Evaluation(model, store, list(clips), futures, out, state)


def evaluate_images(options: Options, source: Path) -> None:
    """Evaluates an image VAE on the test images: bounds, diagnostics, grids of images, plots. In one process."""
    config, c = svg.load_config(source), options.eval
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
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
    if c.clips > len(stores["test"]):
        raise ValueError(f"eval.clips is {c.clips}, but there are {len(stores['test'])} test images: 0 takes them all")
    counts = {"train": min(len(stores["train"]), TRAINING_IMAGES), "test": c.clips or len(stores["test"])}

    def batches(split: str) -> Iterator[dict[str, Any]]:
        for batch in first_frames(stores[split], range(counts[split]), 1, IMAGE_BATCH):
            yield {"frames": batch["frames"].to(device), "index": batch["index"].to(device)}

    with exact(device):
        if model.likelihood.fits_target or config.objective.name == "bilbo":
            image_evaluation.refit(objective, batches("train"))
        report, latents = image_evaluation.evaluate(
            model, batches("train"), batches("test"), k=c.samples, seed=c.seed, wanted=samplers
        )
        shown = next(batches("test"))["frames"]
        out = Path(options.out) if options.out else default_folder(options.checkpoint)
        image_figures.write_grid(out / "reconstructions.png", image_figures.reconstructions(model, shown[:32]))
        if report.samplers:
            image_figures.write_grid(out / "samples.png", image_figures.samples(model, report.samplers, c.seed))
        image_figures.write_grid(out / "interpolations.png", image_figures.interpolations(model, shown))
    image_figures.write_latents(out / "latents.png", latents, model.prior)
    log = Path(options.checkpoint) / "metrics.jsonl"
    if log.exists():
        rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        image_figures.write_training(out / "training.png", rows)
    digest = stores["test"].manifest["files"]["frames.npy"]["sha256"]
    stated = {
        "data": {"path": options.data.path, **counts, "sha256": digest},
        "importance_samples": c.samples,
        "seed": c.seed,
        "samplers": samplers,
        "checkpoint": {"name": options.checkpoint, "weights": source.name},
    }
    results = {"protocol": stated, "run": protocol.versions(), "images": report.images, "latents": report.latents}
    with replacing(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{options.checkpoint} on {counts['test']} images of {stores['test'].folder}\n")
    print(image_evaluation.table(report, c.samples))
    print(f"\nmeans over images, with 95 % intervals; grids and plots are in {out}")


def default_folder(checkpoint: str) -> Path:
    """RUN/eval, RUN/eval/step_00000500 for one checkpoint of a run, runs/OWNER--NAME/eval for a model of the Hub."""
    folder = Path(checkpoint)
    if not folder.exists():
        return Path("runs") / checkpoint.replace("/", "--") / "eval"
    if folder.resolve().parent.name == "checkpoints":
        return folder.resolve().parents[1] / "eval" / folder.name
    return folder / "eval"


def each_clip(
    run: Evaluation,
    journal: Journal,
    title: str,
    work: Callable[[Tensor, Tensor, Callable[[int], object]], list[Record]],
    samples: int,
) -> list[Record]:
    """A record of every clip: those that an interrupted evaluation left, and the others, which the processes share.

    Args:
        work: uint8 frames (B, context + horizon, C, H, W), clip numbers (B,), and what to tell of futures that are
            done, to records.
        samples: futures that it draws of a clip.
    """
    state = run.state
    if state.is_main_process:
        journal.merge()
    state.wait_for_everyone()
    done = journal.records()
    if kept := sum(clip in done for clip in run.clips):
        run.say(f"{title}: kept {kept} of {len(run.clips)} clips from before")
    size = 1 if state.device.type == "cpu" else max(1, GPU_FUTURES // samples)
    groups = [run.clips[first : first + size] for first in range(0, len(run.clips), size)]
    share = [clip for group in groups[state.process_index :: state.num_processes] for clip in group if clip not in done]
    hidden = None if state.is_main_process else True  # None: where nobody watches
    with tqdm(total=len(share) * samples, desc=title, unit="future", disable=hidden) as bar:
        for batch in first_frames(run.store, share, run.futures.context + run.futures.horizon, size):
            journal.append(work(batch["frames"].to(state.device), batch["index"], bar.update), state.process_index)
    state.wait_for_everyone()
    if state.is_main_process:
        journal.merge()
    state.wait_for_everyone()
    done = journal.records()
    return [done[clip] for clip in run.clips]


def measure_fvd(run: Evaluation, measures: protocol.Measures, stated: dict[str, Any]) -> FVD:
    """The distance of the futures' I3D features from those of the true clips."""
    extract, convention = measures.features, measures.convention
    assert extract and convention
    futures = dataclasses.replace(run.futures, samples=convention.samples or run.futures.samples)

    def work(frames: Tensor, clips: Tensor, advance: Callable[[int], object]) -> list[Record]:
        return clip_features(run.model, frames, clips, futures, extract, convention.with_context, advance)

    journal = Journal(run.out, protocol.features_digest(stated, extract, convention), "features")
    real, fake = unpack_features(each_clip(run, journal, "FVD", work, futures.samples))
    return fvd(real, fake, convention.frames(futures.context, futures.horizon), convention.name, extract.sha256)


def write_gif(run: Evaluation, record: Record) -> None:
    """context | truth | best | samples of one clip; the best is that of the first metric."""
    clip, n, samples = record["clip"], run.futures.context, run.futures.samples
    metric = next(name for name in METRICS if name in record)
    frames = run.store.frames(clip, 0, n + run.futures.horizon)
    context = torch.from_numpy(frames[:n]).permute(0, 3, 1, 2).to(run.state.device)
    wanted = [record[metric]["sample"], *range(min(SHOWN_SAMPLES, samples))]
    predicted = draw(run.model, context, clip, run.futures, wanted).permute(0, 1, 3, 4, 2)
    best, *others = (255 * predicted).round().to(torch.uint8).cpu().numpy()
    shown = video.comparison(frames[:n], frames[n:], best, others, best_caption=f"best of {samples}")
    video.write_gif(run.out / "gifs" / f"clip_{clip:05d}.gif", shown, run.store.fps)


if __name__ == "__main__":
    cli.run(main)
