"""Potentials: right numbers, right derivatives, symmetries, and what is refused."""

import json
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from bench.crystals import Crystals
from tasks.stability.potentials import load_potential, potential_protocol
from tasks.stability.potentials import loading as potentials
from tasks.stability.potentials.files import MATGL_FOLDERS, PotentialNotHere, find_source
from tasks.stability.potentials.known_crystals import EV_PER_A3_IN_GPA, KNOWN
from tasks.stability.potentials.m3gnet import Edges, M3GNetEnergies
from tasks.stability.potentials.neighbours import edge_pairs, find_neighbours
from tasks.stability.potentials.tensornet import TensorNetEnergies
from tests.ase_relaxation import atoms_of
from tests.symmetry import random_rotation
from tests.toy_potential import Counting, crystal, rattled

NAMES = [
    "chgnet",
    pytest.param("m3gnet", marks=pytest.mark.needs_potentials),
    pytest.param("tensornet", marks=pytest.mark.needs_potentials),
    "sevennet",
    "sevennet-l3i5",
]


def folder(name):
    return Path(os.environ["BENCH_POTENTIALS_DIR"]) / name


def mixed(seed=0):
    """Crystals of 1 to 7 atoms and as many elements, off their minima."""
    rng = np.random.default_rng(seed)
    elements = [3, 8, 9, 11, 14, 17, 22, 26, 38, 56]
    parts = []
    for n in (1, 2, 5, 7):
        lattice = np.eye(3) * (13.0 * n) ** (1 / 3) + rng.normal(size=(3, 3)) * 0.3
        grid = np.stack(np.meshgrid([0, 0.5], [0, 0.5], [0, 0.5]), -1).reshape(-1, 3)[:n]
        parts.append(crystal(rng.choice(elements, n), grid + rng.normal(size=(n, 3)) * 0.04, lattice))
    return Crystals.concatenate(parts)


@pytest.mark.needs_potentials
@pytest.mark.parametrize(("formula", "energy"), [("NaCl", -3.37), ("MgO", -5.96), ("SrTiO3", -8.03), ("Si", -5.42)])
def test_m3gnet_has_the_energies_that_it_was_published_with(formula, energy):
    known = next(known for known in KNOWN if known.formula == formula)
    found = load_potential("m3gnet").evaluate(Crystals.from_structures([known.structure()]))
    assert found.energies[0] / len(known.structure()) == pytest.approx(energy, abs=0.01)
    assert abs(np.trace(found.stresses[0]) / 3 * EV_PER_A3_IN_GPA) < 2


@pytest.mark.needs_potentials
@pytest.mark.parametrize("name", sorted(MATGL_FOLDERS))
def test_our_evaluation_equals_matgls_where_messages_are_summed_as_matgl_does(name):
    import matgl
    from matgl.ext.pymatgen import Structure2Graph
    from torch_geometric.data import Batch

    theirs = matgl.load_model(str(folder(MATGL_FOLDERS[name]))).eval()
    model, crystals = theirs.model, mixed()
    places = {symbol: place for place, symbol in enumerate(model.element_types)}
    found = find_neighbours(crystals, model.cutoff)
    node_types = torch.tensor([places[str(site.specie)] for structure in crystals for site in structure])
    vectors = torch.tensor(found.vectors, dtype=torch.float32, requires_grad=True)
    edges = Edges(torch.from_numpy(found.centres), torch.from_numpy(found.neighbours), vectors, node_types)
    ours = (M3GNetEnergies if name == "m3gnet" else TensorNetEnergies)(model, "source")(edges)
    ours = theirs.data_std * ours + theirs.element_refs.property_offset[node_types]
    converter = Structure2Graph(element_types=model.element_types, cutoff=model.cutoff)
    graphs = [converter.get_graph(structure) for structure in crystals]
    energies, forces, *_ = theirs(
        Batch.from_data_list([graph[0] for graph in graphs]), torch.cat([g[1] for g in graphs])
    )
    summed = torch.zeros(len(crystals), dtype=ours.dtype).index_add(0, torch.from_numpy(found.crystal_of_atom), ours)
    torch.testing.assert_close(summed.float(), energies.float(), atol=2e-4, rtol=1e-5)
    (slopes,) = torch.autograd.grad(ours.sum(), vectors)
    own = torch.zeros(len(node_types), 3).index_add(0, edges.sources, slopes).index_add(0, edges.destinations, -slopes)
    torch.testing.assert_close(own, forces, atol=5e-4, rtol=1e-3)


def test_chgnet_in_a_batch_equals_the_packages_own_prediction():
    from chgnet.model.model import CHGNet

    crystals = mixed()
    found = load_potential("chgnet").evaluate(crystals)
    model = CHGNet.load(use_device="cpu", verbose=False)
    for b, structure in enumerate(crystals):
        theirs = model.predict_structure(structure, task="efs")
        atoms = slice(crystals.offsets[b], crystals.offsets[b + 1])
        assert found.energies[b] / crystals.num_atoms[b] == pytest.approx(float(theirs["e"]), abs=2e-5)
        np.testing.assert_allclose(found.forces[atoms], theirs["f"], atol=5e-4)
        np.testing.assert_allclose(found.stresses[b] * EV_PER_A3_IN_GPA, theirs["s"], atol=2e-2)


