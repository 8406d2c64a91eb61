"""Energy above the convex hull of reference phases, whose energies come from the same potential."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.crystals import Crystals

FloatArray = NDArray[np.float64]
Composition = Mapping[str, float]  # element -> amount

SYMBOL = re.compile(r"[A-Z][a-z]?")
# Beyond this many elements a phase diagram in as many dimensions takes minutes, and linear programming milliseconds.
MAX_DIAGRAM_ELEMENTS = 5
CACHED_SYSTEMS = 512


@dataclass(frozen=True)
class Hull:
    """Reference phases and the hull over them.

    formulas: P formulas. energies: (P,) eV/atom. card: what they are, as plain JSON. correction: eV per atom to be
    added to a crystal's energy before it is compared with these, where they are on another level than the potential's.
    """

    formulas: Sequence[str]
    energies: FloatArray
    card: Mapping[str, Any]
    correction: Callable[[Crystals], FloatArray] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if len(self.formulas) != len(self.energies) or not np.isfinite(self.energies).all():
            raise ValueError(f"{len(self.formulas)} formulas need as many finite energies")

    @cached_property
    def lowest(self) -> Mapping[frozenset[str], Mapping[str, float]]:
        """Elements -> formula -> its lowest energy in eV/atom."""
        found: dict[frozenset[str], dict[str, float]] = {}
        for formula, energy in zip(self.formulas, self.energies.tolist(), strict=True):
            of_system = found.setdefault(frozenset(SYMBOL.findall(formula)), {})
            of_system[formula] = min(energy, of_system.get(formula, np.inf))
        return found

    @cached_property
    def elements(self) -> frozenset[str]:
        """Elements with a phase of their own: the corners that a hull needs."""
        return frozenset(next(iter(system)) for system in self.lowest if len(system) == 1)

    @cached_property
    def _of_system(self) -> Callable[[frozenset[str]], Callable[[Composition], float]]:
        return lru_cache(maxsize=CACHED_SYSTEMS)(self._build)

    def energy_above(self, composition: Composition, energy_per_atom: float) -> float:
        """eV/atom above the hull; negative for a crystal below it. ValueError where an element has no phase."""
        symbols = frozenset(composition)
        if missing := symbols - self.elements:
            raise ValueError(f"no reference phase of {', '.join(sorted(missing))}")
        return energy_per_atom - self._of_system(symbols)(composition)

    def phases(self, symbols: Collection[str]) -> dict[str, float]:
        """Formula -> lowest energy of all phases made of these elements."""
        chosen = frozenset(symbols)
        return {f: e for system, phases in self.lowest.items() if system <= chosen for f, e in phases.items()}

    def _build(self, symbols: frozenset[str]) -> Callable[[Composition], float]:
        phases = self.phases(symbols)
        if len(symbols) <= MAX_DIAGRAM_ELEMENTS:
            return _by_phase_diagram(phases)
        return _by_linear_programme(phases, sorted(symbols))


def _by_phase_diagram(phases: Mapping[str, float]) -> Callable[[Composition], float]:
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition as Formula

    entries = [PDEntry(formula, energy * Formula(formula).num_atoms) for formula, energy in phases.items()]
    diagram = PhaseDiagram(entries)

    def hull_energy(composition: Composition) -> float:
        energy = diagram.get_hull_energy_per_atom(Formula(dict(composition)))
        assert energy is not None  # a phase of each element is there
        return float(energy)

    return hull_energy


def _by_linear_programme(phases: Mapping[str, float], symbols: Sequence[str]) -> Callable[[Composition], float]:
    """The same energy: the least sum of energies of phases that together have the composition."""
    from pymatgen.core import Composition as Formula
    from scipy.optimize import linprog

    shares = np.array([[Formula(formula).get_atomic_fraction(s) for s in symbols] for formula in phases])
    energies = np.array(list(phases.values()))

    def hull_energy(composition: Composition) -> float:
        amounts = np.array([composition[symbol] for symbol in symbols], dtype=np.float64)
        found = linprog(energies, A_eq=shares.T, b_eq=amounts / amounts.sum(), bounds=(0, None), method="highs")
        if not found.success or found.fun is None:
            raise ValueError(f"no hull energy of {dict(composition)}: {found.message}")
        return float(found.fun)

    return hull_energy


def read_hull(path: Path | Traversable, potential: Mapping[str, Any] | None = None) -> Hull:
    """The hull of a Parquet file (columns formula, energy_per_atom, id) and the JSON card beside it.

    potential: what `Potential.protocol` says; ValueError where the hull was computed with other weights, or where the
    files do not belong together.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    beside = path.with_suffix(".json") if isinstance(path, Path) else _sibling(path)
    try:
        content, card = path.read_bytes(), json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no hull can be read there ({' '.join(str(error).split())})") from error
    if hashlib.sha256(content).hexdigest() != card.get("sha256"):
        raise ValueError(f"{path}: its SHA-256 is not the one in its card; build the hull again")
    if potential is not None and card["potential"]["sha256"] != potential["sha256"]:
        raise ValueError(
            f"{path}: computed with other weights of {potential['name']} (SHA-256 {card['potential']['sha256'][:12]}, "
            f"here {potential['sha256'][:12]}); build it again with `python -m bench hull build`"
        )
    table = pq.read_table(pa.BufferReader(content), columns=["formula", "energy_per_atom"])
    return Hull(table["formula"].to_pylist(), table["energy_per_atom"].to_numpy(), card)


def read_hull_ids(path: Path | Traversable) -> list[str]:
    """The phases' ids, in the order of the hull's formulas."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids: list[str] = pq.read_table(pa.BufferReader(path.read_bytes()), columns=["id"])["id"].to_pylist()
    return ids


def _sibling(path: Traversable) -> Traversable:
    name = path.name.removesuffix(".parquet") + ".json"
    return resources.files("tasks.stability") / "reference" / name


def hull_path(potential: str) -> Path | Traversable:
    """Where the hull of a potential lies: $BENCH_HULL_DIR, else in the package. ValueError where it is in neither."""
    name = f"{Path(potential).name}.parquet"
    named = os.environ.get("BENCH_HULL_DIR")
    places: list[Path | Traversable] = [Path(named) / name] if named else []
    places.append(resources.files("tasks.stability") / "reference" / name)
    for place in places:
        if place.is_file():
            return place
    raise ValueError(
        f"there is no hull of {potential} in {'BENCH_HULL_DIR or ' if named else ''}the package; "
        f"make one with `python -m bench hull build --potential {potential}` and name its folder in BENCH_HULL_DIR"
    )


def composition_of(crystals: Crystals, b: int) -> dict[str, float]:
    """Element -> number of atoms of one crystal."""
    from pymatgen.core import Element

    numbers, counts = np.unique(crystals.arrays(b)[0], return_counts=True)
    return {str(Element.from_Z(int(z))): float(count) for z, count in zip(numbers, counts, strict=True)}


def energies_above(hull: Hull, crystals: Crystals, energies_per_atom: FloatArray) -> list[float | str]:
    """For each crystal eV/atom above the hull, or why there is none."""
    corrections = hull.correction(crystals) if hull.correction is not None else np.zeros(len(crystals))
    found: list[float | str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen's, of noble gases
        for b, energy in enumerate(energies_per_atom + corrections):
            try:
                found.append(hull.energy_above(composition_of(crystals, b), float(energy)))
            except ValueError as error:
                found.append(str(error))
    return found
