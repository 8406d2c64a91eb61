"""Parquet files of this package: compressed, with a checksum of every page that is verified when it is read."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.atomic import write_bytes

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def table_bytes(table: pa.Table) -> bytes:
    """A Parquet file of a table. The same table gives the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue().to_pybytes())


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a Parquet file atomically."""
    write_bytes(path, table_bytes(table))


def table_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Writes a file table by table, for what does not fit into memory; a context manager."""
    import pyarrow.parquet as pq

    return pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)


def read_table(path: Traversable, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a file. ArrowException or OSError where it is damaged."""
    # Not pq.read_table, which goes through pyarrow.dataset: that costs small files twice as much.
    with open_table(path) as file:
        return file.read(columns=None if columns is None else list(columns))


def open_table(path: Traversable, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    """A file to be read piece by piece (`iter_batches`); a context manager.

    dictionaries: text columns of which a value that many rows have is in memory once.
    A member of an archive is in memory as a whole.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = path if isinstance(path, Path) else pa.BufferReader(path.read_bytes())
    return pq.ParquetFile(source, read_dictionary=list(dictionaries), page_checksum_verification=True)