def test_chgnet_equals_the_packages_own_prediction_where_no_bond_is_short_enough_for_an_angle():
    from chgnet.model.model import CHGNet

    one = crystal([37], [[0, 0, 0]], np.eye(3) * 4.5)
    others = crystal([55, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], np.eye(3) * 4.2)
    potential, model = load_potential("chgnet"), CHGNet.load(use_device="cpu", verbose=False)
    for crystals in (one, Crystals.concatenate([one, others, mixed()])):
        for b, energy in enumerate(potential.evaluate(crystals).energies):
            theirs = float(model.predict_structure(crystals.structure(b), task="e")["e"])
            assert energy / crystals.num_atoms[b] == pytest.approx(theirs, abs=2e-5)


@pytest.mark.parametrize(("name", "theirs"), [("sevennet", "7net-0"), ("sevennet-l3i5", "7net-l3i5")])
def test_sevennet_in_a_batch_equals_the_packages_own_calculator(name, theirs):
    from sevenn.calculator import SevenNetCalculator

    crystals = mixed()
    found = load_potential(name).evaluate(crystals)
    calculator = SevenNetCalculator(theirs, device="cpu")
    for b in range(len(crystals)):
        atoms = atoms_of(crystals, b)
        atoms.calc = calculator
        own = slice(crystals.offsets[b], crystals.offsets[b + 1])
        assert found.energies[b] == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
        forces = atoms.get_forces()  # up to 80 eV/A here, in single precision
        np.testing.assert_allclose(found.forces[own], forces, atol=max(1e-4, 1e-5 * np.abs(forces).max()))


@pytest.mark.parametrize("name", NAMES)
def test_forces_and_stresses_are_the_derivatives_of_the_energy(name):
    potential, rng = load_potential(name), np.random.default_rng(1)
    base = mixed(3)[3]
    found = potential.evaluate(base)
    step = 0.01

    def energy(moves, strain):
        lattice = base.lattices[0] @ (np.eye(3) + strain)
        coords = base.frac_coords + moves @ np.linalg.inv(base.lattices[0])
        return potential.evaluate(crystal(base.atomic_numbers, coords, lattice), derivatives=False).energies[0]

    for _ in range(3):
        moves = rng.normal(size=base.frac_coords.shape)
        moves *= step / np.linalg.norm(moves)
        strain = rng.normal(size=(3, 3))
        strain = (strain + strain.T) * step / 4
        slope = (energy(moves, 0) - energy(-moves, 0)) / 2
        assert slope == pytest.approx(-(found.forces * moves).sum(), abs=2e-4 + 0.02 * abs(slope))
        slope = (energy(0 * moves, strain) - energy(0 * moves, -strain)) / 2
        virial = (found.stresses[0] * strain).sum() * base.volumes[0]
        assert slope == pytest.approx(virial, abs=2e-4 + 0.02 * abs(slope))


@pytest.mark.parametrize("name", NAMES)
def test_company_order_rotation_origin_and_supercells_change_nothing(name):
    potential, crystals = load_potential(name), mixed()
    found = potential.evaluate(crystals)
    alone = [potential.evaluate(crystals[b]).energies[0] for b in range(len(crystals))]
    np.testing.assert_allclose(found.energies, alone, atol=1e-4)
    base = crystals[2]
    energy, forces = found.energies[2], found.forces[crystals.offsets[2] : crystals.offsets[3]]
    rotation = random_rotation(0).numpy()
    order = np.random.default_rng(0).permutation(len(base.atomic_numbers))
    moved = crystal(
        base.atomic_numbers[order], base.frac_coords[order] + np.array([0.3, 0.7, 0.9]), base.lattices[0] @ rotation
    )
    again = potential.evaluate(moved)
    assert again.energies[0] == pytest.approx(energy, abs=1e-4)
    # Single precision: a network of a higher order loses another digit when it is turned.
    atol = max(1e-3, 2.5e-5 * np.abs(forces).max())
    np.testing.assert_allclose(again.forces, (forces @ rotation)[order], atol=atol)
    doubled = Crystals.from_structures([base.structure(0) * (2, 1, 1)])
    assert potential.evaluate(doubled).energies[0] == pytest.approx(2 * energy, abs=4e-4)


@pytest.mark.parametrize("name", NAMES)
def test_one_atom_far_from_its_images_and_three_hundred_atoms_have_finite_values(name):
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(7)] * 3), -1).reshape(-1, 3)[:300] / 7
    large = crystal(rng.choice([8, 12, 26], 300), grid, np.eye(3) * 18)
    found = load_potential(name).evaluate(Crystals.concatenate([crystal([2], [[0, 0, 0]], np.eye(3) * 40), large]))
    assert np.isfinite(found.energies).all()
    assert np.isfinite(found.forces).all()
    assert np.abs(found.forces[0]).max() < 1e-6


