"""Which room of svg may import which, as docs/architecture.md draws it, and that what is public is documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [
    {"runtime"},
    {"config", "checkpoint", "conformal", "noise", "metrics", "media"},
    {"likelihoods"},
    {"models"},
    {"objective", "pretrained"},
    {"training", "evaluation"},
    {"report"},
]
"""The rooms of svg, lowest first: a room imports only what is below it."""
ARRAYS_ONLY = {"runtime", "conformal", "noise", "metrics", "media"}
"""Rooms that see arrays and tensors alone: no configuration, no model."""


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    """svg/models/base.py is svg.models.base, svg/models/__init__.py is svg.models."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for package in ("svg", "data") for path in files(package)}


def room(module: str) -> str:
    """svg.likelihoods.normal is in the room likelihoods; svg itself is in none."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> set[str]:
    """Every module of svg and data that a file imports: at its top, inside functions, and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)} has a relative import"
            assert node.module
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if name in MODULES} | ({node.module} if names - MODULES.keys() else set())
    return {name for name in found if name.split(".")[0] in ("svg", "data")} - {module_of(path)}


GRAPH = {module: imports(path) for module, path in MODULES.items()}


@pytest.mark.parametrize(("package", "other"), [("svg", "data"), ("data", "svg")])
def test_svg_and_data_do_not_know_each_other(package, other):
    for module, imported in GRAPH.items():
        strangers = {name for name in imported if name.split(".")[0] == other}
        assert not (module.split(".")[0] == package and strangers), f"{module} imports {strangers}"


def test_every_file_of_svg_is_in_a_room():
    rooms = set().union(*ORDER)
    assert {room(module) for module in MODULES if module.startswith("svg.")} == rooms


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("svg.")])
def test_doors_are_one_way(module):
    rank = next(rank for rank, rooms in enumerate(ORDER) if room(module) in rooms)
    below = set().union(*ORDER[:rank]) | {room(module)}
    upward = {name for name in GRAPH[module] if room(name) not in below}
    assert not upward, f"{module} must not import {upward}"
    if room(module) in ARRAYS_ONLY:
        strangers = {name for name in GRAPH[module] if room(name) not in ARRAYS_ONLY}
        assert not strangers, f"{module} sees arrays alone, but it imports {strangers}"


def test_nothing_is_imported_in_a_circle():
    """Neither among files nor among rooms; svg/__init__.py, which names everything and imports late, is the roof."""
    inside = {module: imported for module, imported in GRAPH.items() if module != "svg"}
    rooms: dict[str, set[str]] = {}
    for module, imported in inside.items():
        if module.startswith("svg."):
            rooms.setdefault(room(module), set()).update(room(name) for name in imported if room(name) != room(module))
    for graph in (inside, rooms):
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            pytest.fail(f"imported in a circle: {' -> '.join(error.args[1])}")


def test_the_rule_sees_every_kind_of_import(tmp_path, monkeypatch):
    """An import inside a function and one for types alone count as much as one at the top."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "svg" / "new.py"
    path.parent.mkdir()
    path.write_text(
        "from typing import TYPE_CHECKING\nimport svg.noise\nif TYPE_CHECKING:\n    from svg import report\n"
        "def f():\n    from svg.models.base import Model, to_float\n    return Model, to_float\n"
    )
    assert imports(path) == {"svg.noise", "svg.report", "svg.models.base"}


def undocumented(module: ModuleType) -> Iterator[str]:
    """Public classes, functions and methods without docstring; a method that overrides one, or that an abstract class
    or protocol declares and describes, needs none."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if (inspect.isclass(value) or inspect.isfunction(value)) and not value.__doc__:
            yield f"{module.__name__}.{name}"
        if not inspect.isclass(value) or getattr(value, "_is_protocol", False):
            continue
        inherited = {method for base in value.__mro__[1:] for method in vars(base)}
        for method, function in vars(value).items():
            is_one = inspect.isfunction(function) or isinstance(function, (property, classmethod, staticmethod))
            abstract = getattr(function, "__isabstractmethod__", False)
            if is_one and not (method.startswith("_") or method in inherited or abstract or function.__doc__):
                yield f"{module.__name__}.{name}.{method}"


@pytest.mark.parametrize("package", ["svg", "data"])
def test_what_is_public_is_documented(package):
    modules = [importlib.import_module(name) for name in MODULES if name.split(".")[0] == package]
    assert not [name for module in modules for name in undocumented(module)]


def test_importing_svg_costs_nothing():
    code = "import sys, svg; print(*sorted({'torch', 'numpy', 'accelerate', 'huggingface_hub'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_everything_that_svg_exports_is_there():
    import svg

    for name in (*svg.__all__, "__version__"):
        assert getattr(svg, name) is not None
    assert set().union(*ORDER) <= set(svg.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = svg.nothing


@pytest.mark.parametrize("name", ["metrics", "likelihoods", "objective", "models"])
def test_rooms_are_attributes_without_an_import_of_their_own(name):
    code = f"import svg; print(svg.{name}.__name__)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"svg.{name}"
