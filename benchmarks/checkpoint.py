"""How long training stands still for a checkpoint: written in the loop, and by the background writer.

    python -m benchmarks.checkpoint

The published vgg model with Adam's moments. Where all cores train, the writer's processor time is training's.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.harness import device, parse, parser, publish, ratio, timed
from svg import checkpoint
from svg.config import Config, ModelConfig
from svg.objective import Objective
from svg.pretrained import build
from svg.training.learner import Learner
from svg.training.optim import adam
from svg.training.writer import Writer


def learner_of(config: Config) -> Learner:
    """The model and its optimiser, as after a step."""
    objective = Objective(build(config).to(device()), config.objective)
    learner = Learner(objective, adam(objective, config.train))
    for parameter in objective.parameters():
        parameter.grad = torch.rand_like(parameter)
    learner.optimizer.step()
    return learner


def main() -> None:
    """Measures and publishes."""
    made = parser(__doc__)
    made.add_argument("--width", type=int, default=64)
    options = parse(made)
    config = Config(model=ModelConfig(width=options.width))
    learner = learner_of(config)
    seconds: dict[str, list[float]] = {"in the loop": [], "in the background": []}
    processor: dict[str, list[float]] = {name: [] for name in seconds}
    steps = itertools.count(1)
    with tempfile.TemporaryDirectory() as folder:

        def in_the_loop() -> None:
            checkpoint.save(Path(folder), learner.checkpoint(next(steps), config, {"seconds": 0.0}), keep=1)

        def in_the_background() -> None:
            writer.save(learner.checkpoint(next(steps), config, {"seconds": 0.0}))

        for round_ in range(options.rounds + 1):
            for name, save in zip(seconds, (in_the_loop, in_the_background), strict=True):
                before = time.process_time()
                with Writer(Path(folder), keep=1) as writer:
                    spent = timed(save)
                if round_:
                    seconds[name].append(spent)
                    processor[name].append(time.process_time() - before)
        (whole,) = Path(folder).glob("checkpoints/*")
        size = sum(path.stat().st_size for path in whole.iterdir()) / 2**20

    rows = [
        {
            "": name,
            "training stands still (s)": round(statistics.median(spent), 3),
            "shorter": ratio(seconds["in the loop"], spent),
            "processor time in all (s)": round(statistics.median(processor[name]), 2),
        }
        for name, spent in seconds.items()
    ]
    publish("checkpoint", rows, options, f"vgg of width {options.width}, {size:.0f} MiB a checkpoint.")


if __name__ == "__main__":
    main()
