"""A clip and its futures as files: videos, filmstrips, and arrays for other people's metrics.

Shapes: S futures, P context frames, F predicted frames, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from svg.evaluation.gallery import Shown, panels
from svg.media.panels import filmstrip, grid
from svg.media.write import VIDEOS, require_av, write_png, write_video
from svg.media.write import write_gif as write_gif_file
from svg.runtime.files import replacing

FORMATS = (*VIDEOS, "png", "npz")
"""Videos, a filmstrip, and arrays."""
STRIP = 14
"""Frames of a filmstrip, at most."""


class Form(Protocol):
    """How clips are written: options of `eval.py export` and `predict`, each described in svg/evaluation/options.py."""

    @property
    def formats(self) -> Sequence[str]: ...
    @property
    def samples(self) -> int: ...
    @property
    def scale(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def sigma(self) -> bool: ...
    @property
    def fps(self) -> float: ...


def check(form: Form) -> None:
    """Raises ValueError for what can't be written, before anything is computed."""
    if not form.formats:
        raise ValueError(f"--formats names none: choose from {', '.join(FORMATS)}")
    for name in form.formats:
        if name not in FORMATS:
            raise ValueError(f"--formats {name} is unknown: choose from {', '.join(FORMATS)}")
    if "mp4" in form.formats:
        require_av()


def write(stem: Path, shown: Shown, form: Form, fps: float) -> list[Path]:
    """Writes context | truth | futures | map in each of the formats but npz; a filmstrip leaves the resting context
    out.

    Args:
        stem: the files' path without suffix.
        fps: frames per second, where the form has none.

    Returns:
        The files.
    """
    found, written = panels(shown, sigma=form.sigma), []
    videos = [name for name in form.formats if name in VIDEOS]
    frames = grid(found, scale=form.scale, columns=form.columns or None) if videos else None
    for name in form.formats:
        path = stem.with_name(f"{stem.name}.{name}")
        if name == "png":
            length = len(found[0].frames)
            times = sorted({round(t) for t in np.linspace(0, length - 1, min(length, STRIP))})
            write_png(path, filmstrip(found[1:], scale=form.scale, times=times))
        elif frames is not None and name in VIDEOS:
            write_video(path, frames, form.fps or fps)
        else:
            continue
        written.append(path)
    return written


def write_gif(out: Path, shown: Shown, samples: int, fps: float) -> None:
    """Writes gifs/clip_00000.gif: context | truth | best | so many samples."""
    some = slice(0, samples + 1)
    fewer = replace(shown, futures=shown.futures[some], captions=shown.captions[some], sigma=shown.sigma[some])
    frames = grid(panels(fewer, sigma=False), scale=2)
    write_gif_file(out / "gifs" / f"clip_{shown.clip:05d}.gif", frames, fps)


def write_arrays(stem: Path, arrays: dict[str, Any], fps: float, seed: int) -> Path:
    """Writes STEM.npz: uint8 `context` (P, H, W, C) and, where known, `truth` (F, H, W, C); float32 `futures` (S, F, H,
    W, C) in [0, 1] and their predicted `sigma`; `fps` and `seed`."""
    path = stem.with_name(stem.name + ".npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays, fps=np.float64(fps), seed=np.int64(seed))
    return path
