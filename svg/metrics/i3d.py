"""I3D (Carreira & Zisserman 2017, "Quo Vadis, Action Recognition?"), the video network of FVD.

Parameters are named as in the PyTorch files that people have (`i3d_pretrained_400.pt`, `rgb_imagenet.pt`:
Conv3d_1a_7x7.conv3d.weight, Mixed_3b.b1a.bn.bias, logits.conv3d.weight, ...), so that such a state dict fits.

N clips, T frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 400
"""The classes of Kinetics-400, whose logits are the features of FVD."""
LEAST_FRAMES = 9
"""Fewer frames leave the last pooling, over two steps, nothing to pool."""
SIZE = 224
"""Height and width of the input (pixels)."""

_Kernel = tuple[int, int, int]


def _same(x: Tensor, kernel: _Kernel, stride: _Kernel) -> Tensor:
    """Zeros around (N, C, T, H, W), so that the output has size / stride, rounded up; an odd one goes to the end."""
    padding: list[int] = []
    for size, k, s in zip(x.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):  # F.pad begins with the last axis
        total = max((-(-size // s) - 1) * s + k - size, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)


class _Unit(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, channels: int, out: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(channels, out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=1e-5)  # what i3d_pretrained_400.pt is used with

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(_same(x, self.kernel, self.stride))))


class _Pool(nn.Module):
    """Maximum over a kernel."""

    def __init__(self, kernel: _Kernel, stride: _Kernel) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(_same(x, self.kernel, self.stride), self.kernel, self.stride)


class _Mixed(nn.Module):
    """Inception block: 1x1, 1x1-3x3, 1x1-3x3 and pool-1x1 side by side."""

    def __init__(self, channels: int, outs: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.b0 = _Unit(channels, outs[0])
        self.b1a, self.b1b = _Unit(channels, outs[1]), _Unit(outs[1], outs[2], 3)
        self.b2a, self.b2b = _Unit(channels, outs[3]), _Unit(outs[3], outs[4], 3)
        self.b3a, self.b3b = _Pool((3, 3, 3), (1, 1, 1)), _Unit(channels, outs[5])

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x)))
        return torch.cat(branches, dim=1)


class I3D(nn.Module):
    """Clips (N, 3, T, 224, 224) in [-1, 1], T at least 9, to logits (N, 400) averaged over time."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        for name, stage in _stages().items():
            self.stages.add_module(name, stage)
        self.logits = nn.Sequential()
        self.logits.add_module("conv3d", nn.Conv3d(1024, FEATURES, 1))

    def forward(self, clips: Tensor) -> Tensor:
        pooled = F.avg_pool3d(self.stages(clips), (2, 7, 7), stride=1)
        return self.logits(pooled).mean(dim=(2, 3, 4))

    def load(self, state: dict[str, Tensor]) -> None:
        """Loads a state dict of those files. Raises KeyError or RuntimeError if it does not fit."""
        counters = "num_batches_tracked"  # of BatchNorm; some files have them
        given = {name: value for name, value in state.items() if not name.endswith(counters)}
        own = {name.removeprefix("stages."): name for name in self.state_dict() if not name.endswith(counters)}
        if unknown := given.keys() ^ own.keys():
            raise KeyError(min(unknown))
        self.load_state_dict({own[name]: value for name, value in given.items()}, strict=False)


def _stages() -> dict[str, nn.Module]:
    halve_space: tuple[_Kernel, _Kernel] = (1, 3, 3), (1, 2, 2)
    return {
        "Conv3d_1a_7x7": _Unit(3, 64, 7, 2),
        "MaxPool3d_2a_3x3": _Pool(*halve_space),
        "Conv3d_2b_1x1": _Unit(64, 64),
        "Conv3d_2c_3x3": _Unit(64, 192, 3),
        "MaxPool3d_3a_3x3": _Pool(*halve_space),
        "Mixed_3b": _Mixed(192, (64, 96, 128, 16, 32, 32)),
        "Mixed_3c": _Mixed(256, (128, 128, 192, 32, 96, 64)),
        "MaxPool3d_4a_3x3": _Pool((3, 3, 3), (2, 2, 2)),
        "Mixed_4b": _Mixed(480, (192, 96, 208, 16, 48, 64)),
        "Mixed_4c": _Mixed(512, (160, 112, 224, 24, 64, 64)),
        "Mixed_4d": _Mixed(512, (128, 128, 256, 24, 64, 64)),
        "Mixed_4e": _Mixed(512, (112, 144, 288, 32, 64, 64)),
        "Mixed_4f": _Mixed(528, (256, 160, 320, 32, 128, 128)),
        "MaxPool3d_5a_2x2": _Pool((2, 2, 2), (2, 2, 2)),
        "Mixed_5b": _Mixed(832, (256, 160, 320, 32, 128, 128)),
        "Mixed_5c": _Mixed(832, (384, 192, 384, 48, 128, 128)),
    }
