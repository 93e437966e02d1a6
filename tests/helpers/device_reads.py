"""Sees on a CPU what would make the host wait for a GPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_CALLS = {Tensor.cpu, Tensor.numpy, Tensor.tolist, Tensor.__array__}
_OPERATIONS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim"}


class DeviceReads:
    """Collects the calls inside the block whose result depends on the device's numbers, and those that copy Python
    numbers to it.

    with DeviceReads() as reads:
        ...
    assert not reads.seen
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._modes = _Calls(self.seen), _Operations(self.seen)

    def __enter__(self) -> DeviceReads:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)


class _Calls(TorchFunctionMode):
    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        copies = func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None
        if func in _CALLS or (copies and not isinstance(args[0], Tensor)):
            self.seen.append(func.__name__)
        return func(*args, **kwargs)


class _Operations(TorchDispatchMode):
    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(part is not None and part.dtype == torch.bool for part in args[1])
        if name in _OPERATIONS or by_mask:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))
