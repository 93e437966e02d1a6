"""Bounds of test clips: they are what the objective says, prefixes of one pass, and told apart from what is no
density."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import svg
from svg.evaluation.bounds import Bounds, clip_bounds, needs_refit, refit, summarise_bounds, why_undefined
from svg.models.base import to_float
from svg.noise import Noise
from svg.objective import TRAINING

DIMS = 3 * 64 * 64


def make(likelihood: str = "shared_sigma", options: dict[str, Any] | None = None, **model: Any) -> tuple[svg.SVG, Any]:
    sizes = {"backbone": "dcgan", "width": 2, "g_dim": 4, "z_dim": 2, "rnn_size": 4}
    config = svg.config_from_dict(
        {"model": sizes | model, "likelihood": {"name": likelihood, "options": options or {}}, "data": {"frames": 4}}
    )
    torch.manual_seed(0)
    built = svg.build(config)
    assert isinstance(built, svg.SVG)
    return built.eval(), config


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return torch.randint(0, 256, (3, 6, 3, 64, 64), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


CLIPS = torch.tensor([7, 0, 3])
BOUNDS = Bounds((4, 6), seed=5)


def test_a_shorter_clip_has_the_beginning_of_the_bound(frames: Tensor) -> None:
    model, _ = make()
    long, short = clip_bounds(model, frames, CLIPS, BOUNDS), clip_bounds(model, frames[:, :4], CLIPS, BOUNDS)
    for whole, part in zip(long, short, strict=True):
        for name in ("nll", "exact", "kl", "sigma", "error"):
            assert len(whole[name]) == 5 and whole[name][:3] == pytest.approx(part[name], rel=1e-4)


def test_clips_do_not_depend_on_their_neighbours(frames: Tensor) -> None:
    model, _ = make()
    together = clip_bounds(model, frames, CLIPS, BOUNDS)
    alone = clip_bounds(model, frames[1:2], CLIPS[1:2], BOUNDS)[0]
    assert together[1]["nll"] == pytest.approx(alone["nll"], rel=1e-4) and together[1]["pit"] == alone["pit"]


def test_numbers_of_a_model_without_latents(frames: Tensor) -> None:
    """Nothing is random but the dequantisation: the density is exact, and the IWAE bound equals it for any K."""
    model, _ = make(prior="none")
    bounds = Bounds((4, 6), seed=5, importance=3)
    records = clip_bounds(model, frames, CLIPS, bounds)
    out = model(frames, None)
    distribution = model.likelihood.distribution(out.params)
    nll = -distribution.log_prob(out.target)
    summary = summarise_bounds(records, bounds, DIMS)
    for length in (4, 6):
        found = summary["lengths"][str(length)]
        assert found["nats_per_frame"]["mean"] == pytest.approx(nll[:, : length - 1].mean().item(), rel=1e-5)
        assert found["iwae_nats_per_frame"]["mean"] == pytest.approx(found["nats_per_frame"]["mean"], rel=1e-5)
        assert found["kl"] == {"mean": 0, "half": 0}
        # at sigma = 1 a density hardly varies within a level, so that the dequantised bound is the density's
        bits = nll[:, : length - 1].mean().item() / (DIMS * math.log(2)) + math.log2(255)
        for name in ("bits_per_dim", "iwae_bits_per_dim"):
            assert found[name]["mean"] == pytest.approx(bits, abs=2e-3)
    error = (distribution.mean - to_float(out.target)).square().mean((-3, -2, -1)).sqrt()
    assert records[1]["error"] == pytest.approx(error[1].tolist(), rel=1e-5)
    assert sum(map(sum, records[0]["pit"])) == 5 * DIMS


def test_more_importance_samples_give_no_worse_bound(frames: Tensor) -> None:
    model, _ = make(z_dim=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=torch.Generator().manual_seed(0))
    values = []
    for k in (1, 30):
        bounds = Bounds((6,), seed=5, importance=k)
        summary = summarise_bounds(clip_bounds(model, frames, CLIPS, bounds), bounds, DIMS)
        values.append(summary["lengths"]["6"]["iwae_nats_per_frame"]["mean"])
    assert values[1] < values[0]


def test_the_bound_is_the_density_and_the_kl_term(frames: Tensor) -> None:
    """-ELBO, per frame and in bits: the terms summed over t = 2..T, divided by T - 1 and by (T - 1) d ln 2."""
    records = clip_bounds(make()[0], frames, CLIPS, BOUNDS)
    for record in records:
        record["kl"] = [1e4 * (t + 1) for t in range(5)]
    for length in (4, 6):
        terms = {name: sum(sum(r[name][: length - 1]) for r in records) / 3 for name in ("nll", "exact", "kl")}
        found = summarise_bounds(records, BOUNDS, DIMS)["lengths"][str(length)]
        assert found["kl"]["mean"] == pytest.approx(terms["kl"] / (length - 1), rel=1e-6)
        assert found["nats_per_frame"]["mean"] == pytest.approx((terms["nll"] + terms["kl"]) / (length - 1), rel=1e-9)
        dims = (length - 1) * DIMS * math.log(2)
        assert found["bits_per_dim"]["mean"] == pytest.approx((terms["exact"] + terms["kl"]) / dims, rel=1e-9)


def test_masses_need_no_dequantisation(frames: Tensor) -> None:
    model, _ = make("discretized_logistic")
    for record in clip_bounds(model, frames, CLIPS, BOUNDS):
        assert record["nll"] == pytest.approx(record["exact"], rel=1e-6)


def test_a_fitted_sigma_is_frozen_at_its_training_value(frames: Tensor) -> None:
    model, config = make("optimal_sigma", n_past=1)
    assert needs_refit(model) and not needs_refit(make()[0])
    batch = {"frames": frames[:, :4], "index": CLIPS}
    refit(model, config, [batch, batch])
    noise = Noise(config.train.seed, (CLIPS[:, None], torch.arange(1, 4)), TRAINING)
    out = model(frames[:, :4], noise.normal(2))
    mean = model.likelihood.distribution(out.params).mean
    wanted = (mean - to_float(out.target)).square().mean().sqrt()
    assert model.likelihood.sigma is not None
    assert model.likelihood.sigma.item() == pytest.approx(wanted.item(), rel=1e-5)
    before = model.likelihood.sigma.item()
    clip_bounds(model, frames, CLIPS, BOUNDS)
    assert model.likelihood.sigma.item() == before and 0.2 < before < 0.6  # noise against nearly constant predictions


def test_what_has_no_density_says_why() -> None:
    assert why_undefined(make()[0]) is None
    assert "binary" in (why_undefined(make("bernoulli")[0]) or "")


def test_numbers_that_are_none_are_refused(frames: Tensor) -> None:
    model, _ = make()
    with torch.no_grad():
        model.likelihood.log_sigma.fill_(torch.nan)  # type: ignore[operator]
    with pytest.raises(ValueError, match="clip 7 is not finite"):
        clip_bounds(model, frames, CLIPS, BOUNDS)
