"""Who may import whom, as docs/architecture.md draws it, and that what is public is documented."""

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    {"allocator", "config", "files", "launch", "noise", "options", "parallel", "precision", "recompute"},
    {"backbones", "checkpoint", "cli", "likelihoods", "metrics", "recurrent", "video"},
    {"folding", "model", "vae"},
    {"objective", "pretrained", "rollout"},
]
"""Parts of svg, lowest first; those not named are above all of them."""
TENSORS_ONLY = {"noise", "parallel", "metrics", "video", "report", "precision", "files"}
"""Parts that see tensors alone: of svg they import only each other."""


def part(module: str) -> str:
    """svg.likelihoods.normal is part of likelihoods."""
    return module.partition(".")[2].partition(".")[0]


def imported(nodes: list[ast.stmt]) -> Iterator[str]:
    """The modules that statements import: `from svg import video` imports svg.video."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module in ("svg", "data")
            yield from (f"{node.module}.{alias.name}" for alias in node.names) if inside else [node.module]


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def parts_of(path: Path) -> tuple[str, set[str]]:
    """A file's part of svg, and the parts that it needs to be imported (not those needed later, or for types alone)."""
    name = path.relative_to(ROOT / "svg").parts[0].removesuffix(".py")
    needed = {part(module) for module in imported(ast.parse(path.read_text()).body) if module.startswith("svg.")}
    return name, needed - {name}


@pytest.mark.parametrize(("package", "other"), [("svg", "data"), ("data", "svg")])
def test_svg_and_data_do_not_know_each_other(package, other):
    for path in files(package):
        everywhere = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.stmt)]
        strangers = [module for module in imported(everywhere) if module.split(".")[0] == other]
        assert not strangers, f"{path.relative_to(ROOT)} imports {strangers}"


@pytest.mark.parametrize("path", files("svg"), ids=lambda path: str(path.relative_to(ROOT)))
def test_svg_is_layered(path):
    name, needed = parts_of(path)
    rank = next((rank for rank, layer in enumerate(LAYERS) if name in layer), len(LAYERS))
    allowed = set().union(*LAYERS[: rank + 1])
    assert rank == len(LAYERS) or needed <= allowed, f"{name} must not import {needed - allowed}"
    if name in TENSORS_ONLY:
        assert needed <= TENSORS_ONLY, f"{name} sees only tensors, but it imports {needed - TENSORS_ONLY}"


def test_svg_has_no_import_cycles():
    graph: dict[str, set[str]] = {}
    for path in files("svg"):
        name, needed = parts_of(path)
        graph.setdefault(name, set()).update(needed)
    while graph:
        leaves = [name for name, needed in graph.items() if not needed & graph.keys()]
        assert leaves, f"these import each other: {sorted(graph)}"
        for leaf in leaves:
            del graph[leaf]


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
    paths = [path.relative_to(ROOT).with_suffix("").parts for path in files(package)]
    modules = [importlib.import_module(".".join(parts).removesuffix(".__init__")) for parts in paths]
    assert not [name for module in modules for name in undocumented(module)]


def test_importing_svg_costs_nothing():
    code = "import sys, svg; print(*sorted({'torch', 'numpy', 'accelerate', 'huggingface_hub'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_everything_that_svg_exports_is_there():
    import svg

    for name in (*svg.__all__, "__version__"):
        assert getattr(svg, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = svg.nothing
