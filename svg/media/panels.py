"""Videos that people look at: panels with captions and coloured borders, as grids and filmstrips.

A green border means a frame that the model was given, blue the true future, red a predicted one.

Shapes: T frames, S samples, P context frames, F predicted frames, C channels (1 or 3), H W pixels; uint8 throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from svg.media import Frames, check_video

Colour = tuple[int, int, int]

GREEN: Colour = (46, 184, 114)
"""Border of a context frame."""
BLUE: Colour = (64, 140, 255)
"""Border of a true future frame."""
RED: Colour = (240, 84, 60)
"""Border of a predicted frame."""
_BACKGROUND: Colour = (22, 24, 29)
_TEXT: Colour = (222, 226, 232)


@dataclass(frozen=True)
class Panel:
    """One video of a grid or filmstrip.

    Args:
        caption: text above it (in a filmstrip: to its left).
        frames: uint8 (T, H, W, C).
        colours: border colour of each frame, T of them.
    """

    caption: str
    frames: Frames
    colours: Sequence[Colour]

    def __post_init__(self) -> None:
        check_video(self.frames)
        if len(self.colours) != len(self.frames):
            raise ValueError(f"panel {self.caption!r} has {len(self.frames)} frames but {len(self.colours)} colours")


def future_panel(caption: str, context: Frames, future: Frames, colour: Colour = RED) -> Panel:
    """The context (P, H, W, C), bordered green, followed by a future (F, H, W, C), bordered in `colour`."""
    return Panel(caption, np.concatenate((context, future)), [GREEN] * len(context) + [colour] * len(future))


def comparison_panels(
    context: Frames, truth: Frames, best: Frames, samples: Sequence[Frames] | Frames, best_caption: str = "best"
) -> list[Panel]:
    """Panels context (which rests on its last frame) | truth | best | sample 1 | sample 2 ...

    Args:
        context: uint8 (P, H, W, C).
        truth: uint8 (F, H, W, C), the true future.
        best: uint8 (F, H, W, C), the sample nearest to the truth.
        samples: uint8 (F, H, W, C) each.
        best_caption: says what it is the best of.
    """
    resting = np.repeat(context[-1:], len(truth), axis=0)
    panels = [future_panel("context", context, resting, GREEN), future_panel("truth", context, truth, BLUE)]
    panels.append(future_panel(best_caption, context, best))
    return panels + [future_panel(f"sample {i}", context, sample) for i, sample in enumerate(samples, start=1)]


def grid(panels: Sequence[Panel], *, scale: int = 2, columns: int | None = None) -> Frames:
    """Panels of equal shape side by side, `columns` to a row (all in one row by default).

    Args:
        scale: whole-number magnification, by nearest neighbour.

    Returns:
        uint8 (T, H', W', 3).
    """
    shapes = {panel.frames.shape for panel in panels}
    if len(shapes) != 1:
        raise ValueError(f"the panels of a grid need one shape, not {sorted(shapes)}")
    length, height, width, _ = shapes.pop()
    columns = min(columns or len(panels), len(panels))
    rows = -(-len(panels) // columns)
    border, gap = _border(scale), 2 * scale + 2
    font_size = min(max(scale * width // 9, 9), 16)
    cell_h = scale * height + 2 * border + font_size + 4
    cell_w = scale * width + 2 * border
    sheet = Image.new("RGB", (columns * (cell_w + gap) + gap, rows * (cell_h + gap) + gap), _BACKGROUND)
    corners = [
        (gap + (i // columns) * (cell_h + gap), gap + (i % columns) * (cell_w + gap)) for i in range(len(panels))
    ]
    draw = ImageDraw.Draw(sheet)
    for panel, (top, left) in zip(panels, corners, strict=True):
        middle = (left + cell_w / 2, top + font_size / 2)
        draw.text(middle, panel.caption, fill=_TEXT, font=ImageFont.load_default(font_size), anchor="mm")
    video = np.repeat(np.asarray(sheet)[None], length, axis=0)
    for panel, (top, left) in zip(panels, corners, strict=True):
        video[:, top + font_size + 4 : top + cell_h, left : left + cell_w] = _bordered(panel, scale)
    return video


def filmstrip(panels: Sequence[Panel], *, scale: int = 1, times: Sequence[int] | None = None) -> Frames:
    """Every panel as a row of still frames under their frame numbers, for papers and slides.

    Args:
        scale: whole-number magnification, by nearest neighbour.
        times: which frames to show, counted from 0 (all by default).

    Returns:
        uint8 (H', W', 3).
    """
    border, font_size, gap = _border(scale), 11 + scale, 2
    times = range(len(panels[0].frames)) if times is None else times
    font = ImageFont.load_default(font_size)
    margin = 12 + max(round(font.getlength(panel.caption)) for panel in panels)
    _, height, width, _ = panels[0].frames.shape
    cell_h, cell_w = scale * height + 2 * border + gap, scale * width + 2 * border + gap
    head = font_size + 6
    sheet = Image.new("RGB", (margin + len(times) * cell_w, head + len(panels) * cell_h), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, time in enumerate(times):
        draw.text((margin + (column + 0.5) * cell_w, head / 2), str(time + 1), fill=_TEXT, font=font, anchor="mm")
    strip = np.asarray(sheet).copy()
    for row, panel in enumerate(panels):
        cells = _bordered(panel, scale)
        for column, time in enumerate(times):
            top, left = head + row * cell_h, margin + column * cell_w
            strip[top : top + cell_h - gap, left : left + cell_w - gap] = cells[time]
    labelled = Image.fromarray(strip)
    draw = ImageDraw.Draw(labelled)
    for row, panel in enumerate(panels):
        draw.text((6, head + (row + 0.5) * cell_h), panel.caption, fill=_TEXT, font=font, anchor="lm")
    return np.asarray(labelled)


def _border(scale: int) -> int:
    return scale + 1


def _bordered(panel: Panel, scale: int) -> Frames:
    """A panel magnified, in colour, with its borders: uint8 (T, scale H + 2 border, scale W + 2 border, 3)."""
    large = panel.frames.repeat(scale, axis=1).repeat(scale, axis=2)
    border = _border(scale)
    length, height, width, _ = large.shape
    cells = np.empty((length, height + 2 * border, width + 2 * border, 3), np.uint8)
    cells[:] = np.asarray(panel.colours, np.uint8)[:, None, None]
    cells[:, border:-border, border:-border] = large
    return cells
