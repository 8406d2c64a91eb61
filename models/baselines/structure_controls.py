"""Controls of crystal structure prediction: structures for given compositions, out of the training crystals.

They learn nothing. What a network is to be worth, it has to match more often than they do.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.arrays import FloatArray, IntArray
from bench.crystals import Crystals
from bench.interfaces import SampleBatch
from models.baselines.controls import OfTrainingCrystals

Structure = tuple[FloatArray, FloatArray]  # frac_coords (N, 3) and lattice (3, 3)
MOST_ORDERS = 120  # of elements with equal counts: 5! are all of them, and more are cut


class RandomStructures:
    """Atoms anywhere in the cell of a training crystal with as many atoms: what matches by chance."""

    def __init__(self, train: Crystals) -> None:
        self._train = train

    def structure(self, atomic_numbers: IntArray, rng: np.random.Generator) -> Structure | str:
        """A structure for atoms in this order. Where no training crystal has as many, a cell is scaled to hold them."""
        size = len(atomic_numbers)
        same = np.flatnonzero(self._train.num_atoms == size)
        donor = int(rng.choice(same)) if len(same) else int(rng.integers(len(self._train)))
        scale = (size / self._train.num_atoms[donor]) ** (1 / 3)
        return rng.random((size, 3)), scale * self._train.lattices[donor]


@dataclass(frozen=True)
class _Pattern:
    """Training crystals with the same counts of atoms. elements: (G, m) by ascending count; crystals: (G,)."""

    elements: IntArray
    crystals: IntArray


class Templates:
    """The structure of the training crystal whose formula is most alike, its elements exchanged.

    Alike: the same numbers of atoms of each element (2, 2 and 6 in the cell, say), the elements near to each other on
    Pettifor's scale (Mendeleev numbers, 1984, doi:10.1016/0038-1098(84)90765-8), mean over the atoms. The nearest is
    taken with a probability of 1/2, the second with 1/4 and so on, so that several samples differ. A training crystal
    of the same composition is the nearest of all; nothing is relaxed or scaled.
    """

    def __init__(self, train: Crystals) -> None:
        self._train = train
        self._scale = mendeleev_numbers()
        groups: dict[tuple[int, ...], list[tuple[IntArray, int]]] = defaultdict(list)
        for b in range(len(train)):
            elements, counts = by_count(train.arrays(b)[0])
            groups[tuple(counts.tolist())].append((elements, b))
        self._patterns = {
            counts: _Pattern(np.array([elements for elements, _ in found]), np.array([b for _, b in found]))
            for counts, found in groups.items()
        }

    def structure(
        self, atomic_numbers: IntArray, rng: np.random.Generator, others_only: bool = False
    ) -> Structure | str:
        """A structure for atoms in this order; why there is none where no training crystal has these counts.

        others_only: training crystals of the same composition do not count.
        """
        elements, counts = by_count(atomic_numbers)
        pattern = self._patterns.get(tuple(counts.tolist()))
        if pattern is None:
            return f"no training crystal has {_counts(counts)} atoms of its elements"
        orders = np.array(list(itertools.islice(orders_of_equals(counts), MOST_ORDERS)))  # (P, m)
        wanted = self._scale[elements[orders]]  # (P, m)
        distances = np.abs(wanted[None] - self._scale[pattern.elements][:, None]) @ (counts / counts.sum())  # (G, P)
        nearest = distances.argmin(axis=1)
        ranked = np.lexsort((rng.random(len(nearest)), distances.min(axis=1)))
        if others_only:
            same = (np.sort(pattern.elements, axis=1) == np.sort(elements)).all(axis=1)
            ranked = ranked[~same[ranked]]
            if not len(ranked):
                return f"no training crystal of another composition has {_counts(counts)} atoms of its elements"
        place = ranked[min(int(rng.geometric(0.5)) - 1, len(ranked) - 1)]
        numbers, frac_coords, lattice = self._train.arrays(int(pattern.crystals[place]))
        exchanged = dict(zip(pattern.elements[place].tolist(), elements[orders[nearest[place]]].tolist(), strict=True))
        now = np.array([exchanged[z] for z in numbers.tolist()])
        sites = np.empty(len(now), dtype=np.int64)
        sites[np.argsort(atomic_numbers, kind="stable")] = np.argsort(now, kind="stable")
        return frac_coords[sites], lattice


def _counts(counts: IntArray) -> str:
    return ", ".join(map(str, counts.tolist()))


def by_count(atomic_numbers: IntArray) -> tuple[IntArray, IntArray]:
    """(m,) elements and (m,) their atoms, by ascending count, equal counts by atomic number."""
    elements, counts = np.unique(atomic_numbers, return_counts=True)
    order = np.argsort(counts, kind="stable")
    return elements[order], counts[order]


def orders_of_equals(counts: IntArray) -> itertools.chain[tuple[int, ...]]:
    """The orders of m elements in which only those with equal counts change places. counts: (m,) ascending."""
    runs = [np.flatnonzero(counts == count).tolist() for count in np.unique(counts)]
    choices = itertools.product(*(itertools.permutations(run) for run in runs))
    return itertools.chain(tuple(itertools.chain(*choice)) for choice in choices)


@functools.cache
def mendeleev_numbers() -> FloatArray:
    """(119,) Pettifor's scale by atomic number, as pymatgen has it; where it has none, the largest that it has."""
    from pymatgen.core import Element

    found = [Element.from_Z(z).data.get("Mendeleev no") for z in range(1, 119)]
    known = [float(number) for number in found if isinstance(number, int | float)]
    return np.array([0.0, *(float(n) if isinstance(n, int | float) else max(known) for n in found)])


