"""How crystals are distributed: counts by number of atoms and elements, by element, in bins of cell and density.

NAME.test-counts.json holds those of a data set's test split. It lies beside the reference card and is no part of it:
reports draw from it, and no figure of a task depends on it. `bench data NAME --reference FOLDER` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import numpy as np

from bench.arrays import FloatArray, IntArray
from bench.atomic import write_text
from bench.crystals import MAX_ATOMIC_NUMBER, Crystals
from bench.datasets.counts import dense, sparse
from bench.errors import one_line

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


FORMAT = 1
# Quantity -> where its bins begin and end, and how many there are. Fixed, so that counts of any crystals can be added.
BINS: Mapping[str, tuple[float, float, int]] = MappingProxyType(
    {
        "density": (0.0, 30.0, 300),  # g/cm3
        "length": (0.0, 40.0, 400),  # A; three of each crystal
        "angle": (-0.5, 180.5, 181),  # degrees; three of each crystal. 90 is in the middle of a bin, not at its edge
        "volume_per_atom": (0.0, 100.0, 400),  # A3
    }
)


@dataclass(frozen=True, eq=False)
class Binned:
    """counts: (bins,) values in the bins of `quantity`, closed on the left. outside: how many are in none."""

    quantity: str
    counts: IntArray
    outside: int

    @classmethod
    def of(cls, quantity: str, values: FloatArray) -> Self:
        """Those of some values of any shape."""
        low, high, bins = BINS[quantity]
        counts = np.histogram(values, bins, (low, high))[0].astype(np.int64)
        return cls(quantity, counts, int(values.size - counts.sum()))

    @property
    def edges(self) -> FloatArray:
        """(bins + 1,) in the unit of the quantity."""
        low, high, bins = BINS[self.quantity]
        return np.linspace(low, high, bins + 1)

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum()) + self.outside

    def __add__(self, other: Binned) -> Binned:
        return Binned(self.quantity, self.counts + other.counts, self.outside + other.outside)


@dataclass(frozen=True, eq=False)
class CrystalCounts:
    """Counts over some crystals.

    num_atoms, num_elements: (most + 1,) crystals by that number. elements: (119,) atoms by atomic number.
    binned: quantity -> counts in the bins of BINS.
    """

    crystals: int
    num_atoms: IntArray
    num_elements: IntArray
    elements: IntArray
    binned: Mapping[str, Binned]

    @classmethod
    def of(cls, crystals: Crystals) -> Self:
        """Those of some crystals, their cells as they are given."""
        volumes = crystals.volumes
        values = {
            "density": crystals.densities,
            "length": np.linalg.norm(crystals.lattices, axis=2),
            "angle": _angles(crystals.lattices),
            "volume_per_atom": volumes / crystals.num_atoms,
        }
        return cls(
            len(crystals),
            np.bincount(crystals.num_atoms, minlength=1).astype(np.int64),
            np.bincount(crystals.num_elements, minlength=1).astype(np.int64),
            np.bincount(crystals.atomic_numbers, minlength=MAX_ATOMIC_NUMBER + 1).astype(np.int64),
            {quantity: Binned.of(quantity, found) for quantity, found in values.items()},
        )

    @property
    def element_shares(self) -> FloatArray:
        """(119,) share of each atomic number among the atoms; zeros where there are none."""
        return np.asarray(self.elements / max(int(self.elements.sum()), 1), dtype=np.float64)

    def __add__(self, other: CrystalCounts) -> CrystalCounts:
        return CrystalCounts(
            self.crystals + other.crystals,
            _sum(self.num_atoms, other.num_atoms),
            _sum(self.num_elements, other.num_elements),
            self.elements + other.elements,
            {quantity: counts + other.binned[quantity] for quantity, counts in self.binned.items()},
        )

    def write(self, folder: Path, dataset: str) -> None:
        """Writes <dataset>.test-counts.json into the folder; empty bins are left out."""
        content = {
            "format": FORMAT,
            "crystals": self.crystals,
            "num_atoms": sparse(self.num_atoms),
            "num_elements": sparse(self.num_elements),
            "elements": sparse(self.elements),
            "binned": {
                quantity: {"bins": BINS[quantity], "counts": sparse(counts.counts), "outside": counts.outside}
                for quantity, counts in self.binned.items()
            },
        }
        write_text(folder / f"{dataset}.test-counts.json", json.dumps(content) + "\n")

    @classmethod
    def read(cls, folder: Path | Traversable, dataset: str) -> Self:
        """The counts of that data set in a folder. ValueError where they are absent, damaged or of other bins."""
        place = folder / f"{dataset}.test-counts.json"
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
            bins = {quantity: tuple(entry["bins"]) for quantity, entry in content["binned"].items()}
            if content["format"] != FORMAT or bins != dict(BINS):
                raise ValueError("it is of another version")
            binned = {
                quantity: Binned(quantity, dense(entry["counts"], BINS[quantity][2]), int(entry["outside"]))
                for quantity, entry in content["binned"].items()
            }
            numbers = {name: dense(content[name]) for name in ("num_atoms", "num_elements")}
            elements = dense(content["elements"], MAX_ATOMIC_NUMBER + 1)
            return cls(int(content["crystals"]), **numbers, elements=elements, binned=binned)
        except (OSError, KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            remedy = f"`python -m bench data {dataset} --reference {folder}` writes it anew"
            raise ValueError(f"{place}: not readable ({one_line(error)}); {remedy}") from error


def _angles(lattices: FloatArray) -> FloatArray:
    """(B, 3) angles alpha, beta and gamma of the cells in degrees. lattices: (B, 3, 3)."""
    lengths = np.linalg.norm(lattices, axis=2, keepdims=True)
    units = lattices / np.where(lengths > 0, lengths, 1.0)
    cosines = [np.sum(units[:, i] * units[:, j], axis=1) for i, j in ((1, 2), (0, 2), (0, 1))]
    return np.asarray(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))).T, dtype=np.float64)


def _sum(one: IntArray, other: IntArray) -> IntArray:
    total = np.zeros(max(len(one), len(other)), dtype=np.int64)
    total[: len(one)] += one
    total[: len(other)] += other
    return total
