"""One HTML file that shows an evaluation: protocol, tables, charts, and clips that play. It needs no network.

    write(path, Page(title, ...))

The page is template.html with style.css and report.js put in, and its data as JSON: clips as lossless sprites, one
image a video, all of which the script draws from one clock.

Shapes: S futures, P context frames, F predicted frames, C channels (1 or 3), H W pixels; uint8.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from svg.media import Frames
from svg.runtime.files import replacing


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    y: Sequence[float]
    x: Sequence[float] | None = None
    """Of each point; 1, 2, ... by default."""
    half: Sequence[float] | None = None
    """Half the width of the interval around each point."""
    colour: int = 0
    """Number in the page's palette; -1 is the neutral one."""
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over one axis."""

    title: str
    x: str
    y: str
    series: list[Series]
    text: str = ""
    """What it says, in a sentence."""
    over_frames: bool = False
    """Whether x counts the predicted frames, so that a line can follow the clips."""
    log: bool = False
    """Whether both axes are logarithmic."""
    steps: bool = False
    """Whether the points are bins."""
    least: float | None = None
    """Lower end of the y axis."""
    most: float | None = None
    """Upper end."""


@dataclass(frozen=True)
class Section:
    """Charts or tables under a heading."""

    title: str
    text: str = ""
    charts: list[Chart] = field(default_factory=list)
    tables: list[tuple[list[str], list[list[str]]]] = field(default_factory=list)
    """Header and rows of each."""


@dataclass(frozen=True)
class Futures:
    """What one model predicts of a clip."""

    model: str
    captions: list[str]
    videos: list[Frames]
    """(F, H, W, C) each."""
    maps: dict[str, list[Frames]]
    """Overlays by name, coloured and transparent: one video (F, H, W, 4) for each future, or one for all."""


@dataclass(frozen=True)
class Scene:
    """A clip and its futures."""

    title: str
    context: Frames
    truth: Frames | None
    futures: list[Futures]
    """Of each model."""


@dataclass(frozen=True)
class Page:
    """What a report shows."""

    title: str
    subtitle: str
    protocol: list[tuple[str, str]]
    sections: list[Section]
    scenes: list[Scene]
    fps: float


def write(path: str | Path, page: Page) -> None:
    """Writes the page as one HTML file."""
    with replacing(path) as temporary:
        temporary.write_text(render(page), encoding="utf-8")


def render(page: Page) -> str:
    """The page's HTML."""
    here = files(__package__)
    charts = [asdict(chart) for section in page.sections for chart in section.charts]
    data = {"fps": page.fps, "charts": charts, "scenes": [_scene(scene) for scene in page.scenes]}
    number = iter(range(len(charts)))
    return Template(here.joinpath("template.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(page.title),
        subtitle=html.escape(page.subtitle),
        style=here.joinpath("style.css").read_text(encoding="utf-8"),
        script=here.joinpath("report.js").read_text(encoding="utf-8"),
        protocol="\n".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in page.protocol),
        sections="\n".join(_section(section, number) for section in page.sections),
        gallery="" if page.scenes else "hidden",
        data=json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
    )


def _section(section: Section, number: Any) -> str:
    tables = "".join(_table(header, rows) for header, rows in section.tables)
    charts = "".join(
        f'<figure class="chart" data-chart="{next(number)}"><figcaption><h3>{html.escape(chart.title)}</h3>'
        f"<p>{html.escape(chart.text)}</p></figcaption></figure>"
        for chart in section.charts
    )
    text = f"<p>{html.escape(section.text)}</p>" if section.text else ""
    charts = f'<div class="charts">{charts}</div>' if charts else ""
    return f"<section><h2>{html.escape(section.title)}</h2>{text}{tables}{charts}</section>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls by itself where it is too wide; a row whose other cells are empty is one wide cell."""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    lines = []
    for row in rows:
        first = f'<th scope="row">{html.escape(row[0])}</th>'
        if len(row) > 2 and row[1] and not any(row[2:]):
            cells = f'<td colspan="{len(row) - 1}" class="wide">{html.escape(row[1])}</td>'
        else:
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        lines.append(f"<tr>{first}{cells}</tr>")
    body = "".join(lines)
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _scene(scene: Scene) -> dict[str, Any]:
    length = len(scene.context) + len(scene.futures[0].videos[0])
    truth = scene.context if scene.truth is None else np.concatenate((scene.context, scene.truth))
    _, height, width, _ = scene.context.shape
    return {
        "title": scene.title,
        "context": len(scene.context),
        "length": length,
        "size": [width, height],
        "truth": sprite(truth),
        "models": [
            {
                "name": futures.model,
                "captions": futures.captions,
                "videos": [sprite(video) for video in futures.videos],
                "maps": {name: [sprite(video) for video in videos] for name, videos in futures.maps.items()},
            }
            for futures in scene.futures
        ],
    }


def sprite(frames: Frames) -> dict[str, Any]:
    """All frames of a video in one lossless image: {"src": data URI, "columns": frames in a row, "count": frames}."""
    count, height, width, channels = frames.shape
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:count] = frames
    sheet = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * height, columns * width, channels)
    image = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=60, method=4)
    source = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"src": source, "columns": columns, "count": count}
