"""A CUDA device that is not there: tensors with shapes and no data, and a record of what would make the host wait.

Inside `fake_cuda()`, tensors on "cuda" are torch's fake tensors; what is on the CPU is computed as usual. Operations
that mix the two are errors, as on a real device. Noted are launches (each operation that would start a kernel; views
start none), waits of the host (a value or a shape that it needs, a copy to the CPU), and copies to the device.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

ROOT = Path(__file__).parents[1]
OURS = tuple(str(ROOT / part) for part in ("models", "tasks"))
CUDA = torch.device("cuda:0")
FOUND = 3  # how many places a condition on data is taken to have found
ATEN = torch.ops.aten
SCALARS: dict[Any, Callable[[Any], Any]] = {
    Tensor.item: lambda value: value,
    Tensor.__int__: int,
    Tensor.__index__: int,
    Tensor.__float__: float,
    Tensor.__bool__: bool,
}
SIGNS = {"__invert__": "bitwise_not", "__and__": "bitwise_and", "__or__": "bitwise_or", "__iand__": "bitwise_and_"}
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
    """Where "cuda" is a fake device."""
    record = Record()
    with FakeTensorMode(allow_non_fake_inputs=True) as fakes, _Moves(record), _Watch(record, fakes):
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
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=CUDA)


class FakeNoise:
    """Noise on the fake device."""

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, device=CUDA)

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, device=CUDA)


class _Moves(TorchFunctionMode):
    """Calls that a torch without CUDA refuses before they come to fake tensors, by others that it lets through."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.to:
            named = [a for a in (*args[1:], kwargs.get("device")) if isinstance(a, str | torch.device)]
            if named and torch.device(named[0]).type == "cuda":
                types_named = [a for a in (*args[1:], kwargs.get("dtype")) if isinstance(a, torch.dtype)]
                dtype = types_named[0] if types_named else args[0].dtype
                return args[0].to(torch.empty((), dtype=dtype, device=CUDA))
        if func is Tensor.new_tensor and args[0].device.type == "cuda":
            self.record.copies[_place()] += 1
            return torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype), device=CUDA)
        if func is Tensor.__getitem__ and args[0].device.type == "cuda":
            return _indexed(args[0], args[1])
        if func is Tensor.__setitem__ and args[0].device.type == "cuda":
            return _assign(args[0], args[1], args[2])
        if func in SCALARS and args[0].device.type == "cuda":
            return SCALARS[func](ATEN._local_scalar_dense.default(args[0]))
        if func in (Tensor.nonzero, torch.nonzero) and args[0].device.type == "cuda":
            found = ATEN.nonzero.default(args[0])
            return found.unbind(1) if kwargs.get("as_tuple") else found
        try:
            return func(*args, **kwargs)
        except RuntimeError as error:
            name = getattr(func, "__name__", "")
            name = SIGNS.get(name, name)
            if "not linked with support for cuda" not in str(error) or not hasattr(ATEN, name):
                raise
            return getattr(ATEN, name)(*args, **kwargs)


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
        to_cuda = device is not None and torch.device(device).type == "cuda"
        on_cuda = [tensor for tensor in given if tensor.device.type == "cuda"]
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
            return torch.empty(shape, dtype=on_cuda[0].dtype if func is MASKED else torch.long, device=CUDA)
        if func in (ATEN.index.Tensor, ATEN.index_put_.default, ATEN.index_put.default):
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            if masks:  # the number of places is needed for the shape
                self.record.waits[_place()] += 1
                places = tuple(torch.zeros(FOUND, dtype=torch.long, device=CUDA) for _ in range(masks[0].dim()))
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


def _indexed(tensor: Tensor, index: Any) -> Tensor:
    """tensor[index], by the operations that it is made of."""
    index = list(index) if isinstance(index, tuple) else [index]
    index = [torch.as_tensor(part) if isinstance(part, list | np.ndarray) else part for part in index]
    used = sum(_dims(part) for part in index if part is not None and part is not Ellipsis)
    place = next((k for k, part in enumerate(index) if part is Ellipsis), len(index))
    index[place : place + 1] = [slice(None)] * (tensor.dim() - used)
    dim, tensors = 0, []
    for part in index:
        if part is None:
            tensor = tensor.unsqueeze(dim)
            dim, tensors = dim + 1, [*tensors, None]
        elif isinstance(part, slice):
            tensor = ATEN.slice.Tensor(tensor, dim, part.start, part.stop, 1 if part.step is None else part.step)
            dim, tensors = dim + 1, [*tensors, None]
        elif isinstance(part, Tensor):
            dim, tensors = dim + _dims(part), [*tensors, part]
        else:
            tensor = tensor.select(dim, int(part))
    return tensor if all(part is None for part in tensors) else ATEN.index.Tensor(tensor, _on_cuda(tensors))


def _assign(tensor: Tensor, index: Any, value: Any) -> None:
    """tensor[index] = value."""
    parts = index if isinstance(index, tuple) else (index,)
    if isinstance(index, Tensor) and index.dtype == torch.bool and not isinstance(value, Tensor):
        tensor.masked_fill_(index, value)
    elif all(isinstance(part, Tensor) for part in parts):
        value = value if isinstance(value, Tensor) else torch.tensor(value, dtype=tensor.dtype, device=CUDA)
        ATEN.index_put_.default(tensor, _on_cuda(parts), value)
    elif isinstance(value, Tensor):
        ATEN.copy_.default(_indexed(tensor, index), value)
    else:
        _indexed(tensor, index).fill_(value)


def _dims(part: Any) -> int:
    """Dimensions that a part of an index takes."""
    return part.dim() if isinstance(part, Tensor) and part.dtype == torch.bool else 1


def _on_cuda(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Indices on the device; torch copies those that are on the CPU."""
    return [t if t is None or t.device.type == "cuda" else t.to("cuda") for t in tensors]


def _is_view(func: Any) -> bool:
    returned = func._schema.returns
    return bool(func.is_view) or any(r.alias_info is not None and not r.alias_info.is_write for r in returned)


def _made_up_on_the_cpu(tensor: Tensor) -> Tensor:
    with unset_fake_temporarily():
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
