"""The compositions that a run predicts structures for: those of a data set's test split, in its order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from bench.arrays import IntArray
from bench.crystals import Crystals
from bench.datasets import load_split

Chosen = Literal["all", "first", "drawn"]


@dataclass(frozen=True)
class PredictionPlan:
    """What `bench csp` asks for besides a run's other settings.

    num_compositions: of the test split, None for all. draw: by the run's seed, in place of the first ones.
    samples: of each composition; None where a budget of seconds decides, or the files of predictions do.
    by_formula: files of predictions give each structure to the composition of its atoms, instead of by its place.
    """

    num_compositions: int | None = None
    draw: bool = False
    samples: int | None = None
    by_formula: bool = False

    def __post_init__(self) -> None:
        for option, value in (("--num-compositions", self.num_compositions), ("--samples", self.samples)):
            if value is not None and value < 1:
                raise ValueError(f"{option} {value}: must be at least 1")
        if self.draw and self.num_compositions is None:
            raise ValueError("--draw needs --num-compositions: all compositions need no draw")

    def to_json(self) -> dict[str, Any]:
        """For the manifest, from which `from_json` makes one again."""
        return {
            "num_compositions": self.num_compositions,
            "draw": self.draw,
            "samples": self.samples,
            "by_formula": self.by_formula,
        }


@dataclass(frozen=True, eq=False)
class Targets:
    """N compositions and the structures that the test split has for them.

    rows: (N,) places in the split. references: their crystals. split_size: crystals of the split. plan: what was asked.
    """

    rows: IntArray
    references: Crystals
    split_size: int
    plan: PredictionPlan

    @classmethod
    def of(cls, dataset: str, plan: PredictionPlan, seed: int) -> Targets:
        """Of a data set's test split. DataUnavailable where it is not at hand; ValueError where it has too few."""
        split = load_split(dataset, "test")
        asked = len(split) if plan.num_compositions is None else plan.num_compositions
        if asked > len(split):
            raise ValueError(f"--num-compositions {asked}: the test split of {dataset} has {len(split)}")
        rows = np.arange(asked)
        if plan.draw:
            rows = np.sort(np.random.default_rng(seed).choice(len(split), asked, replace=False))
        return cls(rows, split[rows], len(split), plan)

    def with_samples(self, samples: int) -> Targets:
        """The same, with so many samples of each composition."""
        return replace(self, plan=replace(self.plan, samples=samples))

    @property
    def chosen(self) -> Chosen:
        """Which of the split these are."""
        if len(self) == self.split_size:
            return "all"
        return "drawn" if self.plan.draw else "first"

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def compositions(self) -> tuple[IntArray, ...]:
        """(N_i,) atomic numbers of each, ascending: their order in the file says nothing of the structure."""
        return tuple(np.sort(self.references.arrays(b)[0]) for b in range(len(self)))

    def protocol(self) -> dict[str, Any]:
        """What figures depend on: how many and which, with a digest of the reference structures."""
        digest, crystals = hashlib.sha256(), self.references
        for array in (crystals.num_atoms, crystals.atomic_numbers, crystals.frac_coords, crystals.lattices):
            digest.update(np.ascontiguousarray(array).tobytes())
        return {
            "split": "test",
            "compositions": len(self),
            "of": self.split_size,
            "chosen": self.chosen,
            "references_sha256": digest.hexdigest(),
        }

    def __str__(self) -> str:
        if self.chosen == "all":
            return f"all {len(self)} compositions of the test split"
        if self.chosen == "first":
            return f"the first {len(self)} of the {self.split_size} compositions of the test split"
        return f"{len(self)} of the {self.split_size} compositions of the test split, drawn by the seed"


def composition_name(atomic_numbers: IntArray) -> str:
    """The atoms of a cell, "Na4 Cl4"."""
    from pymatgen.core import Element

    numbers, counts = np.unique(atomic_numbers, return_counts=True)
    return " ".join(f"{Element.from_Z(int(z)).symbol}{n}" for z, n in zip(numbers, counts, strict=True))


def of_round(compositions: Sequence[IntArray], first_row: int, size: int) -> list[IntArray]:
    """The compositions of rows first_row .. first_row + size - 1, which go through all of them again and again."""
    return [compositions[row % len(compositions)] for row in range(first_row, first_row + size)]
