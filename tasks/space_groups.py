"""Space groups by spglib, and how those of a data set's splits are distributed.

NAME.space-groups.json lies beside the reference card: crystals of the training and test split by space group at each
tolerance. `bench data NAME --reference FOLDER` writes it with the card, and `python -m tasks.space_groups NAME FOLDER`
alone.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bench.arrays import FloatArray, IntArray
from bench.atomic import write_text
from bench.crystals import Crystals
from bench.datasets import Split, canonical_name, load_split, reference_folder
from bench.errors import one_line

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

TOLERANCES_ANGSTROM = (0.1, 0.01)  # the field's usual one for generated crystals, and spglib's order of magnitude
COUNTED: Mapping[Split, tuple[float, ...]] = MappingProxyType(
    {"train": TOLERANCES_ANGSTROM[:1], "test": TOLERANCES_ANGSTROM}
)
MOST = 230
# First space group of each crystal system: triclinic, monoclinic, orthorhombic, tetragonal, trigonal, hexagonal, cubic.
SYSTEMS = (1, 3, 16, 75, 143, 168, 195)
FORMAT = 1


def space_group_number(crystals: Crystals, index: int, symprec: float) -> int | None:
    """Number of one crystal's space group, 1 to 230; None where spglib finds none. symprec: in A."""
    found = symmetry_dataset(crystals, index, symprec)
    return None if found is None else int(found.number)


def symmetry_dataset(crystals: Crystals, index: int, symprec: float) -> Any:
    """What spglib says of one crystal, None where it finds nothing. symprec: A by which an atom may lie off its place.

    Atoms too close to each other, for instance, have no symmetry for it.
    """
    numbers, frac_coords, lattice = crystals.arrays(index)
    return _ask("get_symmetry_dataset", (lattice, frac_coords, numbers), symprec=symprec)


def niggli_cell(lattice: FloatArray) -> FloatArray | None:
    """(3, 3) the Niggli cell of a lattice, rows in A; None where spglib finds none."""
    found = _ask("niggli_reduce", lattice)
    return None if found is None else np.asarray(found, dtype=np.float64)


def _ask(function: str, about: Any, **options: float) -> Any:
    """What a function of spglib says, None where it fails; quietly."""
    os.environ.setdefault("SPGLIB_WARNING", "OFF")  # its C code writes what it tries to the terminal
    import spglib

    refusal = getattr(spglib, "SpglibError", RuntimeError)  # of newer versions, in place of None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it will raise where it now says nothing
        try:
            return getattr(spglib, function)(about, **options)
        except refusal:
            return None


def crystal_systems(counts: IntArray) -> IntArray:
    """(7,) crystals by crystal system, of (..., 231) by space group; index 0 is nobody's."""
    return np.asarray(np.add.reduceat(counts, SYSTEMS, axis=-1))


@dataclass(frozen=True)
class SpaceGroupCounts:
    """Crystals of two splits by space group, (231,) each: at 0.1 A, and at 0.01 A as `tight`. sha256: of the file."""

    train: IntArray
    test: IntArray
    test_tight: IntArray
    sha256: str

    @classmethod
    def read(cls, folder: Path | Traversable, dataset: str) -> Self | None:
        """The counts in a folder, None where it has none. ValueError where the file is damaged."""
        place = folder / _file_name(dataset)
        if not place.is_file():
            return None
        content = place.read_bytes()
        try:
            found = json.loads(content)
            if found["format"] != FORMAT:
                raise ValueError(f"its format is {found['format']}, not {FORMAT}")
            (train,) = (_dense(found["counts"]["train"][str(symprec)]) for symprec in COUNTED["train"])
            test, test_tight = (_dense(found["counts"]["test"][str(symprec)]) for symprec in COUNTED["test"])
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            remedy = f"`python -m bench data {dataset} --reference {folder}` writes it anew"
            raise ValueError(f"{place}: damaged ({one_line(error)}); {remedy}") from error
        return cls(train, test, test_tight, hashlib.sha256(content).hexdigest())


@functools.cache
def space_group_counts(dataset: str) -> SpaceGroupCounts | None:
    """Those of a data set as they are shipped in a package, None where they are not yet known."""
    return SpaceGroupCounts.read(reference_folder(dataset), canonical_name(dataset))


def write_space_groups(dataset: str, folder: Path) -> None:
    """Finds the space groups of a data set's training and test split and writes their counts into a folder.

    DataUnavailable where a split is nowhere at hand.
    """
    counts = {
        split: {str(symprec): _counts(load_split(dataset, split), symprec) for symprec in tolerances}
        for split, tolerances in COUNTED.items()
    }
    content = {"format": FORMAT, "spglib": version("spglib"), "counts": counts}
    write_text(folder / _file_name(canonical_name(dataset)), json.dumps(content) + "\n")


def _file_name(dataset: str) -> str:
    return f"{dataset}.space-groups.json"


def _counts(crystals: Crystals, symprec: float) -> dict[str, int]:
    """Space group -> crystals; those without one are under 0."""
    numbers = [space_group_number(crystals, b, symprec) or 0 for b in range(len(crystals))]
    found, times = np.unique(np.asarray(numbers, dtype=np.int64), return_counts=True)
    return dict(zip(map(str, found.tolist()), times.tolist(), strict=True))


def _dense(counts: Mapping[str, int]) -> IntArray:
    dense = np.zeros(MOST + 1, dtype=np.int64)
    for number, count in counts.items():
        dense[int(number)] = count
    dense[0] = 0
    return dense


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m tasks.space_groups NAME FOLDER")
    write_space_groups(sys.argv[1], Path(sys.argv[2]))
