"""What pymatgen, ase and gemmi write of crystals of every space group and setting comes back as the same crystal."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import ase.io
import gemmi
import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from bench.crystal_io import read_crystals
from tests.bench.all_space_groups import SymmetricCrystal, crystals

SYMPREC = 0.01


def by_pymatgen(crystal: SymmetricCrystal, decimals: int) -> tuple[str, Structure]:
    return str(CifWriter(crystal.whole, significant_figures=decimals)), crystal.whole


def by_pymatgen_with_symmetry(crystal: SymmetricCrystal, decimals: int) -> tuple[str, Structure]:
    text = str(CifWriter(crystal.whole, symprec=SYMPREC, significant_figures=decimals))
    return text, SpacegroupAnalyzer(crystal.whole, SYMPREC).get_refined_structure()


def by_ase(crystal: SymmetricCrystal, decimals: int) -> tuple[str, Structure]:
    atoms = AseAtomsAdaptor.get_atoms(crystal.whole)
    atoms.set_scaled_positions(np.round(crystal.whole.frac_coords, decimals))
    buffer = io.BytesIO()
    ase.io.write(buffer, atoms, format="cif")
    return buffer.getvalue().decode(), crystal.whole


def by_gemmi(crystal: SymmetricCrystal, decimals: int) -> tuple[str, Structure]:
    small = gemmi.SmallStructure()
    small.cell = gemmi.UnitCell(*crystal.whole.lattice.parameters)
    small.spacegroup_hm = crystal.group.xhm()
    small.determine_and_set_spacegroup("H")
    for number, (symbol, coords) in enumerate(zip(crystal.symbols, np.round(crystal.coords, decimals), strict=True)):
        site = gemmi.SmallStructure.Site()
        site.label, site.type_symbol, site.element = f"{symbol}{number}", symbol, gemmi.Element(symbol)
        site.fract = gemmi.Fractional(*coords)
        small.add_site(site)
    return "data_x" + small.make_cif_block().as_string().removeprefix("data_"), crystal.whole


def with_operators(crystal: SymmetricCrystal, decimals: int) -> tuple[str, Structure]:
    text, whole = by_gemmi(crystal, decimals)
    listed = "".join(f"'{operator.triplet()}'\n" for operator in crystal.group.operations())
    return f"{text}\nloop_\n_space_group_symop_operation_xyz\n{listed}", whole


WRITERS = [by_pymatgen, by_pymatgen_with_symmetry, by_ase, by_gemmi, with_operators]
Writer = Callable[[SymmetricCrystal, int], tuple[str, Structure]]


def farthest(ours: Structure, theirs: Structure) -> float:
    """How far, in Angstrom, an atom of one lies from the nearest of its element in the other; inf where none is."""
    if ours.composition != theirs.composition or not np.allclose(
        ours.lattice.parameters, theirs.lattice.parameters, atol=1e-3
    ):
        return float("inf")
    distances = theirs.lattice.get_all_distances(ours.frac_coords, theirs.frac_coords)
    other = np.array(ours.atomic_numbers)[:, None] != np.array(theirs.atomic_numbers)
    distances[other] = np.inf
    return float(max(distances.min(axis=0).max(), distances.min(axis=1).max()))


def lost(writer: Writer, decimals: int, written: list[SymmetricCrystal], folder: Path, match: bool) -> list[str]:
    """Groups of the crystals that do not come back as the same."""
    expected, names = [], []
    for number, crystal in enumerate(written):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rounding, and of spglib's way to report errors
            text, structure = writer(crystal, decimals)
        (folder / f"{number}.cif").write_text(text)
        expected.append(structure)
        names.append(crystal.group.xhm())
    result = read_crystals(folder)
    matcher = StructureMatcher(primitive_cell=False, scale=False)
    found = {int(place): result.filtered.crystals.structure(row) for row, place in enumerate(result.filtered.indices)}
    bad = [f"{names[place]}: {reason}" for place, reason in result.filtered.reasons.items()]
    for place, structure in found.items():
        if (off := farthest(structure, expected[place])) > 0.01:
            bad.append(f"{names[place]}: {len(structure)} atoms of {len(expected[place])}, {off:.3f} A off")
        elif match and not matcher.fit(structure, expected[place]):
            bad.append(f"{names[place]}: does not match")
    bad += [f"{count} crystals: {remark}" for remark, count in result.remarks.items()]
    return bad


@pytest.mark.parametrize("decimals", [4, 8])
@pytest.mark.parametrize("writer", WRITERS)
def test_crystals_of_some_groups_come_back_from_every_writer(writer: Writer, decimals: int, tmp_path: Path) -> None:
    assert not lost(writer, decimals, list(crystals(1, step=23)), tmp_path, match=False)


@pytest.mark.nightly
@pytest.mark.parametrize("decimals", [4, 8])
@pytest.mark.parametrize("writer", WRITERS)
def test_crystals_of_all_groups_and_settings_come_back_from_every_writer(
    writer: Writer, decimals: int, tmp_path: Path
) -> None:
    written = list(crystals(2, seed=1))
    assert len(written) > 1000
    assert {crystal.group.number for crystal in written} == set(range(1, 231))
    assert not lost(writer, decimals, written, tmp_path, match=True)
