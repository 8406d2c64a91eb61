"""A hull from a user's own file of Materials Project entries, with the corrections of MP2020 done by pymatgen."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.arrays import FloatArray
from bench.crystals import Crystals
from bench.errors import one_line
from tasks.stability.hull import Hull

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from pymatgen.entries.computed_entries import ComputedEntry


# What the energies are that a potential was trained on: the Materials Project's PBE and PBE+U as computed, or after the
# corrections of MP2020. Others cannot be put on a hull of MP entries.
LEVELS: Mapping[str, Literal["computed", "corrected"]] = MappingProxyType(
    {"m3gnet": "computed", "chgnet": "corrected", "sevennet": "computed", "sevennet-l3i5": "computed"}
)

MATERIAL = re.compile(r"(mp|mvc)-[0-9a-z]+")
RUN_TYPES = ("GGA", "GGA+U")  # those that the scheme has corrections for
# How they are spelled beside that: the API's enumeration writes GGA_U, pymatgen's reader PBE where the INCAR says PE.
SPELLINGS: Mapping[str, str] = MappingProxyType({"PBE": "GGA", "PBE+U": "GGA+U"})
NO_RUN_TYPE = "without a run type"
SHOWN = 3  # entries named of each kind that is left out


def read_mp_hull(path: str | Path, potential: str, run_types: Sequence[str] = ()) -> Hull:
    """The hull of a JSON file (also .gz) holding a list of pymatgen's ComputedEntry or ComputedStructureEntry.

    Entries must say how they were computed (`run_type`, `hubbards`), as those of the Materials Project's API do.
    run_types: those that are taken, of RUN_TYPES; empty for both. The card's `geometry` counts what is left out.
    ValueError where the file holds no entries, where the potential's energies are on another level than MP's, where a
    run type is chosen that has no corrections, or where, without a choice, a formula would lose all entries of a
    material because their kind has no corrections.
    """
    from pymatgen.entries.compatibility import CompatibilityError, MaterialsProject2020Compatibility

    if potential not in LEVELS:
        raise ValueError(
            f"the energies of {potential} are not on the level of the Materials Project's; a hull of its entries can "
            f"be used with {', '.join(LEVELS)}"
        )
    path = Path(path)
    taken_types = chosen_run_types(run_types)
    entries = _read_entries(path)
    scheme = MaterialsProject2020Compatibility(check_potcar=False)
    taken: list[ComputedEntry] = []
    left_out: dict[str, list[ComputedEntry]] = {}
    for entry in entries:
        kind = run_type_of(entry)
        if kind in taken_types:
            entry.parameters["run_type"] = kind
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of anions that pymatgen has to guess
                    scheme.process_entry(entry, clean=True, on_error="raise")
            except (CompatibilityError, ValueError, TypeError, KeyError) as error:
                # What follows "for" is the whole entry as a dict.
                kind = f"{kind}: {' '.join(str(error).split(' for {')[0].split())[:200]}"
            else:
                taken.append(entry)
                continue
        left_out.setdefault(kind, []).append(entry)
    if left_out and (not taken or not run_types):
        _require_all_materials(path, entries, taken, left_out)
    return Hull(
        [str(entry.composition.reduced_formula) for entry in taken],
        np.array([entry.energy_per_atom for entry in taken]),
        {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "phases": len(taken),
            "geometry": f"entries of {path.name} with MP2020 corrections, run types {' and '.join(taken_types)}"
            + (f"; left out: {_counted(left_out)}" if left_out else ""),
        },
        mp2020_corrections if LEVELS[potential] == "computed" else None,
    )


def chosen_run_types(names: Sequence[str]) -> tuple[str, ...]:
    """The run types of these names, in any spelling; all that have corrections for none. ValueError for others."""
    found = tuple(dict.fromkeys(_plain_run_type(name) for name in names))
    for name in found:
        if name not in RUN_TYPES:
            raise ValueError(f"--hull-run-types {name}: MP2020 has corrections for {' and '.join(RUN_TYPES)} alone")
    return found or RUN_TYPES


def run_type_of(entry: ComputedEntry) -> str:
    """GGA or GGA+U in whatever way it is spelled, another run type as it is spelled, or NO_RUN_TYPE."""
    for place in (entry.parameters, entry.data):
        if place.get("run_type"):
            return _plain_run_type(str(place["run_type"]))
    return NO_RUN_TYPE


def _plain_run_type(text: str) -> str:
    plain = text.strip().upper().replace("_", "+").replace(" ", "")
    plain = SPELLINGS.get(plain, plain)
    return plain if plain in RUN_TYPES else text.strip()


def _read_entries(path: Path) -> list[ComputedEntry]:
    from monty.serialization import loadfn
    from pymatgen.entries.computed_entries import ComputedEntry

    try:
        entries = loadfn(path)
    except Exception as error:  # of any class that the file names
        raise ValueError(f"{path}: no entries can be read there ({one_line(error)})") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: must be a list of pymatgen's computed entries, written with monty's dumpfn")
    for place, entry in enumerate(entries):
        if not isinstance(entry, ComputedEntry):
            what = type(entry).__name__
            raise ValueError(
                f"{path}: item {place} is of the type {what}; it must be a list of pymatgen's computed entries, "
                "written with monty's dumpfn"
            )
        if not np.isfinite(entry.uncorrected_energy):
            raise ValueError(f"{path}: item {place} ({_name(entry)}) has the energy {entry.uncorrected_energy}")
    return entries


def _require_all_materials(
    path: Path,
    entries: Sequence[ComputedEntry],
    taken: Sequence[ComputedEntry],
    left_out: Mapping[str, Sequence[ComputedEntry]],
) -> None:
    """ValueError where a material, or without ids a formula, has none of its entries among those taken."""
    here = {_material(entry) for entry in taken}
    lost = [entry for group in left_out.values() for entry in group if _material(entry) not in here]
    if not lost:
        return
    systems = sorted({entry.composition.chemical_system for entry in lost})
    elements = sorted(_elements(lost) - _elements(taken))
    shown = ", ".join(systems[:SHOWN]) + (", ..." if len(systems) > SHOWN else "")
    without = f"no entry of {', '.join(elements)} would be left; " if elements else ""
    raise ValueError(
        f"{path}: {sum(map(len, left_out.values()))} of {len(entries)} entries cannot be corrected by MP2020 "
        f"({_counted(left_out)}), and {len(lost)} of them have no twin that can, in {shown}; {without}"
        f"mend them, or leave them out on purpose with --hull-run-types {','.join(RUN_TYPES)}"
    )


def _elements(entries: Sequence[ComputedEntry]) -> set[str]:
    return {str(element) for entry in entries for element in entry.composition.elements}


def _material(entry: ComputedEntry) -> tuple[str, str]:
    """Formula and material, the latter empty where the entry does not say it."""
    named = str(entry.data.get("material_id") or entry.entry_id or "")
    found = MATERIAL.match(named)
    return str(entry.composition.reduced_formula), found[0] if found else ""


def _counted(groups: Mapping[str, Sequence[ComputedEntry]]) -> str:
    """How many entries of each kind, and the first of them."""
    parts = []
    for kind, entries in groups.items():
        names = ", ".join(dict.fromkeys(map(_name, entries[:SHOWN])))
        parts.append(f"{len(entries)} {kind} ({names}{', ...' if len(entries) > SHOWN else ''})")
    return ", ".join(parts)


def _name(entry: ComputedEntry) -> str:
    formula = str(entry.composition.reduced_formula)
    return f"{formula} {entry.entry_id}" if entry.entry_id else formula


def mp2020_corrections(crystals: Crystals) -> FloatArray:
    """(B,) eV per atom that MP2020 adds to an energy computed with the Materials Project's settings.

    Anion and oxide corrections, and those of PBE+U for transition metals in oxides and fluorides. NaN where the scheme
    has none.
    """
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    scheme = MaterialsProject2020Compatibility(check_potcar=False)
    corrections = np.zeros(len(crystals))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for b, structure in enumerate(crystals):
            entry = ComputedStructureEntry(structure, 0.0, parameters=_parameters(structure))
            processed = scheme.process_entry(entry, clean=True)
            corrections[b] = np.nan if processed is None else processed.correction / len(structure)
    return corrections


def _parameters(structure: Structure) -> dict[str, Any]:
    """How the Materials Project would have computed it: PBE+U for some metals with oxygen or fluorine."""
    hubbards = _hubbards()
    anion = max(structure.composition.elements, key=lambda element: element.X).symbol
    values = {e.symbol: hubbards(anion, e.symbol) for e in structure.composition.elements}
    applied = any(values.values())
    return {"run_type": "GGA+U" if applied else "GGA", "hubbards": values if applied else {}}


def _hubbards() -> Callable[[str, str], float]:
    from pymatgen.io.vasp.sets import MPRelaxSet

    table = MPRelaxSet.CONFIG["INCAR"]["LDAUU"]
    return lambda anion, metal: float(table.get(anion, {}).get(metal, 0.0))
