"""Two processes against one: the averaged gradient of local losses is that of the global batch, exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from svg.config import ObjectiveConfig
from svg.objective import Objective
from tests.helpers.models import frames as clips
from tests.helpers.models import images, make, vae

CASES = {
    "optimal_sigma": ("elbo", "optimal_sigma", {}),
    "diag_i": ("elbo", "diag_i", {}),
    "bilbo": ("bilbo", "fixed_gaussian", {"posterior": "constant"}),
    "baggins": ("bilbo", "baggins", {"posterior": "constant"}),
    "wae_mmd": ("wae_mmd", "iso_d", {"posterior": "deterministic"}),
    "dip_vae": ("dip_vae", "shared_sigma", {}),
    "beta": ("elbo", "beta", {}),
}
VIDEO_CASES = {
    "optimal_sigma": ("elbo", "optimal_sigma", {}),
    "bilbo": ("bilbo", "optimal_sigma", {"posterior": "constant", "prior": "learned_mean"}),
    "baggins": ("bilbo", "baggins", {"posterior": "constant", "prior": "learned_mean"}),
}
BATCH = 4


def run(kind: str, case: str, rows: slice) -> dict[str, torch.Tensor]:
    """Gradients, loss and statistics of some rows of the batch."""
    name, likelihood, config = (CASES if kind == "image" else VIDEO_CASES)[case]
    if kind == "image":
        model, x = vae(likelihood, **config), images(BATCH)
    else:
        model = make(likelihood, **config).double()
        x = clips(model, BATCH, 4)
        for module in model.modules():  # a batch's BatchNorm is each process's own, as published
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    loss, _ = Objective(model, ObjectiveConfig(name=name))(x[rows], torch.arange(BATCH)[rows], 0)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    found |= {name: b for name, b in model.named_buffers() if "total" in name}
    return {"loss": loss.detach(), **found}


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    half = BATCH // 2
    for kind, cases in (("image", CASES), ("video", VIDEO_CASES)):
        for case in cases:
            torch.save(run(kind, case, slice(rank * half, (rank + 1) * half)), f"{folder}/{kind}-{case}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gloo")
    mp.spawn(worker, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize(
    ("kind", "case"), [("image", case) for case in CASES] + [("video", case) for case in VIDEO_CASES]
)
def test_two_processes_equal_one(folder, kind, case):
    alone = run(kind, case, slice(None))
    parts = [torch.load(folder / f"{kind}-{case}-{rank}.pt", weights_only=True) for rank in range(2)]
    assert alone.keys() == parts[0].keys() == parts[1].keys()
    for name, value in alone.items():
        mean = (parts[0][name] + parts[1][name]) / 2
        torch.testing.assert_close(mean, value, rtol=1e-7, atol=1e-9 * max(1.0, value.abs().max().item()), msg=name)
