"""Crystals from Parquet files: our own tables, or a column of texts or of dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench.crystal_io.streams import MAX_JSON_CHARACTERS, MAX_PLACES, MAX_TEXT_BYTES, CifText, Missing, Place
from bench.crystal_io.structure_dicts import crystal_of, structure_column
from bench.crystal_io.table import COLUMNS, table_to_filtered
from bench.crystal_io.texts import structure_text
from bench.crystals import Crystals, FilteredCrystals
from bench.errors import one_line
from bench.parquet import open_table

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 1000  # of a Parquet file in memory at a time
BATCH_BYTES = 2**26
MAX_VALUES = 2**26  # of a column in one group of rows: a million crystals of 20 atoms; some 20 bytes each while read


def read_parquet(path: Path) -> Iterator[FilteredCrystals | Place]:
    """Crystals of our own tables, or the `cif` or `structure` column of others, a batch of rows at a time."""
    import pyarrow as pa

    try:
        with open_table(path) as file:
            names = file.schema_arrow.names
            if file.metadata.num_rows > MAX_PLACES:
                raise ValueError(f"{file.metadata.num_rows} rows; at most {MAX_PLACES} are read")
            ours = set(COLUMNS) - {"index"} <= set(names)
            columns = [name for name in COLUMNS if name != "index"] if ours else [structure_column(names)]
            texts = [name for name in columns if not ours and _is_text(file.schema_arrow.field(name).type)]
        # Dictionaries stay what they are: a value that is stored once is in memory once, however many rows have it.
        with open_table(path, dictionaries=texts) as file:
            if ours:
                for batch in _batches(file, columns):
                    yield table_to_filtered(pa.Table.from_batches([batch]))
            else:
                yield from _structures(batch.column(0) for batch in _batches(file, columns))
    except pa.ArrowException as error:
        raise ValueError(f"not a Parquet file of crystals ({one_line(error)})") from error


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary))


def _batches(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of at most BATCH_ROWS rows, fewer where rows are large. ValueError where a group of rows is too large."""
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    largest = 0.0
    for group in groups:
        chunks = [group.column(place) for place in range(group.num_columns)]
        chunks = [chunk for chunk in chunks if chunk.path_in_schema.partition(".")[0] in columns]
        values, size = (max(getattr(c, of) for c in chunks) for of in ("num_values", "total_uncompressed_size"))
        if values > MAX_VALUES or size > MAX_TEXT_BYTES:
            raise ValueError(f"{values} values of {size} bytes in one group of rows; write smaller groups")
        largest = max(largest, size / max(group.num_rows, 1))
    yield from file.iter_batches(max(1, min(BATCH_ROWS, int(BATCH_BYTES // max(largest, 1)))), columns=columns)


def _structures(columns: Iterator[pa.Array]) -> Iterator[Place]:
    """The cells of a column: texts, or dictionaries as pymatgen makes them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    row = 0
    for column in columns:
        if pa.types.is_struct(column.type):
            indices = range(len(column))
            entries: list[Crystals | CifText | Missing] = [crystal_of(cell) for cell in column.to_pylist()]
        else:
            if not pa.types.is_dictionary(column.type):
                column = column.cast(pa.large_string()).dictionary_encode()
            values = column.dictionary.cast(pa.large_string())
            lengths = pc.binary_length(values).to_pylist()
            entries = [
                Missing(f"{length} bytes; at most {MAX_JSON_CHARACTERS} are read")
                if length is not None and length > MAX_JSON_CHARACTERS
                else structure_text(value.as_py())
                for value, length in zip(values, lengths, strict=True)
            ]
            indices = column.indices.to_pylist()
        for index in indices:
            yield f"row {row}", structure_text(None) if index is None else entries[index]
            row += 1
