"""Small CIF texts that the tests of reading them are made of."""

from collections.abc import Sequence
from pathlib import Path

from bench.crystal_io import ReadResult, read_crystals

ATOMS = ("label", "type_symbol", "fract_x", "fract_y", "fract_z")


def cell(a: float, b: float | None = None, c: float | None = None, *angles: float) -> str:
    """Six lines of a cell; a cube where only one length is given."""
    lengths = zip("abc", (a, b or a, c or a), strict=True)
    names = zip(("alpha", "beta", "gamma"), angles or (90, 90, 90), strict=True)
    return "".join([f"_cell_length_{n} {v}\n" for n, v in lengths] + [f"_cell_angle_{n} {v}\n" for n, v in names])


def operators(*triplets: str, tag: str = "_symmetry_equiv_pos_as_xyz") -> str:
    return f"loop_\n{tag}\n" + "".join(f"'{triplet}'\n" for triplet in triplets)


def atoms(rows: Sequence[str], columns: Sequence[str] = ATOMS) -> str:
    return "loop_\n" + "".join(f"_atom_site_{name}\n" for name in columns) + "".join(f"{row}\n" for row in rows)


def read_text(text: str, folder: Path) -> ReadResult:
    """What becomes of a CIF text with one crystal, whatever that is."""
    (folder / "x").mkdir(exist_ok=True)
    (folder / "x" / "0.cif").write_bytes(text.encode())
    (folder / "x" / "1.cif").write_text("data_x\n" + cell(9) + atoms(["H1 H 0 0 0"]))  # so that there is a crystal
    return read_crystals(folder / "x")


def counts_of(text: str, folder: Path) -> dict[str, int]:
    """Symbol -> number of atoms of the one crystal of a text, which must be one."""
    result = read_text(text, folder)
    assert not result.reasons()
    return {str(element): int(count) for element, count in result.filtered.crystals.structure(0).composition.items()}


def reason_of(text: str, folder: Path) -> str:
    """Why a text holds no crystal."""
    result = read_text(text, folder)
    assert list(result.reasons()) == ["0.cif"], result.filtered.crystals.formula(0)
    return result.reasons()["0.cif"]
