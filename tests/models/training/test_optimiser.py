"""Optimisers: which parameters Muon takes, what it does to them, and a clear word where torch has none."""

import pytest
import torch

from models.cspnet import CSPNet, CSPNetConfig
from models.training.optimiser import make_optimiser

NET = CSPNetConfig(node_dim=3, hidden_dim=16, num_layers=2, num_frequencies=2, time_dim=4)
needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")


def network_with_gradients():
    torch.manual_seed(0)
    network = CSPNet(NET)
    for p in network.parameters():
        p.grad = torch.randn_like(p)
        if p.ndim == 2:  # some directions thirty times as strong as others, as gradients have
            u, singular, v = torch.linalg.svd(p.grad, full_matrices=False)
            p.grad = u @ torch.diag(torch.logspace(0, -1.5, len(singular))) @ v
    return network


@needs_muon
def test_muon_orthogonalises_the_updates_of_message_passing_alone():
    network = network_with_gradients()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    make_optimiser(network, "muon", 1e-2, fused=False).step()
    for name, p in network.named_parameters():
        step = p.detach() - before[name]
        assert step.abs().max() > 0, name
        if p.ndim == 2 and "layers." in name:
            singular = torch.linalg.svdvals(step)
            assert singular[0] < 2.5 * singular[-1], name
            # The length of Adam's updates: 0.2 of the rate in an entry.
            assert step.square().mean().sqrt() == pytest.approx(0.2 * 1e-2, rel=0.25), name
        else:
            assert step.abs().max() == pytest.approx(1e-2, rel=1e-3), name  # Adam's first step


@needs_muon
def test_a_schedule_sets_the_rate_of_both_also_after_loading():
    network = network_with_gradients()
    optimiser = make_optimiser(network, "muon", 1e-2, fused=False)
    optimiser.step()
    again = make_optimiser(network, "muon", 1e-2, fused=False)
    again.load_state_dict(optimiser.state_dict())
    schedule = torch.optim.lr_scheduler.LambdaLR(again, lambda step: 0.0)
    before = [p.detach().clone() for p in network.parameters()]
    again.step()
    schedule.step()
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert all(len(part.state) for part in again.parts)  # type: ignore[attr-defined]


@needs_muon
def test_loading_gives_the_same_next_step():
    networks = [network_with_gradients(), network_with_gradients()]
    optimisers = [make_optimiser(network, "muon", 1e-2, fused=False) for network in networks]
    for optimiser in optimisers:
        optimiser.step()
    fresh = make_optimiser(networks[1], "muon", 1e-2, fused=False)
    fresh.load_state_dict(optimisers[1].state_dict())
    optimisers[0].step()
    fresh.step()
    for a, b in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(a, b)


def test_an_old_torch_is_named(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ValueError, match="torch>=2.9"):
        make_optimiser(CSPNet(NET), "muon", 1e-3, fused=False)
