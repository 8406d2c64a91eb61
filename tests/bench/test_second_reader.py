"""What other programs write is read as their own readers read it, or refused: ASE reads extended XYZ, pymatgen JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read as ase_read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure

from bench.crystal_io import read_crystals
from bench.crystals import Crystals
from tests.bench.crystal_examples import some_crystals

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
VALUES = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), max_size=30)
NOTES = [
    "Lattice=",
    "lattice = '9 0 0 0 9 0 0 0 9'",
    'pbc=\\"F F F\\"',
    "Properties=species:S:1:pos:R:3",
    "{",
    "]",
    "it's",
]
SYMBOLS = ["Cs", "Cl", "O", "D", "T", "X", "CO", "si", "CL", "55", "Bx", "H1"]


@st.composite
def headers(draw: st.DrawFn) -> str:
    """A line above two atoms whose items stand in any order, with notes that may look like other items."""
    cell = 'Lattice="4 0 0 0 5 0 0.5 0 6"'
    note = draw(st.one_of(VALUES, st.sampled_from(NOTES)))
    quote = draw(st.sampled_from(['note="{}"', "note='{}'", "{}", "note={}", "note={{{}}}"]))
    pbc = draw(st.sampled_from(["", 'pbc="T T T"', 'pbc="F F F"', 'pbc="T T F"']))
    items = [cell, quote.format(note), pbc, draw(st.sampled_from(["", "Properties=species:S:1:pos:R:3:tag:I:1"]))]
    return " ".join(filter(None, draw(st.permutations(items))))


def same(crystals: Crystals, numbers: Any, coords: Any, cell: Any) -> bool:
    """Whether one crystal was read, of these atoms in this order and this cell."""
    if len(crystals) != 1 or crystals.atomic_numbers.tolist() != list(numbers):
        return False
    shift = crystals.frac_coords - coords
    return bool(np.abs(shift - np.round(shift)).max() < 1e-6 and np.allclose(crystals.lattices[0], cell, atol=1e-6))


@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
@given(header=headers(), symbols=st.lists(st.sampled_from(SYMBOLS), min_size=2, max_size=2))
def test_a_frame_is_read_as_ase_reads_it_or_refused(tmp_path: Path, header: str, symbols: list[str]) -> None:
    text = f"2\n{header}\n{symbols[0]} 0 0 0 1\n{symbols[1]} 2 2.5 3 2\n"
    (tmp_path / "x.extxyz").write_text(text)
    try:
        ours = read_crystals(tmp_path / "x.extxyz").filtered.crystals
    except ValueError:
        return
    try:
        theirs: Any = ase_read(io.StringIO(text), format="extxyz")
    except Exception:
        return  # what ASE cannot read, for a note that it takes for an array, is no other crystal
    np.testing.assert_allclose(ours.lattices[0], [[4, 0, 0], [0, 5, 0], [0.5, 0, 6]])
    if theirs.cell.rank == 0:
        return  # an empty text in quotes makes ASE lose what stands behind it
    assert same(ours, theirs.numbers, theirs.get_scaled_positions(), theirs.cell.array)
    assert all(theirs.pbc)


changes = st.sampled_from(
    ["occu", "element", "abc", "no site", "matrix", "pbc", "charge", "properties", "nothing", "oxidation"]
)


def changed(content: dict[str, Any], change: str, rng: np.random.Generator) -> dict[str, Any]:
    """The dictionary with one thing in it changed, as a program or a hand might have."""
    content = json.loads(json.dumps(content))
    site = content["sites"][int(rng.integers(len(content["sites"])))]
    if change == "occu":
        site["species"][0]["occu"] = float(rng.choice([0.5, 0.0, 1.0]))
    elif change == "element":
        site["species"][0]["element"] = str(rng.choice(["D", "Xx", "O", "T", "Cl"]))
    elif change == "abc":
        site["abc"] = [float(x) for x in rng.uniform(-2, 2, 3)]
    elif change == "no site":
        content["sites"].remove(site)
    elif change == "matrix":
        content["lattice"]["matrix"][0][0] += 1.0
    elif change == "pbc":
        content["lattice"]["pbc"] = [True, True, bool(rng.integers(2))]
    elif change == "charge":
        content["charge"] = 1
    elif change == "properties":
        site["properties"] = {"magmom": 1.0}
    elif change == "oxidation":
        site["species"][0]["oxidation_state"] = 2
    return content


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@given(changes=st.lists(changes, min_size=1, max_size=3), seed=st.integers(0, 2**32 - 1))
@pytest.mark.filterwarnings("ignore")
def test_a_structure_is_read_as_pymatgen_reads_it_or_refused(tmp_path: Path, changes: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    content: dict[str, Any] = some_crystals([int(rng.integers(1, 6))], seed).structure(0).as_dict()
    for change in changes:
        if content["sites"]:
            content = changed(content, change, rng)
    (tmp_path / "x.json").write_text(json.dumps(content))
    try:
        ours = read_crystals(tmp_path / "x.json").filtered.crystals
    except ValueError:
        return
    theirs = Structure.from_dict(content)
    assert theirs.is_ordered
    assert same(ours, theirs.atomic_numbers, theirs.frac_coords, theirs.lattice.matrix)
