"""Streamed scores equal those of all futures at once."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import Tensor

import svg
from svg import metrics
from svg.evaluation.scores import Futures, clip_features, draw, score_clips, unpack_features

FUTURES = Futures(context=2, horizon=3, samples=4, seed=5)
SCORES = {"psnr": svg.metrics.psnr, "ssim": svg.metrics.ssim, "ssim_svg": svg.metrics.ssim_svg}


@pytest.fixture(scope="module")
def model() -> svg.SVG:
    sizes = {"backbone": "dcgan", "width": 2, "g_dim": 4, "z_dim": 2, "rnn_size": 4}
    torch.manual_seed(0)
    model = svg.build(svg.config_from_dict({"model": sizes}))
    assert isinstance(model, svg.SVG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # futures that differ
    return model.eval()


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return torch.randint(0, 256, (3, 5, 3, 64, 64), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@pytest.mark.parametrize("memory", [2.0, 1e-6])
def test_scores_are_those_of_all_futures_at_once(model: svg.SVG, frames: Tensor, memory: float) -> None:
    clips = torch.tensor([7, 0, 3])
    counts: list[int] = []
    futures = Futures(**{**vars(FUTURES), "memory": memory})
    records = score_clips(model, frames, clips, futures, SCORES, counts.append)
    assert sum(counts) == 12 and (len(counts) == 12) == (memory < 1)
    whole = model.rollout(frames[:, :2], horizon=3, samples=4, seed=5, clip_ids=clips)
    assert isinstance(whole, Tensor)
    assert json.loads(json.dumps(records)) == records
    for name in SCORES:
        scores = getattr(metrics, name)(whole, frames[:, 2:]).double()
        copied = getattr(metrics, name)(frames[:, 1:2].expand(-1, 3, -1, -1, -1), frames[:, 2:]).double()
        best = torch.tensor([record[name]["sample"] for record in records])
        assert [record["clip"] for record in records] == [7, 0, 3]
        means = scores.mean(dim=-1)  # two futures may be as good to rounding, which depends on the chunk
        torch.testing.assert_close(means[range(3), best], means.amax(dim=1), rtol=1e-5, atol=0)
        wanted = {"best": scores[range(3), best], "mean": scores.mean(dim=1), "copy_last": copied}
        posterior = model.reconstruct(frames, 2, seed=5, clip_ids=clips)
        wanted["posterior"] = getattr(metrics, name)(posterior[:, 0], frames[:, 2:]).double()
        for curve, values in wanted.items():
            found = torch.tensor([record[name][curve] for record in records]).double()
            torch.testing.assert_close(found, values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("with_context", [True, False])
@pytest.mark.parametrize("memory", [2.0, 1e-6])
def test_features_are_those_of_all_videos(model: svg.SVG, frames: Tensor, with_context: bool, memory: float) -> None:
    def extract(videos: Tensor) -> Tensor:
        unit = videos / 255 if videos.dtype == torch.uint8 else videos
        return unit.mean(dim=(2, 4)).flatten(1)

    clips = torch.tensor([7, 0, 3])
    futures = Futures(**{**vars(FUTURES), "memory": memory})
    records = clip_features(model, frames, clips, futures, extract, with_context)
    real, fake = unpack_features(json.loads(json.dumps(records[::-1])))
    whole = model.rollout(frames[:, :2], horizon=3, samples=4, seed=5, clip_ids=clips)
    assert isinstance(whole, Tensor)
    given = (frames[:, None, :2] / 255).expand(-1, 4, -1, -1, -1, -1)
    videos = torch.cat((given, whole), dim=2) if with_context else whole
    order = clips.argsort()
    torch.testing.assert_close(real, extract(frames if with_context else frames[:, 2:])[order])
    torch.testing.assert_close(fake, torch.stack([extract(v) for v in videos])[order], atol=1e-5, rtol=1e-5)


def test_drawing_a_future_again_gives_the_same(model: svg.SVG, frames: Tensor) -> None:
    whole = model.rollout(frames[:1, :2], horizon=3, samples=4, seed=5, clip_ids=torch.tensor([9]))
    assert isinstance(whole, Tensor)
    again, stddev = draw(model, frames[0, :2], 9, FUTURES, [3, 0, 1, 3])
    torch.testing.assert_close(again, whole[0, [3, 0, 1, 3]], atol=1e-5, rtol=1e-5)
    assert stddev.shape == again.shape and (stddev > 0).all()


def test_predictions_that_are_no_numbers_are_refused(model: svg.SVG, frames: Tensor) -> None:
    def score(prediction: Tensor, truth: Tensor) -> Tensor:
        scores = metrics.psnr(prediction, truth)
        return (
            torch.where(torch.arange(len(scores))[:, None, None] == 1, torch.nan, scores)
            if scores.ndim == 3
            else scores
        )

    with pytest.raises(ValueError, match="psnr of clip 8 is not finite"):
        score_clips(model, frames, torch.tensor([7, 8, 9]), FUTURES, {"psnr": score})


def test_futures_that_are_no_numbers_are_refused(model: svg.SVG, frames: Tensor) -> None:
    """Of weights that are finite, but too large."""
    broken = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in broken.parameters():
            parameter *= 1e30
    with pytest.raises(ValueError, match="the futures of clip 9 are not finite"):
        draw(broken, frames[0, :2], 9, FUTURES, [0])
