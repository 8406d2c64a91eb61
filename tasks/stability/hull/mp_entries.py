"""A hull from a user's own file of Materials Project entries, with the corrections of MP2020 done by pymatgen."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.arrays import FloatArray
from bench.crystals import Crystals
from tasks.stability.hull import Hull

if TYPE_CHECKING:
    from pymatgen.core import Structure


# What the energies are that a potential was trained on: the Materials Project's PBE and PBE+U as computed, or after the
# corrections of MP2020. Others cannot be put on a hull of MP entries.
LEVELS: Mapping[str, Literal["computed", "corrected"]] = MappingProxyType(
    {"m3gnet": "computed", "chgnet": "corrected", "sevennet": "computed"}
)


def read_mp_hull(path: str | Path, potential: str) -> Hull:
    """The hull of a JSON file (also .gz) holding a list of pymatgen's ComputedEntry or ComputedStructureEntry.

    Entries must say how they were computed (`run_type`, `hubbards`), as those of the Materials Project's API do.
    ValueError where the file holds none, or where the potential's energies are on another level than MP's.
    """
    from monty.serialization import loadfn
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility
    from pymatgen.entries.computed_entries import ComputedEntry

    if potential not in LEVELS:
        raise ValueError(
            f"the energies of {potential} are not on the level of the Materials Project's; a hull of its entries can "
            f"be used with {', '.join(LEVELS)}"
        )
    path = Path(path)
    try:
        entries = loadfn(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no entries can be read there ({error})") from error
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, ComputedEntry) for entry in entries):
        raise ValueError(f"{path}: must be a list of pymatgen's computed entries, written with monty's dumpfn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of anions that pymatgen has to guess
        compatible = MaterialsProject2020Compatibility(check_potcar=False).process_entries(entries, clean=True)
    if not compatible:
        raise ValueError(f"{path}: none of its {len(entries)} entries is compatible with the corrections of MP2020")
    card = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "phases": len(compatible),
        "geometry": f"entries of {path.name} with MP2020 corrections",
    }
    return Hull(
        [str(entry.composition.reduced_formula) for entry in compatible],
        np.array([entry.energy_per_atom for entry in compatible]),
        card,
        mp2020_corrections if LEVELS[potential] == "computed" else None,
    )


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
