"""Which clips are shown, and what panels, maps and files show of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from svg.evaluation import exports
from svg.evaluation.gallery import Shown, choose, heat, panels, veil

RECORDS: list[dict[str, Any]] = [
    {"clip": clip, "psnr": {"best": [value, value]}, "lpips": {"best": [value]}, "ensemble": {"diversity": [spread]}}
    for clip, value, spread in ((0, 20.0, 0.3), (1, 30.0, 0.1), (4, 10.0, 0.2))
]


@dataclass(frozen=True)
class Form:
    formats: list[str] = field(default_factory=list)
    samples: int = 1
    scale: int = 1
    columns: int = 0
    sigma: bool = True
    fps: float = 0.0


def shown(channels: int = 3, futures: int = 2, sigma: float | None = None) -> Shown:
    rng = np.random.default_rng(0)

    def frames(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, (*shape, 16, 16, channels), dtype=np.uint8)

    maps = rng.random((futures, 20, 16, 16)).astype(np.float32)
    maps = maps if sigma is None else np.full_like(maps, sigma)
    return Shown(3, frames(2), frames(20), frames(futures, 20), [f"future {i}" for i in range(futures)], maps)


@pytest.mark.parametrize(
    ("rule", "metric", "wanted"),
    [
        ("first", "psnr", [0, 1]),
        ("best", "psnr", [1, 0]),
        ("worst", "psnr", [4, 0]),
        ("best", "lpips", [4, 0]),
        ("diverse", "psnr", [0, 4]),
    ],
)
def test_clips_are_chosen_by_rule(rule: Any, metric: str, wanted: list[int]) -> None:
    assert choose(rule, 2, [0, 1, 4], RECORDS, metric) == wanted


def test_random_clips_follow_the_seed() -> None:
    first = choose("random", 5, range(100), seed=1)
    assert first == choose("random", 5, range(100), seed=1) != choose("random", 5, range(100), seed=2)
    assert len(set(first)) == 5 and len(choose("random", 5, range(3))) == 3


@pytest.mark.parametrize("channels", [1, 3])
def test_the_last_panel_is_a_map(channels: int) -> None:
    captions = [panel.caption for panel in panels(shown(channels))]
    assert captions[:4] == ["context", "truth", "future 0", "future 1"] and captions[4].startswith("sigma to")
    assert panels(shown(channels, sigma=0.1))[-1].caption.startswith("spread to")
    assert len(panels(shown(channels, futures=1, sigma=0.1))) == 3  # nothing that differs
    assert len(panels(shown(channels), sigma=False)) == 4


def test_spread_is_the_standard_deviation_of_the_futures() -> None:
    one = shown()
    values = one.futures.astype(np.float64) / 255
    np.testing.assert_allclose(one.spread, np.sqrt(values.var(0, ddof=1).mean(-1)), rtol=1e-5)
    assert shown(futures=1).spread.max() == 0


def test_maps_are_clear_where_nothing_is_uncertain() -> None:
    values = np.array([[0.0, 0.5]], np.float32)
    assert veil(values, 0.5)[0, :, 3].tolist() == [0, 255]
    np.testing.assert_array_equal(veil(values, 0.5)[..., :3], heat(values, 0.5))


def test_a_filmstrip_is_short_and_has_no_resting_context(tmp_path: Path) -> None:
    form = Form(["png", "gif", "webp"])
    files = exports.write(tmp_path / "clip", shown(), form, 10)
    assert [path.name for path in files] == ["clip.png", "clip.gif", "clip.webp"]
    with Image.open(files[0]) as strip:
        assert strip.width < 14 * 30 + 120 and 4 * 16 < strip.height < 4 * 30 + 30
    with Image.open(files[1]) as gif:
        assert getattr(gif, "n_frames", 1) == 22


def test_wrong_forms_are_refused() -> None:
    with pytest.raises(ValueError, match="--formats avi is unknown"):
        exports.check(Form(["avi"]))
