"""Files of tensors by the code of their atom types and the form in which their arrays are kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

from bench.crystal_io import read_crystals
from bench.crystal_io.eval_gen import UNDECIDED

CSCL_NACL = torch.tensor([55, 17, 11, 17])


def arrays(types: torch.Tensor = CSCL_NACL) -> dict[str, torch.Tensor]:
    """Two crystals of two atoms."""
    coords = torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0.5]] * 2)
    cells = {"lengths": torch.tensor([[4.1] * 3, [5.7] * 3]), "angles": torch.full((2, 3), 90.0)}
    return {"frac_coords": coords, "num_atoms": torch.tensor([2, 2]), "atom_types": types, **cells}


def analog_bits(numbers: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """Each bit of Z - 1, the lowest first, as -scale or +scale."""
    bits = (numbers[:, None] - 1) >> torch.arange(7) & 1
    return (2.0 * bits - 1) * scale


def formulas(tmp_path: Path, content: object) -> list[str]:
    """What the file that holds the content is read as."""
    torch.save(content, tmp_path / "eval_gen.pt")
    crystals = read_crystals(tmp_path / "eval_gen.pt").filtered.crystals
    return [crystals.formula(b) for b in range(len(crystals))]


@pytest.mark.parametrize(
    "types",
    [
        CSCL_NACL,
        CSCL_NACL.float()[:, None],
        torch.nn.functional.one_hot(CSCL_NACL - 1, 100),
        torch.nn.functional.one_hot(CSCL_NACL - 1, 118) + 0.1 * torch.rand(4, 118),
        analog_bits(CSCL_NACL),
        analog_bits(CSCL_NACL, 0.25) + 0.2 * torch.rand(4, 7),
    ],
    ids=["numbers", "a column of numbers", "one-hot", "scores", "analog bits", "analog bits with noise"],
)
def test_types_are_read_by_their_code(types, tmp_path):
    assert formulas(tmp_path, arrays(types)) == ["CsCl", "NaCl"]


@pytest.mark.parametrize("number", [1, 2, 64, 65, 100, 118])
def test_analog_bits_give_every_element_back(number, tmp_path):
    types = torch.full((4,), number)
    assert formulas(tmp_path, arrays(analog_bits(types))) == formulas(tmp_path, arrays(types))


@pytest.mark.parametrize("shape", [(4, 6), (4, 8), (4, 12), (4, 64), (4, 128), (4, 2, 100)])
def test_types_of_an_unknown_width_are_refused_with_their_shape(shape, tmp_path):
    with pytest.raises(ValueError, match=r"atom_types has the shape \(4, .*known are element numbers, one-hot"):
        formulas(tmp_path, arrays(torch.randn(shape)))


def test_seven_values_that_are_never_below_zero_are_no_analog_bits(tmp_path):
    with pytest.raises(ValueError, match="no value below 0"):
        formulas(tmp_path, arrays(torch.rand(4, 7)))


def test_a_row_of_scores_that_names_no_element_costs_its_crystal_alone(tmp_path):
    scores = torch.nn.functional.one_hot(CSCL_NACL - 1, 100).float()
    scores[2] = 0
    torch.save(arrays(scores), tmp_path / "x.pt")
    result = read_crystals(tmp_path / "x.pt")
    assert [result.filtered.crystals.formula(0)] == ["CsCl"]
    assert result.reasons() == {"crystal 1": UNDECIDED}


def test_a_number_between_two_elements_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"atom_types has 17\.5 where an element number belongs"):
        formulas(tmp_path, arrays(torch.tensor([55, 17.5, 11, 17])))


def test_arrays_of_numpy_are_read(tmp_path):
    assert formulas(tmp_path, {key: np.asarray(value) for key, value in arrays().items()}) == ["CsCl", "NaCl"]


def split(values: torch.Tensor) -> list[torch.Tensor]:
    return [values[:2], values[2:]] if len(values) == 4 else [values[:1], values[1:]]


@pytest.mark.parametrize(
    "content",
    [
        {key: [value] for key, value in arrays(analog_bits(CSCL_NACL)).items()},
        {key: split(value) for key, value in arrays().items()},
        {**{key: split(value) for key, value in arrays().items()}, "num_atoms": [2, 2]},
        {**{key: split(value) for key, value in arrays().items()}, "lengths": [torch.full((3,), 4.1)] * 2},
        [[{key: split(value)[0] for key, value in arrays().items()}], [{k: split(v)[1] for k, v in arrays().items()}]],
    ],
    ids=["one entry", "one entry a crystal", "plain counts", "flat cells", "nested dictionaries"],
)
def test_lists_of_arrays_are_joined_in_order(content, tmp_path):
    assert formulas(tmp_path, content) == ["CsCl", "NaCl"]


def test_lists_of_arrays_that_do_not_fit_together_are_refused(tmp_path):
    content = {
        **{key: [value] for key, value in arrays().items()},
        "atom_types": [torch.rand(2, 100), torch.rand(2, 7)],
    }
    with pytest.raises(ValueError, match=r"atom_types is a list of arrays that do not fit together \(\(2, 100\)"):
        formulas(tmp_path, content)


@pytest.mark.parametrize("listed", [False, True])
def test_graphs_beside_the_arrays_are_passed_over(listed, tmp_path):
    graphs = [Data(x=torch.rand(2, 3), num_atoms=torch.tensor([2])) for _ in range(2)]
    batch = [graphs] if listed else Batch.from_data_list(graphs)
    assert formulas(tmp_path, {**arrays(), "input_data_batch": batch}) == ["CsCl", "NaCl"]


class RunsCode:
    """Would write a file where its pickle is believed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_file_with_graphs_is_not_run(tmp_path):
    mark = tmp_path / "mark"
    content = {**arrays(), "batch": Batch.from_data_list([Data(x=torch.rand(2, 3))]), "more": RunsCode(mark)}
    with pytest.raises(ValueError, match="carries Python objects"):
        formulas(tmp_path, content)
    assert not mark.exists()


def test_of_several_evaluations_the_first_is_read_with_a_remark(tmp_path):
    torch.save({key: torch.stack([value] * 3) for key, value in arrays().items()}, tmp_path / "x.pt")
    result = read_crystals(tmp_path / "x.pt")
    assert len(result.filtered.crystals) == 2
    assert result.remarks == {"the first of 3 evaluations in the file is read": 2}
