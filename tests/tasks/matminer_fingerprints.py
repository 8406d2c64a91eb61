"""Crystals whose fingerprints by matminer are stored, and the script that stored them.

`python -m tests.tasks.matminer_fingerprints` writes matminer_fingerprints.json and .parquet anew, in an environment
that has matminer beside this project, and both data sets. The second file has two hundred stored crystals of models,
and TEST_CRYSTALS of each test split.
"""

import json
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from pymatgen.core import Lattice, Structure

from bench.datasets import load_split
from bench.parquet import write_table
from tests.stored_samples import two_hundred_crystals

FILE = Path(__file__).with_suffix(".json")
OF_SAMPLES = Path(__file__).with_suffix(".parquet")
TEST_CRYSTALS = 50


def structures() -> list[Structure]:
    """Prototypes of many coordinations, shaken copies, and random cells."""
    rng = np.random.default_rng(0)
    halves = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    found = [
        Structure(Lattice.cubic(3.9), ["Sr", "Ti", "O", "O", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], *halves]),
        Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        Structure(Lattice.cubic(3.61), ["Cu"] * 4, [[0, 0, 0], *halves]),
        Structure(Lattice.hexagonal(3.21, 5.21), ["Mg", "Mg"], [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]),
        Structure.from_spacegroup("F-43m", Lattice.cubic(5.41), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
        Structure.from_spacegroup(
            "P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
        ),
    ]
    found += [structure.copy().perturb(0.2, seed=1) for structure in found[:3]]
    for count, elements in ((3, ["Eu", "Xe", "O"]), (4, ["Li", "Fe", "P", "O"])):
        cell = Lattice.from_parameters(*rng.uniform(4, 5, 3), *rng.uniform(75, 105, 3))
        found.append(Structure(cell, elements[:count], rng.random((count, 3))))
    return found


def featurized(crystals: Iterable[Structure]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean site fingerprint (61,) and composition statistics (132,) of each crystal by matminer."""
    from matminer.featurizers.composition.composite import ElementProperty
    from matminer.featurizers.site.fingerprint import CrystalNNFingerprint

    site, composition = CrystalNNFingerprint.from_preset("ops"), ElementProperty.from_preset("magpie")
    found = []
    for structure in crystals:
        mean = np.mean([site.featurize(structure, i) for i in range(len(structure))], axis=0)
        found.append((mean, np.array(composition.featurize(structure.composition), dtype=float)))
    return found


def main() -> None:
    """Writes both files."""
    warnings.simplefilter("ignore")
    rows = [
        {
            "structure": {str(k): round(float(x), 9) for k, x in enumerate(mean) if x},
            "composition": [None if np.isnan(x) else round(float(x), 9) for x in statistics],
        }
        for mean, statistics in featurized(structures())
    ]
    FILE.write_text(json.dumps(rows) + "\n")
    of = {"samples": two_hundred_crystals()}
    of |= {name: load_split(name, "test", download=False)[:TEST_CRYSTALS] for name in ("perov5", "mp20")}
    found = [(name, *pair) for name, crystals in of.items() for pair in featurized(crystals)]
    numbers = pa.list_(pa.float32())
    columns = [
        pa.array([row[place] for row in found], kind) for place, kind in enumerate((pa.string(), numbers, numbers))
    ]
    write_table(OF_SAMPLES, pa.table(columns, names=["of", "structure", "composition"]))


if __name__ == "__main__":
    main()
