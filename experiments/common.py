"""What the experiments share: options, rows that are kept as they are finished, tables and figures.

An experiment computes rows (`Rows.get`) and publishes tables and a figure (`publish`): NAME.md, NAME.json and NAME.png
in --out. docs/experiments.md, if that is beside --out, shows the tables between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

from svg.runtime.files import replacing

Row = dict[str, Any]
"""Column to what is in it: numbers, text, or None where it was not run."""
Tables = Mapping[str, Sequence[Mapping[str, Any]]]
"""Title to rows."""

BLUE, RED, AMBER, GREEN, VIOLET, GREY = "#2f6db5", "#c8402f", "#d99a2b", "#3f8f5f", "#7d5ba6", "#5b6470"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise ValueError(f"{message}; --help lists the options")


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the options of every experiment; `parse` reads it.

    Args:
        module: the experiment's `__spec__.name` or file stem.
        description: its docstring, of which the first paragraph is shown.
    """
    text = (description or "").split("\n\n")[0]
    made = _Parser(prog=f"python -m experiments.{module}", description=text, allow_abbrev=False)
    made.add_argument("--out", metavar="FOLDER", help="of the table, figure and JSON [docs/experiments]")
    kept = "of finished rows, from which it goes on; delete its NAME.rows.json to start anew [%(default)s]"
    made.add_argument("--rows", metavar="FOLDER", default="runs/experiments", help=kept)
    made.add_argument("--quick", action="store_true", help="tiny sizes, published in ROWS/quick, to see that it runs")
    made.set_defaults(module=module, choosing=())
    return made


def parse(made: argparse.ArgumentParser, argv: Sequence[str] | None, quick: Mapping[str, Any]) -> argparse.Namespace:
    """The options; with --quick the defaults are those of `quick`.

    Raises:
        ValueError: an unknown option or a wrong value.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    if "--quick" in argv:
        made.set_defaults(**quick)
    options = made.parse_args(argv)
    if options.quick:
        options.rows = str(Path(options.rows) / "quick")
    options.out = options.out or (options.rows if options.quick else "docs/experiments")
    options.given = [name for name in _own(options) if vars(options)[name] != made.get_default(name)]
    for name in _own(options):
        value = vars(options)[name]
        if isinstance(value, int | float) and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} is {value}, but it must be positive")
    return options


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The options that change the numbers of a row; those named in `choosing` only say which rows there are."""
    return {name: vars(options)[name] for name in _own(options) if name not in options.choosing}


def _own(options: argparse.Namespace) -> list[str]:
    """The options of this experiment alone."""
    return [name for name in vars(options) if name not in ("out", "rows", "quick", "module", "given", "choosing")]


class Rows:
    """The rows of an experiment, each computed once and kept in ROWS/NAME.rows.json with the settings that made it.

    Args:
        options: from `parse`.
        total: how many rows there will be, for the progress bar.
    """

    def __init__(self, options: argparse.Namespace, total: int) -> None:
        self.path = Path(options.rows) / f"{options.module}.rows.json"
        self.settings = settings(options)
        self._kept: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        self._used: list[str] = []
        self._bar = tqdm(total=total, unit="row", desc=options.module, dynamic_ncols=True)

    def get(self, key: str, compute: Callable[[], Row]) -> Row:
        """The kept row of that name, or a new one."""
        kept = self._kept.get(key)
        if kept is None or kept["settings"] != self.settings:
            self._bar.set_postfix_str(key)
            start = time.perf_counter()
            row = compute()
            made = {"date": today(), "seconds": round(time.perf_counter() - start, 1), "hardware": hardware()}
            self._kept[key] = kept = {"settings": self.settings, **made, "row": row}
            with replacing(self.path) as temporary:
                temporary.write_text(json.dumps(self._kept))
        self._used.append(key)
        self._bar.update()
        if len(self._used) == self._bar.total:
            self._bar.close()
        return json.loads(json.dumps(kept["row"]))

    def made(self) -> Row:
        """When, on what and in how many seconds the rows were computed."""
        kept = [self._kept[key] for key in self._used]
        return {
            "date": max(row["date"] for row in kept),
            "hardware": ", ".join(sorted({row["hardware"] for row in kept})),
            "seconds": round(sum(row["seconds"] for row in kept), 1),
        }


def publish(options: argparse.Namespace, rows: Rows, tables: Tables, figure: Figure | None = None) -> None:
    """Writes NAME.json, NAME.md and, of a figure, NAME.png, and the tables into docs/experiments.md."""
    name, out, made = options.module, Path(options.out), rows.made()
    changed = [f"--{key.replace('_', '-')} {typed(vars(options)[key])}" for key in options.given]
    command = " ".join([f"python -m experiments.{name}", *(["--quick"] if options.quick else []), *changed])
    made = {"command": command, **made, "torch": torch.__version__, "settings": rows.settings}
    line = f"`{command}`: {made['hardware']}, {duration(made['seconds'])}, {made['date']}."
    text = "\n\n".join([f"{title}\n\n{markdown(table)}" for title, table in tables.items()] + [line]) + "\n"
    for suffix, content in ((".json", json.dumps(made | {"tables": tables}, indent=1) + "\n"), (".md", text)):
        with replacing(out / f"{name}{suffix}") as temporary:
            temporary.write_text(content)
    if figure:
        with replacing(out / f"{name}.png") as temporary:
            temporary.write_bytes(png(figure))
    update_page(out.with_suffix(".md"), name, text)
    print(f"{text}\n{out / name}.md, .json{' and .png' if figure else ''}", flush=True)


def update_page(page: Path, name: str, text: str) -> None:
    """Replaces what is between the page's marks of that name, if it has them."""
    if not page.exists():
        return
    old = page.read_text()
    mark = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
    new = mark.sub(lambda match: text, old)
    if new != old:
        with replacing(page) as temporary:
            temporary.write_text(new)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of the rows, whose columns are those of the first; numbers are right-aligned."""
    columns = list(rows[0])
    numbers = [any(re.match(r"[-+]?[\d.]", str(row[column])) for row in rows) for column in columns]
    lines = [columns, ["--:" if number else "---" for number in numbers]]
    lines += [[cell(row[column]) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Any) -> str:
    """Text as it is, numbers to four digits, None as "not run"."""
    if value is None:
        return "not run"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def typed(value: Any) -> str:
    """An option's value as it is given on the command line."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.{digits}f} ± {deviation:.{digits}f}"


def panels(columns: int, rows: int = 1, width: float = 4.6, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure of panels in the project's style, row after row."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=110)
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axis in axes:
        axis.grid(color="#e3e6ea", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def png(figure: Figure) -> bytes:
    """The figure as a small PNG, of at most 256 colours."""
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png")
    Image.open(full).convert("RGB").quantize(256).save(small, format="png", optimize=True)
    return small.getvalue()


def hardware() -> str:
    """Processor or graphics card, and threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    threads = torch.get_num_threads()
    return f"{found[1] if found else platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"


def duration(seconds: float) -> str:
    """Seconds, or minutes."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def today() -> str:
    """The date, ISO 8601."""
    return datetime.date.today().isoformat()
