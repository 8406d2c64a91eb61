"""The messages of a CSPNet layer and their gradient, worked through in blocks that stay in a processor's cache.

Autograd's way through the same formulas is bound by memory: each of some thirty operations reads and writes all edges,
and slices of the stack are copied before every matrix product. Here a few crystals at a time go through all operations,
forwards and backwards, in buffers that are used again. docs/models.md has the times.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# 128 features in float32: half a megabyte a buffer, so that the three in use fit a second-level cache of 2 MB.
BLOCK_EDGES = 1000

_silu, _silu_backward = torch.ops.aten.silu.out, torch.ops.aten.silu_backward.grad_input


class EdgeMessages(torch.autograd.Function):
    """mean_j silu(W silu(r_i + s_j + e_ij) + b), e_ij = W_sin sin_ij + W_cos cos_ij from the pairs i < j.

    receiver r, sender s: (B, N, H). sines, cosines: (B, P, K), P = N (N - 1) / 2, without gradient. w_sin, w_cos:
    (H, K). weight W: (H, H), bias b: (H,). edge_source: (N * N,), of `models.cspnet.PairGeometry`. Gives (B, N, H).
    """

    @staticmethod
    def forward(
        ctx: Any,
        receiver: Tensor,
        sender: Tensor,
        sines: Tensor,
        cosines: Tensor,
        w_sin: Tensor,
        w_cos: Tensor,
        weight: Tensor,
        bias: Tensor,
        edge_source: Tensor,
    ) -> Tensor:
        """Keeps the arguments of both silu for all edges; recomputing them would cost more than reading them."""
        batch, n, hidden = receiver.shape
        pairs, edges = sines.shape[1], n * n
        block = max(1, BLOCK_EDGES // edges)
        first = receiver.new_empty(batch, edges, hidden)
        second, messages = torch.empty_like(first), torch.empty_like(receiver)
        odd, even = receiver.new_empty(block * pairs, hidden), receiver.new_empty(block * pairs, hidden)
        stack = receiver.new_empty(block, 2 * pairs + 1, hidden)
        stack[:, -1] = w_cos.sum(1)  # the diagonal: sin 0 = 0, cos 0 = 1
        activation = receiver.new_empty(block * edges, hidden)
        for start in range(0, batch, block):
            part = slice(start, start + block)
            x, y = first[part], second[part]  # (b, N * N, H)
            b = len(x)
            s, c, a = odd[: b * pairs], even[: b * pairs], activation[: b * edges]
            torch.mm(sines[part].flatten(0, 1), w_sin.t(), out=s)
            torch.mm(cosines[part].flatten(0, 1), w_cos.t(), out=c)
            s, c = s.view(b, pairs, hidden), c.view(b, pairs, hidden)
            torch.add(c, s, out=stack[:b, :pairs])
            torch.sub(c, s, out=stack[:b, pairs:-1])
            torch.index_select(stack[:b], 1, edge_source, out=x)
            x.view(b, n, n, hidden).add_(receiver[part, :, None]).add_(sender[part, None, :].view(b, 1, n, hidden))
            _silu(x.view(-1, hidden), out=a)
            torch.addmm(bias, a, weight.t(), out=y.view(-1, hidden))
            _silu(y.view(-1, hidden), out=a)
            torch.mean(a.view(b, n, n, hidden), 2, out=messages[part])
        ctx.save_for_backward(first, second, sines, cosines, weight)
        return messages

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all but sines and cosines."""
        first, second, sines, cosines, weight = ctx.saved_tensors
        gradient = gradients[0] / gradients[0].shape[1]
        batch, n, hidden = gradient.shape
        pairs, edges = sines.shape[1], n * n
        block = max(1, BLOCK_EDGES // edges)
        of_receiver, of_sender = torch.empty_like(gradient), torch.empty_like(gradient)
        of_sin = gradient.new_zeros(hidden, sines.shape[2])
        of_cos, of_weight = torch.zeros_like(of_sin), torch.zeros_like(weight)
        of_bias, of_diagonal = gradient.new_zeros(hidden), gradient.new_zeros(hidden)
        one, two = gradient.new_empty(block * edges, hidden), gradient.new_empty(block * edges, hidden)
        upper, lower, sums = (gradient.new_empty(block, pairs, hidden) for _ in range(3))
        i, j = torch.triu_indices(n, n, offset=1, device=gradient.device)
        for start in range(0, batch, block):
            part = slice(start, start + block)
            x, y = first[part].view(-1, hidden), second[part]
            b = len(y)
            d, a = one[: b * edges], two[: b * edges]
            grid = d.view(b, n, n, hidden)
            _silu_backward(gradient[part, :, None].expand(b, n, n, hidden), y.view(b, n, n, hidden), grad_input=grid)
            _silu(x, out=a)
            of_weight.addmm_(d.t(), a)
            of_bias += d.sum(0)
            torch.mm(d, weight, out=a)
            _silu_backward(a, x, grad_input=d)
            torch.sum(grid, 2, out=of_receiver[part])
            torch.sum(grid, 1, out=of_sender[part])
            flat = d.view(b, edges, hidden)
            of_diagonal += flat[:, :: n + 1].sum((0, 1))
            u, v, s = upper[:b], lower[:b], sums[:b]
            torch.index_select(flat, 1, i * n + j, out=u)
            torch.index_select(flat, 1, j * n + i, out=v)
            of_cos.addmm_(torch.add(u, v, out=s).flatten(0, 1).t(), cosines[part].flatten(0, 1))
            of_sin.addmm_(torch.sub(u, v, out=s).flatten(0, 1).t(), sines[part].flatten(0, 1))
        of_cos += of_diagonal[:, None]
        return of_receiver, of_sender, None, None, of_sin, of_cos, of_weight, of_bias, None
