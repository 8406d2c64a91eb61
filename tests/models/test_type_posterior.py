"""The posterior head: types by Bayes' rule, a network that starts as it, and nothing where it is not asked for."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.baselines.diffcsp.diffusion import DiffCSP, DiffCSPConfig
from models.crysldm.latent_diffusion import CrysLDM
from models.cspnet import CSPNet, CSPNetConfig
from models.dense import DenseBatch, pack
from models.diffusion import SeededNoise, add_noise
from models.presets import preset
from models.training.run import lacks_head, load_start
from models.type_posterior import ClosedForm, LoneAtoms, PosteriorHead, urn_logits
from models.weights import save_weights, weights_path
from tests.random_crystals import random_crystals

NET = CSPNetConfig(node_dim=3, hidden_dim=8, num_layers=1, num_frequencies=2, time_dim=4)
TYPES, ATOMS = 5, 3


def atoms(variance: float) -> LoneAtoms:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(TYPES, 3, generator=generator, dtype=torch.float64)
    return LoneAtoms(codes, torch.tensor([0.4, 0.3, 0.2, 0.05, 0.05], dtype=torch.float64).log(), variance)


def with_head(variance: float = 0.3, urn_atoms: float | None = None) -> CSPNet:
    """A network in double precision whose head is fitted and whose parameters are no longer zero."""
    network = CSPNet(replace(NET, type_posterior=TYPES, type_urn=urn_atoms)).double()
    alone = atoms(variance)
    assert network.head is not None
    network.head.fit(torch.ones(TYPES), alone.codes, variance)
    network.head.log_frequencies.copy_(alone.log_frequencies)
    return network


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (2, ATOMS, 3), (2, ATOMS, 3), (2, 3, 3), (2, 4)
    nodes, x, lattices, times = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return nodes, x, lattices, times


@pytest.mark.parametrize(("variance", "alpha_bar"), list(itertools.product((0.0, 0.3), (0.05, 0.6, 0.999))))
def test_the_closed_form_is_the_sum_over_all_types_and_codes(variance: float, alpha_bar: float) -> None:
    """Each type's density at the value and the mean of its clean code there, summed on a fine grid of codes."""
    codes, frequencies = (
        torch.tensor([[-1.0], [0.2], [1.5]], dtype=torch.float64),
        torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
    )
    alone = LoneAtoms(codes, frequencies.log(), variance)
    for value, logits in itertools.product((-0.8, 0.1, 1.3), ([0.0, 0.0, 0.0], [0.0, 2.0, -1.0])):
        masses, means = [], []
        for code, frequency, logit in zip(alone.codes[:, 0], alone.log_frequencies.exp(), logits, strict=True):
            spread = variance**0.5
            clean = code + spread * torch.linspace(-9, 9, 40_001).double() if spread else code[None]
            weight = torch.exp(-0.5 * ((clean - code) / spread) ** 2) if spread else torch.ones(1).double()
            weight = weight / weight.sum() * torch.exp(-0.5 * (value - alpha_bar**0.5 * clean) ** 2 / (1 - alpha_bar))
            masses.append(float(frequency * math.exp(logit) * weight.sum()))
            means.append(float((weight * clean).sum() / weight.sum()) if weight.sum() > 0 else 0.0)
        total = sum(masses)
        noisy = torch.tensor([value], dtype=torch.float64)
        found = alone.type_logits(noisy, alpha_bar) + torch.tensor(logits)
        assert found.softmax(-1).tolist() == pytest.approx([mass / total for mass in masses], abs=1e-7)
        clean_mean = sum(mass * mean for mass, mean in zip(masses, means, strict=True)) / total
        eps = (value - alpha_bar**0.5 * clean_mean) / (1 - alpha_bar) ** 0.5
        assert float(alone.noise_given(found, noisy, alpha_bar)) == pytest.approx(eps, abs=1e-7)


def test_a_new_head_predicts_what_lone_atoms_have() -> None:
    network, given, alpha_bar = with_head(), inputs(), torch.tensor([0.2, 0.9]).double()
    out, type_logits = network.with_type_logits(*given, alpha_bar)
    alone = atoms(0.3)
    for crystal, share in enumerate(alpha_bar.tolist()):
        assert torch.allclose(out.node[crystal], alone.noise(given[0][crystal], share))
        logits = alone.type_logits(given[0][crystal], share)
        assert type_logits is not None and torch.allclose(type_logits[crystal].softmax(-1), logits.softmax(-1))


