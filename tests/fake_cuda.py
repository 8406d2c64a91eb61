"""A CUDA device that is not there: tensors with shapes and no data, and a record of what would make the host wait.

Inside `fake_cuda()`, tensors on `DEVICE` are torch's fake tensors; what is on the CPU is computed as usual. Operations
that mix the two are errors, as on a real device. Noted are launches (each operation that would start a kernel; views
start none), waits of the host (a value or a shape that it needs, a copy to the CPU), and copies to the device, for
which it waits as well. The device's name is "meta": a torch that was built without CUDA takes no derivatives on "cuda".
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

ROOT = Path(__file__).parents[1]
OURS = tuple(str(ROOT / part) for part in ("models", "tasks"))
DEVICE = torch.device("meta")
FOUND = 3  # how many places a condition on data is taken to have found
ATEN = torch.ops.aten
NO_KERNEL = {ATEN.detach, ATEN._unsafe_view, ATEN.empty, ATEN.new_empty, ATEN.empty_like, ATEN.empty_strided}
NO_KERNEL |= {ATEN.new_empty_strided, torch.ops.prim.device}
MASKED = ATEN.masked_select.default
NEEDS_SHAPE = {ATEN.nonzero.default, MASKED, ATEN.repeat_interleave.Tensor, ATEN.bincount.default}


@dataclass
class Record:
    """What was noted. launches: by operation. waits, copies: by the place in our code, "file:function"."""

    launches: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)

    @property
    def num_launches(self) -> int:
        """Of all operations."""
        return sum(self.launches.values())


@contextmanager
def fake_cuda() -> Iterator[Record]:
    """Where `DEVICE` is a fake device."""
    record = Record()
    with FakeTensorMode(allow_non_fake_inputs=True) as fakes, _Constants(record), _Watch(record, fakes):
        fakes.allow_meta = True
        yield record


def on_fake_cuda(module: nn.Module) -> nn.Module:
    """The module with its parameters and buffers on the fake device. To be called within `fake_cuda`."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                moved = nn.Parameter(to_fake_cuda(parameter.data), requires_grad=parameter.requires_grad)
                part._parameters[name] = moved
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = to_fake_cuda(buffer)
    return module


def to_fake_cuda(tensor: Tensor) -> Tensor:
    """A tensor of this shape and type on the fake device."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=DEVICE)


class FakeNoise:
    """Noise on the fake device."""

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, device=DEVICE)

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, device=DEVICE)


class _Constants(TorchFunctionMode):
    """Notes constants that are made on the host and sent, which fake tensors make in their place."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is Tensor.new_tensor and result.device == DEVICE:
            self.record.copies[_place()] += 1
        return result


class _Watch(TorchDispatchMode):
    """Notes operations, computes those on the CPU for real, and makes up what fake tensors cannot tell."""

    def __init__(self, record: Record, fakes: FakeTensorMode) -> None:
        super().__init__()
        self.record, self.fakes = record, fakes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        device = kwargs.get("device")
        to_cuda = device is not None and torch.device(device) == DEVICE
        on_cuda = [tensor for tensor in given if tensor.device == DEVICE]
        if not on_cuda and not to_cuda:
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is ATEN._local_scalar_dense.default:
            self.record.waits[_place()] += 1
            return _made_up(on_cuda[0].dtype)
        if func in NEEDS_SHAPE:
            self.record.waits[_place()] += 1
            self.record.launches[str(func)] += 1
            shape = _found_shape(func, on_cuda[0], kwargs)
            return torch.empty(shape, dtype=on_cuda[0].dtype if func is MASKED else torch.long, device=DEVICE)
        if func in (ATEN.index.Tensor, ATEN.index_put_.default, ATEN.index_put.default):
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            if masks:  # the number of places is needed for the shape
                self.record.waits[_place()] += 1
                places = tuple(torch.zeros(FOUND, dtype=torch.long, device=DEVICE) for _ in range(masks[0].dim()))
                args = (args[0], list(places), *args[2:])
        if to_cuda and given and not on_cuda:
            self.record.copies[_place()] += 1
            args, kwargs = tree_map_only(Tensor, self.fakes.from_tensor, (args, kwargs))
        result = func(*args, **kwargs)
        leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if on_cuda and any(leaf.device.type == "cpu" for leaf in leaves):
            self.record.waits[_place()] += 1
            return tree_map_only(FakeTensor, _made_up_on_the_cpu, result)
        if not _is_view(func) and func._overloadpacket not in NO_KERNEL:
            self.record.launches[str(func)] += 1
        return result


def _is_view(func: Any) -> bool:
    returned = func._schema.returns
    return bool(func.is_view) or any(r.alias_info is not None and not r.alias_info.is_write for r in returned)


def _made_up_on_the_cpu(tensor: Tensor) -> Tensor:
    with unset_fake_temporarily():
        if tensor.dtype.is_floating_point:  # not all the same: forces of equal slopes would be zero
            return torch.linspace(0.5, 1.5, tensor.numel(), dtype=tensor.dtype).reshape(tensor.shape)
        return torch.ones(tensor.shape, dtype=tensor.dtype)


def _found_shape(func: Any, tensor: Tensor, options: Mapping[str, Any]) -> tuple[int, ...]:
    if func is ATEN.bincount.default:
        return (int(options.get("minlength", 0)) or FOUND,)
    return (FOUND, tensor.dim()) if func is ATEN.nonzero.default else (FOUND,)


def _made_up(dtype: torch.dtype) -> float | int | bool:
    """A value that a condition or a size can live with."""
    return True if dtype == torch.bool else 1.0 if dtype.is_floating_point else 1


def _place() -> str:
    """The innermost place in our code, as "models/file.py:function"."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(OURS):
            return f"{Path(frame.f_code.co_filename).relative_to(ROOT).as_posix()}:{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "outside"
