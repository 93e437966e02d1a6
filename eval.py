"""Evaluates a trained model on the test clips: best-of-N metrics, curves and GIFs of its possible futures.

    python eval.py --checkpoint runs/robot_push
    python eval.py --checkpoint runs/robot_push --eval.samples 10 --eval.clips 32
    accelerate launch --num_processes 4 eval.py --checkpoint runs/bair      # shares the clips

The data set and the protocol are those of the checkpoint's configuration; any field of `data` and `eval` can be
overridden. The same command again goes on where an interrupted one was. It writes, into RUN/eval or --out:

    metrics.json         what was measured, how, and the results
    clips.PROTOCOL.jsonl the scores of each clip, frame by frame
    curves.png           the metrics over the predicted frames
    gifs/                context | truth | best | samples of the first clips
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from tqdm import tqdm

import svg
from data.clips import ClipStore
from data.registry import open_split
from data.sampling import first_frames
from svg import cli, pretrained, video
from svg.config import DataConfig, EvalConfig
from svg.evaluation import METRICS, SCORES, Futures, Record, Score, draw, score_clips, summarise, table
from svg.files import replacing
from svg.journal import Journal
from svg.metrics import LPIPS, MSE_FLOOR, WeightsError, find_weights
from svg.model import SVG
from svg.plots import write_curves

SHOWN_SAMPLES = 3
GPU_FUTURES = 1024
"""Futures that a GPU scores at once, as far as eval.memory allows."""


@dataclass(frozen=True)
class Options:
    """What is evaluated."""

    checkpoint: str
    """Run, checkpoint, folder of save_pretrained, or Hub id OWNER/NAME."""
    out: str | None = None
    """Folder for the results; by default RUN/eval."""
    metrics: list[str] = field(default_factory=list)
    """Of psnr, ssim, lpips, ssim_svg; by default the first three, lpips only where its weights are at hand."""
    data: DataConfig = field(default_factory=DataConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)


def main() -> None:
    # What to evaluate: the checkpoint's own configuration, overridden by the command line.
    options, source = read_options(sys.argv[1:])
    state = PartialState(timeout=timedelta(days=7))  # processes wait for the slowest
    say = tqdm.write if state.is_main_process else lambda line: None
    model = svg.load(source, device=state.device)
    store = open_split(
        options.data.path,
        "test",
        name=options.data.name,
        size=model.config.size,
        channels=model.config.channels,
    )
    futures = Futures(
        options.eval.context or model.config.n_past,
        options.eval.horizon,
        options.eval.samples,
        options.eval.seed,
        options.eval.memory,
    )
    clips = choose_clips(options.eval, futures, model, store)
    scores, lpips = choose_scores(options, state.device)
    if "missing" in lpips:
        say(f"LPIPS is left out: {lpips['missing']}")
    out = Path(options.out) if options.out else default_folder(options.checkpoint)

    # What an earlier, interrupted evaluation under the same protocol has done already.
    protocol = describe(options, source, store, futures, scores, lpips)
    journal = Journal(out, digest(protocol))
    if state.is_main_process:
        journal.merge()
    state.wait_for_everyone()
    done = journal.records()
    if kept := sum(clip in done for clip in clips):
        say(f"kept {kept} of {len(clips)} clips from before")

    # Score this process's share of the clips, in groups that don't depend on how many processes there are.
    size = 1 if state.device.type == "cpu" else max(1, GPU_FUTURES // futures.samples)
    groups = [clips[first : first + size] for first in range(0, len(clips), size)]
    share = [clip for group in groups[state.process_index :: state.num_processes] for clip in group if clip not in done]
    hidden = None if state.is_main_process else True  # None: where nobody watches
    with tqdm(total=len(share) * futures.samples, unit="future", disable=hidden) as bar:
        for batch in first_frames(store, share, futures.context + futures.horizon, size):
            frames = batch["frames"].to(state.device)
            journal.append(score_clips(model, frames, batch["index"], futures, scores, bar.update), state.process_index)
    state.wait_for_everyone()
    if state.is_main_process:
        journal.merge()
    state.wait_for_everyone()
    done = journal.records()
    records = [done[clip] for clip in clips]

    # Show some of them, and say what came out.
    shown = records[: options.eval.gifs][state.process_index :: state.num_processes]
    for record in shown:
        write_gif(out / "gifs" / f"clip_{record['clip']:05d}.gif", model, store, record, futures, state.device)
    if state.is_main_process:
        summary = summarise(records)
        run = {"clips": len(clips), "scores_of_each_clip": journal.path.name, "device": state.device.type}
        write_json(out / "metrics.json", {"protocol": protocol, "run": run | versions(), "results": summary})
        title = f"{options.checkpoint} on {len(clips)} clips of {store.folder}: {futures.context} frames given"
        write_curves(out / "curves.png", summary, futures.samples, f"{title}, {futures.horizon} predicted")
        say(f"\n{title}, {futures.horizon} predicted, seed {futures.seed}\n")
        say(table(summary, futures.samples))
        say(f"\nmeans over clips, with 95 % intervals; curves and GIFs are in {out}")


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
    for metric in options.metrics:
        if metric not in METRICS:
            raise ValueError(f"--metrics {metric} is unknown: choose from {', '.join(METRICS)}")
    return options, source


def choose_clips(config: EvalConfig, futures: Futures, model: SVG, store: ClipStore) -> list[int]:
    """The numbers of the clips; a protocol that they or the model can't meet is refused."""
    if futures.context < model.config.n_past:
        raise ValueError(
            f"eval.context is {futures.context}, but the model conditions on at least {model.config.n_past} frames: "
            f"--eval.context {model.config.n_past}"
        )
    if config.clips > len(store):
        raise ValueError(f"eval.clips is {config.clips}, but {store.folder} has {len(store)} clips: 0 takes them all")
    clips = range(config.clips or len(store))
    shortest = min(clips, key=lambda clip: store.lengths[clip])
    left = int(store.lengths[shortest]) - futures.context
    if left < futures.horizon:
        remedy = f"--eval.horizon {left} is the most" if left > 0 else "lower eval.context"
        raise ValueError(
            f"eval.horizon is {futures.horizon}, but clip {shortest} of {store.folder} has {left + futures.context} "
            f"frames, {futures.context} of them context: {remedy}"
        )
    return list(clips)


