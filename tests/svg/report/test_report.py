"""The report, driven in a real browser: it plays in step, switches futures, scrubs, overlays maps, and logs nothing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from svg.report import page as report
from svg.report.page import Chart, Futures, Page, Scene, Section, Series

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
]
CONTEXT, HORIZON, FPS = 2, 6, 8


def level(frame: int, future: int, model: int) -> int:
    """The grey level of a whole frame, from which the test reads what is shown."""
    return 20 * frame + 5 * future + 2 * model


def plain(levels: list[int], channels: int = 3) -> np.ndarray:
    return np.stack([np.full((16, 16, channels), value, np.uint8) for value in levels])


def page(models: int = 2, scenes: int = 2, title: str = "a & <b>") -> Page:
    def futures(model: int) -> Futures:
        videos = [plain([level(t + CONTEXT, i, model) for t in range(HORIZON)]) for i in range(3)]
        red = np.zeros((HORIZON, 16, 16, 4), np.uint8)
        red[..., 0] = red[..., 3] = 255
        captions = ["best of 9", "sample 1", "sample 2"]
        return Futures(f"model {model}", captions, videos, {"spread of the futures": [red]})

    context = plain([level(t, 0, 0) for t in range(CONTEXT)])
    truth = plain([200 + t for t in range(HORIZON)])
    shown = [Scene(f"clip {i}", context, truth, [futures(m) for m in range(models)]) for i in range(scenes)]
    half = [0.5] * HORIZON
    charts = [
        Chart(
            "PSNR",
            "predicted frame",
            "dB",
            [Series("best", [20.0 - t for t in range(HORIZON)], half=half)],
            over_frames=True,
        ),
        Chart("PIT", "p", "density", [Series("rollout", [1.0, 2.0], [0.25, 0.75])], steps=True, least=0),
        Chart("Error", "sigma", "error", [Series("rollout", [0.1, 0.3], [0.1, 0.2])], log=True),
    ]
    sections = [
        Section("Results", "Numbers.", tables=[(["", "PSNR"], [["best", "1 < 2"]])]),
        Section("Charts", charts=charts),
    ]
    return Page(title, "subtitle", [("frames", "2, 6")], sections, shown, FPS)


def test_it_is_one_file_that_needs_no_network(tmp_path: Path) -> None:
    report.write(tmp_path / "report.html", page())
    text = (tmp_path / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text) and "@import" not in text
    assert set(re.findall(r"https?://[^\s\"'<)]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "<h1>a &amp; &lt;b&gt;</h1>" in text and "1 &lt; 2" in text
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert embedded and len(json.loads(embedded[1])["scenes"]) == 2


def test_sprites_hold_every_frame() -> None:
    import base64
    import io

    from PIL import Image

    frames = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)
    found = report.sprite(frames)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["src"].partition(",")[2]))))
    for i, frame in enumerate(frames):
        top, left = 5 * (i // found["columns"]), 4 * (i % found["columns"])
        np.testing.assert_array_equal(sheet[top : top + 5, left : left + 4], frame)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The report in a tab, which must not complain."""
    report.write(tmp_path / "report.html", page())
    tab = browser.new_page(viewport={"width": 1200, "height": 800}, reduced_motion="reduce")
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("requestfailed", lambda request: said.append(request.url))
    tab.goto((tmp_path / "report.html").as_uri())
    tab.wait_for_selector("body[data-ready]")
    yield tab
    assert said == []
    tab.close()


def greys(tab: Any) -> list[int]:
    """The grey levels of all large canvases: of each scene the truth, then each model."""
    script = """nodes => {
        const pen = new OffscreenCanvas(16, 16).getContext("2d", {willReadFrequently: true});
        return nodes.map(node => (pen.drawImage(node, 0, 0), pen.getImageData(8, 8, 1, 1).data[1]));
    }"""
    return tab.eval_on_selector_all(".view canvas", script)


def test_all_clips_show_the_same_frame(tab: Any) -> None:
    assert tab.inner_text("#play") == "Play"  # whoever wants less motion starts it
    assert greys(tab) == [0, 0, 0] * 2
    tab.locator("#scrub").fill("4")
    assert greys(tab) == [202, level(4, 0, 0), level(4, 0, 1)] * 2
    assert tab.inner_text("#frame") == "frame 5 of 8"
    classes = tab.eval_on_selector_all(".view canvas", "nodes => nodes.map(c => c.className)")
    assert classes == ["truth", "predicted", "predicted"] * 2
    assert tab.inner_text('[data-chart="0"] li b') == "18"  # the third predicted frame's value
    tab.click("#forward")
    tab.click("#back")
    tab.click("#back")
    assert greys(tab)[1] == level(3, 0, 0)


def test_futures_are_switched(tab: Any) -> None:
    tab.locator("#scrub").fill("5")
    tab.select_option("#sample", label="sample 1")
    assert greys(tab)[1:3] == [level(5, 1, 0), level(5, 1, 1)]
    tab.click(".thumb:has-text('sample 2') >> nth=1")
    assert greys(tab)[1:3] == [level(5, 2, 0), level(5, 2, 1)]
    assert tab.input_value("#sample") == "2"
    assert tab.locator('.thumb[aria-pressed="true"]').count() == 4


def test_it_plays_and_pauses(tab: Any) -> None:
    tab.click("#play")
    assert tab.inner_text("#play") == "Pause"
    tab.wait_for_function("state.frame >= 3")
    tab.wait_for_function("state.frame <= 1")  # it starts again
    tab.click("#play")
    frame = tab.evaluate("state.frame")
    tab.wait_for_timeout(300)
    assert tab.evaluate("state.frame") == frame


def test_keys(tab: Any) -> None:
    for _ in range(4):
        tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowDown")
    assert greys(tab)[1] == level(3, 1, 0)
    before = greys(tab)
    tab.keyboard.press("o")
    assert tab.input_value("#overlay") == "spread of the futures"
    after = greys(tab)
    assert after[0] == before[0] and all(a < b for a, b in zip(after[1:3], before[1:3], strict=True))  # red takes green
    tab.keyboard.press(" ")
    assert tab.inner_text("#play") == "Pause"
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "play"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Any, tmp_path: Path, scheme: str) -> None:
    report.write(tmp_path / "report.html", page(models=1, scenes=1))
    tab = browser.new_page(viewport={"width": 360, "height": 740}, is_mobile=True, color_scheme=scheme)
    tab.goto((tmp_path / "report.html").as_uri())
    tab.wait_for_selector("body[data-ready]")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    background, ink = tab.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    dark = sum(map(int, re.findall(r"\d+", background))) < sum(map(int, re.findall(r"\d+", ink)))
    assert dark == (scheme == "dark")
    tab.close()
