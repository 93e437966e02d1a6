"""Counter-based random numbers: a pure function of (seed, stream, index), on any device, in any order.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") in integer tensor arithmetic, so that
CPU and GPU draw the same bits; the normals come from Box-Muller in float64, rounded to float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from svg.runtime.parallel import double

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def _mulhilo(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a * b for unsigned 32-bit values held in int64, without overflow."""
    low = a * (b & 0xFFFF)  # < 2^48
    high = a * (b >> 16) + (low >> 16)  # < 2^49
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four words of 32 random bits (int64 tensors) for each counter; counters broadcast."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _mulhilo(_MULTIPLIERS[0], c0)
        high1, low1 = _mulhilo(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


class Noise:
    """Random numbers for each entry of an index.

    Args:
        seed: the run's or the rollout's seed.
        index: up to three int64 tensors that broadcast to one shape (N...), for example (clip, sample, step); each
            value in [0, 2^32).
        stream: tells apart independent uses of the same index.
    """

    def __init__(self, seed: int, index: tuple[Tensor, ...], stream: int = 0) -> None:
        if not 1 <= len(index) <= 3:
            raise ValueError(f"an index has one to three parts, not {len(index)}")
        self.seed, self.stream = seed, stream
        self.index = torch.broadcast_tensors(*index)

    def child(self, stream: int) -> Noise:
        """An independent stream over the same index."""
        return Noise(self.seed, tuple(self.index), self.stream * 1009 + stream + 1)

    def __getitem__(self, key) -> Noise:
        """The noise of a part of the index."""
        return Noise(self.seed, tuple(part[key] for part in self.index), self.stream)

    def _words(self, size: tuple[int, ...]) -> Tensor:
        """32 random bits for each element, int64 (N..., prod(size) rounded up to a multiple of 4)."""
        blocks = -(-math.prod(size) // 4)
        parts = [part[..., None] & _MASK for part in self.index]
        parts += [torch.zeros_like(parts[0])] * (3 - len(parts))
        block = torch.arange(blocks, device=parts[0].device)
        key = (self.seed & _MASK, (self.seed >> 32 ^ self.stream * 0x9E3779B9) & _MASK)
        words = philox((block.expand(*parts[0].shape[:-1], blocks), *parts), key)
        return torch.stack(torch.broadcast_tensors(*words), dim=-1).flatten(-2)

    def _unit(self, size: tuple[int, ...]) -> Tensor:
        """Uniforms in (0, 1), float64, a multiple of 4 of them; on the CPU if the device (MPS) has no float64."""
        return (double(self._words(size)) + 0.5) / 2**32

    def uniform(self, *size: int) -> Tensor:
        """Uniforms in (0, 1), float32 (N..., *size); never 0 or 1."""
        unit = self._unit(size)[..., : math.prod(size)].float().to(self.index[0].device)
        unit = unit.clamp(2.0**-33, 1 - 2.0**-24)
        return unit.unflatten(-1, size) if size else unit.squeeze(-1)

    def normal(self, *size: int) -> Tensor:
        """Standard normals, float32 (N..., *size)."""
        u = self._unit(size)
        radius = torch.sqrt(-2 * torch.log(u[..., 0::2]))
        angle = 2 * math.pi * u[..., 1::2]
        pairs = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1).flatten(-2)
        draws = pairs[..., : math.prod(size)].float().to(self.index[0].device)
        return draws.unflatten(-1, size) if size else draws.squeeze(-1)
