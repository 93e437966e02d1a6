"""What the per-pixel heads predict of one test clip: a sampled future, and beside it the map of its sigma.

The models are those that `python -m experiments.video` trained, the maps those of eval.py export: the standard
deviation of the decoder's distribution, root mean square over the channels. One colour scale for all, with how far the
true frame is from the last one that was given on top: where sigma should be large.

P context frames, F predicted frames, C channels, H W pixels.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import svg
from data.registry import open_split
from experiments.common import parse, parser
from experiments.video import folder
from svg import pretrained
from svg.evaluation.gallery import GREY, Map, Shown, heat, show
from svg.evaluation.scores import Futures
from svg.media import Frames
from svg.media.panels import BLUE, Panel, filmstrip, future_panel
from svg.media.write import write_png
from svg.models.svg_lp import SVG
from svg.runtime.program import run as run_program

HEADS = ("pixel_sigma", "two_stage_sigma", "diag_i", "diag_d", "student_t", "trainable_diag_i")
TIMES = (0, 4, 9, 18, 27)
"""Predicted frames that are shown."""
SCALE = 2
BACKGROUND, TEXT = (22, 24, 29), (222, 226, 232)


def drawn(checkpoint: Path, options: Namespace) -> Shown:
    """A future of the test clip."""
    config = svg.load_config(pretrained.find(str(checkpoint)))
    model = svg.load(checkpoint)
    assert isinstance(model, SVG)
    context, horizon = config.model.n_past, max(TIMES) + 1
    data = config.data
    store = open_split(data.path, "test", name=data.name, size=config.model.size, channels=config.model.channels)
    frames = torch.from_numpy(store.frames(options.clip, 0, context + horizon)).permute(0, 3, 1, 2)
    return show(model, frames, options.clip, Futures(context, horizon, 1, config.eval.seed), [0], ["sample"])


def picture(clips: dict[str, Shown]) -> Frames:
    """Rows of heads under the truth: sampled frames to the left, maps to the right, and the maps' colours below."""
    first = next(iter(clips.values()))
    assert first.truth is not None
    context = first.context
    change = np.sqrt(np.square((first.truth - context[-1].astype(np.float32)) / 255).mean(-1))
    largest = round(float(np.quantile([clip.sigma[0] for clip in clips.values()], 0.998)), 1)
    samples = [future_panel("truth", context, first.truth, BLUE)]
    samples += [future_panel(name, context, clip.futures[0]) for name, clip in clips.items()]
    maps = [map_panel("change", change, len(context), largest)]
    maps += [map_panel("sigma", clip.sigma[0], len(context), largest) for clip in clips.values()]
    times = [len(context) + time for time in TIMES]
    left = filmstrip(samples, scale=SCALE, times=[len(context) - 1, *times])
    right = filmstrip(maps, scale=SCALE, times=times)
    strip = np.concatenate((left, right), axis=1)
    return np.concatenate((strip, legend(strip.shape[1], largest)))


def map_panel(caption: str, values: Map, context: int, largest: float) -> Panel:
    """A map (F, H, W) as a panel as long as a clip."""
    colours = heat(values, largest)
    return Panel(caption, np.concatenate((np.zeros_like(colours[:context]), colours)), [GREY] * (context + len(values)))


def legend(width: int, largest: float) -> Frames:
    """The colours' scale, (H', width, 3)."""
    bar = heat(np.tile(np.linspace(0, largest, 160, dtype=np.float32), (14, 1)), largest)
    sheet = Image.new("RGB", (width, 34), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    text = "green: given, blue: true, red: sampled.   sigma, and the change since the last given frame:   0 "
    at = 6 + round(font.getlength(text))
    draw.text((6, 17), text, fill=TEXT, font=font, anchor="lm")
    sheet.paste(Image.fromarray(bar), (at, 10))
    draw.text((at + 166, 17), f"{largest:.1f} or more, of values in [0, 1]", fill=TEXT, font=font, anchor="lm")
    return np.asarray(sheet)


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the picture."""
    made = parser("sigma_maps", __doc__)
    made.add_argument("--clip", type=int, default=1, help="number of the test clip [%(default)s]")
    options = parse(made, argv, {})
    runs = {name: folder(name, options) for name in HEADS}
    clips = {name: drawn(run, options) for name, run in runs.items() if (run / "checkpoints").is_dir()}
    if not clips:
        raise ValueError(f"there are no runs in {Path(options.rows) / 'video'}: python -m experiments.video makes them")
    path = Path(options.out) / "sigma_maps.png"
    write_png(path, picture(clips))
    print(path)


if __name__ == "__main__":
    run_program(main)
