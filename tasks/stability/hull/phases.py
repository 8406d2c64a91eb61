"""Real phases for the hull: MP-20, MPTS-52 and the elements' reference crystals, below BENCH_DATA_DIR."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.crystal_io import read_crystals
from bench.crystals import Crystals
from bench.datasets import SPLITS, load_properties, load_split

STRUCTURES = "mpts_52_structures.csv.gz"
ELEMENTS = ("MatPES-PBE-Element-Refs.json.gz", "MP-PBE-Element-Refs.json.gz")
POLYMORPHS = 3  # of an element, the lowest by DFT: a potential may order the lowest two otherwise
MAX_POLYMORPH_ATOMS = 60


@dataclass(frozen=True)
class Phases:
    """P real crystals. ids: of the Materials Project, or element-<symbol>-<number>. source: which file each is from."""

    crystals: Crystals
    ids: tuple[str, ...]
    sources: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.crystals) == len(self.ids) == len(self.sources) or len(set(self.ids)) != len(self.ids):
            raise ValueError("every phase needs an id of its own and a source")


def phases_folder() -> Path:
    """$BENCH_DATA_DIR/phases. ValueError where it is not there."""
    named = os.environ.get("BENCH_DATA_DIR")
    folder = Path(named or ".") / "phases"
    missing = [name for name in (STRUCTURES, *ELEMENTS) if not (folder / name).is_file()]
    if not named or missing:
        raise ValueError(
            f"building a hull needs {STRUCTURES} and {', '.join(ELEMENTS)} in $BENCH_DATA_DIR/phases"
            + (f"; {folder} lacks {', '.join(missing)}" if named else ", which is unset")
        )
    return folder


def read_phases(workers: int = 1) -> Phases:
    """All phases, each id once, sorted by id. ValueError where a file is missing or holds what is no crystal."""
    folder = phases_folder()
    parts: list[Crystals] = []
    ids: list[str] = []
    sources: list[str] = []

    def add(crystals: Crystals, names: list[str], source: str) -> None:
        fresh = [place for place, name in enumerate(names) if name not in known]
        known.update(names)
        parts.append(crystals[fresh])
        ids.extend(names[place] for place in fresh)
        sources.extend([source] * len(fresh))

    known: set[str] = set()
    for split in SPLITS:
        names = load_properties("mp20", split, ["material_id"])["material_id"].to_pylist()
        add(load_split("mp20", split, workers), names, f"mp20 {split}")
    add(*_mpts52(folder / STRUCTURES, workers), "mpts52")
    for number, name in enumerate(ELEMENTS):
        structures = list(_elements(folder / name))
        labels = [f"element-{symbol}-{number}{place}" for symbol, place, _ in structures]
        add(Crystals.from_structures(structure for _, _, structure in structures), labels, "elements")
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return Phases(
        Crystals.concatenate(parts)[np.array(order)], tuple(ids[i] for i in order), tuple(sources[i] for i in order)
    )


def _mpts52(path: Path, workers: int) -> tuple[Crystals, list[str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        names = [row["material_id"] for row in csv.DictReader(file)]
    found = read_crystals(path, workers).filtered
    for place, reason in found.reasons.items():
        raise ValueError(f"{path}: row {place} ({names[place]}) holds no crystal: {reason}")
    if len(names) != len(found.crystals):
        raise ValueError(f"{path}: {len(names)} rows, but {len(found.crystals)} crystals")
    return found.crystals, names


def _elements(path: Path) -> Iterator[tuple[str, int, Any]]:
    """(symbol, place, structure) of each element's lowest crystals by DFT."""
    from pymatgen.core import Structure

    content = json.loads(gzip.decompress(path.read_bytes()))
    for symbol, entry in sorted(content.items()):
        many = isinstance(entry["structure"], list)
        structures = entry["structure"] if many else [entry["structure"]]
        energies = entry["energy_per_atom"] if many else [entry["energy_per_atom"]]
        sizes = [len(structure["sites"]) for structure in structures]
        small = [i for i in range(len(structures)) if sizes[i] <= max(MAX_POLYMORPH_ATOMS, min(sizes))]
        for place, i in enumerate(sorted(small, key=lambda i: energies[i])[:POLYMORPHS]):
            yield symbol, place, Structure.from_dict(structures[i])
