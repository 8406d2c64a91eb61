"""A denoising network by torch.compile, made ready for every shape before anything is timed.

One graph serves all numbers of crystals and atoms. The numbers are those of the plain network but for rounding. On a
GPU its kernels are replayed as CUDA graphs, one for each shape, so numbers of crystals are padded to powers of two
there; the network sees no crystal beside another, so what fills the batch changes nothing. This has been tried on CPUs
only.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from models.cspnet import CSPNet, CSPNetOutput

SMALLEST_ON_GPU = 8  # crystals; fewer take as long
CALLS_OF_A_GRAPH = 3  # torch wakes the kernels in the first, records in the second, replays from the third on
COMPILERS = ("c++", "g++", "clang++")


class CompiledForward:
    """What takes the place of a network's `forward`. device: the network's."""

    def __init__(self, network: CSPNet, device: str) -> None:
        self.on_gpu = device != "cpu"
        mode = "reduce-overhead" if self.on_gpu else "default"
        self._forward: Any = torch.compile(network.forward, fullgraph=True, dynamic=True, mode=mode)

    def padded(self, size: int) -> int:
        """Crystals that the graph is given for `size`. One crystal would be compiled apart from several."""
        return max(SMALLEST_ON_GPU, 1 << (size - 1).bit_length()) if self.on_gpu else max(2, size)

    def __call__(self, *inputs: Tensor) -> CSPNetOutput:
        """As `CSPNet.forward`."""
        size = len(inputs[0])
        extra = self.padded(size) - size
        if extra:
            inputs = tuple(torch.cat([tensor, tensor.new_zeros(extra, *tensor.shape[1:])]) for tensor in inputs)
        if not self.on_gpu:
            return _first(self._forward(*inputs), size)
        torch.compiler.cudagraph_mark_step_begin()
        # The next replay writes over a graph's outputs, and samplers hold on to them.
        return _first(self._forward(*inputs), size, torch.clone)


def _first(out: CSPNetOutput, size: int, of_part: Callable[[Tensor], Tensor] = lambda part: part) -> CSPNetOutput:
    """What was given out for the first crystals; the rest filled the batch."""
    return CSPNetOutput(*(of_part(part[:size]) for part in out))


def require_compiler(device: str) -> None:
    """ValueError where torch.compile lacks what it needs on a device."""
    if device != "cpu":
        if find_spec("triton") is None:
            raise ValueError("--compile on a GPU needs triton, which is not installed; install it, or leave it out")
    elif not any(map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))):
        raise ValueError(f"--compile needs a C++ compiler ({', '.join(COMPILERS)}); install one, or leave it out")


@torch.no_grad()
def compile_networks(networks: Sequence[CSPNet], atom_numbers: Sequence[int], device: str, batch_size: int) -> float:
    """Compiles the networks for crystals of these numbers of atoms, up to `batch_size` at a time; gives the seconds.

    ValueError as of `require_compiler`.
    """
    require_compiler(device)
    started = time.perf_counter()
    with warnings.catch_warnings():
        # The cache of pairs is a pure function of N; the precision of products is the user's choice.
        warnings.filterwarnings("ignore", message=".*(functools.lru_cache|TensorFloat32).*")
        for network in networks:
            forward = CompiledForward(network, device)
            for n in sorted(atom_numbers, reverse=True):
                for size in _sizes(forward, network, n, batch_size):
                    inputs = _inputs(network, size, n)
                    for _ in range(CALLS_OF_A_GRAPH if forward.on_gpu else 1):
                        forward(*inputs)
            network.forward = forward  # type: ignore[method-assign, assignment]
    return time.perf_counter() - started


def _sizes(forward: CompiledForward, network: CSPNet, num_atoms: int, batch_size: int) -> Iterator[int]:
    """Numbers of crystals to call with. The first equals no other dimension: torch would take the two for one."""
    config = network.config
    types = config.type_posterior or 0
    others = {num_atoms, 3, 9, config.node_dim, config.time_dim, config.hidden_dim, types, 3 * types}
    yield next(size for size in itertools.count(21) if forward.padded(size) not in others)
    if forward.on_gpu:
        yield from sorted({forward.padded(size) for size in range(1, batch_size + 1)})


def _inputs(network: CSPNet, size: int, num_atoms: int) -> tuple[Tensor, ...]:
    """Crystals of no meaning."""
    like, config = network.coord_out.weight, network.config
    shapes = (size, num_atoms, config.node_dim), (size, num_atoms, 3), (size, 3, 3), (size, config.time_dim)
    inputs = tuple(like.new_zeros(shape) for shape in shapes)
    return inputs if config.type_posterior is None else (*inputs, like.new_full((size,), 0.5))
