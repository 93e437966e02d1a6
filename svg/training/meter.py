"""What training says of itself: means of its terms, kept on the device until they are read, and a line to watch."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from svg import likelihoods
from svg.checkpoint import Checkpoint, CheckpointError
from svg.config import Config
from svg.metrics import MSE_FLOOR

Row = dict[str, float | None]
"""A line of metrics.jsonl."""
_PREFIX = "meter."
"""Of the names of the tensors that a checkpoint keeps of a Meter."""
_DIMS = {"terms": 3, "norms": 1, "steps": 1}
"""Those tensors, and how many dimensions each has."""


class NotFinite(ArithmeticError):
    """A term is infinite or not a number: its name, and the first step at which it is (from 1)."""

    def __init__(self, term: str, step: int) -> None:
        super().__init__(f"{term} is not finite at step {step}")
        self.term, self.step = term, step


class Meter:
    """Means over steps, micro-batches and processes; nothing waits for the device before they are read.

    Args:
        accelerator: whose processes share the batch.
        frames: of one step, over all processes.
        resumed: where the run goes on, with the terms of its last steps that are not read yet.
    """

    def __init__(self, accelerator: Accelerator, frames: int, resumed: Checkpoint | None = None) -> None:
        self.accelerator, self.frames = accelerator, frames
        self._before, self._since, self._paused = 0.0, time.perf_counter(), 0.0
        self._names: list[str] = []
        self._terms: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._steps: list[int] = []
        self._earlier = torch.empty(0, 0, 0), torch.empty(0)
        if resumed:
            self._restore(resumed)

    def add(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Takes in the terms of a micro-batch at step `step` (from 0), each of any shape."""
        self._names = list(terms)
        self._terms.append(torch.stack([term.detach().float().mean() for term in terms.values()]))
        self._steps.append(step)

    def end_step(self, grad_norm: Tensor) -> None:
        """Ends a step with its gradient's norm."""
        self._norms.append(grad_norm.detach().float())

    @property
    def seconds(self) -> float:
        """Seconds of training, pauses apart, earlier sessions included."""
        return self._before + (self._paused or time.perf_counter()) - self._since

    @property
    def clock(self) -> dict[str, float]:
        """What a checkpoint keeps of the time: `seconds`, and those of the last reading."""
        return {"seconds": self.seconds, "read_at": self._before}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is not training."""
        self._paused = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - self._paused
            self._paused = 0.0

    def check(self) -> dict[str, Tensor]:
        """The terms and norms since the last reading, as tensors of a checkpoint, from which `resumed` goes on;
        none where all are read.

        Raises:
            NotFinite: a term was not.
        """
        terms, norms = self._gather()
        if not self._steps:
            return {}
        steps = torch.tensor(self._steps, dtype=torch.int64)
        return {_PREFIX + "terms": terms, _PREFIX + "norms": norms, _PREFIX + "steps": steps}

    def read(self) -> Row:
        """The means since the last reading, the gradient's norm, and frames per second; starts anew.

        Raises:
            NotFinite: a term was not.
        """
        terms, norms = self._gather()
        row: Row = dict(zip(self._names, terms.mean((0, 1)).tolist(), strict=True))
        finite = norms[norms.isfinite()]
        row["grad_norm"] = finite.mean().item() if len(finite) else None
        row["frames_per_s"] = self.frames * len(norms) / (self.seconds - self._before)
        row["seconds"] = self._before = self.seconds
        self._since = time.perf_counter()
        self._terms, self._norms, self._steps = [], [], []
        self._earlier = torch.empty(0, 0, 0), torch.empty(0)
        return row

    def _restore(self, resumed: Checkpoint) -> None:
        """Goes on from what `check` gave, if the checkpoint has it (those of earlier versions have not)."""
        trained = self._before = float(resumed.state.get("seconds", 0.0))
        parts = {name.removeprefix(_PREFIX): tensor for name, tensor in unread(resumed.training).items()}
        if not parts.get("steps", torch.empty(0)).numel():
            return
        dims = {name: parts[name].ndim for name in _DIMS if name in parts}
        if dims != _DIMS or parts["terms"].shape[1] != len(parts["steps"]):
            raise CheckpointError(f"the checkpoint of step {resumed.step} has damaged tensors {_PREFIX}*")
        self._earlier = parts["terms"], parts["norms"]
        self._steps = parts["steps"].tolist()
        self._before = float(resumed.state.get("read_at", trained))
        self._since -= trained - self._before

    def _gather(self) -> tuple[Tensor, Tensor]:
        """Terms (processes, micro-batches, terms) and norms (steps,), on the host, checked."""
        terms, norms = self._earlier
        if self._terms:
            new = self.accelerator.gather(torch.stack(self._terms)[None]).cpu()
            if len(terms) and terms.shape[2] != new.shape[2]:  # of a version with other terms
                terms, norms, self._steps = terms[:0], norms[:0], self._steps[-len(self._terms) :]
            if len(terms) not in (0, len(new)):  # resumed by another number of processes
                terms, new = terms.mean(0, keepdim=True), new.mean(0, keepdim=True)
            terms = torch.cat([terms, new], 1) if len(terms) else new
            norms = torch.cat([norms, torch.stack(self._norms).cpu()])
        if not len(terms):
            return terms, norms
        bad = (~terms.isfinite()).any(0).nonzero()
        if len(bad):
            raise NotFinite(self._names[bad[0, 1]], self._steps[bad[0, 0]] + 1)
        # A gradient scaler meets gradients that overflow, skips their step, and lowers the scale.
        bad = (~norms.isfinite()).nonzero()
        if len(bad) and self.accelerator.scaler is None:
            accumulate = len(self._steps) // len(norms)
            raise NotFinite("the gradient's norm", self._steps[bad[0, 0] * accumulate] + 1)
        return terms, norms


def unread(training: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint that are a Meter's."""
    return {name: tensor for name, tensor in training.items() if name.startswith(_PREFIX)}


