"""A data set of your own: three files of CIFs, a description of them, and its reference card beside this module.

`python rock_salts.py FOLDER` writes the files: strained rock salts. Yours are there already.
"""

import csv
import sys
from pathlib import Path

from bench.datasets import DatasetSpec

ROCK_SALTS = DatasetSpec(
    name="rocksalts",  # as it is typed behind --dataset, and the name of its entry point
    title="Rock salts",  # as tables write it
    folder="rock_salts",  # below BENCH_DATA_DIR: train.csv, val.csv, test.csv with a column `cif`
    citation="made for this example",
    reference=Path(__file__).parent / "rock_salts_reference",  # what `bench data rocksalts --reference` writes
)

CATIONS, ANIONS = ("Li", "Na", "K", "Rb", "Mg", "Ca", "Sr", "Ba"), ("F", "Cl", "Br", "I", "O", "S")
ROWS = {"train": 60, "val": 12, "test": 24}


def write_splits(folder: Path) -> None:
    """The three files, the same whenever they are written."""
    import numpy as np
    from pymatgen.core import Lattice, Structure

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in ROWS.items():
        with open(folder / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["material_id", "cif"])
            for number in range(rows):
                a = rng.uniform(4.2, 7.0)
                species = [rng.choice(CATIONS), rng.choice(ANIONS)]
                cell = Lattice.from_parameters(a / 2**0.5, a / 2**0.5, a / 2**0.5, 60, 60, rng.uniform(58, 62))
                crystal = Structure(cell, species, [[0, 0, 0], [0.5, 0.5, 0.5]])
                writer.writerow([f"{split}-{number}", crystal.to(fmt="cif")])


if __name__ == "__main__":
    write_splits(Path(sys.argv[1]))
