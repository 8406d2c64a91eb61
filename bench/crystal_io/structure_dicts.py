"""Crystals from dictionaries, as pymatgen, ASE, JARVIS and the tables and entries around them write them to JSON.

Read by hand: the packages' own readers import and call whatever class a text names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.arrays import FloatArray
from bench.crystal_io.cells import (
    CONTRADICTION,
    another_cell,
    fractional,
    impossible_parameters,
    lattice_of,
    lattices_from_parameters,
    rows_of_three,
)
from bench.crystal_io.cif import only_block
from bench.crystal_io.cif.elements import HEAVY_HYDROGEN
from bench.crystal_io.streams import MAX_ATOMS, CifText, Missing, only
from bench.crystals import Crystals, filter_crystals
from bench.errors import one_line

ASE_KEYS = {"numbers", "positions"}
JARVIS_KEYS = {"lattice_mat", "coords", "elements"}
KINDS = ("structure", "cif", "atoms")  # keys under which an entry holds its one crystal
LENGTHS, ANGLES = ("a", "b", "c"), ("alpha", "beta", "gamma")
SAME_PLACE_ANGSTROM = 0.05  # between fractional and Cartesian coordinates, which may be rounded
MAX_NESTING = 3  # of entries that hold entries


class Repeated(dict[str, Any]):
    """In place of a JSON dictionary in which a key stands twice; any use of its content is a ValueError."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.reason = f"the key {key[:80]!r} stands twice in one dictionary; keep one of them"

    def __missing__(self, key: str) -> Any:
        """ValueError."""
        raise ValueError(self.reason)


def holds_structure(content: Any) -> bool:
    """Whether a JSON value is meant as a crystal: a structure, an entry with one, or atoms of ASE or JARVIS."""
    if not isinstance(content, Mapping):
        return False
    if isinstance(content, Repeated):
        return True
    is_atoms = any(keys <= content.keys() for keys in (ASE_KEYS, JARVIS_KEYS))
    holds_one = isinstance(content.get("structure"), Mapping | str) or isinstance(content.get("cif"), str)
    holds_one = holds_one or holds_structure(content.get("atoms"))
    return "sites" in content or "lattice" in content or is_atoms or holds_one


def crystal_of(content: Any, nesting: int = MAX_NESTING) -> Crystals | CifText | Missing:
    """The crystal of a JSON value, or why there is none.

    Read are pymatgen's Structure.as_dict, dictionaries that hold one as `structure` (ComputedStructureEntry among
    them) or a CIF text as `cif`, and the atoms of ASE and JARVIS, also as `atoms` of an entry.
    """
    if isinstance(content, str):
        return only_block(content)
    if not isinstance(content, Mapping):
        return Missing(f"not a structure but {_described(content)}")
    if isinstance(content, Repeated):
        return Missing(content.reason)
    if content.keys() >= ASE_KEYS:
        return ase_atoms(content)
    if content.keys() >= JARVIS_KEYS:
        return jarvis_atoms(content)
    if "sites" not in content and nesting:
        there = [key for key in KINDS if content.get(key) is not None]
        if len(crystals := [key for key in there if isinstance(content[key], Mapping | str)]) > 1:
            return Missing(f"holds both {' and '.join(crystals)}, perhaps of two crystals; leave one")
        for key in there:
            return crystal_of(content[key], nesting - 1)
    return pymatgen_structure(content)


def structure_column(columns: list[str]) -> str:
    """Which of a table's columns holds the crystals. ValueError where none does, or more than one."""
    found = [name for name in columns if name in ("cif", "structure")]
    if len(found) > 1:
        raise ValueError(f"has the columns {' and '.join(found)}, perhaps of different crystals; leave one")
    if not found:
        raise ValueError(f"no column named cif or structure among {', '.join(columns)[:300] or 'none'}")
    return found[0]


def pymatgen_structure(content: Any) -> Crystals | Missing:
    """The crystal of a dictionary as pymatgen's Structure.as_dict gives it."""
    try:
        if "lattice" not in content and "sites" in content:
            return Missing("not a pymatgen structure: has sites but no lattice, as a molecule has")
        if absent := [key for key in ("lattice", "sites") if key not in content]:
            return Missing(f"not a pymatgen structure: holds no {' and no '.join(absent)}")
        lattice, sites = content["lattice"], content["sites"]
        matrix = _matrix(lattice)
        if (fault := _not_periodic(lattice.get("pbc"))) is not None:
            return Missing(fault)
        if len(sites) > MAX_ATOMS:
            return Missing(f"has {len(sites)} atoms; at most {MAX_ATOMS} are read")
        numbers, coords = [], []
        for number, site in enumerate(sites):
            species = site["species"]
            if len(species) != 1 or species[0].get("occu", 1) != 1:
                return Missing(f"site {number} has partial occupancies; order it first")
            numbers.append(atomic_number(species[0]["element"], f"site {number}"))
            coords.append(_place(site, matrix, f"site {number}"))
        return only(filter_crystals([len(numbers)], numbers, np.array(coords, dtype=np.float64), matrix))
    except ValueError as error:  # also numpy's LinAlgError
        return Missing(one_line(error))
    except Exception as error:  # a dictionary of anything
        return Missing(f"not a pymatgen structure ({one_line(error)})")


def _matrix(lattice: Mapping[str, Any]) -> FloatArray:
    """(3, 3) A, of a matrix, or of lengths and angles alone, as some databases store them.

    ValueError where they differ, or are those of no cell.
    """
    if "matrix" not in lattice:
        return _of_parameters(*_lengths_and_angles(lattice))
    matrix = lattice_of(lattice["matrix"])
    if all(lattice.get(key) is not None for key in (*LENGTHS, *ANGLES)):
        _refuse_another_cell(matrix, *_lengths_and_angles(lattice))
    return matrix


