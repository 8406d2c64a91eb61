"""Energy above the convex hull of reference phases, whose energies come from the same potential."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.arrays import FloatArray
from bench.chemistry import symbols_in
from bench.crystals import Crystals
from bench.errors import one_line

if TYPE_CHECKING:
    import pyarrow as pa

Composition = Mapping[str, float]  # element -> amount

# Beyond this many elements a hull in as many dimensions takes minutes, and linear programming milliseconds.
MAX_HULL_ELEMENTS = 5
CACHED_SYSTEMS = 512


class HullNotHere(ValueError):
    """There is no hull of a potential at hand; the message says how to make one."""


@dataclass(frozen=True)
class Hull:
    """Reference phases and the hull over them.

    formulas: P formulas. energies: (P,) eV/atom. card: what they are, as plain JSON. correction: eV per atom to be
    added to a crystal's energy before it is compared with these, where they are on another level than the potential's;
    NaN for a crystal that has none.
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
            of_system = found.setdefault(symbols_in(formula), {})
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
        chosen = sorted(set(symbols))
        if 2 ** len(chosen) < len(self.lowest):
            parts = (frozenset(part) for k in range(len(chosen)) for part in itertools.combinations(chosen, k + 1))
            systems = [part for part in parts if part in self.lowest]
        else:
            systems = [system for system in self.lowest if system.issubset(chosen)]
        return {formula: energy for system in systems for formula, energy in self.lowest[system].items()}

    def _build(self, symbols: frozenset[str]) -> Callable[[Composition], float]:
        build = _by_convex_hull if len(symbols) <= MAX_HULL_ELEMENTS else _by_linear_programme
        return build(self.phases(symbols), sorted(symbols))


def _by_convex_hull(phases: Mapping[str, float], symbols: Sequence[str]) -> Callable[[Composition], float]:
    """The energy of the lower hull at a composition: the highest of the planes through its facets.

    As pymatgen's PhaseDiagram computes it, which takes 30 to 100 ms to build, most of it outside of qhull.
    """
    from scipy.spatial import ConvexHull

    shares, energies = _shares(phases, symbols)
    lowest = np.array([energies[shares[:, k] > 1 - 1e-12].min() for k in range(len(symbols))])
    if len(symbols) == 1:
        return lambda composition: float(lowest[0])
    # Relative to the elements, so that only compounds below their plane count, and closed from above by one point far
    # from it: without it qhull has no body where there is no compound.
    heights = energies - shares @ lowest
    below = (heights < -1e-12) & (shares.max(axis=1) < 1 - 1e-12)
    corners = np.eye(len(symbols))
    lid = np.append(corners.mean(axis=0), 10.0 + np.abs(heights).max())
    points = np.concatenate(
        [
            np.column_stack([shares[below], heights[below]]),
            np.column_stack([corners, np.zeros(len(symbols))]),
            lid[None],
        ]
    )
    equations = ConvexHull(
        points[:, 1:]
    ).equations  # normal and offset, outwards; the first share follows from the rest
    facets = equations[equations[:, -2] < -1e-12]

    def hull_energy(composition: Composition) -> float:
        amounts = np.array([composition[symbol] for symbol in symbols], dtype=np.float64)
        amounts /= amounts.sum()
        planes = -(facets[:, :-2] @ amounts[1:] + facets[:, -1]) / facets[:, -2]
        return float(planes.max() + amounts @ lowest)

    return hull_energy


def _shares(phases: Mapping[str, float], symbols: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """(P, S) shares of the elements in each phase; (P,) energies."""
    amounts = np.array([[composition_of_formula(formula).get(s, 0.0) for s in symbols] for formula in phases])
    return amounts / amounts.sum(axis=1, keepdims=True), np.array(list(phases.values()))


@lru_cache(maxsize=200_000)  # a phase is in the systems of many crystals
def composition_of_formula(formula: str) -> Mapping[str, float]:
    """Element -> amount. ValueError for what is no formula."""
    from pymatgen.core import Composition as Formula

    return Formula(formula).get_el_amt_dict()


def _by_linear_programme(phases: Mapping[str, float], symbols: Sequence[str]) -> Callable[[Composition], float]:
    """The same energy: the least sum of energies of phases that together have the composition."""
    from scipy.optimize import linprog

    shares, energies = _shares(phases, symbols)

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
        raise ValueError(f"{path}: no hull can be read there ({one_line(error)})") from error
    if hashlib.sha256(content).hexdigest() != card.get("sha256"):
        raise ValueError(f"{path}: its SHA-256 is not the one in its card; build the hull again")
    if potential is not None and card["potential"]["sha256"] != potential["sha256"]:
        raise ValueError(
            f"{path}: computed with other weights of {potential['name']} (SHA-256 {card['potential']['sha256'][:12]}, "
            f"here {potential['sha256'][:12]}); build it again with `python -m bench hull build`"
        )
    table = pq.read_table(pa.BufferReader(content), columns=["formula", "energy_per_atom"])
    return Hull(table["formula"].to_pylist(), table["energy_per_atom"].to_numpy(), card)


def read_hull_columns(path: Path | Traversable, names: Sequence[str]) -> pa.Table:
    """Columns of a hull's file in the order of its formulas, such as the phases' `id` or their `single_point`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(path.read_bytes()), columns=list(names))


def _sibling(path: Traversable) -> Traversable:
    name = path.name.removesuffix(".parquet") + ".json"
    return resources.files("tasks.stability") / "reference" / name


def hull_path(potential: str) -> Path | Traversable:
    """Where the hull of a potential lies: $BENCH_HULL_DIR, else in the package. HullNotHere where it is in neither."""
    name = f"{Path(potential).name}.parquet"
    named = os.environ.get("BENCH_HULL_DIR")
    places: list[Path | Traversable] = [Path(named) / name] if named else []
    places.append(resources.files("tasks.stability") / "reference" / name)
    for place in places:
        if place.is_file():
            return place
    raise HullNotHere(
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
            if np.isnan(corrections[b]):
                found.append("its energy has no correction to the level of the hull's entries")
                continue
            try:
                found.append(hull.energy_above(composition_of(crystals, b), float(energy)))
            except ValueError as error:
                found.append(str(error))
    return found
