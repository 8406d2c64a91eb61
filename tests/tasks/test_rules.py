"""Rules of other evaluations: MatterGen's matcher, LeMat-GenBench's charges and distances, CDVAE's fingerprint."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pooch
import pytest
from pymatgen.core import Composition, Element, Lattice, Structure

from bench.crystal_io import write_crystals
from bench.crystals import Crystals
from bench.datasets import DataUnavailable
from bench.registry import build_tasks
from bench.store import Run
from tasks.novelty import Novelty
from tasks.rules import charges
from tasks.rules.charges import charge_fault, formula_fault, states_table
from tasks.rules.disordered import Disordered, replaceable
from tasks.rules.plausibility import structure_fault
from tasks.validity import Validity
from tests.command_line import bench

TABLE = {"Na": (1,), "Cl": (-1,), "Fe": (2, 3), "O": (-2, -1), "Ti": (2, 3, 4), "S": (-2, 4, 6), "Cu": (1, 2)}


def layered(*elements: str) -> Structure:
    """Four layers of a body-centred tetragonal cell."""
    sites = [[(z % 2) / 2, (z % 2) / 2, z / 4] for z in range(4)]
    return Structure(Lattice.tetragonal(2.9, 7.6), elements, sites)


def found_unique(rules: str | None, *structures: Structure) -> list[bool]:
    crystals = Crystals.from_structures(structures)
    task = Novelty("perov5", rules=rules)
    return list(task.compare(task.score(crystals), lambda rows: crystals[rows])["unique"].to_pylist())


def test_two_orders_of_alike_elements_are_one_crystal_by_mattergens_rule_alone() -> None:
    first, second = layered("Cu", "Au", "Cu", "Au"), layered("Cu", "Cu", "Au", "Au")
    assert found_unique(None, first, second) == [True, True]
    assert found_unique("mattergen", first, second) == [True, False]
    unlike = layered("Na", "Cl", "Na", "Cl"), layered("Na", "Na", "Cl", "Cl")
    assert found_unique("mattergen", *unlike) == [True, True]


def test_elements_form_groups_across_their_pairs() -> None:
    symbols = ["Ni", "Ba", "Cu", "F", "Au", "He"]
    groups = replaceable([Element(symbol) for symbol in symbols])
    assert [sorted(element.symbol for element in group) for group in groups] == [["Au", "Cu", "Ni"]]


def test_a_matcher_of_another_rule_pickles_and_changes_the_protocol() -> None:
    task = Novelty("perov5", rules="mattergen")
    assert pickle.loads(pickle.dumps(task)) == task
    assert task.protocol()["ltol"] == 0.2
    assert Novelty("perov5", rules="cdvae").protocol() == Novelty("perov5").protocol()
    assert Disordered.of(Crystals.from_structures([layered("Cu", "Au", "Cu", "Au")]), 0).structure.num_sites == 4


def neutral_by_products(formula: Mapping[str, int], table: Mapping[str, Sequence[int]]) -> bool:
    """The charge rule by trying everything: each atom's state, each combination of the elements' sums."""

    def sums(states: Sequence[int], n: int) -> list[int]:
        near = (c for c in itertools.combinations_with_replacement(states, n) if max(c) - min(c) <= 1)
        return sorted({sum(c) for c in near} - {0})

    listed = [sums(table[symbol], n) for symbol, n in formula.items()]
    if any(sum(choice) == 0 for choice in itertools.product(*listed)):
        return True
    every = [sums([int(s) for s in Element(symbol).oxidation_states], n) for symbol, n in formula.items()]
    electronegativities = [Element(symbol).X for symbol in formula]
    amounts = np.array(list(formula.values()))
    neutral = [choice for choice in itertools.product(*every) if sum(choice) == 0]
    return any(np.corrcoef(np.array(choice) / amounts, electronegativities)[0, 1] < -1e-9 for choice in neutral)


def test_the_charge_rule_of_formulas_equals_trying_everything() -> None:
    generator = np.random.default_rng(0)
    verdicts = []
    for _ in range(120):
        symbols = generator.choice(sorted(TABLE), size=generator.integers(2, 5), replace=False)
        formula = {str(symbol): int(generator.integers(1, 5)) for symbol in symbols}
        own = formula_fault(Composition(formula), TABLE)
        assert (own is None) == neutral_by_products(formula, TABLE), formula
        verdicts.append(own is None)
    assert 20 < sum(verdicts) < 118


def test_twelve_elements_take_no_longer_than_two() -> None:
    symbols = [element.symbol for element in Element if element.oxidation_states and element.Z < 40][:12]
    table = {symbol: tuple(range(-4, 8)) for symbol in symbols}
    assert formula_fault(Composition(dict.fromkeys(symbols, 5)), table) is None


def test_metals_ions_and_unknown_elements_by_the_charge_rule() -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert charge_fault(salt, TABLE) is None
    assert charge_fault(layered("Cu", "Au", "Cu", "Au"), {}) is None  # a metal needs no states
    gas = Structure(Lattice.cubic(6), ["Xe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert "Xe in LeMat-GenBench's table" in str(charge_fault(gas, TABLE))


def test_structures_by_radii_and_cells() -> None:
    cell = Lattice.cubic(4)
    fine = Structure(cell, ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert structure_fault(fine) is None
    near = Structure(cell, ["Cs", "Cl"], [[0, 0, 0], [0.4, 0, 0]])  # 1.6 A, and (2.6 + 1.0 + 0.7) / 2 is 2.15
    assert "Cs and Cl 1.600 A apart, below 2.150" in str(structure_fault(near))
    assert "density" in str(structure_fault(Structure(Lattice.cubic(60), ["H"], [[0, 0, 0]])))
    assert "edge 0.5" in str(structure_fault(Structure(Lattice.orthorhombic(0.5, 5, 5), ["Na"], [[0, 0, 0]])))


def test_the_table_that_cannot_be_had_gives_one_line_with_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(pooch, "retrieve", refuse)
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    states_table.cache_clear()
    with pytest.raises(DataUnavailable, match=r"no network\); put it from https.*BENCH_DATA_DIR/lemat_genbench"):
        Validity(rules="lemat").protocol()
    wrong = tmp_path / charges.FOLDER / charges.TABLE
    wrong.parent.mkdir()
    wrong.write_text("{}")
    with pytest.raises(ValueError, match="not the published file"):
        Validity(rules="lemat").protocol()


def test_lemats_rules_replace_both_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.validity.states_table", lambda: TABLE)
    near = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.3, 0, 0]])
    alone = Structure(Lattice.cubic(4), ["Na", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    rows = Validity(rules="lemat").score(Crystals.from_structures([near, alone])).to_pylist()
    assert [row["valid_composition"] for row in rows] == [True, True]  # NaO: a peroxide by the table
    assert [row["valid"] for row in rows] == [False, True]
    assert rows[0]["reason"] == "structure: Na and Cl 1.200 A apart, below 1.750"


def test_cdvaes_rule_demands_a_fingerprint_of_valid_crystals_alone() -> None:
    needle = Structure(Lattice.orthorhombic(90, 2.6, 2.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    crystals = Crystals.from_structures([needle])
    (ours,) = Validity().score(crystals).to_pylist()
    (theirs,) = Validity(rules="cdvae").score(crystals).to_pylist()
    assert ours["valid"] and not theirs["valid"]
    assert theirs["valid_structure"] and "no CrystalNN fingerprint" in theirs["reason"]


def test_rules_reach_the_tasks_that_have_them_and_no_others() -> None:
    by_kind = {task.name: task for task in build_tasks(["validity", "novelty"], dataset="perov5", rules="mattergen")}
    assert {getattr(task, "rules", None) for task in by_kind.values()} == {"mattergen"}
    plain = {task.name: task for task in build_tasks(["validity", "novelty"], dataset="perov5")}
    for name, task in plain.items():
        assert task.protocol() != by_kind[name].protocol()
    with pytest.raises(ValueError, match="--rules cdvae: none of the tasks asked for has rules"):
        build_tasks(["symmetry"], dataset="perov5", rules="cdvae")


def test_a_scored_run_keeps_its_rules_and_names_them_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crystals = Crystals.from_structures([layered("Cu", "Au", "Cu", "Au"), layered("Cu", "Cu", "Au", "Au")])
    write_crystals(crystals, tmp_path / "two.extxyz")
    how = ("--dataset", "perov5", "--tasks", "validity,novelty", "--workers", "1", "--out", tmp_path / "run")
    assert bench("score", tmp_path / "two.extxyz", "--rules", "mattergen", *how) == 0
    assert "by --rules mattergen" in capsys.readouterr().out
    run = Run.open(tmp_path / "run")
    assert run.task_table("two", "novelty")["unique"].to_pylist() == [True, False]
    assert bench("rescore", tmp_path / "run", "--workers", "1") == 0
    assert Run.open(tmp_path / "run").manifest["rules"] == "mattergen"
    assert Run.open(tmp_path / "run").manifest["protocol_hash"] == run.manifest["protocol_hash"]
