"""Controls: generators that learn nothing, because their figures give those of the models their meaning."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from bench.crystals import Crystals
from bench.datasets import canonical_name, load_split
from bench.interfaces import SampleBatch

Algorithm = Callable[[Crystals, int, np.random.Generator], Crystals]


def copied(train: Crystals, num_crystals: int, rng: np.random.Generator) -> Crystals:
    """Training crystals as they are."""
    return train[draw(len(train), num_crystals, rng)]


def independent_elements(train: Crystals, num_crystals: int, rng: np.random.Generator) -> Crystals:
    """Geometries of training crystals, the element of each site drawn by itself at the training frequencies."""
    sites = copied(train, num_crystals, rng)
    return with_elements(sites, rng.choice(train.atomic_numbers, size=len(sites.atomic_numbers)))


def shuffled_sites(train: Crystals, num_crystals: int, rng: np.random.Generator) -> Crystals:
    """The atoms of one training crystal on the sites of another with as many atoms.

    The k-th atom comes to the k-th site; data sets list them by electronegativity, so cations mostly replace cations.
    Volumes stay those of the sites: compositions are as good as the training crystals', densities are not.
    """
    crystals = copied(train, num_crystals, rng)
    numbers = crystals.atomic_numbers.copy()
    for size in np.unique(crystals.num_atoms):
        donors = train.offsets[:-1][train.num_atoms == size]  # first atom of each
        sites = crystals.offsets[:-1][crystals.num_atoms == size]
        chosen = donors[draw(len(donors), len(sites), rng)]
        numbers[sites[:, None] + np.arange(size)] = train.atomic_numbers[chosen[:, None] + np.arange(size)]
    return with_elements(crystals, numbers)


def ion_exchange(train: Crystals, num_crystals: int, rng: np.random.Generator) -> Crystals:
    """Training crystals with one element exchanged everywhere for one of the same column of the periodic table.

    The element is drawn among those of the crystal that have a partner, the partner among those of `exchange_partners`
    that the crystal has not, at the training frequencies; the geometry stays. An isovalent exchange: the simplest
    relative of the data-mined ion exchange (Hautier et al. 2011, doi:10.1021/ic102031h) which beats generative models
    on new stable materials (Szymanski and Bartel 2025). A crystal without any partner stays as it is.
    """
    crystals = copied(train, num_crystals, rng)
    counts = np.bincount(train.atomic_numbers)
    partners = exchange_partners(np.flatnonzero(counts))
    numbers = crystals.atomic_numbers.copy()
    for first, end in zip(crystals.offsets[:-1], crystals.offsets[1:], strict=True):
        present = np.unique(numbers[first:end])
        choices = {int(z): np.setdiff1d(partners[int(z)], present) for z in present}
        exchangeable = [z for z, found in choices.items() if len(found)]
        if not exchangeable:
            continue
        old = exchangeable[rng.integers(len(exchangeable))]
        weights = counts[choices[old]]
        new = rng.choice(choices[old], p=weights / weights.sum())
        numbers[first:end][numbers[first:end] == old] = new
    return with_elements(crystals, numbers)


def exchange_partners(atomic_numbers: np.ndarray) -> dict[int, np.ndarray]:
    """Each of these elements -> the others of them in its group, non-metals and the rest apart.

    Lanthanoids and actinoids are a group each. Apart, because nitrogen (an anion) is no partner of bismuth (a cation).
    """
    from pymatgen.core import Element

    def family(z: int) -> tuple[int, bool, bool, bool]:
        element = Element.from_Z(int(z))
        non_metal = not (element.is_metal or element.is_metalloid)
        return element.group, non_metal, bool(element.is_lanthanoid), bool(element.is_actinoid)

    families = [family(z) for z in atomic_numbers]
    return {
        int(z): np.array([y for y, other in zip(atomic_numbers, families, strict=True) if other == own and y != z], int)
        for z, own in zip(atomic_numbers, families, strict=True)
    }


def draw(available: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) random indices below `available`, each as often as any other, give or take one."""
    rounds = -(-count // available)
    return np.concatenate([rng.permutation(available) for _ in range(rounds)] or [np.zeros(0, int)])[:count]


def with_elements(crystals: Crystals, atomic_numbers: np.ndarray) -> Crystals:
    """The same geometries with other elements."""
    return Crystals(crystals.num_atoms, atomic_numbers, crystals.frac_coords, crystals.lattices)


class OfTrainingCrystals:
    """What all controls have: a name and the training crystals of a data set; neither a network nor steps."""

    def __init__(self, name: str, dataset: str, steps: int | None) -> None:
        if steps is not None:
            raise ValueError(f"{name} has no steps to choose; leave out @{steps}")
        self.name = name
        self.dataset = canonical_name(dataset)
        self._train: Crystals | None = None

    def load(self, device: str = "cpu") -> None:
        """Reads the training crystals. DataUnavailable where they are not at hand; nothing is downloaded."""
        self._train = load_split(self.dataset, "train", download=False)

    @property
    def train(self) -> Crystals:
        """The training crystals, once they are loaded."""
        if self._train is None:
            raise RuntimeError(f"{self.name}: call load before sample")
        return self._train


class Control(OfTrainingCrystals):
    """A generator out of the training crystals of a data set. It has no network and no steps."""

    def __init__(
        self, name: str, algorithm: Algorithm, dataset: str, preset: str | None = None, steps: int | None = None
    ) -> None:
        super().__init__(name, dataset, steps)
        self._algorithm = algorithm

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        """That many crystals, a function of num_crystals and seed."""
        crystals = self._algorithm(self.train, num_crystals, np.random.default_rng(seed))
        return SampleBatch(crystals, steps=None, network_evaluations=np.zeros(num_crystals, dtype=np.int64))


TrainCopy = functools.partial(Control, "train-copy", copied)
"""A control: crystals of the training data as they are."""

IndependentElements = functools.partial(Control, "independent-elements", independent_elements)
"""A control: training crystals whose elements are drawn at random, each by its frequency in the data."""

ShuffledSites = functools.partial(Control, "shuffled-sites", shuffled_sites)
"""A control: the atoms of one training crystal on the places of another of the same size."""

IonExchange = functools.partial(Control, "ion-exchange", ion_exchange)
"""A control: training crystals with one element replaced by another of its column of the periodic table."""
