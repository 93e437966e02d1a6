"""Activation checkpointing (Chen et al. 2016, "Training deep nets with sublinear memory cost"): memory for time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(module: nn.Module, function: Callable[..., Tensor], *args: Tensor) -> Tensor:
    """`function(*args)`, of which the backward pass keeps the arguments alone and computes the rest once more.

    Result and gradients are the same to the last bit, and buffers are updated once.

    Args:
        module: whose buffers (BatchNorm's running statistics) `function` may update.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _spare_buffers(module)

    # Nothing here draws random numbers, so that their state need not be kept.
    return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextmanager
def _spare_buffers(module: nn.Module) -> Iterator[None]:
    """Copies stand in for the module's buffers inside the block, and take its updates."""
    own = [(part, name, buffer) for part in module.modules() for name, buffer in part.named_buffers(recurse=False)]
    try:
        for part, name, buffer in own:
            setattr(part, name, buffer.clone())
        yield
    finally:
        for part, name, buffer in own:
            setattr(part, name, buffer)
