"""Files of predicted structures: by their places or by their atoms, and never by a guess."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.crystal_io import write_crystals
from bench.crystals import Crystals
from bench.datasets import load_split
from bench.model_specs import parse_models
from bench.prediction.compositions import PredictionPlan
from bench.runner import Plan, run
from bench.store import Run
from tests.bench.fake_runs import model_summary

pytestmark = pytest.mark.usefixtures("small_perov5")
TEST_CRYSTALS = 7


def plan(models: str, **options: Any) -> Plan:
    return Plan(
        parse_models(models), "perov5", workers=1, device="cpu", threads=1, prediction=PredictionPlan(**options)
    )


def saved(path: Path, crystals: Crystals) -> str:
    write_crystals(crystals, path)
    return f"mine={path}"


def matches(root: Path) -> list[bool]:
    return Run.open(root).task_table("mine", "structure_prediction")["matches"].to_pylist()  # type: ignore[no-any-return]


def test_a_file_in_the_order_of_the_split_has_as_many_samples_as_it_holds(tmp_path: Path) -> None:
    split = load_split("perov5", "test")
    run(plan(saved(tmp_path / "p.extxyz", Crystals.concatenate([split, split, split]))), tmp_path / "r")
    assert matches(tmp_path / "r") == [True] * 3 * TEST_CRYSTALS
    assert model_summary(tmp_path / "r", "mine")["metrics"]["match_rate_3"]["n"] == TEST_CRYSTALS


def test_each_evaluation_of_a_file_of_tensors_is_a_sample(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    split = load_split("perov5", "test")
    needles = split.lattices.copy()
    needles[3:] = np.diag([2.0, 9.0, 17.0])
    arrays = {
        "num_atoms": np.stack([split.num_atoms] * 2),
        "atom_types": np.stack([split.atomic_numbers] * 2),
        "frac_coords": np.stack([split.frac_coords] * 2),
        "lattices": np.stack([needles, split.lattices]),
    }
    torch.save({name: torch.tensor(array) for name, array in arrays.items()}, tmp_path / "eval_diff.pt")
    run(plan(f"mine={tmp_path / 'eval_diff.pt'}"), tmp_path / "r")
    assert matches(tmp_path / "r") == [True] * 3 + [False] * (TEST_CRYSTALS - 3) + [True] * TEST_CRYSTALS


def test_a_structure_of_another_composition_is_named_with_its_place(tmp_path: Path) -> None:
    split = load_split("perov5", "test")
    swapped = split[[0, 2, 1, *range(3, TEST_CRYSTALS)]]
    with pytest.raises(ValueError, match=r"p.extxyz: frame 1 is .*, and composition 1 \(row 1 of the test split\) is"):
        run(plan(saved(tmp_path / "p.extxyz", swapped)), tmp_path / "r")


def test_a_file_of_another_number_of_structures_is_refused(tmp_path: Path) -> None:
    split = load_split("perov5", "test")
    with pytest.raises(ValueError, match="holds 6 structures, which do not fit all 7 compositions of the test split"):
        run(plan(saved(tmp_path / "p.extxyz", split[:6])), tmp_path / "r")
    with pytest.raises(ValueError, match="do not fit 2 samples each of"):
        run(plan(saved(tmp_path / "q.extxyz", split), samples=2), tmp_path / "r")


def test_by_formula_the_order_in_the_file_does_not_matter(tmp_path: Path) -> None:
    split = load_split("perov5", "test")
    order = np.random.default_rng(0).permutation(TEST_CRYSTALS)
    run(plan(saved(tmp_path / "p.extxyz", split[order]), by_formula=True), tmp_path / "r")
    assert matches(tmp_path / "r") == [True] * TEST_CRYSTALS


def test_by_formula_a_composition_without_a_structure_is_not_matched(tmp_path: Path) -> None:
    split = load_split("perov5", "test")
    unique = 3  # of which no other composition has the atoms
    file = saved(tmp_path / "p.extxyz", split[[n for n in range(TEST_CRYSTALS) if n != unique]])
    run(plan(file, by_formula=True), tmp_path / "r")
    table = Run.open(tmp_path / "r").task_table("mine", "structure_prediction").to_pylist()
    assert [row["matches"] for row in table] == [n != unique for n in range(TEST_CRYSTALS)]
    assert "p.extxyz holds no structure for this sample of the composition" in table[unique]["reason"]


def test_by_formula_a_structure_of_no_composition_or_too_many_of_one_are_named(tmp_path: Path) -> None:
    split = load_split("perov5", "test")
    helium = Crystals([1], [2], [[0.0, 0.0, 0.0]], [3 * np.eye(3)])
    with pytest.raises(ValueError, match="frame 7 is He1, and none of all 7 compositions of the test split has"):
        run(plan(saved(tmp_path / "p.extxyz", Crystals.concatenate([split, helium])), by_formula=True), tmp_path / "r")
    twice = Crystals.concatenate([split, split[:1]])
    with pytest.raises(ValueError, match=r"frame 7 is one .* more than --samples 1 takes"):
        run(plan(saved(tmp_path / "q.extxyz", twice), by_formula=True, samples=1), tmp_path / "r")


def test_files_of_different_numbers_of_samples_need_to_be_told_how_many(tmp_path: Path) -> None:
    split = load_split("perov5", "test")
    two = saved(tmp_path / "two.extxyz", Crystals.concatenate([split, split]))
    with pytest.raises(ValueError, match="mine has 2; --samples says how many"):
        run(plan(f"{two},fake_predictors:Knows"), tmp_path / "r")