Method = Callable[[Crystals], RandomStructures | Templates]


class StructureControl(OfTrainingCrystals):
    """A predictor out of the training crystals of a data set. It has no network and no steps."""

    def __init__(
        self, name: str, method: Method, dataset: str, preset: str | None = None, steps: int | None = None
    ) -> None:
        super().__init__(name, dataset, steps)
        self._make = method
        self._method: RandomStructures | Templates | None = None

    def load(self, device: str = "cpu") -> None:
        """Reads the training crystals and gets the method ready. DataUnavailable where they are not at hand."""
        super().load(device)
        self._method = self._make(self.train)

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        """Structures for that many compositions of training crystals, drawn by the seed."""
        rows = np.random.default_rng(seed).integers(len(self.train), size=num_crystals)
        return self.sample_given([self.train.arrays(int(row))[0] for row in rows], seed)

    def sample_given(self, compositions: Sequence[IntArray], seed: int) -> SampleBatch:
        """One structure for each composition; a reason where there is no template. A function of both."""
        if self._method is None:
            raise RuntimeError(f"{self.name}: call load before sample_given")
        rng = np.random.default_rng(seed)
        parts, reasons = [], {}
        for place, atomic_numbers in enumerate(compositions):
            found = self._method.structure(np.asarray(atomic_numbers), rng)
            if isinstance(found, str):
                reasons[place] = found
                continue
            frac_coords, lattice = found
            parts.append(Crystals(np.array([len(atomic_numbers)]), atomic_numbers, frac_coords, lattice[None]))
        crystals = Crystals.concatenate(parts)
        evaluations = np.zeros(len(compositions), dtype=np.int64)
        return SampleBatch(crystals, steps=None, network_evaluations=evaluations, reasons=reasons)


RandomStructure = functools.partial(StructureControl, "random-structure", RandomStructures)
"""A control of structure prediction: atoms anywhere in the cell of a training crystal of their number."""

NearestTemplate = functools.partial(StructureControl, "nearest-template", Templates)
"""A control of structure prediction: the training crystal of the most similar formula, elements exchanged."""
