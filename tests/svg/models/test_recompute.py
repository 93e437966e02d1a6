"""Stages computed twice give the same numbers as stages whose results are kept, to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from svg.config import ObjectiveConfig
from svg.objective import Objective
from tests.helpers.models import frames as clips
from tests.helpers.models import make

BATCH = 4


def two_steps(
    backbone: str, recompute: bool, *, rows: slice = slice(None), dtype=torch.float64, bf16: bool = False
) -> dict[str, torch.Tensor]:
    """Losses, gradients, and all that two optimiser steps change."""
    model = make("optimal_sigma", backbone=backbone).to(dtype).train()
    for part in (model.encoder, model.decoder):
        part.recompute = recompute
    x, index = clips(model, BATCH, 4)[rows], torch.arange(BATCH)[rows]
    objective = Objective(model, ObjectiveConfig())
    net = DistributedDataParallel(objective) if dist.is_initialized() else objective
    optimizer = torch.optim.Adam(objective.parameters(), 1e-3)
    found = {}
    for step in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss, _ = net(x, index, step)
        loss.backward()
        found[f"loss/{step}"] = loss.detach()
        found |= {f"gradient/{step}/{name}": p.grad.clone() for name, p in objective.named_parameters()}
        optimizer.step()
    return found | {name: value.clone() for name, value in objective.state_dict().items()}


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]


@pytest.mark.parametrize("backbone", ["vgg", "dcgan"])
@pytest.mark.parametrize(("dtype", "bf16"), [(torch.float64, False), (torch.float32, True)])
def test_losses_gradients_and_statistics_are_the_same(backbone, dtype, bf16):
    plain, recomputed = (two_steps(backbone, recompute, dtype=dtype, bf16=bf16) for recompute in (False, True))
    assert_same(recomputed, plain)
    counters = {value.item() for name, value in plain.items() if name.endswith("num_batches_tracked")}
    assert counters == {3}  # two steps after the one that `make` takes


class Convolutions(TorchDispatchMode):
    """Counts the convolutions of the forward direction."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


def test_only_the_stages_are_computed_twice_and_only_for_a_gradient():
    model = make("optimal_sigma", backbone="vgg")
    counts = {}
    for recompute in (False, True):
        model.encoder.recompute = model.decoder.recompute = recompute
        with Convolutions() as forward:
            out = model(clips(model, 2, 4), torch.randn(2, 3, 4))
        with Convolutions() as backward:
            out.params.sum().backward()
        with Convolutions() as inference, torch.no_grad():
            model(clips(model, 2, 4), torch.randn(2, 3, 4))
        counts[recompute] = forward.count, backward.count, inference.count
    every = sum(isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d) for m in model.modules()) + 4  # skip halves
    assert counts[False] == (every, 0, every)
    assert counts[True] == (every, every - 2 - 4 - 1, every)  # not head, first, skip halves and the very last


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    half = BATCH // 2
    rows = slice(rank * half, (rank + 1) * half)
    for recompute in (False, True):
        torch.save(two_steps("vgg", recompute, rows=rows), f"{folder}/{recompute}-{rank}.pt")
    dist.destroy_process_group()


def test_so_they_are_on_two_processes(tmp_path: Path):
    mp.spawn(worker, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        plain, recomputed = (
            torch.load(tmp_path / f"{recompute}-{rank}.pt", weights_only=True) for recompute in (False, True)
        )
        assert_same(recomputed, plain)