def test_an_unknown_element_and_a_density_beyond_all_neighbours_are_refused():
    potential = load_potential("chgnet")
    with pytest.raises(ValueError, match="chgnet does not know Po"):
        potential.evaluate(crystal([84], [[0, 0, 0]], np.eye(3) * 3.4))
    dense = crystal(np.full(20, 8), np.random.default_rng(0).random((20, 3)), np.eye(3) * 0.5)
    with pytest.raises(ValueError, match="crystal 0: 20 atoms in 0.125 A.3 have too many neighbours"):
        potential.evaluate(dense)


@pytest.mark.needs_potentials
def test_weights_that_are_right_with_neither_convention_are_refused():
    with pytest.raises(ValueError, match=r"wrong energies or pressures by either convention.*Si has -4.88 eV"):
        load_potential(str(folder("M3GNet-MatPES-PBE-v2025.1-PES")))


@pytest.mark.needs_potentials
def test_weights_trained_with_messages_summed_at_the_source_are_recognised(tmp_path):
    import matgl

    theirs = matgl.load_model(str(folder(MATGL_FOLDERS["tensornet"])))
    embedding = theirs.model.tensor_embedding
    with torch.no_grad():  # the same function of the reversed edges: ends exchanged, antisymmetric part turned round
        embedding.emb2.weight.copy_(embedding.emb2.weight.roll(embedding.units, dims=1))
        for parameter in embedding.distance_proj2.parameters():
            parameter.neg_()
    theirs.save(tmp_path / "retrained", makedirs=True)
    crystals = mixed()
    found = load_potential(str(tmp_path / "retrained")).evaluate(crystals)
    np.testing.assert_allclose(found.energies, load_potential("tensornet").evaluate(crystals).energies, atol=1e-3)


def test_unknown_names_and_files_that_are_nowhere_are_one_clear_line(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="unknown potential 'gnome'; known are chgnet, m3gnet, tensornet"):
        load_potential("gnome")
    monkeypatch.setenv("BENCH_POTENTIALS_DIR", str(tmp_path))
    monkeypatch.setattr("tasks.stability.potentials.files._require_hub", lambda: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(ValueError, match=r"neither in .* nor in matgl's cache.*\(offline\)"):
        find_source("m3gnet")


@pytest.mark.parametrize("answers", [True, False], ids=["a server that never answers", "no server"])
def test_weights_that_cannot_be_downloaded_take_seconds(answers, monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_POTENTIALS_DIR", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        if not answers:
            silent.close()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("tasks.stability.potentials.files.HUB_TIMEOUT_S", 0.5)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        started = time.monotonic()
        with pytest.raises(PotentialNotHere, match=f"no answer from {address} within 0.5 s"):
            find_source("tensornet")
    assert time.monotonic() - started < 10


def test_the_protocol_names_weights_and_checksum_without_loading_them():
    protocol = potential_protocol("chgnet")
    assert json.loads(json.dumps(protocol)) == protocol == dict(load_potential("chgnet").protocol())
    assert len(protocol["sha256"]) == 64


def test_a_potential_of_another_package_is_tested_before_it_is_used(monkeypatch):
    entry = SimpleNamespace(name="toy", value="toy:make", load=lambda: lambda device: Counting())
    monkeypatch.setattr(potentials, "entry_points", lambda group: [entry])
    load_potential.cache_clear()
    assert "toy" in potentials.known_potentials()
    with pytest.raises(ValueError, match="NaCl has .* eV/atom instead of -3.37"):
        load_potential("toy")
    load_potential.cache_clear()


def test_neighbours_are_those_that_pymatgen_finds_in_every_image():
    crystals = Crystals.concatenate([rattled(0), mixed()[2]])
    found = find_neighbours(crystals, 5.0)
    for b, structure in enumerate(crystals):
        expected = sorted(round(n.nn_distance, 6) for near in structure.get_all_neighbors(5.0) for n in near)
        own = found.crystal_of_edge == b
        assert sorted(np.linalg.norm(found.vectors[own], axis=1).round(6)) == pytest.approx(expected, abs=2e-6)


def test_pairs_of_edges_are_all_ordered_pairs_with_one_centre():
    centres = np.array([0, 0, 0, 2, 3, 3])
    found = set(zip(*(pair.tolist() for pair in edge_pairs(centres)), strict=True))
    assert found == {(i, j) for i in range(6) for j in range(6) if i != j and centres[i] == centres[j]}
    assert [len(pair) for pair in edge_pairs(np.zeros(0, int))] == [0, 0]


def test_an_atom_on_another_spoils_no_other_crystal():
    good = Crystals.from_structures([Structure(Lattice.cubic(4.21), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])])
    bad = crystal([55, 17], [[0, 0, 0], [0, 0, 0]], np.eye(3) * 4.21)
    potential = load_potential("chgnet")
    both = potential.evaluate(Crystals.concatenate([bad, good]))
    assert not np.isfinite(both.energies[0]) or not np.isfinite(both.forces[:2]).all()
    assert both.energies[1] == pytest.approx(potential.evaluate(good).energies[0], abs=1e-5)
