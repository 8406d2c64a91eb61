"""CSPNet: equal to plain edge lists, and invariant or equivariant as the paper claims."""

import pytest
import torch

import models.cspnet
from models.cspnet import CSPNet, CSPNetConfig, EvaluationCounter
from models.diffusion import time_embedding
from tests.edge_list_cspnet import EdgeListCSPNet
from tests.symmetry import random_rotation

CONFIG = CSPNetConfig(node_dim=7, hidden_dim=24, num_layers=3, num_frequencies=6, time_dim=10)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return CSPNet(CONFIG).double().eval()


def inputs(batch=4, num_atoms=5, dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    nodes = torch.randn(batch, num_atoms, CONFIG.node_dim, generator=g, dtype=dtype)
    x = torch.rand(batch, num_atoms, 3, generator=g, dtype=dtype)
    lattices = torch.randn(batch, 3, 3, generator=g, dtype=dtype)
    return nodes, x, lattices, time_embedding(torch.arange(1, batch + 1, dtype=dtype), CONFIG.time_dim)


@pytest.mark.parametrize("num_atoms", [1, 2, 5, 20])
def test_dense_layout_equals_edge_lists(network, num_atoms):
    args = inputs(num_atoms=num_atoms)
    for ours, plain in zip(network(*args), EdgeListCSPNet(network)(*args), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)


def test_dense_layout_equals_edge_lists_in_single_precision(network):
    network = network.float()
    args = inputs(num_atoms=8, dtype=torch.float32)
    for ours, plain in zip(network(*args), EdgeListCSPNet(network)(*args), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


def test_working_in_blocks_changes_nothing(network, monkeypatch):
    args = inputs(batch=7)
    with torch.no_grad():
        monkeypatch.setattr(models.cspnet, "CACHE_BYTES", 2 * 5 * 5 * CONFIG.hidden_dim * 8)
        blocks = network(*args)
        monkeypatch.setattr(models.cspnet, "CACHE_BYTES", 10**12)
        whole = network(*args)
    for a, b in zip(blocks, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_gradients_equal_those_through_edge_lists(network):
    args = inputs()
    grads = []
    for net in (network, EdgeListCSPNet(network)):
        network.zero_grad()
        sum(out.square().sum() for out in net(*args)).backward()
        grads.append({name: p.grad.clone() for name, p in network.named_parameters()})
    for name in grads[0]:
        torch.testing.assert_close(grads[0][name], grads[1][name], rtol=1e-8, atol=1e-10)


def test_permuting_atoms_permutes_the_outputs(network):
    nodes, x, lattices, t = inputs()
    order = torch.tensor([3, 0, 4, 1, 2])
    before, after = network(nodes, x, lattices, t), network(nodes[:, order], x[:, order], lattices, t)
    torch.testing.assert_close(after.lattice, before.lattice)
    torch.testing.assert_close(after.coord, before.coord[:, order])
    torch.testing.assert_close(after.node, before.node[:, order])


def test_translating_the_crystal_changes_nothing(network):
    nodes, x, lattices, t = inputs()
    for a, b in zip(network(nodes, x + torch.rand(4, 1, 3), lattices, t), network(nodes, x, lattices, t), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_shifting_atoms_by_whole_periods_changes_nothing(network):
    nodes, x, lattices, t = inputs()
    shift = torch.randint(-3, 4, x.shape)
    for a, b in zip(network(nodes, x + shift, lattices, t), network(nodes, x, lattices, t), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_turning_the_lattice_turns_its_output_alone(network):
    nodes, x, lattices, t = inputs()
    q = random_rotation(3)
    before, after = network(nodes, x, lattices, t), network(nodes, x, lattices @ q, t)
    torch.testing.assert_close(after.lattice, before.lattice @ q)
    torch.testing.assert_close(after.coord, before.coord)
    torch.testing.assert_close(after.node, before.node)


def test_evaluations_are_counted_by_a_hook_that_goes_away(network):
    args = inputs()
    with EvaluationCounter(network) as counter:
        network(*args)
        network(*args)
    network(*args)
    assert counter.per_crystal == 2
