"""Frame encoders and decoders: vgg and dcgan at 64 and 128 px (Denton & Fergus 2018, section 4 and the released code).

An encoder turns frames into features `h` and the feature maps (skips) of its stages; a decoder turns features and the
skips of some earlier frame into the raw parameters of the likelihood. Every decoder stage begins with a convolution
of concat[up, skip]; because
    conv(concat[up, skip]) = conv_up(up) + conv_skip(skip)
the skip half depends on the skip frame alone. `Decoder.skip_halves` computes it once for each distinct frame, and
`Decoder.forward` shares it among all the frames that are decoded with it: 35 % of the decoder's multiply-adds in
training, and one pass per context rather than per sample and step in rollouts.

N images, C channels, H W pixels, G feature size, P output channels. Images are in channels-last memory order
throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from svg.models.recompute import recomputed

SLOPE = 0.2  # of every LeakyReLU


def _norm_act(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.LeakyReLU(SLOPE, inplace=True)]


def _conv3x3(channels: Sequence[int]) -> nn.Sequential:
    """conv3x3 + BatchNorm + LeakyReLU for each successive pair of channel numbers."""
    layers: list[nn.Module] = []
    for a, b in pairwise(channels):
        layers += [nn.Conv2d(a, b, 3, padding=1), *_norm_act(b)]
    return nn.Sequential(*layers)


def _head(channels: int, g_dim: int) -> nn.Sequential:
    """The encoder's last layer: a 4x4 map to features in [-1, 1]."""
    return nn.Sequential(nn.Conv2d(channels, g_dim, 4), nn.BatchNorm2d(g_dim), nn.Tanh())


def repeat_frames(x: Tensor, repeats: Sequence[int]) -> Tensor:
    """Repeats frame k of each clip repeats[k] times in a row.

    Args:
        x: (B*K, C, H, W), channels-last, K = len(repeats) frames a clip.
        repeats: how often each of the K frames is used.

    Returns:
        (B*sum(repeats), C, H, W), channels-last; a view where one clip has one frame. Made of slices and one expansion,
        whose gradients are plain sums (an indexed gather's is a slow scatter).
    """
    if all(n == 1 for n in repeats):
        return x
    frames = x.permute(0, 2, 3, 1).unflatten(0, (-1, len(repeats)))  # B K H W C
    parts = [frames[:, k : k + 1].expand(-1, n, -1, -1, -1) for k, n in enumerate(repeats)]
    repeated = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return repeated.flatten(0, 1).permute(0, 3, 1, 2)


def transposed_weight(weight: Tensor) -> Tensor:
    """The 4x4 kernel whose stride-2 transposed convolution equals nearest upsampling by 2 and a 3x3 convolution.

    Each output pixel sees 2x2 input pixels under the sum of the taps that fall on them: 4/9 of the multiply-adds.

    Args:
        weight: of the 3x3 convolution, (out, in, 3, 3).

    Returns:
        (in, out, 4, 4).
    """
    flipped = weight.flip(2, 3).transpose(0, 1)
    rows = F.pad(flipped, (0, 0, 0, 1)) + F.pad(flipped, (0, 0, 1, 0))
    return F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))


class SkipConv(nn.Module):
    """A convolution of concat[up, skip], whose two halves are computed apart. `conv` holds the whole weight.

    Args:
        conv: over up_channels + skip channels. An nn.ConvTranspose2d (dcgan) doubles the resolution of both; before an
            nn.Conv2d of 3x3 (vgg), `up` alone is doubled, by nearest upsampling.
        up_channels: how many of its input channels are the upsampled ones; these come first.
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, up_channels: int) -> None:
        super().__init__()
        self.conv, self.up_channels = conv, up_channels
        self.transposed = isinstance(conv, nn.ConvTranspose2d)

    def skip_half(self, skip: Tensor) -> Tensor:
        """The skip's share of the output, bias included."""
        weight, bias = self.conv.weight, self.conv.bias
        if self.transposed:
            return F.conv_transpose2d(skip, weight[self.up_channels :], bias, stride=2, padding=1)
        return F.conv2d(skip, weight[:, self.up_channels :], bias, padding=1)

    @property
    def kernel(self) -> Tensor:
        """The 4x4 kernel (in, out, 4, 4) of the upsampled half's transposed convolution."""
        weight = self.conv.weight
        return weight[: self.up_channels] if self.transposed else transposed_weight(weight[:, : self.up_channels])

    def forward(self, up: Tensor, skip_half: Tensor) -> Tensor:
        """The output at twice the resolution of `up`, given the `skip_half` that belongs to each image of it."""
        return F.conv_transpose2d(up, self.kernel, stride=2, padding=1).add_(skip_half)


