"""Reading and writing crystals."""

from __future__ import annotations

from bench.crystal_table import crystal_schema, crystals_to_table, table_to_sifted

__all__ = ["crystal_schema", "crystals_to_table", "table_to_sifted"]
