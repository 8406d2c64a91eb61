"""Messages by blocks: the same values and gradients as the formula written out."""

import pytest
import torch
import torch.nn.functional as F

import models.edge_messages
from models.cspnet import CSPNet, CSPNetConfig, pair_geometry
from models.edge_messages import EdgeMessages


def arguments(batch, n, hidden=6, frequencies=3):
    generator = torch.Generator().manual_seed(n)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    geometry = pair_geometry(torch.rand(batch, n, 3, generator=generator, dtype=torch.float64), frequencies)
    nodes = draw(batch, n, hidden), draw(batch, n, hidden)
    weights = draw(hidden, 3 * frequencies), draw(hidden, 3 * frequencies), draw(hidden, hidden), draw(hidden)
    return (*nodes, geometry.sines, geometry.cosines, *weights, geometry.edge_source)


@pytest.mark.parametrize(("batch", "n", "block"), [(3, 1, 1000), (2, 2, 5), (5, 3, 20), (3, 4, 1)])
def test_gradients_are_those_of_finite_differences_whatever_the_block(batch, n, block, monkeypatch):
    monkeypatch.setattr(models.edge_messages, "BLOCK_EDGES", block)
    assert torch.autograd.gradcheck(EdgeMessages.apply, arguments(batch, n))


def test_values_are_those_of_the_formula():
    receiver, sender, sines, cosines, w_sin, w_cos, weight, bias, source = arguments(4, 3)
    i, j = torch.triu_indices(3, 3, offset=1)
    edges = w_cos.sum(1).expand(4, 3, 3, -1).clone()
    edges[:, i, j] = F.linear(cosines, w_cos) + F.linear(sines, w_sin)
    edges[:, j, i] = F.linear(cosines, w_cos) - F.linear(sines, w_sin)
    inner = F.silu(edges + receiver[:, :, None] + sender[:, None])
    expected = F.silu(F.linear(inner, weight, bias)).mean(2)
    found = EdgeMessages.apply(receiver, sender, sines, cosines, w_sin, w_cos, weight, bias, source)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_network_has_the_same_gradients_with_and_without_blocks(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    network = CSPNet(CSPNetConfig(node_dim=5, hidden_dim=8, num_layers=2, num_frequencies=3, time_dim=4)).double()
    batch = torch.randn(3, 4, 5, generator=generator), torch.rand(3, 4, 3, generator=generator)
    rest = torch.randn(3, 3, 3, generator=generator), torch.randn(3, 4, generator=generator)
    inputs = [values.double() for values in (*batch, *rest)]

    def gradients():
        return torch.autograd.grad(sum(part.square().sum() for part in network(*inputs)), list(network.parameters()))

    by_blocks = gradients()
    monkeypatch.setattr(EdgeMessages, "apply", lambda *_: pytest.fail("not by blocks"))
    inputs[1].requires_grad_()  # gradients of positions are autograd's business
    for ours, plain in zip(by_blocks, gradients(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-10)