class Encoder(nn.Module):
    """Frames to features.

    Args:
        stages: modules that map one stage's feature map to the next's skip.
        head: the last stage's map of 4x4 pixels to (N, G, 1, 1).
        pool: max-pool by 2 after each stage (vgg); dcgan's stages downsample themselves.
    """

    def __init__(self, stages: Sequence[nn.Module], head: nn.Module, pool: bool) -> None:
        super().__init__()
        self.stages, self.head, self.pool = nn.ModuleList(stages), head, pool
        self.recompute = False  # the stages in the backward pass, for memory

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(N, C, H, W) in [0, 1] to features (N, G) in [-1, 1] and the skips, largest first."""
        skips = []
        for stage in self.stages:
            x = recomputed(stage, stage, x) if self.recompute else stage(x)
            skips.append(x)
            if self.pool:
                x = F.max_pool2d(x, 2)
        return self.head(x).flatten(1), skips


class Decoder(nn.Module):
    """Features and skips to the likelihood's parameters.

    Args:
        first: (N, G, 1, 1) to the smallest feature map.
        joins: one SkipConv a stage, smallest first.
        stages: what follows each join.
    """

    def __init__(self, first: nn.Module, joins: Sequence[SkipConv], stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.first = first
        self.joins, self.stages = nn.ModuleList(joins), nn.ModuleList(stages)
        self.recompute = False  # the stages in the backward pass, for memory

    def skip_halves(self, skips: Sequence[Tensor]) -> list[Tensor]:
        """What the skips (largest first) of each distinct frame contribute to each stage (smallest first)."""
        return [join.skip_half(skip) for join, skip in zip(self.joins, reversed(skips), strict=True)]  # type: ignore[operator]

    def forward(self, g: Tensor, skip_halves: Sequence[Tensor], repeats: Sequence[int] = (1,)) -> Tensor:
        """Features (N, G) to raw parameters (N, P, H, W).

        Args:
            g: (B*sum(repeats), G) features.
            skip_halves: of B*len(repeats) distinct frames.
            repeats: how many successive features of a clip share each distinct frame (see repeat_frames).
        """
        x = self.first(g[:, :, None, None])
        for join, stage, half in zip(self.joins, self.stages, skip_halves, strict=True):
            step = partial(_decode_stage, join, stage, repeats)
            x = recomputed(stage, step, x, half) if self.recompute else step(x, half)
        return x


def _decode_stage(join: nn.Module, stage: nn.Module, repeats: Sequence[int], x: Tensor, half: Tensor) -> Tensor:
    return stage(join(x, repeat_frames(half, repeats)))


def _vgg(channels: int, out_channels: int, size: int, width: int, g_dim: int) -> tuple[Encoder, Decoder]:
    w = width
    blocks = [[channels, w, w], [w, 2 * w, 2 * w], [2 * w, 4 * w, 4 * w, 4 * w], [4 * w, 8 * w, 8 * w, 8 * w]]
    up_blocks = [[16 * w, 8 * w, 8 * w, 4 * w], [8 * w, 4 * w, 4 * w, 2 * w], [4 * w, 2 * w, w], [2 * w, w]]
    if size == 128:
        blocks.append([8 * w] * 4)
        up_blocks.insert(0, [16 * w, 8 * w, 8 * w, 8 * w])
    encoder = Encoder([_conv3x3(block) for block in blocks], _head(8 * w, g_dim), pool=True)

    first = nn.Sequential(nn.ConvTranspose2d(g_dim, 8 * w, 4), *_norm_act(8 * w))
    joins = [SkipConv(nn.Conv2d(b[0], b[1], 3, padding=1), b[0] // 2) for b in up_blocks]
    stages = [nn.Sequential(*_norm_act(b[1]), *_conv3x3(b[1:])) for b in up_blocks]
    stages[-1].append(nn.ConvTranspose2d(w, out_channels, 3, padding=1))
    return encoder, Decoder(first, joins, stages)


def _dcgan(channels: int, out_channels: int, size: int, width: int, g_dim: int) -> tuple[Encoder, Decoder]:
    w = width
    widths = [w, 2 * w, 4 * w, 8 * w] + ([8 * w] if size == 128 else [])
    encoder_stages = [
        nn.Sequential(nn.Conv2d(a, b, 4, stride=2, padding=1), *_norm_act(b)) for a, b in pairwise([channels, *widths])
    ]
    encoder = Encoder(encoder_stages, _head(8 * w, g_dim), pool=False)

    first = nn.Sequential(nn.ConvTranspose2d(g_dim, 8 * w, 4), *_norm_act(8 * w))
    outputs = [*reversed(widths[:-1]), out_channels]
    joins = [
        SkipConv(nn.ConvTranspose2d(2 * skip, out, 4, stride=2, padding=1), skip)
        for skip, out in zip(reversed(widths), outputs, strict=True)
    ]
    stages: list[nn.Module] = [nn.Sequential(*_norm_act(out)) for out in outputs[:-1]]
    return encoder, Decoder(first, joins, [*stages, nn.Identity()])


REGISTRY = {"vgg": _vgg, "dcgan": _dcgan}


def build(
    name: str, *, channels: int, out_channels: int, size: int = 64, width: int = 64, g_dim: int = 128
) -> tuple[Encoder, Decoder]:
    """An encoder for (N, channels, size, size) frames and its decoder to (N, out_channels, size, size), initialised
    as published.

    Convolution and linear weights are drawn from N(0, 0.02), BatchNorm weights from N(1, 0.02), biases are 0. The
    published `width` is 64.
    """
    encoder, decoder = REGISTRY[name](channels, out_channels, size, width, g_dim)
    for module in (encoder, decoder):
        module.apply(init_weights)
    return encoder.to(memory_format=torch.channels_last), decoder.to(memory_format=torch.channels_last)


def init_weights(module: nn.Module) -> None:
    """The published initialisation of one layer (LSTMs keep PyTorch's)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
