"""BatchNorm folded into the convolution before it, for rollouts: in eval mode it is a fixed scale and shift of each
channel, so that

    BN(conv(x; W, b)) = conv(x; s W, s (b - running mean) + beta),   s = gamma / sqrt(running variance + eps)

which saves a pass over every feature map. The kernels of the decoder's joins are made once, too.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from svg.models.backbones import Decoder, Encoder, SkipConv


@torch.no_grad()
def folded(encoder: Encoder, decoder: Decoder) -> tuple[Encoder, Decoder]:
    """An encoder and a decoder that compute the same, to rounding, without BatchNorm.

    Args:
        encoder, decoder: in eval mode; they are left as they are.

    Returns:
        An encoder and a decoder of the weights and running statistics as they are now, in eval mode.
    """
    head = _fold(encoder.head.children())
    folded_encoder = Encoder([_fold(stage.children()) for stage in encoder.stages], head, encoder.pool)
    joins, stages = [], []
    for join, stage in zip(decoder.joins, decoder.stages, strict=True):
        assert isinstance(join, SkipConv)
        layers = list(stage.children())
        joins.append(_FoldedJoin(join, layers[0] if layers else None))
        stages.append(_fold(layers[1:]))
    folded_decoder = Decoder(_fold(decoder.first.children()), joins, stages)
    return folded_encoder.eval(), folded_decoder.eval()


class _FoldedJoin(SkipConv):
    """A SkipConv with the BatchNorm after it folded in, and its kernel made."""

    def __init__(self, join: SkipConv, norm: nn.Module | None) -> None:
        super().__init__(_fuse(join.conv, norm) if norm else join.conv, join.up_channels)
        self._kernel = super().kernel

    @property
    def kernel(self) -> Tensor:
        return self._kernel


def _fold(layers: Iterable[nn.Module]) -> nn.Sequential:
    """Layers with each BatchNorm folded into the convolution before it."""
    made: list[nn.Module] = []
    for layer in layers:
        made.append(_fuse(made.pop(), layer) if isinstance(layer, nn.BatchNorm2d) else layer)
    return nn.Sequential(*made)


def _fuse(conv: nn.Module, norm: nn.Module) -> nn.Conv2d | nn.ConvTranspose2d:
    assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose2d))
