"""Hashed reduced formulas: what they depend on, and that the shipped ones are those of the training splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from bench.crystals import Crystals
from bench.datasets import load_split, training_formulas, write_training_formulas
from bench.datasets.formulas import FormulaSet, formula_hashes


def crystals(*elements: list[str]) -> Crystals:
    return Crystals.from_structures(
        Structure(Lattice.cubic(5), names, np.random.default_rng(0).random((len(names), 3))) for names in elements
    )


def test_a_hash_depends_on_the_reduced_formula_alone() -> None:
    same = formula_hashes(crystals(["Sr", "Ti", "O", "O", "O"], ["O", "Ti", "O", "Sr", "O"], ["Sr", "Ti", *"OOO"] * 3))
    assert len(set(same.tolist())) == 1
    others = crystals(["Sr", "Ti", "O", "O"], ["Ti", "O", "O", "O"], ["Sr"], ["O"], ["Ba", "Ti", "O", "O", "O"])
    assert len({same[0], *formula_hashes(others).tolist()}) == 6


def test_hashes_stay_what_they_are_over_releases() -> None:
    (shipped,) = formula_hashes(crystals(["Sr", "Ti", "O", "O", "O"])).tolist()
    assert shipped == 2664439062518549736


def test_a_set_comes_back_from_its_file(tmp_path: Path) -> None:
    formulas = FormulaSet.of(crystals(["Na", "Cl"], ["Cl", "Na"], ["K", "Cl"]))
    formulas.write(tmp_path, "mine")
    again = FormulaSet.read(tmp_path, "mine")
    assert len(again) == 2
    assert again.sha256 == formulas.sha256
    assert again.contains(formula_hashes(crystals(["Na", "Cl"], ["Na"]))).tolist() == [True, False]


@pytest.mark.parametrize("content", [b"", b"1234567", bytes(16), (2).to_bytes(8, "little") + (1).to_bytes(8, "little")])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.formulas").write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.formulas: damaged"):
        FormulaSet.read(tmp_path, "mine")


def test_an_absent_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mine\.formulas: not readable"):
        FormulaSet.read(tmp_path, "mine")


@pytest.mark.needs_data
def test_the_shipped_formulas_of_perov5_are_those_of_its_training_split(tmp_path: Path) -> None:
    rebuilt = write_training_formulas("perov5", tmp_path)
    assert rebuilt.sha256 == training_formulas("perov5").sha256
    assert len(rebuilt) == 8026


@pytest.mark.needs_data
@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_the_shipped_formulas_of_mp20_are_those_of_its_training_split() -> None:
    # A rebuilt training file lacks 26 of the published rows, and either may lie there.
    train = formula_hashes(load_split("mp20", "train", download=False)[:3000])
    assert training_formulas("mp20").contains(train).mean() > 0.998
    test = formula_hashes(load_split("mp20", "test", download=False)[:3000])
    assert 0.1 < training_formulas("mp20").contains(test).mean() < 0.3
