"""The documents: links lead somewhere, and the site has every page and every module that it shows."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from svg.runtime.reading import read_yaml

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def slug(heading: str) -> str:
    """The anchor that a heading has on the Hub and on GitHub."""
    text = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]|\]\([^)]*\)", "", heading).strip().lower())
    return text.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(line.lstrip("#")) for line in page.read_text().splitlines() if line.startswith("#")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for match in LINK.finditer(page.read_text()):
        target = match[1] or match[2]
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{page.name} links to {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{page.name} links to {target}"


def leaves(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in leaves(part)]


def test_the_site_has_every_page():
    listed = leaves(read_yaml(ROOT / "mkdocs.yml")["nav"])
    kept = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(str(page) for page in kept if page.parts[0] not in ("experiments", "performance"))


def test_the_reference_is_of_modules_that_there_are():
    names = re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in PAGES), re.MULTILINE)
    assert "svg.conformal" in names
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            module, _, member = name.rpartition(".")
            assert hasattr(importlib.import_module(module), member), name
