"""What the line above the atoms of an extended XYZ frame says."""

import pytest

from bench.crystal_io import read_crystals

CELL = 'Lattice="4.1 0 0 0 4.1 0 0 0 4.1"'
COLUMNS = "Properties=species:S:1:pos:R:3"
ATOMS = "Cs 0 0 0\nCl 2.05 2.05 2.05"


def read(tmp_path, header, atoms=ATOMS):
    (tmp_path / "x.extxyz").write_text(f"2\n{header}\n{atoms}\n")
    return read_crystals(tmp_path / "x.extxyz")


@pytest.mark.parametrize(
    ("header", "atoms"),
    [
        (f"{CELL} {COLUMNS}", ATOMS),
        (f'{COLUMNS} pbc="T T T" {CELL}', ATOMS),
        (f'{CELL} {COLUMNS} pbc=[true, true, true] energy=-1.5 stress="0 0 0 0 0 0 0 0 0"', ATOMS),
        (CELL, ATOMS),
        (CELL.lower() + " " + COLUMNS.lower(), ATOMS),
        (f"note=\"old lattice='9 0 0 0 9 0 0 0 9' x\" {CELL} {COLUMNS}", ATOMS),
        (f"'was Lattice=\"9 0 0 0 9 0 0 0 9\" once' {CELL} {COLUMNS}", ATOMS),
        (f'comment="pbc=\\"F F F\\" before" {CELL} {COLUMNS}', ATOMS),
        (f"config_type={{lattice=9 pbc=F}} {CELL} {COLUMNS}", ATOMS),
        (f"Lattice={{4.1 0 0 0 4.1 0 0 0 4.1}} {COLUMNS}", ATOMS),
        (f"{CELL} {COLUMNS}", "cs 0 0 0\nCL 2.05 2.05 2.05"),
        (f"{CELL} Properties=id:I:1:pos:R:3:species:S:1", "1 0 0 0 Cs\n2 2.05 2.05 2.05 Cl"),
        (f"{CELL} Properties=Z:I:1:pos:R:3:forces:R:3", "55 0 0 0 0 0 0\n17 2.05 2.05 2.05 0 0 0"),
    ],
)
def test_cell_and_columns_are_found_wherever_they_stand(header, atoms, tmp_path):
    crystals = read(tmp_path, header, atoms).filtered.crystals
    assert crystals.formula(0) == "CsCl"
    assert crystals.volumes[0] == pytest.approx(4.1**3)
    assert crystals.frac_coords[1] == pytest.approx([0.5] * 3)


@pytest.mark.parametrize(
    ("header", "atoms", "says"),
    [
        (f'{CELL} {COLUMNS} pbc="F F F"', ATOMS, "not periodic in all directions"),
        (f'{CELL} {COLUMNS} pbc="T T F"', ATOMS, "not periodic in all directions"),
        (f'pbc="F F F" {CELL}', ATOMS, "not periodic in all directions"),
        (f'{CELL} {COLUMNS} pbc="yes"', ATOMS, "is not three of T and F"),
        (f"{CELL} Properties=species:S:1:scaled_positions:R:3", ATOMS, "has no column pos:R:3"),
        (f"{CELL} Properties=species:S:1:positions:R:3", ATOMS, "has no column pos:R:3"),
        (f"{CELL} Properties=species:S:1:pos:R:2", ATOMS, "has no column pos:R:3"),
        (f"{CELL} Properties=tag:S:1:pos:R:3", ATOMS, "has no column species or Z"),
        (f'{CELL} {COLUMNS} Lattice="9 0 0 0 9 0 0 0 9"', ATOMS, "has Lattice twice"),
        (f"{CELL} {COLUMNS}", "Cs 0 0 0\nCO 2.05 2.05 2.05", "atom 1: 'CO' may be Co or C and O"),
        (f"{CELL} {COLUMNS}", "d 0 0 0\nCl 2.05 2.05 2.05", "atom 0: d is deuterium"),
        (f"{CELL} {COLUMNS}", "D 0 0 0\nCl 2.05 2.05 2.05", "atom 0: D is deuterium"),
        (f"{CELL} {COLUMNS}", "Cs 0 0 0\nT 2.05 2.05 2.05", "atom 1: T is deuterium"),
        (f"{CELL} {COLUMNS}", "Cs 0 0 0\nQq 2.05 2.05 2.05", "no element is called 'Qq'"),
        (
            f"{CELL} Properties=species:S:1:pos:R:3:Z:I:1",
            "Cs 0 0 0 55\nCl 2 2 2 35",
            "is Cl by its species and 35 by",
        ),
        (COLUMNS, ATOMS, "has no Lattice"),
    ],
)
def test_what_is_no_crystal_says_why(header, atoms, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        read(tmp_path, header, atoms)
