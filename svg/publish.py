"""The report of an evaluation: what svg/report shows, gathered from entries and clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from svg.gallery import Shown
from svg.summary import Entry


def write_report(
    path: Path, entries: Sequence[Entry], gallery: Sequence[Sequence[Shown]], fps: float, title: str
) -> None:
    """Writes report.html."""
