"""Two gloo processes have the global batch's statistics, losses and gradients."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from svg.likelihoods import REGISTRY
from svg.runtime.parallel import global_mean, global_sum
from tests.helpers.heads import LATENTS, batch, head

NAMES = [name for name, cls in REGISTRY.items() if cls.fits_target]


def step(name: str, part: slice) -> dict[str, torch.Tensor]:
    """One training step's loss on part of a batch of four clips, with a weight before and after the decoder."""
    likelihood = head(name)
    params, target = batch(likelihood, clips=4, dtype=torch.float64)
    scale, shift = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.7, 1.1))
    offset = shift * torch.cat((LATENTS["offset"], 2 * LATENTS["offset"]))[part].double()
    latents = {"offset": offset, "variance": LATENTS["variance"]}
    loss = likelihood.loss(scale * params[part], target[part], latents=latents).mean()
    gradients = torch.autograd.grad(loss, (scale, shift), allow_unused=True)
    likelihood.eval()
    with likelihood.refit():
        for clip in range(params[part].shape[0]):
            one = {**latents, "offset": latents["offset"][clip : clip + 1]}
            likelihood.loss(0.5 * params[part][clip : clip + 1], target[part][clip : clip + 1], latents=one)
    result = {"loss": loss.detach(), "scale": gradients[0], "refit": likelihood.running.value}
    if gradients[1] is not None:
        result["shift"] = gradients[1]
    return result


def statistics(values: torch.Tensor) -> dict[str, torch.Tensor]:
    """A nonlinear function of a global mean, and its gradient."""
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    mean = global_mean((weight * values).square(), dim=(0,))
    total = global_sum(values)[0] if values.shape[0] == 2 else values[:2] + values[2:]
    (gradient,) = torch.autograd.grad(mean.log().sum(), weight)
    return {"mean": mean.detach(), "gradient": gradient, "sum": total}


VALUES = torch.linspace(0.1, 2, 12, dtype=torch.float64).view(4, 3)


def worker(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    part = slice(2 * rank, 2 * rank + 2)
    results = {name: step(name, part) for name in NAMES} | {"statistics": statistics(VALUES[part])}
    for result in results.values():
        for key, value in result.items():  # the mean over processes, as DDP takes it of gradients
            dist.all_reduce(value)
            result[key] = value / 2
    if rank == 0:
        torch.save(results, f"{folder}/results.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> dict[str, dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("gloo")
    mp.spawn(worker, (str(folder),), nprocs=2)
    return torch.load(folder / "results.pt", weights_only=True)


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_have_the_global_batchs_loss_gradient_and_scale(name, two_processes):
    expected = step(name, slice(0, 4))
    assert expected.keys() == two_processes[name].keys()
    for key, value in expected.items():
        assert torch.allclose(two_processes[name][key].double(), value.double(), rtol=1e-9, atol=1e-12), key


def test_global_mean_and_sum(two_processes):
    for key, value in statistics(VALUES).items():
        assert torch.allclose(two_processes["statistics"][key], value, rtol=1e-12), key


def test_a_local_scale_would_be_another_model():
    """The test above could not pass with a scale of each process's own."""
    halves = torch.stack([step("optimal_sigma", part)["scale"] for part in (slice(0, 2), slice(2, 4))]).mean()
    assert abs(float(halves / step("optimal_sigma", slice(0, 4))["scale"]) - 1) > 1e-6


def test_one_process_is_the_trivial_case():
    (total,) = global_sum(torch.tensor([1.0, 2.0]))
    assert total.tolist() == [1, 2] and not total.requires_grad
    value = torch.tensor([1.0, 3.0], requires_grad=True)
    assert global_mean(value).item() == pytest.approx(2)