def test_inputs_of_the_head_are_the_chances_of_the_other_atoms() -> None:
    """By all combinations of types that the other atoms may have."""
    head = PosteriorHead(TYPES, 3, 1).double()
    logits = torch.randn(1, ATOMS, TYPES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    chances = logits.softmax(-1)[0]
    for column in range(3 * TYPES):
        head.types_in.weight.data.zero_()[0, column] = 1.0
        kind, of = divmod(column, TYPES)
        for atom, found in enumerate(head.embedded(ClosedForm(logits, None))[0, :, 0].tolist()):
            others = [k for k in range(ATOMS) if k != atom]
            some, share = 0.0, 0.0
            for types in itertools.product(range(TYPES), repeat=len(others)):
                chance = math.prod(float(chances[k, t]) for k, t in zip(others, types, strict=True))
                some += chance * (of in types)
                share += chance * types.count(of) / len(others)
            assert found == pytest.approx((float(chances[atom, of]), some, share)[kind], abs=1e-9)


def test_a_lone_atom_and_a_certain_one_give_numbers() -> None:
    head = PosteriorHead(TYPES, 3, 2)
    head.types_in.weight.data.fill_(1.0)
    certain = torch.tensor([[[1e4, 0.0, 0.0, 0.0, 0.0]]]).requires_grad_()
    for logits in (certain, certain.expand(1, ATOMS, TYPES)):
        embedded = head.embedded(ClosedForm(logits, None))
        embedded.sum().backward()
        assert torch.isfinite(embedded).all() and torch.isfinite(certain.grad).all()


@pytest.mark.parametrize("urn_atoms", [None, 3.0])
def test_atoms_in_another_order_get_the_same_in_that_order(urn_atoms: float | None) -> None:
    network, (nodes, x, lattices, times) = with_head(urn_atoms=urn_atoms), inputs()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    alpha_bar, order = torch.tensor([0.3, 0.7]).double(), [2, 0, 1]
    out, logits = network.with_type_logits(nodes, x, lattices, times, alpha_bar)
    turned, turned_logits = network.with_type_logits(nodes[:, order], x[:, order], lattices, times, alpha_bar)
    assert logits is not None and turned_logits is not None
    assert torch.allclose(out.node[:, order], turned.node) and torch.allclose(out.lattice, turned.lattice)
    assert torch.allclose(logits[:, order], turned_logits)
    assert not torch.allclose(out.node, atoms(0.3).noise(nodes, alpha_bar[:, None, None]))  # no longer the closed form


def test_without_the_option_a_network_is_the_published_one() -> None:
    torch.manual_seed(3)
    plain = CSPNet(NET)
    torch.manual_seed(3)
    posterior = CSPNet(replace(NET, type_posterior=TYPES))
    assert plain.head is None and "type_posterior" not in "".join(plain.state_dict())
    added = posterior.state_dict().keys() - plain.state_dict().keys()
    assert added == {f"head.{key}" for key in PosteriorHead(TYPES, 3, 8).state_dict()}
    shared = plain.state_dict().keys() - {"node_out.weight", "node_out.bias"}
    assert all(torch.equal(plain.state_dict()[key], posterior.state_dict()[key]) for key in shared)
    given = [tensor.float() for tensor in inputs()]
    out, type_logits = plain.with_type_logits(*given)
    assert type_logits is None
    assert all(torch.equal(a, b) for a, b in zip(out, plain(*given, torch.tensor([0.1, 0.2])), strict=True))


def test_a_head_that_was_not_fitted_or_is_not_told_the_signal_is_found_out() -> None:
    network = CSPNet(replace(NET, type_posterior=TYPES)).double()
    assert network(*inputs(), torch.tensor([0.1, 0.2]).double()).node.isnan().all()
    with pytest.raises(ValueError, match="alpha_bar"):
        with_head()(*inputs())


def test_a_posterior_head_starts_on_the_papers_weights() -> None:
    """CrysLDM's and DiffCSP's: all but the output of types is theirs, and their codes tell types apart."""
    for name in ("crysldm", "diffcsp"):
        chosen = preset(f"{name}-posterior", "mp20", "cpu")
        model: Any = chosen.build(0)
        load_start(model, weights_path(name, "mp20", "cpu"), chosen.config)
        assert lacks_head(model)
        batches = pack(random_crystals([2, 3, 3, 4], seed=0, skew=0.3))
        model.fit_head(batches)
        assert not lacks_head(model)
        batch = max(batches, key=len)
        noise = SeededNoise.from_seed(0, "cpu")
        clean = model.encode(batch, noise)[0] if isinstance(model, CrysLDM) else one_hot(batch)
        for alpha_bar, told in ((0.9999, 1.0), (1e-4, 0.0)):
            noisy = add_noise(clean, noise.normal("eps", tuple(clean.shape)), alpha_bar)
            logits = model.lone_atoms().type_logits(noisy, alpha_bar)
            right = (logits.argmax(-1) == batch.atomic_numbers - 1).float().mean()
            assert right == 1.0 if told else right < 1.0
        losses = model.losses(batch, noise)
        assert torch.isfinite(losses["cross_entropy"]) and losses["loss"].requires_grad


def one_hot(batch: DenseBatch) -> Tensor:
    return torch.nn.functional.one_hot(batch.atomic_numbers - 1, 100).float()


def test_the_urn_counts_what_the_other_atoms_are() -> None:
    """Of other atoms whose types are certain, exactly; of an atom without others, nothing; by rounds in plain loops."""
    frequencies = atoms(0.3).log_frequencies.exp()
    others = torch.tensor([2, 2, 0])
    sure = torch.full((4, TYPES), -1e4, dtype=torch.float64)
    sure[torch.arange(3), others] = 0.0
    sure[3] = frequencies.log()  # its own value says nothing
    found = urn_logits(sure[None], frequencies.log(), 3.0)[0, 3].exp()
    counts = torch.bincount(others, minlength=TYPES)
    assert torch.allclose(found, (3 * frequencies + counts) / (3 + 3) / frequencies)
    assert urn_logits(sure[None, :1], frequencies.log(), 3.0).abs().max() == 0

    logits = torch.randn(2, ATOMS, TYPES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits += frequencies.log()
    found = urn_logits(logits, frequencies.log(), 1.5)
    for crystal in range(2):
        chances = logits[crystal].softmax(-1)
        for last in [*[False] * 6, True]:
            priors = []
            for atom in range(ATOMS):
                believed = 1.5 * frequencies + sum(chances[other] for other in range(ATOMS) if other != atom)
                priors.append(believed / (1.5 + ATOMS - 1))
            if last:
                assert torch.allclose(found[crystal], torch.stack(priors).log() - frequencies.log())
            new = [prior * (logits[crystal, k].exp() / frequencies) for k, prior in enumerate(priors)]
            chances = torch.stack([(old + n / n.sum()) / 2 for old, n in zip(chances, new, strict=True)])


def test_an_urn_starts_on_a_head_without_one(tmp_path: Path) -> None:
    """What the head was is kept, and the first logits are its own and half of the urn's."""
    network = replace(NET, node_dim=100, type_posterior=100)
    plain = DiffCSPConfig(network=network, num_steps=5, loss_weights=(1.0, 1.0, 20.0, 4.0))
    urn = replace(plain, network=replace(network, type_urn=3.0))
    path, old = tmp_path / "weights.safetensors", DiffCSP(plain)
    old.fit_head(pack(random_crystals([2, 3], seed=0, skew=0.3)))
    save_weights(path, old.state_dict(), {"config": asdict(plain)})
    model = DiffCSP(urn)
    load_start(model, path, urn)
    head = model.network.head
    assert not lacks_head(model) and head is not None
    nodes, alpha_bar = torch.randn(2, ATOMS, 100), torch.tensor([0.3, 0.8])
    closed = head.closed_form(nodes, alpha_bar)
    assert closed.urn is not None and closed.urn.abs().max() > 0.1
    logits, _ = head(torch.randn(2, ATOMS, 8), closed, nodes, alpha_bar)
    assert torch.allclose(logits, closed.lone + 0.5 * closed.urn)
    save_weights(path, model.state_dict(), {"config": asdict(urn)})
    with pytest.raises(ValueError, match="differs in network"):
        load_start(old, path, plain)


def test_weights_with_a_head_are_no_start_for_a_network_without(tmp_path: Path) -> None:
    small = DiffCSPConfig(network=replace(NET, node_dim=100), num_steps=5, loss_weights=(1.0, 1.0, 20.0, 4.0))
    posterior = replace(small, network=replace(small.network, type_posterior=100))
    path = tmp_path / "weights.safetensors"
    save_weights(path, DiffCSP(posterior).state_dict(), {"config": asdict(posterior)})
    with pytest.raises(ValueError, match="differs in network"):
        load_start(DiffCSP(small), path, small)
    load_start(DiffCSP(posterior), path, posterior)


def test_no_paper_has_these_models() -> None:
    with pytest.raises(ValueError, match="no preset paper for crysldm-posterior"):
        preset("crysldm-posterior", "mp20", "paper")
