"""Crystals as rows of an Arrow table: the schema of every shard and cache file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.crystals import Crystals, Sifted, sift

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("index", "num_atoms", "atomic_numbers", "frac_coords", "lattice", "reason")


def crystal_schema() -> pa.Schema:
    """One row per crystal asked for.

    index: place of the row. num_atoms: N. atomic_numbers: (N,). frac_coords: (3 N,), (N, 3) row by row.
    lattice: (9,) A, row by row. reason: null where the crystal exists; where it does not, num_atoms is 0, the lists
    are empty and lattice is null.
    """
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("index", pa.int64(), nullable=False),
            pa.field("num_atoms", pa.int32(), nullable=False),
            pa.field("atomic_numbers", pa.list_(pa.int16()), nullable=False),
            pa.field("frac_coords", pa.list_(pa.float64()), nullable=False),
            pa.field("lattice", pa.list_(pa.float64(), 9)),
            pa.field("reason", pa.string()),
        ]
    )


def crystals_to_table(crystals: Crystals | Sifted, offset: int = 0) -> pa.Table:
    """Rows of `crystal_schema`, one per crystal asked for; `index` counts from offset. Same crystals, same bytes."""
    import pyarrow as pa

    sifted = crystals if isinstance(crystals, Sifted) else Sifted.complete(crystals)
    batch, requested = sifted.crystals, sifted.requested
    num_atoms = np.zeros(requested, dtype=np.int64)
    num_atoms[sifted.indices] = batch.num_atoms
    lattices = np.zeros((requested, 9))
    lattices[sifted.indices] = batch.lattices.reshape(-1, 9)
    missing = np.ones(requested, dtype=bool)
    missing[sifted.indices] = False
    bounds = np.concatenate([[0], np.cumsum(num_atoms)]).astype(np.int32)
    return pa.Table.from_arrays(
        [
            pa.array(np.arange(offset, offset + requested), pa.int64()),
            pa.array(num_atoms, pa.int32()),
            pa.ListArray.from_arrays(bounds, pa.array(batch.atomic_numbers, pa.int16())),
            pa.ListArray.from_arrays(3 * bounds, pa.array(batch.frac_coords.ravel())),
            pa.FixedSizeListArray.from_arrays(pa.array(lattices.ravel()), 9, mask=pa.array(missing)),
            pa.array([sifted.reasons.get(place) for place in range(requested)], pa.string()),
        ],
        schema=crystal_schema(),
    )


def table_to_sifted(table: pa.Table) -> Sifted:
    """The crystals of a table of `crystal_schema` and the reasons of its other rows, by row whatever `index` says.

    Rows that hold an impossible crystal are set aside with a reason too. ValueError where a column is missing or where
    the lists of a row do not belong together.
    """
    absent = [name for name in COLUMNS if name not in table.column_names and name != "index"]
    if absent:
        raise ValueError(
            f"not a table of crystals: no column {', '.join(absent)} among {', '.join(table.column_names)}"
        )
    requested = table.num_rows
    reasons = {row: text for row, text in enumerate(table["reason"].to_pylist()) if text is not None}
    exists = np.ones(requested, dtype=bool)
    exists[list(reasons)] = False
    table = table.filter(exists)
    places = np.flatnonzero(exists)
    counts = table["num_atoms"].to_numpy()
    _check_lists(table, counts, places)
    found = sift(
        counts,
        _flat(table["atomic_numbers"]),
        _flat(table["frac_coords"]).reshape(-1, 3),
        _flat(table["lattice"]).reshape(-1, 3, 3),
    )
    reasons.update({int(places[row]): text for row, text in found.reasons.items()})
    return Sifted(found.crystals, places[found.indices], dict(sorted(reasons.items())))


def _check_lists(table: pa.Table, counts: np.ndarray, places: np.ndarray) -> None:
    """ValueError naming the first row whose lists are not as long as its num_atoms says."""
    import pyarrow.compute as pc

    for name, per_row in (
        ("atomic_numbers", counts),
        ("frac_coords", 3 * counts),
        ("lattice", np.full_like(counts, 9)),
    ):
        lengths = np.array(pc.fill_null(pc.list_value_length(table[name]), -1).to_numpy())
        wrong = np.flatnonzero(lengths != per_row)
        if len(wrong):
            row = wrong[0]
            has = "null" if lengths[row] < 0 else f"{lengths[row]} values"
            raise ValueError(
                f"row {places[row]}: num_atoms is {counts[row]}, but {name} has {has} instead of {per_row[row]}"
            )


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    import pyarrow.compute as pc

    return np.asarray(pc.list_flatten(column).to_numpy())
