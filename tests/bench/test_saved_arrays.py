"""Files of torch.save by other programs: types as bits and scores, lists, objects of torch-geometric, NumPy arrays."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

from bench.crystal_io import read_crystals
from bench.crystal_io.cells import CONTRADICTION, RADIANS
from bench.crystal_io.eval_gen import HYDROGEN_FIRST, UNDECIDED
from bench.crystals import Crystals
from tests.bench.crystal_examples import eval_gen, some_crystals


def bits(numbers: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """FlowMM's code: the lowest bit first, one less than the number, -scale for 0 and scale for 1."""
    ones = torch.bitwise_right_shift((numbers - 1)[:, None], torch.arange(7)) % 2
    return (2.0 * ones - 1.0) * scale


def as_flowmm(crystals: Crystals) -> dict[str, Any]:
    content = eval_gen(crystals)
    content["atom_types"] = bits(content["atom_types"], 0.7)
    content["lattices"] = torch.tensor(crystals.lattices, dtype=torch.float32)
    return content


def read(content: Any, folder: Path) -> tuple[Crystals, dict[int, str], dict[str, int]]:
    torch.save(content, folder / "x.pt")
    result = read_crystals(folder / "x.pt")
    return result.filtered.crystals, dict(result.filtered.reasons), dict(result.remarks)


def assert_same(found: Crystals, crystals: Crystals) -> None:
    np.testing.assert_array_equal(found.num_atoms, crystals.num_atoms)
    np.testing.assert_array_equal(found.atomic_numbers, crystals.atomic_numbers)
    np.testing.assert_allclose(found.frac_coords, crystals.frac_coords, atol=1e-6)
    np.testing.assert_allclose(found.volumes, crystals.volumes, rtol=1e-4)


def halves(crystals: Crystals) -> tuple[dict[str, Any], dict[str, Any]]:
    return as_flowmm(crystals[:2]), as_flowmm(crystals[2:])


def test_bits_of_flowmm_are_elements_up_to_the_last(tmp_path: Path) -> None:
    crystals = Crystals([118], np.arange(1, 119), np.random.default_rng(0).random((118, 3)), 20 * np.eye(3))
    found, _, remarks = read(as_flowmm(crystals), tmp_path)
    assert_same(found, crystals)
    assert remarks == {}


def test_angles_in_radians_are_a_reason_and_cost_no_other_crystal(tmp_path: Path) -> None:
    crystals = some_crystals([2, 5, 1])
    content = eval_gen(crystals)
    content["angles"][1] = torch.deg2rad(content["angles"][1])
    found, reasons, _ = read(content, tmp_path)
    assert reasons == {1: RADIANS}
    assert found.num_atoms.tolist() == [2, 1]


@pytest.mark.parametrize("width", [98, 100, 103, 118, 119])
def test_scores_over_a_table_of_elements_are_the_best_of_them(width: int, tmp_path: Path) -> None:
    crystals = some_crystals([2, 5, 1])
    content = eval_gen(crystals)
    noise = torch.rand(len(crystals.atomic_numbers), width, generator=torch.Generator().manual_seed(0)) / 2
    content["atom_types"] = torch.nn.functional.one_hot(content["atom_types"] - 1, width) + noise
    found, _, remarks = read(content, tmp_path)
    assert_same(found, crystals)
    assert remarks == ({HYDROGEN_FIRST.format(119): 3} if width == 119 else {})


@pytest.mark.parametrize("width", [2, 3, 6, 8, 20, 57, 97, 120, 256])
def test_types_of_any_other_width_are_refused_with_their_shape(width: int, tmp_path: Path) -> None:
    content = {**eval_gen(some_crystals([2, 3])), "atom_types": torch.rand(5, width)}
    with pytest.raises(
        ValueError, match=rf"atom_types has the shape \(5, {width}\), whose code is not known; known are"
    ):
        read(content, tmp_path)


def test_an_atom_without_one_best_type_costs_its_crystal(tmp_path: Path) -> None:
    crystals = some_crystals([1, 1, 1, 1])
    content = eval_gen(crystals)
    scores = torch.nn.functional.one_hot(content["atom_types"] - 1, 100).float()
    scores[0], scores[1, 5] = 0.0, float("nan")
    found, reasons, _ = read({**content, "atom_types": scores}, tmp_path)
    assert reasons == {0: UNDECIDED, 1: UNDECIDED}
    assert_same(found, crystals[2:])
    code = bits(content["atom_types"])
    code[3, 2] = float("nan")
    assert read({**content, "atom_types": code}, tmp_path)[1] == {3: UNDECIDED}


def test_consolidated_lists_are_read_one_after_the_other(tmp_path: Path) -> None:
    crystals = some_crystals([2, 5, 1])
    first, second = halves(crystals)
    one = {key: [value] for key, value in as_flowmm(crystals).items()}
    two = {key: [first[key], second[key]] for key in first}
    found, _, remarks = read(one, tmp_path)
    assert_same(found, crystals)
    assert remarks == {}
    found, _, remarks = read(two, tmp_path)
    assert_same(found, crystals)
    assert remarks == {}


