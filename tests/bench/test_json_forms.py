"""JSON in the forms in which programs keep crystals."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ase import Atoms
from ase.io.jsonio import encode
from pymatgen.core import Lattice, Molecule, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from bench.crystal_io import ReadResult, read_crystals

CSCL = Structure(Lattice.cubic(4.1), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
NACL = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
ONE, TWO = CSCL.as_dict(), NACL.as_dict()


def read(tmp_path: Path, content: Any) -> ReadResult:
    """The content, or a text, as a file."""
    (tmp_path / "x.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return read_crystals(tmp_path / "x.json")


def formulas(result: ReadResult) -> list[tuple[str, int]]:
    crystals = result.filtered.crystals
    return [(crystals.formula(b), int(crystals.num_atoms[b])) for b in range(len(crystals))]


BOTH = [("CsCl", 2), ("NaCl", 8)]
ENTRY = ComputedStructureEntry(CSCL, -6.5, parameters={"run_type": "GGA"}).as_dict()
TABLE = pd.DataFrame({"material_id": ["a", "b"], "structure": [ONE, TWO], "energy": [-1.0, -2.0]})


@pytest.mark.parametrize(
    "content",
    [
        [ONE, TWO],
        {"mp-1": ONE, "mp-2": TWO},
        {"structures": [ONE, TWO]},
        {"note": "two", "entries": [{"structure": ONE}, {"structure": TWO}], "count": 2},
        [ENTRY, {**ENTRY, "structure": TWO}],
        {"first": ENTRY, "second": {"structure": TWO}},
        {"a": CSCL.to(fmt="cif"), "b": {"cif": NACL.to(fmt="cif")}},
        TABLE.to_json(),
        TABLE.to_json(orient="records"),
        TABLE.to_json(orient="index"),
        TABLE.to_json(orient="split"),
        json.dumps({"schema": {"fields": []}, "data": json.loads(TABLE.to_json(orient="records"))}),
    ],
)
def test_collections_are_read_in_order(content, tmp_path):
    result = read(tmp_path, content)
    assert formulas(result) == BOTH
    assert not result.reasons()


def atoms_of(structure: Structure) -> Atoms:
    return Atoms([str(s) for s in structure.species], structure.cart_coords, cell=structure.lattice.matrix, pbc=True)


def test_what_ase_encodes_is_read(tmp_path):
    assert formulas(read(tmp_path, encode(atoms_of(CSCL)))) == [("CsCl", 2)]
    assert formulas(read(tmp_path, encode([atoms_of(CSCL), atoms_of(NACL)]))) == BOTH


def test_the_rows_of_ases_data_base_are_read(tmp_path):
    from ase.db import connect

    with connect(str(tmp_path / "x.json")) as base:
        base.write(atoms_of(CSCL), label="one")
        base.write(atoms_of(NACL))
    result = read_crystals(tmp_path / "x.json")
    assert formulas(result) == BOTH
    assert not result.reasons()


@pytest.mark.parametrize("content", [ONE, {"structure": ONE}, ENTRY, {"energy": 1.0, "structure": ONE, "id": "a"}])
def test_one_crystal_is_one(content, tmp_path):
    assert formulas(read(tmp_path, content)) == [("CsCl", 2)]


@pytest.mark.parametrize("cartesian", [False, True])
def test_atoms_of_jarvis_are_read_alone_and_in_entries(cartesian, tmp_path):
    coords = NACL.cart_coords if cartesian else NACL.frac_coords
    elements = [str(site.specie) for site in NACL]
    lattice = NACL.lattice.matrix.tolist()
    atoms = {"lattice_mat": lattice, "coords": coords.tolist(), "elements": elements, "cartesian": cartesian}
    for content in (atoms, [{"jid": "JVASP-1", "atoms": atoms}], {"JVASP-1": {"atoms": atoms}}):
        result = read(tmp_path, content)
        assert formulas(result) == [("NaCl", 8)]
        assert result.filtered.crystals.volumes[0] == pytest.approx(5.64**3)


def test_a_cell_given_by_its_lengths_and_angles_alone_is_read(tmp_path):
    parameters = {key: ONE["lattice"][key] for key in ("a", "b", "c", "alpha", "beta", "gamma")}
    assert formulas(read(tmp_path, {**ONE, "lattice": parameters})) == [("CsCl", 2)]


def test_what_holds_no_structure_among_others_is_a_reason(tmp_path):
    result = read(tmp_path, {"a": ONE, "b": None, "c": {"sites": []}, "metadata": {"by": "me"}})
    assert formulas(result) == [("CsCl", 2)]
    assert set(result.reasons()) == {"b", "c"}


def with_element(symbol: str) -> dict[str, Any]:
    content = json.loads(json.dumps(ONE))
    content["sites"][1]["species"][0]["element"] = symbol
    return content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (with_element("D"), "site 1: D is deuterium or tritium"),
        (with_element("T"), "site 1: T is deuterium or tritium"),
        (with_element("Xx"), "site 1: 'Xx' is no element"),
        ({**ONE, "lattice": {**ONE["lattice"], "pbc": [True, True, False]}}, "not periodic in all directions"),
        (Molecule(["C", "O"], [[0, 0, 0], [0, 0, 1.1]]).as_dict(), "no lattice, as a molecule has"),
        (encode(Atoms("CO", [[0, 0, 0], [0, 0, 1.1]], cell=[9, 9, 9])), "not periodic in all directions"),
        ({"energy": 1.0}, "holds no lattice and no sites"),
    ],
)
def test_what_is_no_crystal_says_why(content, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        read(tmp_path, content)


def test_a_structure_beside_structures_by_ids_is_refused(tmp_path):
    with pytest.raises(ValueError, match="both a structure and structures by their ids"):
        read(tmp_path, {"a": ONE, "structure": TWO})


def test_a_key_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the key 'a' stands twice"):
        read(tmp_path, f'{{"a": {json.dumps(ONE)}, "a": {json.dumps(TWO)}}}')
