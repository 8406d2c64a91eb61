"""TensorNet on a loaded matgl model, with the end of an edge at which its embedding sums left open."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from tasks.stability.potentials.m3gnet import Edges, End


class TensorNetEnergies:
    """(N,) energies of atoms from edges. model: matgl's TensorNet in evaluation mode.

    Summing the embedding's messages at the destination is the same as summing at the source of the reversed edges, if
    the two atoms of a message change places too: the weights of the first half of its inputs and those of the second
    are exchanged, in a copy. The interaction layers' messages depend on distances alone; for them the ends are alike.
    ValueError where the model has parts that this does not compute.
    """

    def __init__(self, model: Any, end: End) -> None:
        if model.is_intensive or getattr(model, "_use_warp", False):
            raise ValueError("this TensorNet has an intensive readout, or kernels of nvalchemi-toolkit-ops")
        self.model, self.end = model, end
        self.embedding = copy.deepcopy(model.tensor_embedding)
        if end == "destination":
            of_source, of_destination = self.embedding.emb2.weight.detach().chunk(2, dim=1)
            self.embedding.emb2.weight = torch.nn.Parameter(torch.cat([of_destination, of_source], dim=1), False)

    def __call__(self, edges: Edges) -> Tensor:
        """(N,) atomic energies in the network's own unit, before scale and elemental offsets."""
        from matgl.utils.maths import decompose_tensor, tensor_norm

        model = self.model
        lengths = edges.vectors.norm(dim=1)
        radial = model.bond_expansion(lengths)
        forward = torch.stack([edges.sources, edges.destinations])
        summed = forward.flip(0) if self.end == "destination" else forward
        tensors, _ = self.embedding(edges.node_types, summed, radial, lengths, edges.vectors, None)
        for layer in model.layers:
            tensors = layer(forward, lengths, radial, tensors)
        norms = [tensor_norm(part) for part in decompose_tensor(tensors)]
        energies: Tensor = model.final_layer(model.linear(model.out_norm(torch.cat(norms, dim=-1))))
        return energies.view(-1)
