"""Crystals, texts and files that the tests of reading and writing share."""

import numpy as np
import torch

from bench.crystals import Crystals

FORMATS = ["x.cif", "x.zip", "folder", "x.extxyz", "x.json", "x.csv", "x.parquet"]

# A CIF up to its atoms, and one atom on a line that takes room.
SITE = f"Si Si 0.1 0.2 0.3 # {'and a long comment, ' * 10}\n"
HEAD = (
    "data_x\n"
    + "".join(f"_cell_length_{axis} 9\n" for axis in "abc")
    + "".join(f"_cell_angle_{angle} 90\n" for angle in ("alpha", "beta", "gamma"))
    + "loop_\n"
    + "".join(f"_atom_site_{name}\n" for name in ("type_symbol", "label", "fract_x", "fract_y", "fract_z"))
)


def some_crystals(sizes: list[int], seed: int = 0) -> Crystals:
    """Crystals whose atoms lie apart: sites of a 7 x 7 x 7 grid, shaken a little, in skewed cells."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(7)] * 3), axis=-1).reshape(-1, 3) / 7
    coords = [rng.permutation(grid)[:size] + rng.uniform(0.01, 0.04, (size, 3)) for size in sizes]
    cells = 9 * np.eye(3) + rng.normal(size=(len(sizes), 3, 3))
    return Crystals(np.array(sizes), rng.integers(1, 95, sum(sizes)), np.concatenate(coords), cells)


def same_atoms(ours: Crystals, theirs: Crystals) -> bool:
    """Whether two batches have the same crystals up to the order of atoms and the 8 decimals of a CIF."""

    def atoms(crystals: Crystals, index: int) -> np.ndarray:
        numbers, coords, _ = crystals.arrays(index)
        rows = np.column_stack([numbers, np.floor(7 * coords), coords])  # element and place on the grid order them
        return rows[np.lexsort(rows.T[::-1])]

    return len(ours) == len(theirs) and all(
        np.allclose(atoms(ours, b), atoms(theirs, b), rtol=0, atol=1e-6)
        and np.allclose(ours.structure(b).lattice.parameters, theirs.structure(b).lattice.parameters, atol=1e-6)
        for b in range(len(ours))
    )


def cif(crystals: Crystals, index: int = 0) -> str:
    return str(crystals.structure(index).to(fmt="cif"))


def eval_gen(crystals: Crystals) -> dict:
    parameters = np.array([s.lattice.parameters for s in crystals])
    return {
        "frac_coords": torch.tensor(crystals.frac_coords, dtype=torch.float32),
        "num_atoms": torch.tensor(crystals.num_atoms),
        "atom_types": torch.tensor(crystals.atomic_numbers),
        "lengths": torch.tensor(parameters[:, :3], dtype=torch.float32),
        "angles": torch.tensor(parameters[:, 3:], dtype=torch.float32),
    }