def _lengths_and_angles(lattice: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    return [lattice[key] for key in LENGTHS], [lattice[key] for key in ANGLES]


def _of_parameters(lengths: Any, angles: Any) -> FloatArray:
    """(3, 3) A. ValueError where lengths or angles are those of no cell."""
    if fault := impossible_parameters(lengths, angles):
        raise ValueError(fault[0])
    return np.asarray(lattices_from_parameters(lengths, angles)[0])


def _refuse_another_cell(matrix: FloatArray, lengths: Any, angles: Any) -> None:
    """ValueError where lengths and angles are those of another cell than a lattice that is one."""
    is_cell = np.isfinite(matrix).all() and np.linalg.det(matrix) != 0
    if is_cell and another_cell(_of_parameters(lengths, angles)[None], matrix[None])[0]:
        raise ValueError(CONTRADICTION)


def _place(site: Mapping[str, Any], matrix: FloatArray, where: str) -> Any:
    """(3,) fractional coordinates of a site. ValueError where its Cartesian ones are of another place."""
    abc, xyz = site.get("abc"), site.get("xyz")
    if abc is None:
        return fractional([site["xyz"]], matrix)[0]
    if xyz is not None:
        shift = np.array(abc, dtype=np.float64) - fractional([xyz], matrix)[0]
        if np.abs((shift - np.rint(shift)) @ matrix).max() > SAME_PLACE_ANGSTROM:
            raise ValueError(f"{where}: its fractional coordinates (abc) and Cartesian ones (xyz) are two places")
    return abc


def ase_atoms(content: Mapping[str, Any]) -> Crystals | Missing:
    """The crystal of ASE's atoms: of its JSON encoder, or a row of its JSON data base."""
    try:
        numbers = np.asarray(_array(content["numbers"]))
        if len(numbers) > MAX_ATOMS:
            return Missing(f"has {len(numbers)} atoms; at most {MAX_ATOMS} are read")
        cell = _array(content["cell"])
        matrix = np.array(_array(cell["array"]) if isinstance(cell, Mapping) else cell, dtype=np.float64)
        matrix = lattice_of(np.diag(matrix) if matrix.shape == (3,) else matrix)
        if (fault := _not_periodic(_array(content.get("pbc")))) is not None:
            return Missing(fault)
        coords = fractional(_array(content["positions"]), matrix)
        return only(filter_crystals([len(numbers)], numbers, coords, matrix))
    except ValueError as error:
        return Missing(one_line(error))
    except Exception as error:  # a dictionary of anything
        return Missing(f"not ASE's atoms ({one_line(error)})")


def jarvis_atoms(content: Mapping[str, Any]) -> Crystals | Missing:
    """The crystal of JARVIS's atoms; coordinates are fractional unless `cartesian` says otherwise."""
    try:
        if len(content["elements"]) > MAX_ATOMS:
            return Missing(f"has {len(content['elements'])} atoms; at most {MAX_ATOMS} are read")
        numbers = [atomic_number(symbol, f"atom {place}") for place, symbol in enumerate(content["elements"])]
        matrix = lattice_of(content["lattice_mat"])
        if content.get("abc") is not None and content.get("angles") is not None:
            _refuse_another_cell(matrix, content["abc"], content["angles"])
        if (cartesian := content.get("cartesian", False)) not in (True, False):
            raise ValueError(f"cartesian is {str(cartesian)[:20]!r}, neither true nor false")
        coords = fractional(content["coords"], matrix) if cartesian else rows_of_three(content["coords"], "coords")
        return only(filter_crystals([len(numbers)], numbers, coords, matrix))
    except ValueError as error:
        return Missing(one_line(error))
    except Exception as error:  # a dictionary of anything
        return Missing(f"not JARVIS's atoms ({one_line(error)})")


def _array(content: Any) -> Any:
    """What ASE's JSON stands for: arrays are [shape, type, values] under a name of their own."""
    if isinstance(content, Mapping) and "__ndarray__" in content:
        shape, kind, values = content["__ndarray__"]
        if str(kind) not in ("int64", "int32", "float64", "float32", "bool"):
            raise ValueError(f"an array of type {str(kind)[:20]}")
        return np.array(values, dtype=str(kind)).reshape(shape)
    return content


def atomic_number(symbol: Any, where: str) -> int:
    """Z of an element's symbol. ValueError where there is no such element; D and T are none."""
    from pymatgen.core import Element

    if symbol in ("D", "T"):
        raise ValueError(f"{where}: {symbol} {HEAVY_HYDROGEN}")
    try:
        return int(Element(symbol).Z)
    except ValueError:
        raise ValueError(f"{where}: {str(symbol)[:20]!r} is no element") from None


def _not_periodic(pbc: Any) -> str | None:
    """Why atoms are no crystal by their pbc; None where it is true in all directions or says nothing."""
    if pbc is None:
        return None
    flags = np.asarray(pbc).reshape(-1)
    if flags.dtype.kind not in "biu" or flags.size not in (1, 3) or not np.isin(flags, (0, 1)).all():
        return f"pbc is {str(pbc)[:40]!r}, not three of true and false"
    if flags.all():
        return None
    flags = np.broadcast_to(flags.astype(bool), (3,)).tolist()
    return f"pbc is {flags}: not periodic in all directions, so no crystal"


def _described(content: Any) -> str:
    names = {dict: "a dictionary", list: "a list", str: "a text", type(None): "null"}
    return names.get(type(content), f"the value {str(content)[:40]}")
