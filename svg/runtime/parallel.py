"""Sums over all processes, for statistics that belong to the global batch."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def double(value: Tensor) -> Tensor:
    """`value` in float64: where it is, or on the CPU if its device (MPS) has no float64."""
    return value.cpu().double() if value.device.type == "mps" else value.double()


@torch.no_grad()
def global_sum(*values: Tensor) -> tuple[Tensor, ...]:
    """Each value summed over all processes, without gradient, in float64 and in one all-reduce.

    Under several processes a statistic built from these sums and used detached in each local mean gives the gradient of
    the global batch (likelihoods.md, section C). On MPS, which has no float64, the sums are taken on the CPU and come
    back as float32.
    """
    flat = torch.cat([double(value.detach()).reshape(-1) for value in values])
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(flat)
    if values[0].device.type == "mps":
        flat = flat.float().to(values[0].device)
    parts = flat.split([value.numel() for value in values])
    return tuple(part.reshape(value.shape) for part, value in zip(parts, values, strict=True))


def global_mean(values: Tensor, dim: tuple[int, ...] | None = None) -> Tensor:
    """The mean over `dim` (all of it by default) and all processes, with the gradient of the local mean.

    Its gradient, averaged over processes as DDP does, is that of the global mean; so is that of any function of it.
    """
    local = values.mean() if dim is None else values.mean(dim)
    count = local.new_full((), values.numel() / local.numel())
    total, total_count = global_sum(local * count, count)
    return local + ((total / total_count).to(local) - local).detach()


@torch.no_grad()
def global_gather(values: Tensor) -> Tensor:
    """The rows of all processes, one process after another, without gradient; each has as many rows (N, ...)."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return values.detach()
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.detach().contiguous())
    return torch.cat(parts)


@torch.no_grad()
def broadcast(tensors: Iterable[Tensor]) -> None:
    """Gives all processes the first one's values, in place."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        for tensor in tensors:
            sent = tensor.contiguous()
            dist.broadcast(sent, 0)
            tensor.copy_(sent)
