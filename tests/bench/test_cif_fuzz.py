"""Damaged CIFs of all groups are a reason, or the crystal that a second reader sees in them too."""

import io
import warnings
from collections import Counter

import gemmi
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure
from pymatgen.io.cif import CifParser

from bench.crystal_io.cif import Atoms, plain_crystal, read_cif
from bench.crystal_io.streams import CifText
from tests.bench.all_space_groups import crystal

GROUPS = list(gemmi.spacegroup_table())
MOST_ATOMS = 200  # that are compared
# Nothing that pymatgen reads in its own way: no type that is no element, no "." or "?", no symbol without operators.
TOKENS = [
    *("0", "0.5", ".25", "0.3333", "0.6667", "-0.1", "1.2", "0.2(3)", "1e-1", "0.5 0.5", "\u22120.3", "9" * 400),
    *("Na", "Fe", "O", "1", "2", "5", "90", "120", "'Na2 O1'", "'x,y,z'", "'-x,-y,-z'"),
    *("loop_", "#", "'", ";", "data_y", "_cell_length_a"),
]
CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
ATOMS = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")


@st.composite
def cif_texts(draw: st.DrawFn) -> str:
    """A CIF of a crystal with symmetry, its lines and words damaged up to four times."""
    made = crystal(draw(st.sampled_from(GROUPS)), np.random.default_rng(draw(st.integers(0, 999))))
    decimals = draw(st.integers(3, 8))
    lines = ["data_x", *(f"_cell_{n} {v:.6f}" for n, v in zip(CELL, made.whole.lattice.parameters, strict=True))]
    if draw(st.booleans()):
        lines += [
            f"_symmetry_space_group_name_H-M '{made.group.xhm()}'",
            f"_symmetry_Int_Tables_number {made.group.number}",
        ]
    if draw(st.booleans()):
        lines += [f"_chemical_formula_sum '{made.whole.composition.formula}'", "_cell_formula_units_Z 1"]
    lines += ["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{op.triplet()}'" for op in made.group.operations())]
    lines += [
        "loop_",
        *(f"_atom_site_{n}" for n in ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")),
    ]
    for number, (symbol, place) in enumerate(zip(made.symbols, made.coords, strict=True)):
        lines.append(f"{symbol}{number} {symbol} {' '.join(f'{value:.{decimals}f}' for value in place)} 1")
    for _ in range(draw(st.integers(0, 4))):
        at, other = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
        words = lines[at].split(" ")
        words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(TOKENS))
        kind = draw(st.sampled_from(["drop", "copy", "swap", "word", "word", "word"]))
        if kind == "drop" and len(lines) > 1:
            del lines[at]
        elif kind == "copy":
            lines.insert(other, lines[at])
        elif kind == "swap":
            lines[at], lines[other] = lines[other], lines[at]
        else:
            lines[at] = " ".join(words)
    return "\n".join(lines) + "\n"


def crystals_in(text: str) -> list[tuple[str, Atoms]]:
    """The blocks of a text that hold a crystal which is read without a remark."""
    found = []
    for _, entry in read_cif(io.StringIO(text), "x"):
        if isinstance(entry, CifText):
            try:
                atoms = plain_crystal(entry.text)
            except ValueError:
                continue
            if not atoms.remarks and len(atoms.atomic_numbers) <= MOST_ATOMS:
                found.append((entry.text, atoms))
    return found


def by_pymatgen(text: str) -> Structure | None:
    """The ordered crystal that pymatgen finds, None where it finds none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            structures = CifParser.from_str(text, site_tolerance=1e-3).parse_structures(primitive=False)
        except Exception:
            return None
    return structures[0] if len(structures) == 1 and structures[0].is_ordered else None


def assert_same(text: str) -> None:
    for block, atoms in crystals_in(text):
        theirs = by_pymatgen(block)
        if theirs is not None:
            assert Counter(atoms.atomic_numbers.tolist()) == Counter(theirs.atomic_numbers)
            distances = theirs.lattice.get_all_distances(atoms.frac_coords, theirs.frac_coords)
            distances[atoms.atomic_numbers[:, None] != np.array(theirs.atomic_numbers)] = np.inf
            assert max(distances.min(axis=0).max(), distances.min(axis=1).max()) < 0.05


QUICK = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=25, **QUICK)
@given(text=cif_texts())
def test_a_damaged_cif_is_a_reason_or_what_a_second_reader_sees(text: str) -> None:
    assert_same(text)


@pytest.mark.nightly
@settings(max_examples=3000, **QUICK)
@given(text=cif_texts())
def test_three_thousand_damaged_cifs_are_reasons_or_what_a_second_reader_sees(text: str) -> None:
    assert_same(text)


@settings(max_examples=200, **QUICK)
@given(
    text=st.one_of(
        st.text(max_size=400),
        st.lists(
            st.sampled_from([*TOKENS, "_atom_site_label", "_atom_site_fract_x", "\n", "\n;", "save_", "?", "."])
        ).map(" ".join),
        st.binary(max_size=400).map(lambda content: content.decode("utf-8", "replace")),
    )
)
def test_rubbish_is_a_reason(text: str) -> None:
    crystals_in(text)
    crystals_in("data_x\n_cell_length_a 5\n" + text)
