"""Crystals from CIF: read by gemmi, and held against everything else that the file says."""

from bench.crystal_io.cif.blocks import only_block, read_cif
from bench.crystal_io.cif.crystal import Atoms, plain_crystal
from bench.crystal_io.cif.parsing import Parsed, Progress, parse_cifs

__all__ = ["Atoms", "Parsed", "Progress", "only_block", "parse_cifs", "plain_crystal", "read_cif"]
