"""Reduced formulas as 8-byte hashes: which formulas a training split has, in a few bytes and without its crystals."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.arrays import BoolArray, IntArray
from bench.atomic import write_bytes
from bench.crystals import Crystals, reduced_composition
from bench.errors import reason_of

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

HashArray = NDArray[np.uint64]
BYTES = 8  # of 2**64 values: one of ten thousand foreign formulas is taken for one of 30,000 once in 10**11 runs
SUFFIX = "formulas"


def formula_hashes(crystals: Crystals) -> HashArray:
    """(B,) hashes of the reduced formulas.

    Hashed is "8:3,22:1,38:1" for SrTiO3: it does not depend on how a library orders and writes elements.
    """
    return hashes_of([crystals.arrays(b)[0] for b in range(len(crystals))])


def hashes_of(compositions: Sequence[IntArray]) -> HashArray:
    """(B,) `formula_hashes` of compositions, (N_i,) atomic numbers each."""
    hashes = np.zeros(len(compositions), dtype=np.uint64)
    for b, composition in enumerate(compositions):
        text = ",".join(f"{z}:{count}" for z, count in reduced_composition(composition))
        hashes[b] = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=BYTES).digest(), "little")
    return hashes


@dataclass(frozen=True, eq=False)
class FormulaSet:
    """Different reduced formulas. hashes: (F,) ascending."""

    hashes: HashArray

    @classmethod
    def of(cls, crystals: Crystals) -> FormulaSet:
        """The formulas of these crystals."""
        return cls(np.unique(formula_hashes(crystals)))

    def __len__(self) -> int:
        return len(self.hashes)

    def contains(self, hashes: HashArray) -> BoolArray:
        """(B,) whether each formula is one of these."""
        return np.isin(hashes, self.hashes)

    @cached_property
    def sha256(self) -> str:
        """Hash of the set, which is that of its file."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def _bytes(self) -> bytes:
        return self.hashes.astype("<u8").tobytes()

    def write(self, folder: Path, dataset: str) -> None:
        """Writes <dataset>.formulas into the folder: the hashes one after the other, little-endian."""
        write_bytes(folder / f"{dataset}.{SUFFIX}", self._bytes())

    @classmethod
    def read(cls, folder: Path | Traversable, dataset: str) -> FormulaSet:
        """The set of that data set in a folder. ValueError where it is absent or damaged."""
        place = folder / f"{dataset}.{SUFFIX}"
        try:
            content = place.read_bytes()
        except OSError as error:
            raise ValueError(f"{place}: not readable ({reason_of(error)}); install the package again") from error
        hashes = np.frombuffer(content[: len(content) // BYTES * BYTES], dtype="<u8").astype(np.uint64)
        if len(content) % BYTES or len(hashes) == 0 or (hashes[1:] <= hashes[:-1]).any():
            raise ValueError(f"{place}: damaged, {len(content)} bytes that are no ascending hashes; install it again")
        return cls(hashes)
