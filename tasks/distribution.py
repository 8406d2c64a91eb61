"""How crystals are distributed: elements, volume per atom and reduced cell beside the test split, and scarcity."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.arrays import FloatArray, IntArray
from bench.crystals import MAX_ATOMIC_NUMBER, Crystals
from bench.datasets import BINS, CrystalCounts, canonical_name, reference_folder, split_counts
from bench.interfaces import flags, task_rows, task_schema
from bench.statistics import RESAMPLES, Metric, jensen_shannon, jensen_shannon_floor, median
from tasks.space_groups import niggli_cell

if TYPE_CHECKING:
    from bench.datasets import ReferenceCard

LENGTHS, ANGLES = ("a", "b", "c"), ("alpha", "beta", "gamma")
# Quantity of the counts of the test split -> columns, and how many of its bins make one category.
QUANTITIES: Mapping[str, tuple[tuple[str, ...], int]] = MappingProxyType(
    {
        "volume_per_atom": (("volume_per_atom",), 8),  # 2 A^3
        "length": (LENGTHS, 5),  # 0.5 A
        "angle": (ANGLES, 5),  # 5 degrees; 90 is in that from 89.5 to 94.5
    }
)
SCARCITIES = ("hhi_production", "hhi_reserve")


@dataclass(frozen=True)
class Distribution:
    """The task. dataset: whose test split crystals are compared with. Needs the table of `validity` for its summary."""

    dataset: str
    name: str = "distribution"
    needs: ClassVar[tuple[str, ...]] = ("validity",)

    @property
    def schema(self) -> pa.Schema:
        """num_atoms; volume_per_atom in A^3; a, b, c in A and alpha, beta, gamma in degrees of the Niggli cell.

        hhi_production, hhi_reserve: Herfindahl-Hirschman index, mean over the mass; null where it is not known.
        """
        floats = dict.fromkeys(("volume_per_atom", *LENGTHS, *ANGLES, *SCARCITIES), pa.float64())
        return task_schema({"num_atoms": pa.int64(), **floats})

    def protocol(self) -> dict[str, Any]:
        """Versions, categories and what is compared with what."""
        counts = reference_folder(self.dataset) / f"{canonical_name(self.dataset)}.test-counts.json"
        return {
            "spglib": version("spglib"),
            "pymatgen": version("pymatgen"),
            "crystals": "all valid ones",
            "distance": "jensen-shannon, base 2",
            "categories": {name: {"bins": BINS[name], "merged": merged} for name, (_, merged) in QUANTITIES.items()},
            "interval": "jackknife over crystals",
            "floor": {"draws": RESAMPLES, "of": "test split"},
            "reference": hashlib.sha256(counts.read_bytes()).hexdigest() if counts.is_file() else None,
        }

    def score(self, crystals: Crystals) -> pa.Table:
        """One row per crystal."""
        cells = [_niggli(lattice) for lattice in crystals.lattices]
        scarcities = [_scarcity(crystals.formula(b)) for b in range(len(crystals))]
        columns: dict[str, Any] = {
            "num_atoms": crystals.num_atoms,
            "volume_per_atom": crystals.volumes / crystals.num_atoms,
            "reason": [None if cell is not None else "spglib finds no Niggli cell" for cell in cells],
        }
        for place, name in enumerate((*LENGTHS, *ANGLES)):
            columns[name] = [None if cell is None else cell[place] for cell in cells]
        for place, name in enumerate(SCARCITIES):
            columns[name] = [found[place] for found in scarcities]
        return task_rows(self.schema, crystals, columns)

    def summary(self, tables: Mapping[str, pa.Table], reference: ReferenceCard, seed: int) -> dict[str, Metric]:
        """Distances over valid crystals to the test split, and median scarcity.

        Without a value where the counts of the test split are not known.
        """
        valid = flags(tables["validity"]["valid"])
        table = tables[self.name].filter(pa.array(valid))
        split = _split(self.dataset)
        names = ["elements", *QUANTITIES]
        metrics = dict.fromkeys([*(f"js_{name}" for name in names), "js_volume_per_atom_floor"], Metric(None))
        if split is not None:
            atoms, alike = _element_counts(table)
            metrics["js_elements"] = jensen_shannon(atoms, split.elements, alike)
            for name, (columns, merged) in QUANTITIES.items():
                values = np.stack([table[column].to_numpy(zero_copy_only=False) for column in columns], axis=1)
                fixed = categories_of_split(split, name, merged)
                places = categories(name, values[np.isfinite(values).all(axis=1)], merged)
                kinds, times = np.unique(np.sort(places, axis=1), axis=0, return_counts=True)
                members = np.zeros((len(kinds), len(fixed)), dtype=np.int16)
                np.add.at(members, (np.arange(len(kinds))[:, None], kinds), 1)
                metrics[f"js_{name}"] = jensen_shannon(members, fixed, times)
            volumes = categories_of_split(split, "volume_per_atom", QUANTITIES["volume_per_atom"][1])
            metrics["js_volume_per_atom_floor"] = jensen_shannon_floor(volumes, volumes, table.num_rows, seed)
        for name in SCARCITIES:
            metrics[f"{name}_median"] = median(table[name].drop_null().to_numpy())
        return metrics


def categories(quantity: str, values: FloatArray, merged: int) -> IntArray:
    """(n, k) the category of each of (n, k) values: `merged` bins of the quantity; the last is for what is in none."""
    low, high, bins = BINS[quantity]
    edges = np.linspace(low, high, bins + 1)
    places = np.searchsorted(edges, values, side="right") - 1
    places[values == high] = bins - 1  # as numpy.histogram, which counted the test split
    found = places // merged
    found[(values < low) | (values > high)] = -(-bins // merged)
    return np.asarray(found, dtype=np.int64)


def categories_of_split(split: CrystalCounts, quantity: str, merged: int) -> IntArray:
    """(categories,) values of the test split in each, the last for what is in no bin."""
    found = split.binned[quantity]
    inside = np.add.reduceat(found.counts, np.arange(0, len(found.counts), merged))
    return np.append(inside, found.outside)


def _element_counts(table: pa.Table) -> tuple[NDArray[np.int16], IntArray]:
    """(k, 119) atoms by atomic number of k different crystals, and (k,) how many crystals are like that."""
    alike = Counter(zip(table["formula"].to_pylist(), table["num_atoms"].to_pylist(), strict=True))
    counts = np.zeros((len(alike), MAX_ATOMIC_NUMBER + 1), dtype=np.int16)  # a crystal has at most 5000 atoms
    for row, (formula, num_atoms) in zip(counts, alike, strict=True):
        composition = _composition(formula)
        total = sum(amount for _, amount in composition)  # of one formula unit; an oxygen atom's formula is O2
        for number, amount in composition:
            row[number] = amount * num_atoms // total
    return counts, np.array(list(alike.values()), dtype=np.int64)


@functools.lru_cache(maxsize=100_000)
def _composition(formula: str) -> tuple[tuple[int, int], ...]:
    from pymatgen.core import Composition

    return tuple((element.Z, round(amount)) for element, amount in Composition(formula).items())


@functools.lru_cache(maxsize=100_000)
def _scarcity(formula: str) -> tuple[float | None, float | None]:
    """Production and reserve index of a formula, by the mass of its elements (Gaultois et al. 2013)."""
    production, reserve = _hhi_model().get_hhi(formula)
    return (None, None) if production is None else (float(production), float(reserve))


@functools.cache
def _hhi_model() -> Any:
    from pymatgen.analysis import hhi

    make: Any = hhi.HHIModel  # its constructor has no annotations
    return make()


def _niggli(lattice: FloatArray) -> FloatArray | None:
    """(6,) lengths in A and angles in degrees of the Niggli cell, None where spglib finds none."""
    reduced = niggli_cell(lattice)
    if reduced is None:
        return None
    lengths = np.linalg.norm(reduced, axis=1)
    units = reduced / lengths[:, None]
    cosines = [units[1] @ units[2], units[0] @ units[2], units[0] @ units[1]]
    return np.concatenate([lengths, np.degrees(np.arccos(np.clip(cosines, -1, 1)))])


@functools.cache
def _split(dataset: str) -> CrystalCounts | None:
    folder = reference_folder(dataset)
    return split_counts(dataset) if (folder / f"{canonical_name(dataset)}.test-counts.json").is_file() else None
