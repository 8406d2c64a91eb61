"""Crystals from files and to files, with a name or a reason for each."""

from bench.crystal_io.reading import ReadResult, read_crystals
from bench.crystal_io.table import crystal_schema, crystals_to_table, table_to_filtered
from bench.crystal_io.writing import write_crystals

__all__ = ["ReadResult", "crystal_schema", "crystals_to_table", "read_crystals", "table_to_filtered", "write_crystals"]
