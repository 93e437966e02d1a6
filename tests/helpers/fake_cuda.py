"""A GPU that isn't there: tensors say that they are on "cuda", have shapes and no numbers, and mixing them with the
CPU's fails as it would on a GPU.

torch's FakeTensorMode is made for compilers, which see no numbers and call no engine. What programs need besides is
here: answers where a number is read, a backward pass without a CUDA context, and the checks that it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)


@contextmanager
def fake_cuda(truth: bool = True) -> Iterator[None]:
    """Inside the block "cuda" is a device, and all new tensors are fake; those from outside are the CPU's.

    Build a model before the block and move it inside (`model.to("cuda")`): its parameters are fake from then on.

    Args:
        truth: what a boolean reads as; floats read as 0.5 and integers as 1.
    """
    with ExitStack() as stack:
        stack.enter_context(patch("torch.cuda._lazy_init"))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(patch.object(nn.Module, "_apply", _moved))
        stack.enter_context(patch.object(Tensor, "__deepcopy__", _copied))
        stack.enter_context(patch.object(Tensor, "backward", backward))
        stack.enter_context(patch.object(Tensor, "numpy", _numpy))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_Program(truth))
        yield


class _Program(TorchDispatchMode):
    """Answers reads, and checks devices where FakeTensorMode doesn't."""

    def __init__(self, truth: bool) -> None:
        super().__init__()
        self.answers = {torch.bool: truth}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default:
            dtype = args[0].dtype
            return self.answers.get(dtype, 0.5 if dtype.is_floating_point else 1)
        if func is aten.nonzero.default:
            return args[0].new_empty((0, args[0].ndim), dtype=torch.long)
        if func is aten.bincount.default:
            return _bincount(*args, **kwargs)
        if func.namespace == "aten":
            _check(func, args)
        made = func(*args, **kwargs)
        if kwargs.get("generator") is not None and kwargs["generator"].device.type != made.device.type:
            raise RuntimeError(f"{func}: the generator is of another device than {made.device}")
        return made


def _check(func: torch._ops.OpOverload, args: tuple) -> None:
    """Raises RuntimeError where a GPU would and FakeTensorMode doesn't."""
    name = func.overloadpacket.__name__
    if name in ("index", "index_put", "index_put_"):
        if any(part is not None and part.device.type != "cpu" and part.device != args[0].device for part in args[1]):
            raise RuntimeError(f"indices should be either on cpu or on the indexed tensor's device: {args[0].device}")
    elif name in ("cat", "stack"):
        _require_one_device(func, args[0])
    elif name in ("gather", "index_select", "take"):  # even of a scalar index
        _require_one_device(func, [part for part in args if isinstance(part, Tensor)])
    elif name.startswith("_foreach_") and name != "_foreach_copy_":
        lists = [part for part in args if isinstance(part, list | tuple) and part and isinstance(part[0], Tensor)]
        for parts in zip(*lists, strict=True):
            _require_one_device(func, parts)


def _require_one_device(func: torch._ops.OpOverload, tensors) -> None:
    if len({tensor.device for tensor in tensors}) > 1:
        raise RuntimeError(f"{func}: all tensors must be on one device, not {[str(t.device) for t in tensors]}")


def _bincount(values: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    if weights is None:
        return values.new_empty(minlength)
    _require_one_device(aten.bincount, (values, weights))
    return weights.new_empty(minlength)


def _numpy(tensor: Tensor, force: bool = False) -> np.ndarray:
    if tensor.device.type != "cpu":
        raise TypeError(f"can't convert {tensor.device} device type tensor to numpy")
    return np.zeros(tensor.shape, str(tensor.dtype).removeprefix("torch."))


def _moved(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` with new parameters: torch's changes them in place, which a fake tensor refuses."""
    for child in module.children() if recurse else ():
        child._apply(fn)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            module._parameters[name] = nn.Parameter(fn(parameter.detach()), parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = fn(buffer)
    return module


def _copied(tensor: Tensor, memo: dict) -> Tensor:
    if id(tensor) not in memo:
        copied = tensor.detach().clone()
        memo[id(tensor)] = nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied
    return memo[id(tensor)]


@torch.no_grad()
def backward(loss: Tensor) -> None:
    """`loss.backward()`, node by node: torch's engine wants a CUDA context."""
    grads = {loss.grad_fn: [torch.ones_like(loss)]}
    for node in _ordered(loss.grad_fn):
        given = (node if callable(node) else node.apply)(*grads.pop(node))
        given = given if isinstance(given, tuple) else (given,)
        for (after, place), grad in zip(node.next_functions, given, strict=True):
            if after is None or grad is None:
                continue
            like = after._input_metadata[place]
            if grad.device != like.device:
                raise RuntimeError(f"{node} gave a gradient on {grad.device}, but its input is on {like.device}")
            grad = grad.sum_to_size(like.shape).to(like.dtype)
            sums = grads.setdefault(after, [None] * len(after._input_metadata))
            sums[place] = grad if sums[place] is None else sums[place] + grad


def _ordered(root) -> list:
    """The nodes of a graph, each before those that it gives gradients to."""
    finished, order, stack = set(), [], [(root, False)]
    while stack:
        node, left = stack.pop()
        if left:
            order.append(node)
        elif node not in finished:
            finished.add(node)
            stack.append((node, True))
            stack += [(after, False) for after, _ in node.next_functions if after is not None and after not in finished]
    return order[::-1]