def choose_scores(options: Options, device: torch.device) -> tuple[dict[str, Score], dict[str, Any]]:
    """The metrics by name, and what is to be said of LPIPS: its weights, or why it is missing."""
    wanted = options.metrics or ["psnr", "ssim", "lpips"]
    scores: dict[str, Score] = {name: SCORES[name] for name in METRICS if name in wanted and name in SCORES}
    if "lpips" not in wanted:
        return scores, {}
    try:
        lpips = LPIPS(find_weights(options.eval.lpips_weights))
    except WeightsError as error:
        if "lpips" in options.metrics or options.eval.lpips_weights is not None:
            raise
        return scores, {"missing": str(error)}
    return scores | {"lpips": lpips.to(device)}, {"weights": lpips.source}


def default_folder(checkpoint: str) -> Path:
    """RUN/eval, RUN/eval/step_00000500 for one checkpoint of a run, runs/OWNER--NAME/eval for a model of the Hub."""
    folder = Path(checkpoint)
    if not folder.exists():
        return Path("runs") / checkpoint.replace("/", "--") / "eval"
    if folder.resolve().parent.name == "checkpoints":
        return folder.resolve().parents[1] / "eval" / folder.name
    return folder / "eval"


def describe(
    options: Options, source: Path, store: ClipStore, futures: Futures, scores: Mapping[str, Score], lpips: dict
) -> dict[str, Any]:
    """All that the scores depend on, in words and digests."""
    settings = dataclasses.asdict(futures)
    del settings["memory"]
    with (source / "model.safetensors").open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        **settings,
        "first_frame": 0,
        "predictions": "the likelihood's mean, clamped to [0, 1]",
        "best_of_n": "chosen per clip and metric, by the mean over the predicted frames",
        "interval": "1.96 sd / sqrt(clips), sd with clips - 1",
        "metrics": list(scores),
        "psnr": f"per channel from its MSE (at least {MSE_FLOOR:g}), range 1; mean over channels",
        "ssim": "per channel, Gaussian window 11x11, sigma 1.5, valid, K1 .01, K2 .03, range 1; mean over the map",
        "lpips": {"network": "AlexNet v0.1", "inputs": "[-1, 1], at the frames' size", **lpips} if lpips else None,
        "data": {
            "split": store.split,
            "source": store.manifest["source"],
            "frame_shape": list(store.frame_shape),
            "sha256": store.manifest["files"]["frames.npy"]["sha256"],
        },
        "checkpoint": {"name": options.checkpoint, "weights": source.name, "sha256": weights},
    }


def digest(protocol: Mapping[str, Any]) -> str:
    """Of all that changes a score; where the checkpoint lies is no part of it."""
    relevant = dict(protocol) | {"checkpoint": protocol["checkpoint"]["sha256"], "version": version("svg-lp")}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("svg-lp", "torch", "lpips")}}


def write_gif(path: Path, model: SVG, store: ClipStore, record: Record, futures: Futures, device: torch.device) -> None:
    """context | truth | best | samples of one clip; the best is that of the first metric."""
    clip, n = record["clip"], futures.context
    metric = next(name for name in METRICS if name in record)
    frames = store.frames(clip, 0, n + futures.horizon)
    context = torch.from_numpy(frames[:n]).permute(0, 3, 1, 2).to(device)
    wanted = [record[metric]["sample"], *range(min(SHOWN_SAMPLES, futures.samples))]
    predicted = draw(model, context, clip, futures, wanted).permute(0, 1, 3, 4, 2)
    pictures = (255 * predicted).round().to(torch.uint8).cpu().numpy()
    caption = f"best of {futures.samples}"
    shown = video.comparison(frames[:n], frames[n:], pictures[0], pictures[1:], best_caption=caption)
    video.write_gif(path, shown, store.fps)


def write_json(path: Path, value: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
