"""Crystals: the one data type that crosses folders, a ragged batch of periodic structures."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from bench.arrays import FloatArray, IntArray

if TYPE_CHECKING:
    from pymatgen.core import Structure

MAX_ATOMIC_NUMBER = 118
AMU_PER_A3_IN_G_PER_CM3 = 1.66053906892  # CODATA 2022, as pymatgen has it
MIN_VOLUME_A3 = 1e-6  # below it a lattice cannot be inverted to working precision


def wrap_frac_coords(frac_coords: ArrayLike) -> FloatArray:
    """Fractional coordinates moved into [0, 1).

    frac_coords: any shape, finite. `x % 1` alone gives 1.0 for x = -1e-17; that becomes 0 here.
    """
    wrapped = np.asarray(frac_coords, dtype=np.float64) % 1.0
    return np.where(wrapped >= 1.0, 0.0, wrapped)


@dataclass(frozen=True, eq=False)
class Crystals:
    """A batch of B crystals with N_b atoms each.

    num_atoms: (B,) int, each >= 1. atomic_numbers: (sum N,) int, 1 to 118.
    frac_coords: (sum N, 3) float64, fraction of the cell; wrapped into [0, 1) here.
    lattices: (B, 3, 3) float64, Angstrom, rows are the lattice vectors.
    The arrays are copied and read-only. Raises ValueError naming the first crystal that is wrong and
    why; `filter_crystals` sets such crystals aside instead.
    """

    num_atoms: IntArray
    atomic_numbers: IntArray
    frac_coords: FloatArray
    lattices: FloatArray
    offsets: IntArray = field(init=False, repr=False)  # (B + 1,), atoms of crystal b are offsets[b]:offsets[b+1]

    def __post_init__(self) -> None:
        num_atoms = _as_integers(self.num_atoms, "num_atoms")
        atomic_numbers = _as_integers(self.atomic_numbers, "atomic_numbers")
        frac_coords = np.array(self.frac_coords, dtype=np.float64).reshape(-1, 3)
        lattices = np.array(self.lattices, dtype=np.float64).reshape(-1, 3, 3)
        if len(lattices) != len(num_atoms):
            raise ValueError(f"{len(num_atoms)} crystals by num_atoms, but {len(lattices)} lattices")
        total = int(num_atoms.sum()) if (num_atoms >= 0).all() else -1
        if not total == len(atomic_numbers) == len(frac_coords):
            raise ValueError(
                f"num_atoms {'add up to ' + str(total) if total >= 0 else 'has a negative entry'}, but there are "
                f"{len(atomic_numbers)} atomic numbers and {len(frac_coords)} coordinates"
            )
        for index, reason in _faults(num_atoms, atomic_numbers, frac_coords, lattices).items():
            raise ValueError(f"crystal {index} (of {len(num_atoms)}): {reason}")
        offsets = np.concatenate([[0], np.cumsum(num_atoms)]).astype(np.int64)
        values = {
            "num_atoms": num_atoms,
            "atomic_numbers": atomic_numbers,
            "frac_coords": wrap_frac_coords(frac_coords),
            "lattices": lattices,
            "offsets": offsets,
        }
        for name, value in values.items():
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    @classmethod
    def empty(cls) -> Self:
        """A batch of no crystals."""
        return cls(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3)), np.zeros((0, 3, 3)))

    @classmethod
    def from_structures(cls, structures: Iterable[Structure]) -> Self:
        """From ordered pymatgen Structures. ValueError names the first one that is disordered or wrong."""
        num_atoms: list[int] = []
        numbers: list[int] = []
        coords: list[FloatArray] = []
        lattices: list[FloatArray] = []
        for index, structure in enumerate(structures):
            if not structure.is_ordered:
                raise ValueError(f"crystal {index}: has partial occupancies ({structure.formula}); order it first")
            for element in structure.elements:
                if not 1 <= element.Z <= MAX_ATOMIC_NUMBER:  # what pymatgen does not know gets some number
                    raise ValueError(f"crystal {index}: {element.symbol} is no element")
            num_atoms.append(len(structure))
            numbers.extend(structure.atomic_numbers)
            coords.append(structure.frac_coords)
            lattices.append(structure.lattice.matrix)
        if not num_atoms:
            return cls.empty()
        return cls(np.array(num_atoms), np.array(numbers), np.concatenate(coords), np.array(lattices))

    @classmethod
    def concatenate(cls, parts: Sequence[Crystals]) -> Self:
        """All crystals of the parts, in order."""
        if not parts:
            return cls.empty()
        return cls(
            np.concatenate([p.num_atoms for p in parts]),
            np.concatenate([p.atomic_numbers for p in parts]),
            np.concatenate([p.frac_coords for p in parts]),
            np.concatenate([p.lattices for p in parts]),
        )

    def __len__(self) -> int:
        return len(self.num_atoms)

    def __getitem__(self, key: int | slice | ArrayLike) -> Crystals:
        """A batch of the crystals chosen by an index, a slice, an index array or a boolean mask."""
        if isinstance(key, int | np.integer):
            index = int(key)
            if not -len(self) <= index < len(self):
                raise IndexError(f"crystal {index} of {len(self)}")
            chosen = np.array([index % len(self)])
        else:
            places = key if isinstance(key, slice) else np.asarray(key)
            # An empty list becomes an array of floats, which NumPy takes for no index.
            empty = not isinstance(places, slice) and places.size == 0
            chosen = np.arange(0) if empty else np.arange(len(self))[places]
        if len(chosen) == 0:
            return Crystals.empty()
        atoms = np.concatenate([np.arange(self.offsets[b], self.offsets[b + 1]) for b in chosen])
        return Crystals(
            self.num_atoms[chosen], self.atomic_numbers[atoms], self.frac_coords[atoms], self.lattices[chosen]
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Crystals):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("num_atoms", "atomic_numbers", "frac_coords", "lattices")
        )

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Structure]:
        """The crystals as pymatgen Structures, one by one."""
        return (self.structure(b) for b in range(len(self)))

    def arrays(self, index: int) -> tuple[IntArray, FloatArray, FloatArray]:
        """Atomic numbers (N,), fractional coordinates (N, 3) and lattice (3, 3) of one crystal."""
        atoms = slice(self.offsets[index], self.offsets[index + 1])
        return self.atomic_numbers[atoms], self.frac_coords[atoms], self.lattices[index]

    def structure(self, index: int) -> Structure:
        """One crystal as a pymatgen Structure."""
        from pymatgen.core import Element, Lattice, Structure

        numbers, coords, lattice = self.arrays(index)
        return Structure(Lattice(lattice), [Element.from_Z(int(z)) for z in numbers], coords)

    def formula(self, index: int) -> str:
        """Reduced formula of one crystal, as pymatgen writes it ("SrTiO3")."""
        numbers, counts = np.unique(self.arrays(index)[0], return_counts=True)
        return _reduced_formula(tuple(zip(numbers.tolist(), counts.tolist(), strict=True)))

    @property
    def volumes(self) -> FloatArray:
        """(B,) cell volumes in A^3."""
        return np.asarray(np.abs(np.linalg.det(self.lattices)), dtype=np.float64)

    @property
    def densities(self) -> FloatArray:
        """(B,) mass densities in g/cm^3, with pymatgen's atomic masses."""
        if len(self) == 0:
            return np.zeros(0)
        masses = np.add.reduceat(atomic_masses()[self.atomic_numbers], self.offsets[:-1])
        return np.asarray(masses * AMU_PER_A3_IN_G_PER_CM3 / self.volumes, dtype=np.float64)

    @property
    def num_elements(self) -> IntArray:
        """(B,) numbers of different elements."""
        crystal_of_atom = np.repeat(np.arange(len(self)), self.num_atoms)
        pairs = np.unique(crystal_of_atom * (MAX_ATOMIC_NUMBER + 1) + self.atomic_numbers)
        return np.bincount(pairs // (MAX_ATOMIC_NUMBER + 1), minlength=len(self)).astype(np.int64)


def reduced_composition(atomic_numbers: ArrayLike) -> tuple[tuple[int, int], ...]:
    """(atomic number, atoms) of the reduced formula, by ascending atomic number. atomic_numbers: (N,), N >= 1."""
    numbers, counts = np.unique(atomic_numbers, return_counts=True)
    return tuple(zip(numbers.tolist(), (counts // math.gcd(*counts.tolist())).tolist(), strict=True))


@functools.lru_cache(maxsize=100_000)  # each task asks for the same formulas
def _reduced_formula(counts: tuple[tuple[int, int], ...]) -> str:
    from pymatgen.core import Composition

    symbols = _symbols()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that noble gases have no electronegativity to sort them by
        return str(Composition({symbols[z]: count for z, count in counts}).reduced_formula)


@functools.cache
def _symbols() -> tuple[str, ...]:
    """(119,) symbols by atomic number, "" for number 0; pymatgen's own look-up searches all elements."""
    from pymatgen.core import Element

    return ("", *(str(Element.from_Z(z).symbol) for z in range(1, MAX_ATOMIC_NUMBER + 1)))


@functools.cache
def atomic_masses() -> FloatArray:
    """(119,) atomic masses in amu by atomic number; 0 for number 0."""
    from pymatgen.core import Element

    return np.array([0.0, *(float(Element.from_Z(z).atomic_mass) for z in range(1, MAX_ATOMIC_NUMBER + 1))])


@dataclass(frozen=True, eq=False)
class FilteredCrystals:
    """What became of some crystals that were asked for: those that exist, and a reason for each that does not.

    crystals: the B that exist. indices: (B,) their places among those asked for, ascending.
    reasons: place -> why there is no crystal. Places are 0 .. requested - 1, each in exactly one of the two.
    """

    crystals: Crystals
    indices: IntArray
    reasons: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", _as_integers(self.indices, "indices"))
        if len(self.indices) != len(self.crystals):
            raise ValueError(f"{len(self.crystals)} crystals, but {len(self.indices)} indices")
        if (np.diff(self.indices) <= 0).any():
            raise ValueError("indices must ascend: crystals stand in the order in which they were asked for")
        places = sorted([*map(int, self.indices), *self.reasons])
        if places != list(range(len(places))):
            raise ValueError("indices and reasons together must be each of 0 .. requested - 1 once")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FilteredCrystals):
            return NotImplemented
        same_places = np.array_equal(self.indices, other.indices) and dict(self.reasons) == dict(other.reasons)
        return same_places and self.crystals == other.crystals

    __hash__ = None  # type: ignore[assignment]

    @property
    def requested(self) -> int:
        """How many crystals were asked for."""
        return len(self.crystals) + len(self.reasons)

    @classmethod
    def complete(cls, crystals: Crystals) -> Self:
        """Every crystal that was asked for exists."""
        return cls(crystals, np.arange(len(crystals)))

    @classmethod
    def concatenate(cls, parts: Sequence[FilteredCrystals]) -> Self:
        """What became of everything asked for in the parts, in order."""
        starts = np.cumsum([0, *(part.requested for part in parts)]).tolist()
        return cls(
            Crystals.concatenate([part.crystals for part in parts]),
            np.concatenate([part.indices + start for part, start in zip(parts, starts, strict=False)]),
            {p + start: text for part, start in zip(parts, starts, strict=False) for p, text in part.reasons.items()},
        )

    def rows(self, start: int, stop: int) -> FilteredCrystals:
        """What became of places start .. stop - 1, which are 0 .. stop - start - 1 there."""
        chosen = (self.indices >= start) & (self.indices < stop)
        reasons = {place - start: text for place, text in self.reasons.items() if start <= place < stop}
        return FilteredCrystals(self.crystals[chosen], self.indices[chosen] - start, reasons)


def filter_crystals(
    num_atoms: ArrayLike, atomic_numbers: ArrayLike, frac_coords: ArrayLike, lattices: ArrayLike
) -> FilteredCrystals:
    """Crystals from raw arrays, those that are wrong set aside with a reason (not finite, no volume, unknown element).

    Shapes as in `Crystals`. Raises ValueError only where the arrays do not belong together.
    """
    counts = _as_integers(num_atoms, "num_atoms")
    numbers = _as_integers(atomic_numbers, "atomic_numbers")
    coords = np.array(frac_coords, dtype=np.float64).reshape(-1, 3)
    cells = np.array(lattices, dtype=np.float64).reshape(-1, 3, 3)
    if len(cells) != len(counts) or (counts < 0).any() or not counts.sum() == len(numbers) == len(coords):
        raise ValueError(
            f"{len(counts)} crystals of {counts.sum()} atoms in all, but {len(cells)} lattices, "
            f"{len(numbers)} atomic numbers and {len(coords)} coordinates"
        )
    reasons = _faults(counts, numbers, coords, cells)
    good = np.ones(len(counts), dtype=bool)
    good[list(reasons)] = False
    atoms = np.repeat(good, counts)
    crystals = Crystals(counts[good], numbers[atoms], coords[atoms], cells[good])
    return FilteredCrystals(crystals, np.flatnonzero(good), reasons)


def _faults(counts: IntArray, numbers: IntArray, coords: FloatArray, cells: FloatArray) -> dict[int, str]:
    """Crystal -> what is wrong with it, in ascending order. The arrays must belong together."""
    crystal_of_atom = np.repeat(np.arange(len(counts)), counts)
    finite = np.asarray(np.isfinite(cells).all(axis=(1, 2)))
    with np.errstate(all="ignore"):
        volumes = np.abs(np.linalg.det(np.where(finite[:, None, None], cells, 0.0)))
    faults: dict[int, str] = {}

    def fault(crystals: Any, reason: Any) -> None:
        for b in crystals:
            faults.setdefault(int(b), reason(int(b)))

    fault(np.flatnonzero(counts < 1), lambda b: "has no atoms")
    fault(np.flatnonzero(~finite), lambda b: f"lattice is not finite: {cells[b].round(3).tolist()}")
    fault(
        np.flatnonzero(finite & ~((volumes >= MIN_VOLUME_A3) & np.isfinite(volumes))),
        lambda b: f"lattice has volume {volumes[b]:.3g} A^3",
    )
    bad_coords = ~np.isfinite(coords).all(axis=1)
    fault(crystal_of_atom[bad_coords], lambda b: "a fractional coordinate is not finite")
    wrong = (numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)
    first_wrong = {int(b): int(z) for b, z in zip(crystal_of_atom[wrong][::-1], numbers[wrong][::-1], strict=True)}
    fault(first_wrong, lambda b: f"atomic number {first_wrong[b]} is not in 1..{MAX_ATOMIC_NUMBER}")
    return dict(sorted(faults.items()))


def _as_integers(values: ArrayLike, name: str) -> IntArray:
    array = np.array(values)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        with np.errstate(invalid="ignore"):
            if not (np.isfinite(array).all() and (array == np.round(array)).all()):
                raise ValueError(f"{name} must be whole numbers")
    return array.astype(np.int64).reshape(-1)


def __getattr__(name: str) -> Any:
    """The old names of two things, for generators of other packages."""
    renamed = {"sift": "filter_crystals", "Sifted": "FilteredCrystals"}
    if name not in renamed:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"bench.crystals.{name} is now called {renamed[name]}", DeprecationWarning, stacklevel=2)
    return globals()[renamed[name]]
