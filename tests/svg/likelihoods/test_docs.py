"""The documentation's table is the registry, and its worked example is a likelihood like any other."""

import re
import sys
import types
from pathlib import Path

import pytest

from svg.likelihoods import ALIASES, REGISTRY, build
from tests.svg.likelihoods import test_bits, test_densities, test_fitting, test_numerics, test_registry

PAGE = (Path(__file__).parents[3] / "docs" / "likelihoods.md").read_text()
MODULES = [test_registry, test_densities, test_fitting, test_numerics, test_bits]


def rows() -> dict[str, list[str]]:
    """The cells of the table of names, by name."""
    table = PAGE.split("| name (other names) |")[1].split("\n\n")[0].splitlines()[2:]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    return {re.findall(r"`(\w+)`", row[0])[0]: row for row in cells}


def test_the_table_is_the_registry():
    assert list(rows()) == list(REGISTRY)
    names = {alias for row in rows().values() for alias in re.findall(r"`(\w+)`", row[0])[1:]}
    assert names == set(ALIASES)


@pytest.mark.parametrize("name", list(REGISTRY))
def test_the_table_says_what_the_heads_say(name):
    row, likelihood = rows()[name], build(name)
    _, _, channels, density, fits, discrete, _ = row
    formula = channels.split(",")[0].replace("K (", "10 * (").replace("2C", "2 * C")
    formula = re.sub(r"^(\d+)C", r"\1 * C", formula)
    assert eval(formula, {"C": 3}) == likelihood.param_channels
    assert (density == "yes") == likelihood.normalised
    assert (fits == "yes") == likelihood.fits_target
    assert (discrete == "yes") == likelihood.discrete
    for alias in re.findall(r"`(\w+)`", row[0])[1:]:
        assert ALIASES[alias] == name


@pytest.fixture(scope="module")
def example():
    """The page's example, run as the file that it stands for."""
    file, line = re.findall(r"```python\n(.*?)```", PAGE.split("## Adding a likelihood")[1], re.DOTALL)
    module = types.ModuleType("svg.likelihoods.logistic")
    sys.modules[module.__name__] = module
    exec(file, module.__dict__)
    REGISTRY.update(eval("{" + line + "}", module.__dict__))
    yield "logistic"
    del REGISTRY["logistic"], sys.modules[module.__name__]


def over_the_registry():
    """The tests of any likelihood, with the first value of what else they are parametrised over."""
    for module in MODULES:
        for test in vars(module).values():
            marks = [mark.args for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
            values = {names: list(choices) for names, choices in marks if isinstance(names, str)}
            if {"optimal_sigma", "pixel_sigma"} <= set(values.pop("name", [])):
                yield pytest.param(test, {names: choices[0] for names, choices in values.items()}, id=test.__name__)


@pytest.mark.parametrize(("test", "arguments"), list(over_the_registry()))
def test_the_worked_example_passes_the_registrys_tests(example, test, arguments):
    test(name=example, **arguments)