class Units:
    """The units that people compare: bits per dimension and PSNR."""

    def __init__(self, config: Config) -> None:
        c, model = config.likelihood, config.model
        size = (model.size, model.size)
        likelihood = likelihoods.build(c.name, channels=model.channels, size=size, **c.options)
        self.dims = model.channels * model.size**2
        support = likelihood.distribution(torch.zeros(1, 1, likelihood.param_channels, *size)).support
        level = {"reals": math.log(255), "unit interval": math.log(256), "levels": 0.0}
        self._level = level.get(support) if likelihood.normalised else None

    def convert(self, row: Row) -> Row:
        """Means of an objective's terms, with the bound and its bits per dimension, and PSNR in place of `mse`."""
        row = dict(row)
        mse, nll, kl = row.pop("mse", None), row.get("nll"), row.get("kl")
        if nll is not None and kl is not None:
            row["neg_elbo"] = nll + kl
            row["bits_per_dim"] = self.bits_per_dim(nll + kl)
        if mse is not None:
            row["psnr"] = -10 * math.log10(max(mse, MSE_FLOOR))
        return row

    def bits_per_dim(self, nats: float) -> float | None:
        """Of a bound in nats per frame (likelihoods.md, section B); None where there is no density to convert.

        It is scored at the centres of the levels, without dequantisation.
        """
        return None if self._level is None else (nats / self.dims + self._level) / math.log(2)


class Display:
    """A progress bar with the terms that matter; where nobody watches, a line every half minute.

    Args:
        start, steps: where the run goes on, and its length.
        shown: whether this process shows anything.
    """

    def __init__(self, start: int, steps: int, shown: bool) -> None:
        self.steps, self.shown = steps, shown
        self._bar = tqdm(
            total=steps,
            initial=start,
            unit="step",
            dynamic_ncols=True,
            bar_format="{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
            disable=not (shown and sys.stderr.isatty()),
        )
        self._next_line = 0.0

    def step(self) -> None:
        """Counts a step."""
        self._bar.update()

    def show(self, step: int, row: Row) -> None:
        """Shows a row of the log."""
        text = describe(row)
        self._bar.set_postfix_str(text, refresh=False)
        if self._bar.disable and self.shown and (time.monotonic() >= self._next_line or step == self.steps):
            print(f"step {step}/{self.steps}  {text}", flush=True)
            self._next_line = time.monotonic() + 30

    def say(self, text: str) -> None:
        """Prints a line of its own."""
        if self.shown:
            tqdm.write(text)
            sys.stdout.flush()

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()


def describe(row: Row) -> str:
    """A row of the log in a few words."""
    forms = {
        "neg_elbo": "{:.0f} nats",
        "bits_per_dim": "{:.3f} bits/dim",
        "kl": "KL {:.1f}",
        "sigma": "sigma {:.4f}",
        "psnr": "PSNR {:.1f}",
        "frames_per_s": "{:.0f} frames/s",
    }
    values = ((row.get(name), form) for name, form in forms.items())
    return "  ".join(form.format(value) for value, form in values if value is not None)
