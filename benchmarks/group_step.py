"""One process of a group that trains as train.py does: `benchmarks.scaling` launches the group, and reads what its
first process writes.

    python -m svg.runtime.launch --processes 2 -m benchmarks.group_step RESULT.json '{"shares": [4], ...}'
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

import train
from benchmarks.harness import timed
from svg.config import Config, LikelihoodConfig, ModelConfig, TrainConfig
from svg.runtime.files import replacing
from svg.runtime.program import run as run_program


@dataclass(frozen=True)
class Group:
    """What each process does."""

    shares: list[int]
    """Clips of a process in a step: each number is timed."""
    steps: int
    """Steps timed for each, after one that is not."""
    threads: int
    """Of each process, on a CPU."""
    frames: int
    size: Any
    width: int
    backbone: Any
    likelihood: str
    precision: Any


def main() -> None:
    """Trains on random frames; the first process writes what `measure` gives."""
    result, group = sys.argv[1], Group(**json.loads(sys.argv[2]))
    config = Config(
        model=ModelConfig(backbone=group.backbone, size=group.size, width=group.width),
        likelihood=LikelihoodConfig(group.likelihood),
        train=TrainConfig(precision=group.precision, trackers=[]),
    )
    accelerator = train.make_accelerator(config)
    if accelerator.device.type == "cpu":
        torch.set_num_threads(group.threads)
    found = measure(group, config, accelerator)
    if accelerator.is_main_process:
        with replacing(result) as temporary:
            temporary.write_text(json.dumps(found))
    accelerator.wait_for_everyone()  # or one leaves while another still hears it
    accelerator.end_training()


def measure(group: Group, config: Config, accelerator: Accelerator) -> dict[str, Any]:
    """Seconds a step for each share, and what the processes send each other.

    Returns:
        processes, threads: as they are.
        step_s: share to seconds of a step of the whole group.
        gradient_bytes, buffer_bytes: what DDP averages (float32) and broadcasts in each step.
        statistics_bytes, statistics_calls: what the likelihood all-reduces in a step, as seen.
        all_reduce_s: median seconds of an all-reduce of a buffer as large as the gradients; None for one process.
    """
    learner = train.make_learner(config, accelerator, None)
    parameters = [parameter for parameter in learner.objective.parameters() if parameter.requires_grad]
    buffers = list(learner.objective.buffers())
    objective, optimizer = accelerator.prepare(learner.objective, learner.optimizer)

    def stepper(share: int) -> Callable[[], None]:
        shape = (share, group.frames, group.size, group.size, config.model.channels)
        frames = torch.randint(0, 256, shape, dtype=torch.uint8).permute(0, 1, 4, 2, 3).to(accelerator.device)
        index = torch.arange(share, device=accelerator.device) + share * accelerator.process_index

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            loss, _ = objective(frames, index, 0)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(objective.parameters(), config.train.grad_clip)
            optimizer.step()

        return step

    def run(step: Callable[[], None]) -> None:
        for _ in range(group.steps):
            step()
        accelerator.wait_for_everyone()

    step_s = {}
    for share in group.shares:
        step = stepper(share)
        with all_reduces() as statistics_sent:
            step()
        accelerator.wait_for_everyone()
        step_s[share] = timed(lambda step=step: run(step)) / group.steps  # type: ignore[misc]
    gradient_bytes = sum(parameter.nbytes for parameter in parameters)
    return {
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "step_s": step_s,
        "gradient_bytes": gradient_bytes,
        "buffer_bytes": sum(buffer.nbytes for buffer in buffers) if accelerator.num_processes > 1 else 0,
        "statistics_bytes": sum(statistics_sent),
        "statistics_calls": len(statistics_sent),
        "all_reduce_s": all_reduce_s(gradient_bytes, accelerator),
    }


@contextmanager
def all_reduces() -> Iterator[list[int]]:
    """The bytes of each all-reduce that Python code asks for inside the block: statistics, but not DDP's gradients."""
    seen: list[int] = []
    original = dist.all_reduce

    def counting(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
        seen.append(tensor.nbytes)
        return original(tensor, *arguments, **options)

    with patch.object(dist, "all_reduce", counting):
        yield seen


def all_reduce_s(nbytes: int, accelerator: Accelerator) -> float | None:
    """Median seconds of an all-reduce of so many bytes of float32; None for one process."""
    if accelerator.num_processes == 1:
        return None
    buffer = torch.zeros(nbytes // 4, device=accelerator.device)
    dist.all_reduce(buffer)
    return statistics.median(timed(lambda: dist.all_reduce(buffer)) for _ in range(5))


if __name__ == "__main__":
    run_program(main)
