"""Sums over all processes, for statistics that belong to the global batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def global_sum(*values: Tensor) -> tuple[Tensor, ...]:
    """Each value summed over all processes, without gradient, in float64 and in one all-reduce.

    Under several processes a statistic built from these sums and used detached in each local mean gives the gradient of the
    global batch (likelihoods.md, section C).
    """
    flat = torch.cat([value.detach().double().reshape(-1) for value in values])
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(flat)
    parts = flat.split([value.numel() for value in values])
    return tuple(part.reshape(value.shape) for part, value in zip(parts, values, strict=True))
