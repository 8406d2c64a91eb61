"""Hulls: the same energies as pymatgen's, files that belong together, and building that goes on where it was killed."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from monty.serialization import dumpfn
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition
from pymatgen.entries.compatibility import MaterialsProject2020Compatibility
from pymatgen.entries.computed_entries import ComputedEntry

from bench.crystals import Crystals
from tasks.stability.hull import Hull, energies_above, hull_path, read_hull
from tasks.stability.hull import energies as hulls
from tasks.stability.hull.build import NEAR, PART, KnownEnergies, build_hull
from tasks.stability.hull.mp_entries import mp2020_corrections, read_mp_hull
from tasks.stability.hull.phases import Phases
from tasks.stability.relaxation import RelaxationSettings
from tests.toy_potential import Counting, crystal, rattled

NACL = {"Na": -1.3, "Cl2": -1.8, "NaCl": -3.4, "NaCl3": -2.2, "Mg": -1.5}


def hull_of(phases):
    return Hull(list(phases), np.array(list(phases.values())), {})


def random_phases(symbols, seed, number=60):
    rng = np.random.default_rng(seed)
    phases = {symbol: float(rng.normal()) for symbol in symbols}
    for _ in range(number):
        chosen = rng.choice(symbols, rng.integers(2, min(4, len(symbols)) + 1), replace=False)
        phases["".join(f"{s}{rng.integers(1, 5)}" for s in chosen)] = float(rng.normal() - 1)
    return phases


def test_energies_above_the_hull_are_those_of_a_line_by_hand():
    hull = hull_of(NACL)
    assert hull.energy_above({"Na": 1, "Cl": 1}, -3.3) == pytest.approx(0.1)
    assert hull.energy_above({"Na": 1, "Cl": 3}, -2.2) == pytest.approx(-2.2 - (-3.4 * 0.5 - 1.8 * 0.5))
    assert hull.energy_above({"Na": 2, "Cl": 2}, -3.5) == pytest.approx(-0.1)  # below the hull: negative, not clipped
    assert hull.energy_above({"Na": 3}, -1.0) == pytest.approx(0.3)


@pytest.mark.parametrize("number", [1, 2, 3, 5, 7])
def test_hull_energies_are_pymatgens_in_any_number_of_elements(number):
    symbols = ["Li", "Na", "K", "Mg", "Ca", "O", "Cl"][:number]
    phases = random_phases(symbols, number, 40 if number > 1 else 0)
    diagram = PhaseDiagram([PDEntry(f, e * Composition(f).num_atoms) for f, e in phases.items()])
    hull, rng = hull_of(phases), np.random.default_rng(0)
    for _ in range(5):
        composition = dict(zip(symbols, rng.integers(1, 6, number).tolist(), strict=True))
        expected = diagram.get_hull_energy_per_atom(Composition(composition))
        assert hull.energy_above(composition, 0.0) == pytest.approx(-expected, abs=1e-8)


def test_only_phases_made_of_the_crystals_elements_compete_and_the_lowest_of_a_formula_counts():
    hull = Hull(["Na", "Cl2", "NaCl", "NaCl", "MgCl2", "Mg"], np.array([0, 0, -1.0, -2.0, -9.0, 0]), {})
    assert hull.phases({"Na", "Cl"}) == {"Na": 0, "Cl2": 0, "NaCl": -2.0}


def test_phase_diagrams_are_built_once_for_each_system(monkeypatch):
    built = []
    original = hulls._by_convex_hull

    def counted(*system):
        built.append(1)
        return original(*system)

    monkeypatch.setattr(hulls, "_by_convex_hull", counted)
    hull = hull_of(NACL)
    for _ in range(3):
        hull.energy_above({"Na": 1, "Cl": 1}, -3.3)
        hull.energy_above({"Cl": 5, "Na": 2}, -3.3)
    assert len(built) == 1


def test_an_element_without_a_phase_gives_a_reason_and_no_number():
    crystals = Crystals.concatenate([crystal([11, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], np.eye(3) * 4), nacl()])
    reason, number = energies_above(hull_of(NACL), crystals, np.array([-3.0, -3.4]))
    assert reason == "no reference phase of O"
    assert number == pytest.approx(0.0)


def nacl(lattice_constant=4.0):
    primitive = (np.ones((3, 3)) - np.eye(3)) * lattice_constant / np.sqrt(2)
    return crystal([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], primitive)


def phases_of(crystals):
    return Phases(crystals, tuple(f"mp-{b}" for b in range(len(crystals))), ("toy",) * len(crystals))


def test_a_hull_that_was_built_is_read_back_with_its_card(tmp_path):
    crystals, potential = rattled(0, 12), Counting()
    card = build_hull(phases_of(crystals), potential, tmp_path)
    hull = read_hull(tmp_path / "toy.parquet", potential.protocol())
    assert hull.card == card == json.loads((tmp_path / "toy.json").read_text())
    assert card["phases"] == 12
    assert card["sources"] == {"toy": 12}
    assert card["relaxed"]["phases"] == 0
    assert list(hull.formulas) == [crystals.formula(b) for b in range(12)]
    expected = potential.evaluate(crystals, derivatives=False).energies / crystals.num_atoms
    np.testing.assert_allclose(hull.energies, expected, atol=2e-5)


def elements():
    """Eight crystals of an element each: all are on the hull, the first four have fewer atoms."""
    shapes = rattled(0, 8)
    numbers = np.repeat(np.arange(22, 30), 4)
    return Crystals(shapes.num_atoms, numbers, shapes.frac_coords, shapes.lattices)


def test_phases_near_the_hull_are_relaxed_with_the_tasks_settings_and_the_shift_is_on_the_card(tmp_path):
    crystals = elements()
    card = build_hull(phases_of(crystals), Counting(), tmp_path, relax_limit=None)
    hull = read_hull(tmp_path / "toy.parquet")
    points = Counting().evaluate(crystals, derivatives=False).energies / 4
    assert card["relaxed"]["phases"] == card["relaxed"]["near_hull"] == 8
    assert card["relaxed"]["all_below_ev_per_atom"] == NEAR
    assert card["relaxed"]["shift_ev_per_atom"]["median"] < 0
    assert (hull.energies < points - 1e-3).all()


def polymorphs():
    """Crystals of one element, each more strained than the one before."""
    calm = crystal([29] * 4, [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], np.eye(3) * 3.7)
    rng = np.random.default_rng(0)
    shifts = rng.normal(size=(4, 3))
    return Crystals.concatenate(
        [Crystals([4], [29] * 4, calm.frac_coords + 0.004 * k * shifts, calm.lattices) for k in range(6)]
    )


def relaxed_ids(folder):
    table = pq.read_table(folder / "toy.parquet")
    return {i for i, relaxed in zip(table["id"].to_pylist(), table["relaxed"].to_pylist(), strict=True) if relaxed}


def test_with_a_limit_the_nearest_are_relaxed_and_a_sample_of_the_others_tells_what_they_would_gain(tmp_path):
    phases = phases_of(polymorphs())
    whole = build_hull(phases, Counting(), tmp_path / "whole", relax_limit=None)
    points = pq.read_table(tmp_path / "whole/toy.parquet")["single_point"].to_numpy()
    assert (np.diff(points) > 0).all()
    card = build_hull(phases, Counting(), tmp_path / "limited", relax_limit=2)
    assert card["relaxed"]["near_hull"] == whole["relaxed"]["near_hull"] > 3
    assert card["relaxed"]["all_below_ev_per_atom"] == pytest.approx(points[2] - points[0], abs=1e-4)
    assert (card["relaxed"]["on_hull"], card["relaxed"]["on_hull_relaxed"]) == (1, 1)
    assert card["relaxed"]["shift_ev_per_atom"]["phases"] == 2
    assert card["relaxed"]["shift_of_the_others_ev_per_atom"]["phases"] == whole["relaxed"]["near_hull"] - 2


def test_a_hull_is_extended_without_computing_again_what_it_knows(tmp_path):
    phases = phases_of(elements())
    build_hull(phases, Counting(), tmp_path / "first", relax_limit=None)
    known = KnownEnergies.of(tmp_path / "first/toy.parquet")
    potential = Counting()
    build_hull(phases, potential, tmp_path / "second", relax_limit=None, known=known)
    assert potential.batches == []
    assert (tmp_path / "second/toy.parquet").read_bytes() == (tmp_path / "first/toy.parquet").read_bytes()
    assert relaxed_ids(tmp_path / "second") == set(phases.ids)


def test_a_hull_of_other_relaxations_is_not_extended(tmp_path):
    phases = phases_of(elements())
    build_hull(phases, Counting(), tmp_path, relax_limit=1)
    known = KnownEnergies.of(tmp_path / "toy.parquet")
    with pytest.raises(ValueError, match="has another relaxation"):
        build_hull(phases, Counting(), tmp_path / "other", RelaxationSettings(fmax=0.3), known=known)


def test_a_killed_build_goes_on_with_the_parts_that_it_left(tmp_path):
    crystals = Crystals.concatenate([rattled(seed, 1, atoms=1) for seed in range(3)] * (PART // 2))
    phases = phases_of(crystals)

    class Killed(Counting):
        def evaluate(self, crystals, derivatives=True):
            if sum(self.batches) >= PART:
                raise KeyboardInterrupt
            return super().evaluate(crystals, derivatives)

    with pytest.raises(KeyboardInterrupt):
        build_hull(phases, Killed(), tmp_path)
    second = Counting()
    card = build_hull(phases, second, tmp_path)
    assert sum(second.batches) == len(crystals) - PART
    assert card["phases"] == len(crystals)
    third = Counting(name="toy")
    build_hull(phases, third, tmp_path)
    assert third.batches == []


def test_a_hull_of_other_weights_or_with_another_file_is_refused(tmp_path):
    build_hull(phases_of(rattled(1, 3)), Counting(), tmp_path)
    path = tmp_path / "toy.parquet"
    with pytest.raises(ValueError, match="computed with other weights of toy"):
        read_hull(path, {"name": "toy", "sha256": "other"})
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match="SHA-256 is not the one in its card"):
        read_hull(path)
    (tmp_path / "toy.json").unlink()
    with pytest.raises(ValueError, match="no hull can be read there"):
        read_hull(path)


def test_a_hull_is_looked_for_in_the_named_folder_first_and_its_absence_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_HULL_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="bench hull build --potential toy"):
        hull_path("toy")
    (tmp_path / "toy.parquet").touch()
    assert hull_path("toy") == tmp_path / "toy.parquet"


def test_phases_with_elements_that_the_potential_does_not_know_are_left_out(tmp_path):
    polonium = crystal([84], [[0, 0, 0]], np.eye(3) * 3.4)
    card = build_hull(phases_of(Crystals.concatenate([polonium, rattled(2, 2)])), Counting(), tmp_path)
    assert card["phases"] == 2
    assert card["left_out"] == 1


def entries():
    def entry(formula, energy, hubbards=None):
        kind = "GGA+U" if hubbards else "GGA"
        data = {"oxidation_states": {"Na": 1, "Cl": -1}} if formula == "NaCl" else {}
        return ComputedEntry(formula, energy, parameters={"run_type": kind, "hubbards": hubbards or {}}, data=data)

    return [entry("Na", -1.3), entry("Cl2", -3.6), entry("NaCl", -6.8)]


def test_materials_project_entries_of_the_user_become_a_hull_with_corrections(tmp_path):
    dumpfn(entries(), tmp_path / "entries.json")
    hull = read_mp_hull(tmp_path / "entries.json", "m3gnet")
    corrected = MaterialsProject2020Compatibility(check_potcar=False).process_entries(entries(), clean=True)
    assert sorted(hull.energies) == pytest.approx(sorted(e.energy_per_atom for e in corrected))
    assert hull.energies.min() < -3.4 - 0.2  # the anion's correction
    # A crystal with the entry's own energy, as computed, lies on the hull; one whose energies are corrected already,
    # with the corrected one.
    assert energies_above(hull, nacl(), np.array([-3.4]))[0] == pytest.approx(0.0, abs=1e-6)
    trained_on_corrected = read_mp_hull(tmp_path / "entries.json", "chgnet")
    assert energies_above(trained_on_corrected, nacl(), np.array([-3.4]))[0] > 0.2


def test_corrections_of_oxides_with_transition_metals_follow_the_materials_project():
    rock_salt = nacl(3.0)
    iron_oxide = Crystals(rock_salt.num_atoms, [26, 8], rock_salt.frac_coords, rock_salt.lattices)
    magnesia = Crystals(rock_salt.num_atoms, [12, 8], rock_salt.frac_coords, rock_salt.lattices)
    iron, magnesium = mp2020_corrections(Crystals.concatenate([iron_oxide, magnesia]))
    assert magnesium == pytest.approx(-0.687 / 2, abs=1e-3)  # oxide
    assert iron == pytest.approx((-0.687 - 2.256) / 2, abs=1e-3)  # oxide, and Fe with U


def test_a_crystal_without_a_correction_gets_a_reason_and_costs_the_others_nothing():
    missing = lambda crystals: np.array([np.nan, -0.1])  # noqa: E731
    hull = Hull(list(NACL), np.array(list(NACL.values())), {}, missing)
    reason, number = energies_above(hull, Crystals.concatenate([nacl(), nacl()]), np.array([-3.4, -3.3]))
    assert "no correction" in reason
    assert number == pytest.approx(0.0)


def test_a_file_without_entries_and_a_potential_of_another_level_are_refused(tmp_path):
    dumpfn([1, 2], tmp_path / "other.json")
    with pytest.raises(ValueError, match="must be a list of pymatgen's computed entries"):
        read_mp_hull(tmp_path / "other.json", "m3gnet")
    with pytest.raises(ValueError, match="no entries can be read there"):
        read_mp_hull(tmp_path / "missing.json", "m3gnet")
    with pytest.raises(ValueError, match="not on the level of the Materials Project"):
        read_mp_hull(tmp_path / "other.json", "tensornet")
