"""Crystals with a published energy above a hull, in an order drawn once: the first n of them are a random sample."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from bench.arrays import FloatArray, IntArray
from bench.crystals import Crystals
from bench.datasets import load_properties, load_split
from tasks.stability.hull.phases import Phases, phases_folder
from tasks.stability.task import STABLE_BELOW

MAX_PUBLISHED = 0.5  # eV/atom above the hull of the phases that are compared
GENERATED = "wyformer_mpts52_chgnet_995.csv.gz"
MAX_GENERATED_ATOMS = 52  # as in MPTS-52; the file has cells of up to 246
SEED = 0


@dataclass(frozen=True)
class Labelled:
    """B crystals, their ids, and published (B,) eV/atom above a hull."""

    crystals: Crystals
    ids: tuple[str, ...]
    published: FloatArray

    def __getitem__(self, part: slice) -> Labelled:
        return Labelled(self.crystals[part], self.ids[part], self.published[part])


@dataclass(frozen=True)
class Source:
    """Where labelled crystals come from. title: what they are. in_hull: whether they are phases, to be left out of it.

    read: gives all that may be compared, in the order drawn, from the phases.
    """

    title: str
    in_hull: bool
    read: Callable[[Callable[[], Phases]], Labelled]


def _held_out(source: str, balanced: bool) -> Callable[[Callable[[], Phases]], Labelled]:
    """Phases of one file with DFT's energy above the Materials Project's hull between 0 and MAX_PUBLISHED.

    balanced: every other one lies above the line. In MPTS-52 five of six lie below: there, calling everything stable
    would agree with DFT about 83 %.
    """

    def read(phases: Callable[[], Phases]) -> Labelled:
        found = phases()
        with gzip.open(phases_folder() / "mp_phases.csv.gz", "rt", encoding="utf-8", newline="") as file:
            dft = {row["material_id"]: float(row["e_above_hull"]) for row in csv.DictReader(file)}
        published = np.array([dft.get(i, np.inf) for i in found.ids])
        here = np.array([s == source for s in found.sources]) & (published >= 0) & (published <= MAX_PUBLISHED)
        order = _drawn(np.flatnonzero(here))
        if balanced:
            above, below = order[published[order] >= STABLE_BELOW], order[published[order] < STABLE_BELOW]
            count = min(len(above), len(below))
            order = np.stack([above[:count], below[:count]], axis=1).ravel()
        return Labelled(found.crystals[order], tuple(found.ids[i] for i in order), published[order])

    return read


def _perovskites(phases: Callable[[], Phases]) -> Labelled:
    """Test crystals of Perov-5 with `heat_all`, DFT's energy above a hull of competing phases (as given)."""
    order = _drawn(np.arange(len(split := load_split("perov5", "test"))))
    known = load_properties("perov5", "test", ["material_id", "heat_all"])
    ids = known["material_id"].to_pylist()
    return Labelled(split[order], tuple(str(ids[i]) for i in order), known["heat_all"].to_numpy()[order])


def _generated(phases: Callable[[], Phases]) -> Labelled:
    """Crystals that WyFormer generated, with the energy above hull by CHGNet that was published with them."""
    from pymatgen.core import Structure

    path = Path(os.environ["BENCH_DATA_DIR"]) / "samples" / GENERATED
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    structures = [Structure.from_dict(json.loads(row["structure"])) for row in rows]
    order = _drawn(np.array([i for i, s in enumerate(structures) if len(s) <= MAX_GENERATED_ATOMS]))
    published = np.array([float(row["chgnet_e_above_hull_corrected"]) for row in rows])
    crystals = Crystals.from_structures(structures[i] for i in order)
    return Labelled(crystals, tuple(f"wyformer-{i}" for i in order), published[order])


def _drawn(places: IntArray) -> IntArray:
    return np.random.default_rng(SEED).permutation(places)


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "mpts52": Source("MPTS-52 phases, half of them above 0.1 by DFT", True, _held_out("mpts52", balanced=True)),
        "mp20": Source("MP-20 test phases, all below 0.08 by DFT", True, _held_out("mp20 test", balanced=False)),
        "perov5": Source("Perov-5 test crystals against heat_all", False, _perovskites),
        "generated": Source("generated crystals against published CHGNet energies", False, _generated),
    }
)
