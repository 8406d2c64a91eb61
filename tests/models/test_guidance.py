"""Guidance: away from lone atoms or from a weak network, exactly, and silent where it should be."""

import dataclasses

import pytest
import torch

from models.crysldm.generator import crysldm
from models.crysldm.latent_diffusion import CrysLDM, CrysLDMConfig
from models.cspnet import CSPNet, CSPNetConfig, CSPNetOutput
from models.dense import DenseBatch
from models.diffusion import SeededNoise, add_noise, predicted_clean
from models.guidance import Guidance, Inputs, context_guide, guide_of, unguided, weak_guide
from models.type_posterior import LoneAtoms


def lone_atoms(variance: float) -> LoneAtoms:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    return LoneAtoms(codes, torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0], dtype=torch.float64).log(), variance)


NET = CSPNetConfig(node_dim=3, hidden_dim=8, num_layers=1, num_frequencies=2, time_dim=4)


def inputs(dtype: torch.dtype = torch.float32) -> Inputs:
    """What a network for nodes of three entries gets, two crystals of four atoms."""
    shapes = (2, 4, 3), (2, 4, 3), (2, 3, 3), (2, 4)
    nodes, coords, lattices, times = (torch.randn(shape, dtype=dtype) for shape in shapes)
    return nodes, coords, lattices, times


def prediction(dtype: torch.dtype = torch.float32) -> CSPNetOutput:
    return CSPNetOutput(*(torch.randn(shape, dtype=dtype) for shape in ((2, 3, 3), (2, 4, 3), (2, 4, 3))))


@pytest.mark.parametrize("variance", [0.0, 0.3])
@pytest.mark.parametrize("alpha_bar", [0.05, 0.5, 0.95])
def test_the_noise_of_a_lone_atom_is_the_mean_over_all_that_it_could_be(variance: float, alpha_bar: float) -> None:
    atoms = lone_atoms(variance)
    noise = SeededNoise.from_seed(1, "cpu", torch.float64)
    types = torch.multinomial(atoms.log_frequencies.exp(), 400_000, replacement=True, generator=noise.generator)
    eps = noise.normal("eps", (len(types), 3))
    clean = atoms.codes[types] + variance**0.5 * noise.normal("code", (len(types), 3))
    noisy = add_noise(clean, eps, alpha_bar)
    error = eps - atoms.noise(noisy, alpha_bar)
    # The mean given the value leaves an error that no function of the value foretells.
    for feature in (torch.ones_like(noisy), noisy, noisy.square(), noisy.sin(), atoms.noise(noisy, alpha_bar)):
        products = error * feature
        assert (products.mean(0).abs() < 5 * products.std(0) / len(types) ** 0.5).all()


def test_a_type_that_the_data_does_not_have_is_never_thought_of() -> None:
    atoms = lone_atoms(0.0)
    noisy = atoms.codes[4:] * 0.9**0.5
    clean = predicted_clean(noisy, atoms.noise(noisy, 0.9), 0.9)
    assert not torch.allclose(clean, atoms.codes[4:], atol=0.1)
    assert torch.isfinite(clean).all()


def test_a_network_that_does_not_look_around_is_left_alone() -> None:
    atoms, noisy = lone_atoms(0.1), inputs(torch.float64)
    out = prediction(torch.float64)._replace(node=atoms.noise(noisy[0], 0.6))
    guided = context_guide(atoms, Guidance(weight=3.0))(out, noisy, 0.6)
    assert torch.allclose(guided.node, out.node)
    assert torch.equal(guided.coord, out.coord)


def test_guidance_acts_within_its_range_of_signal_alone() -> None:
    atoms, noisy, out = lone_atoms(0.1), inputs(), prediction()
    atoms = dataclasses.replace(atoms, codes=atoms.codes.float(), log_frequencies=atoms.log_frequencies.float())
    guidance = Guidance(weight=1.0, alpha_bar_range=(0.3, 0.9))
    for guided in (context_guide(atoms, guidance), weak_guide(CSPNet(NET), guidance)):
        assert guided(out, noisy, 0.2) is out
        assert guided(out, noisy, 0.95) is out
        assert not torch.equal(guided(out, noisy, 0.5).node, out.node)
    assert torch.allclose(
        context_guide(atoms, guidance)(out, noisy, 0.5).node, 2 * out.node - atoms.noise(noisy[0], 0.5)
    )


def test_autoguidance_steps_away_from_the_weak_network_in_all_three() -> None:
    weak, noisy, out = CSPNet(NET), inputs(), prediction()
    worse = weak(*noisy)
    guided = weak_guide(weak, Guidance(weight=1.5))(out, noisy, 0.5)
    for ours, theirs, got in zip(out[:3], worse[:3], guided[:3], strict=True):
        torch.testing.assert_close(got, 2.5 * ours - 1.5 * theirs)
    for ours, got in zip(worse[:3], weak_guide(weak, Guidance(weight=4.0))(worse, noisy, 0.5)[:3], strict=True):
        torch.testing.assert_close(got, ours)


def test_a_model_without_a_weak_network_cannot_be_guided_by_it() -> None:
    model = CrysLDM(CrysLDMConfig())
    assert guide_of(model, None) is unguided
    with pytest.raises(ValueError, match="weak network"):
        guide_of(model, Guidance(away_from="weak network"))


def test_the_codes_of_lone_atoms_are_those_of_atoms_in_crystals() -> None:
    generator = crysldm("mp20")
    generator.load()
    model = generator._model
    rocksalt = torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0.5]])
    cell = 2.8 * torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    pairs = torch.tensor([[11, 17], [12, 8], [3, 9], [56, 16]])  # NaCl, MgO, LiF, BaS
    batch = DenseBatch(pairs, rocksalt.expand(4, 2, 3), cell.expand(4, 3, 3))
    latents, _ = model.encode(batch, SeededNoise.from_seed(0, "cpu"))
    lone = model.lone_atoms()
    nearest = torch.cdist(latents.flatten(0, 1), lone.codes).argmin(1)
    assert (nearest + 1).tolist() == pairs.flatten().tolist()
    assert 0 < lone.variance < 0.1
    assert torch.isfinite(lone.log_frequencies.exp()).all()
    assert lone.log_frequencies.exp().sum().item() == pytest.approx(1)
