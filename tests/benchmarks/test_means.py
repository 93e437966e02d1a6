"""The rungs of the ladder compute the same; only how differs."""

from argparse import Namespace

import pytest
import torch
from torch import nn

from benchmarks.harness import device
from benchmarks.means import ROLLOUT, TRAINING, UpsampledJoin, WholeJoin, build, ladder, rollouts
from svg.config import ModelConfig
from svg.models.backbones import SkipConv


@pytest.mark.parametrize(
    "conv", [nn.Conv2d(6, 5, 3, padding=1), nn.ConvTranspose2d(6, 5, 4, 2, 1)], ids=["vgg", "dcgan"]
)
def test_every_join_gives_the_same(conv):
    conv, up = conv.double(), torch.randn(2, 4, 8, 8, dtype=torch.float64)
    skip = torch.randn(2, 2, *((8, 8) if isinstance(conv, nn.ConvTranspose2d) else (16, 16)), dtype=torch.float64)
    wanted = SkipConv(conv, 4)
    for join in (WholeJoin(conv, 4), UpsampledJoin(conv, 4)):
        torch.testing.assert_close(join(up, join.skip_half(skip)), wanted(up, wanted.skip_half(skip)))


@pytest.mark.parametrize("backbone", ["vgg", "dcgan"])
def test_ladders(backbone):
    config = ModelConfig(backbone=backbone, width=2)
    options = Namespace(config=config, batch=2, frames=3, samples=2, horizon=1)
    steps = {name: build(name, options) for name in TRAINING if name != "compiled"}
    rows = ladder(steps, TRAINING, rounds=1)
    assert [row["rung"] for row in rows] == list(steps)
    assert rows[0]["predicted from FLOP"] == rows[0]["seen"] == "-"
    counts = {row["rung"]: row["TFLOP"] for row in rows}
    assert counts["naive"] == counts["channels-last"] > counts["no loop"]
    rolled = rollouts(options)
    assert [row["rung"] for row in ladder(rolled, ROLLOUT, rounds=1)] == list(ROLLOUT)
    futures = {name: call() for name, call in rolled.items()}
    torch.testing.assert_close(futures["one context"], futures["folded BatchNorm"], rtol=0, atol=1e-5)
    assert futures["bf16"].device.type == device().type
