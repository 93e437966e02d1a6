"""Operations are sorted into kinds, and nothing is counted twice or left out."""

from argparse import Namespace

import pytest

from benchmarks.breakdown import KINDS, kind, shares
from benchmarks.train_step import build


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aten::convolution_backward", "convolutions, backward"),
        ("aten::mkldnn_convolution", "convolutions, forward"),
        ("aten::native_batch_norm_backward", "BatchNorm"),
        ("aten::leaky_relu_", "LeakyReLU"),
        ("aten::mkldnn_rnn_layer", "LSTMs"),
        ("aten::_fused_adam_", "Adam"),
        ("aten::cat", "concatenation and copies"),
        ("aten::sum", "sums, fills and the rest"),
    ],
)
def test_kinds(name, expected):
    assert kind(name) == expected


def test_the_shares_are_of_the_whole():
    total, seconds = shares(build("svg-lp, float32", Namespace(backbone="vgg", width=8, batch=2, frames=3)))
    assert list(seconds) == list(KINDS)
    assert total == pytest.approx(sum(seconds.values()))
    assert min(seconds[name] for name in ("convolutions, backward", "convolutions, forward", "BatchNorm", "Adam")) > 0
