"""Crystals as rows of an Arrow table: the schema of every shard and cache file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.crystals import Crystals, FilteredCrystals, filter_crystals
from bench.parquet import table_bytes

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


def crystals_to_table(crystals: Crystals | FilteredCrystals, offset: int = 0) -> pa.Table:
    """Rows of `crystal_schema`, one per crystal asked for; `index` counts from offset. Same crystals, same bytes."""
    import pyarrow as pa

    filtered = crystals if isinstance(crystals, FilteredCrystals) else FilteredCrystals.complete(crystals)
    batch, requested = filtered.crystals, filtered.requested
    num_atoms = np.zeros(requested, dtype=np.int64)
    num_atoms[filtered.indices] = batch.num_atoms
    lattices = np.zeros((requested, 9))
    lattices[filtered.indices] = batch.lattices.reshape(-1, 9)
    missing = np.ones(requested, dtype=bool)
    missing[filtered.indices] = False
    bounds = np.concatenate([[0], np.cumsum(num_atoms)]).astype(np.int32)
    return pa.Table.from_arrays(
        [
            pa.array(np.arange(offset, offset + requested), pa.int64()),
            pa.array(num_atoms, pa.int32()),
            pa.ListArray.from_arrays(bounds, pa.array(batch.atomic_numbers, pa.int16())),
            pa.ListArray.from_arrays(3 * bounds, pa.array(batch.frac_coords.ravel())),
            pa.FixedSizeListArray.from_arrays(pa.array(lattices.ravel()), 9, mask=pa.array(missing)),
            pa.array([filtered.reasons.get(place) for place in range(requested)], pa.string()),
        ],
        schema=crystal_schema(),
    )


def parquet_bytes(crystals: Crystals | FilteredCrystals, offset: int = 0) -> bytes:
    """A Parquet file of `crystals_to_table`, with checksums. Same crystals, same bytes."""
    return table_bytes(crystals_to_table(crystals, offset))


def table_to_filtered(table: pa.Table) -> FilteredCrystals:
    """The crystals of a table of `crystal_schema` and the reasons of its other rows, by row whatever `index` says.

    Rows whose lists do not fit together, or that hold an impossible crystal, are set aside with a reason too.
    ValueError where a column is missing or is not what the schema says.
    """
    import pyarrow as pa

    schema = crystal_schema()
    absent = [name for name in COLUMNS if name not in table.column_names and name != "index"]
    if absent:
        raise ValueError(
            f"not a table of crystals: no column {', '.join(absent)} among {', '.join(table.column_names)}"
        )
    columns = [name for name in COLUMNS if name != "index"]
    try:
        table = table.select(columns).cast(pa.schema([schema.field(name).with_nullable(True) for name in columns]))
    except pa.ArrowException as error:
        raise ValueError(f"not a table of crystals: {error}") from error
    reasons = {row: text for row, text in enumerate(table["reason"].to_pylist()) if text is not None}
    for row, text in _misfits(table).items():
        reasons.setdefault(row, text)
    exists = np.ones(table.num_rows, dtype=bool)
    exists[list(reasons)] = False
    places = np.flatnonzero(exists)
    table = table.filter(exists)
    found = filter_crystals(
        table["num_atoms"].to_numpy(),
        _flat(table["atomic_numbers"]),
        _flat(table["frac_coords"]).reshape(-1, 3),
        _flat(table["lattice"]).reshape(-1, 3, 3),
    )
    reasons.update({int(places[row]): text for row, text in found.reasons.items()})
    return FilteredCrystals(found.crystals, places[found.indices], dict(sorted(reasons.items())))


def _misfits(table: pa.Table) -> dict[int, str]:
    """Row -> what is missing in it or not as long as its num_atoms says."""
    import pyarrow.compute as pc

    counts = np.asarray(pc.fill_null(table["num_atoms"], -1).to_numpy(), dtype=np.int64)
    misfits = {int(row): "num_atoms is missing or negative" for row in np.flatnonzero(counts < 0)}
    expected = {"atomic_numbers": counts, "frac_coords": 3 * counts, "lattice": np.full_like(counts, 9)}
    for name, lengths in expected.items():
        found = np.asarray(pc.fill_null(pc.list_value_length(table[name]), -1).to_numpy())
        for row in np.flatnonzero((counts >= 0) & (found != lengths)):
            has = "no" if found[row] < 0 else f"{found[row]} values of"
            misfits.setdefault(int(row), f"num_atoms is {counts[row]}, but there are {has} {name}")
    return misfits


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    """The values of all lists one after another; a null among them becomes NaN or 0, which no crystal may hold."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pc.list_flatten(column)
    return np.asarray(values.fill_null(0 if pa.types.is_integer(values.type) else float("nan")).to_numpy())
