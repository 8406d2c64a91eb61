"""Crystals from dictionaries, as pymatgen, ASE, JARVIS and the tables and entries around them write them to JSON.

Read by hand: the packages' own readers import and call whatever class a text names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.arrays import FloatArray
from bench.crystal_io.cif import only_block
from bench.crystal_io.cif.elements import HEAVY_HYDROGEN
from bench.crystal_io.streams import MAX_ATOMS, CifText, Missing, only
from bench.crystals import Crystals, filter_crystals
from bench.errors import one_line

ASE_KEYS = {"numbers", "positions"}
JARVIS_KEYS = {"lattice_mat", "coords", "elements"}
MAX_NESTING = 3  # of entries that hold entries


def holds_structure(content: Any) -> bool:
    """Whether a JSON value is meant as a crystal: a structure, an entry with one, or atoms of ASE or JARVIS."""
    if not isinstance(content, Mapping):
        return False
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
    if content.keys() >= ASE_KEYS:
        return ase_atoms(content)
    if content.keys() >= JARVIS_KEYS:
        return jarvis_atoms(content)
    if "sites" not in content and nesting:
        for key in ("structure", "cif", "atoms"):
            if content.get(key) is not None:
                return crystal_of(content[key], nesting - 1)
    return pymatgen_structure(content)


def structure_column(columns: list[str]) -> str:
    """Which of a table's columns holds the crystals."""
    for name in ("cif", "structure"):
        if name in columns:
            return name
    raise ValueError(f"no column named cif or structure among {', '.join(columns)[:300] or 'none'}")


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
            coords.append(site["abc"] if site.get("abc") is not None else np.linalg.solve(matrix.T, site["xyz"]))
        return only(filter_crystals([len(numbers)], numbers, np.array(coords, dtype=np.float64), matrix))
    except ValueError as error:  # also numpy's LinAlgError
        return Missing(one_line(error))
    except Exception as error:  # a dictionary of anything
        return Missing(f"not a pymatgen structure ({one_line(error)})")


def _matrix(lattice: Mapping[str, Any]) -> FloatArray:
    """(3, 3) A. Parameters alone, as some databases store them, are pymatgen's business."""
    if "matrix" in lattice:
        return np.array(lattice["matrix"], dtype=np.float64).reshape(3, 3)
    from pymatgen.core import Lattice

    parameters = [float(lattice[key]) for key in ("a", "b", "c", "alpha", "beta", "gamma")]
    return np.array(Lattice.from_parameters(*parameters).matrix, dtype=np.float64)


def ase_atoms(content: Mapping[str, Any]) -> Crystals | Missing:
    """The crystal of ASE's atoms: of its JSON encoder, or a row of its JSON data base."""
    try:
        numbers = np.asarray(_array(content["numbers"]))
        if len(numbers) > MAX_ATOMS:
            return Missing(f"has {len(numbers)} atoms; at most {MAX_ATOMS} are read")
        cell = _array(content["cell"])
        matrix = np.array(_array(cell["array"]) if isinstance(cell, Mapping) else cell, dtype=np.float64)
        if matrix.shape == (3,):
            matrix = np.diag(matrix)
        if (fault := _not_periodic(_array(content.get("pbc")))) is not None:
            return Missing(fault)
        positions = np.array(_array(content["positions"]), dtype=np.float64).reshape(-1, 3)
        coords = np.linalg.solve(matrix.reshape(3, 3).T, positions.T).T
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
        matrix = np.array(content["lattice_mat"], dtype=np.float64).reshape(3, 3)
        coords = np.array(content["coords"], dtype=np.float64).reshape(-1, 3)
        if content.get("cartesian", False):
            coords = np.asarray(np.linalg.solve(matrix.T, coords.T).T, dtype=np.float64)
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
    if pbc is None or np.all(np.asarray(pbc, dtype=bool)):
        return None
    flags = np.broadcast_to(np.asarray(pbc, dtype=bool).reshape(-1), (3,)).tolist()
    return f"pbc is {flags}: not periodic in all directions, so no crystal"


def _described(content: Any) -> str:
    names = {dict: "a dictionary", list: "a list", str: "a text", type(None): "null"}
    return names.get(type(content), f"the value {str(content)[:40]}")