def test_predictions_as_lists_of_lists_of_batches_are_read(tmp_path: Path) -> None:
    crystals = some_crystals([2, 5, 1])
    found, _, remarks = read([[*halves(crystals)]], tmp_path)
    assert_same(found, crystals)
    assert remarks == {}


def test_lists_of_one_array_a_crystal_are_read(tmp_path: Path) -> None:
    crystals = some_crystals([2, 5, 1])
    content = eval_gen(crystals)
    sizes = crystals.num_atoms.tolist()
    lists = {key: list(content[key].split(sizes)) for key in ("frac_coords", "atom_types")}
    lists |= {key: list(content[key]) for key in ("lengths", "angles")}
    assert_same(read({**lists, "num_atoms": content["num_atoms"]}, tmp_path)[0], crystals)
    assert_same(read(lists, tmp_path)[0], crystals)


def test_arrays_of_numpy_are_read(tmp_path: Path) -> None:
    crystals = some_crystals([2, 5, 1])
    content = {key: value.numpy() for key, value in eval_gen(crystals).items()}
    assert_same(read({**content, "time": np.float64(3.0)}, tmp_path)[0], crystals)
    content["frac_coords"] = np.asfortranarray(content["frac_coords"]).astype(">f8")
    assert_same(read({key: [value] for key, value in content.items()}, tmp_path)[0], crystals)


def test_objects_of_numpy_are_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {**eval_gen(some_crystals([1])), "num_atoms": np.array([1], dtype=object)}
    with pytest.raises(ValueError, match="NumPy array of O8"):
        read(content, tmp_path)


def test_objects_of_torch_geometric_beside_and_around_the_arrays_are_passed_over(tmp_path: Path) -> None:
    crystals = some_crystals([2, 5, 1])
    sizes = crystals.num_atoms.tolist()
    graphs = [Data(x=torch.zeros(size, 1), num_nodes=size) for size in sizes]
    beside = {**as_flowmm(crystals), "input_data_batch": Batch.from_data_list(graphs), "graphs": graphs}
    assert_same(read(beside, tmp_path)[0], crystals)
    content = eval_gen(crystals)
    split = {key: content[key].split(sizes) for key in ("frac_coords", "atom_types")}
    split |= {key: content[key].split(1) for key in ("lengths", "angles", "num_atoms")}
    whole = [Data(**{key: parts[number] for key, parts in split.items()}) for number in range(3)]
    assert_same(read(whole, tmp_path)[0], crystals)
    assert_same(read(Batch.from_data_list(whole), tmp_path)[0], crystals)


def test_lattices_alone_are_enough_and_beside_lengths_and_angles_they_must_agree(tmp_path: Path) -> None:
    crystals = some_crystals([2, 5, 1])
    content = as_flowmm(crystals)
    alone = {key: value for key, value in content.items() if key not in ("lengths", "angles")}
    assert_same(read(alone, tmp_path)[0], crystals)
    content["lattices"][1] *= 1.5
    found, reasons, _ = read(content, tmp_path)
    assert reasons == {1: CONTRADICTION}
    assert_same(found, crystals[[0, 2]])


def test_of_several_evaluations_the_first_is_read_with_a_remark(tmp_path: Path) -> None:
    crystals = some_crystals([2, 5, 1])
    content = {key: torch.stack([value, torch.zeros_like(value)]) for key, value in as_flowmm(crystals).items()}
    found, _, remarks = read(content, tmp_path)
    assert_same(found, crystals)
    assert remarks == {"the first of 2 evaluations in the file is read": 3}


def test_a_trajectory_is_not_taken_for_evaluations(tmp_path: Path) -> None:
    content = as_flowmm(some_crystals([2, 5]))
    steps = {key: torch.stack([value] * 4) for key, value in content.items() if key != "num_atoms"}
    with pytest.raises(ValueError, match="of a trajectory save the last step alone"):
        read({**steps, "num_atoms": content["num_atoms"]}, tmp_path)


def test_a_file_of_anything_else_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no frac_coords, num_atoms, .*; it holds weight, bias"):
        read({"weight": torch.zeros(2), "bias": torch.zeros(2)}, tmp_path)


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, ("x",)


@pytest.mark.parametrize("function", [eval, shutil.rmtree, getattr])
def test_functions_of_python_in_a_pickle_are_refused_by_name(function: Any, tmp_path: Path) -> None:
    content = {**eval_gen(some_crystals([1])), "note": Call(function)}
    with pytest.raises(ValueError, match=rf"carries Python objects \(.*{function.__name__}\), which are not loaded"):
        read(content, tmp_path)


def test_functions_of_other_packages_are_not_called(tmp_path: Path) -> None:
    crystals = some_crystals([1, 2])
    content = {**eval_gen(crystals), "note": Call(np.loadtxt), "other": [Call(torch.hub.load), Call(subprocess.call)]}
    assert_same(read(content, tmp_path)[0], crystals)
