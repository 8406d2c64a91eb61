"""Files that say two things of one crystal: they are refused, never read as one of the two, and cost no other."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pymatgen.core import Lattice, Structure

from bench.crystal_io import read_crystals
from bench.crystal_io.cells import FAR, RADIANS
from bench.crystal_io.eval_gen import NOTHING_TYPED
from tests.bench.cif_texts import atoms, cell, read_text, reason_of

ONE: dict[str, Any] = json.loads(
    json.dumps(Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0] * 3, [0.5] * 3]).as_dict())
)
ATOMS = {"numbers": [55, 17], "positions": [[0, 0, 0], [2, 2, 2]], "cell": [4.0, 4.0, 4.0], "pbc": [True] * 3}
JARVIS = {
    "lattice_mat": [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]],
    "coords": [[0] * 3, [0.5] * 3],
    "elements": ["Cs", "Cl"],
}
SITE = ONE["sites"][1]
PARAMETERS = {"a": 4.0, "b": 4.0, "c": 4.0, "alpha": 90, "beta": 90, "gamma": 90}
TWICE = json.dumps(ONE).replace('"lattice": {', '"lattice": {"matrix": [[9, 0, 0], [0, 9, 0], [0, 0, 9]], ', 1)


@pytest.mark.parametrize(
    ("crystal", "says"),
    [
        ({**ONE, "sites": [ONE["sites"][0], {**SITE, "abc": [0.25] * 3}]}, "site 1: .* are two places"),
        ({**ONE, "lattice": {**ONE["lattice"], "a": 8.24}}, "not that of its lengths and angles"),
        ({**ONE, "lattice": {**PARAMETERS, "alpha": -90}}, "angle of its cell is -90 degrees"),
        ({**ONE, "lattice": {**PARAMETERS, "a": -4.0}}, "length of its cell is -4 A"),
        ({**ONE, "lattice": {**PARAMETERS, "alpha": 1.57, "beta": 1.57, "gamma": 1.57}}, RADIANS),
        ({**ONE, "lattice": {**ONE["lattice"], "pbc": "T T F"}}, "pbc is 'T T F', not three of"),
        ({**ATOMS, "pbc": "FFF"}, "pbc is 'FFF', not three of"),
        ({**ATOMS, "positions": [[0, 0], [0, 2], [2, 2]]}, r"positions have the shape \(3, 2\)"),
        ({**ATOMS, "cell": [4, 4, 4, 90, 90, 90]}, r"the lattice has the shape \(6,\)"),
        ({**ATOMS, "cell": [0, 0, 0]}, "lattice has volume 0"),
        ({**JARVIS, "cartesian": "False"}, "cartesian is 'False'"),
        ({**JARVIS, "abc": [8.0] * 3, "angles": [90] * 3}, "not that of its lengths and angles"),
        ({"structure": ONE, "cif": "data_x"}, "both structure and cif"),
        (TWICE, "the key 'matrix' stands twice"),
    ],
)
def test_a_crystal_of_json_that_contradicts_itself_costs_itself(crystal: Any, says: str, tmp_path: Path) -> None:
    written = crystal if isinstance(crystal, str) else json.dumps(crystal)
    for whole in (f"[{written}, {json.dumps(ONE)}]", f'{{"x": {written}, "y": {json.dumps(ONE)}}}'):
        (tmp_path / "x.json").write_text(whole)
        result = read_crystals(tmp_path / "x.json")
        assert result.filtered.indices.tolist() == [1]
        assert len(result.reasons()) == 1
        with pytest.raises(ValueError, match=says):
            raise ValueError(*result.reasons().values())
    (tmp_path / "x.json").write_text(written)
    with pytest.raises(ValueError, match=says):
        read_crystals(tmp_path / "x.json")


def test_rounded_coordinates_in_two_ways_are_no_contradiction(tmp_path: Path) -> None:
    sites = [
        {**site, "abc": [round(x, 3) for x in site["abc"]], "xyz": [-4.12 + x for x in site["xyz"]]}
        for site in ONE["sites"]
    ]
    (tmp_path / "x.json").write_text(json.dumps({**ONE, "sites": sites}))
    assert read_crystals(tmp_path / "x.json").filtered.crystals.formula(0) == "CsCl"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", json.dumps({"structure": ONE, "structures": [ONE, ONE]})),
        ("x.json", json.dumps({"columns": ["cif", "structure"], "data": [["", ONE]]})),
        ("x.csv", "cif,structure\na,b\n"),
        ("x.csv", "cif,n,cif\na,1,b\n"),
    ],
)
def test_crystals_in_two_places_of_a_file_are_refused(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=r"keep one of the two|leave one"):
        read_crystals(tmp_path / name)


FRAME = '2\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3\nCs 0 0 0\nCl 2.5 2.5 2.5\n'


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (FRAME.replace("2\nL", "1\nL"), "has 1 atoms by its first line, but more follow: 'Cl 2.5 2.5 2.5'"),
        (FRAME.replace("Cl ", "Cl 35.45 "), "atom 1: has 5 columns, and Properties names 4"),
        (FRAME.replace("pos:R:3", "pos:R:3:forces:R:3"), "atom 0: has 4 columns, and Properties names 7"),
        (FRAME.replace("0 0 0\nCl", "0 0 1_0\nCl"), "atom 0: a position is '1_0', not a number"),
        (FRAME.replace("Properties", "length_unit=Bohr Properties"), "only lengths in Angstrom are read"),
        (FRAME.replace('"5 0 0 0 5 0 0 0 5"', '"5 5 5 90 90 90"'), "is not nine numbers"),
    ],
)
def test_a_frame_that_contradicts_itself_costs_itself(frame: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.extxyz").write_text(FRAME + frame + FRAME)
    result = read_crystals(tmp_path / "x.extxyz")
    assert result.filtered.indices.tolist() == [0, 2]
    assert says in result.reasons()["frame 1"]


def test_units_of_energies_are_not_those_of_lengths(tmp_path: Path) -> None:
    (tmp_path / "x.extxyz").write_text(FRAME.replace("Properties", 'energy_unit="a.u." units=Angstrom Properties'))
    assert read_crystals(tmp_path / "x.extxyz").filtered.crystals.volumes[0] == pytest.approx(125)


def test_arrays_of_impossible_cells_are_reasons_and_doubtful_ones_remarks(tmp_path: Path) -> None:
    content = {
        "frac_coords": torch.tensor([[0.0, 0, 0], [3.5, 3.5, 3.5], [0, 0, 0], [0, 0, 0]]),
        "num_atoms": torch.tensor([2, 1, 1]),
        "atom_types": torch.tensor([55, 17, 0, 26]),
        "lengths": torch.tensor([[4.0] * 3, [4.0] * 3, [-4.0] * 3]),
        "angles": torch.tensor([[90.0] * 3, [90.0, 90.0, 270.0], [90.0] * 3]),
    }
    torch.save(content, tmp_path / "x.pt")
    result = read_crystals(tmp_path / "x.pt")
    assert result.reasons() == {
        "crystal 1": "an angle of its cell is 270 degrees, not between 0 and 180",
        "crystal 2": "a length of its cell is -4 A",
    }
    assert result.remarks == {FAR: 1, NOTHING_TYPED: 3}


def test_a_cif_in_radians_is_refused_and_coordinates_far_outside_the_cell_are_a_remark(tmp_path: Path) -> None:
    sites = atoms(["Cs1 Cs 0 0 0", "Cl1 Cl 3.06 3.06 3.06"])
    assert reason_of("data_x\n" + cell(4, 4, 4, 1.57, 1.57, 1.57) + sites, tmp_path) == RADIANS
    assert read_text("data_x\n" + cell(4) + sites, tmp_path).remarks == {FAR: 1}
