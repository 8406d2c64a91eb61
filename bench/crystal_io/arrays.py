"""Crystals from files of arrays: Parquet, and the `eval_gen.pt` of CDVAE, DiffCSP and their descendants."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bench.arrays import FloatArray
from bench.crystal_io.streams import MAX_JSON_CHARACTERS, MAX_PLACES, MAX_TEXT_BYTES, CifText, Missing, Place
from bench.crystal_io.table import COLUMNS, table_to_filtered
from bench.crystal_io.texts import pymatgen_dict, structure_column, structure_text
from bench.crystals import Crystals, FilteredCrystals, filter_crystals
from bench.errors import one_line
from bench.parquet import open_table

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 1000  # of a Parquet file in memory at a time
BATCH_BYTES = 2**26
MAX_VALUES = 2**26  # of a column in one group of rows: a million crystals of 20 atoms; some 20 bytes each while read
MAX_TENSOR_VALUES = 2**26


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
            entries: list[Crystals | CifText | Missing] = [pymatgen_dict(cell) for cell in column.to_pylist()]
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


def read_eval_gen(path: Path) -> tuple[FilteredCrystals, float | None]:
    """Crystals of an `eval_gen.pt` as CDVAE, DiffCSP and their descendants write it; the first evaluation of each.

    frac_coords (sum N, 3), num_atoms (B,), atom_types (sum N,) or (sum N, types) scores, lengths and angles (B, 3) in A
    and degrees; CDVAE's have a leading axis of evaluations. With them the seconds that their sampling took, where the
    file says it (CDVAE's `time`, of all evaluations). ValueError for a file that is none or carries Python objects.
    """
    content = _tensors(path)
    needed = ("frac_coords", "num_atoms", "atom_types", "lengths", "angles")
    absent = [key for key in needed if not (isinstance(content, Mapping) and key in content)]
    if absent:
        raise ValueError(f"holds no {', '.join(absent)}: not an eval_gen file")
    try:
        arrays = [_array(key, content[key]) for key in needed]
        evaluations = len(arrays[0]) if arrays[0].ndim == 3 else 1
        coords, counts, types, lengths, angles = [a[0] for a in arrays] if arrays[0].ndim == 3 else arrays
    except (TypeError, RuntimeError, IndexError) as error:
        raise ValueError(f"not an eval_gen file ({one_line(error)})") from error
    if types.ndim == 2 and types.shape[1]:
        types = types.argmax(axis=1) + 1
    seconds = content.get("time")
    known = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < float("inf")
    return (
        filter_crystals(counts, types, coords, lattices_from_parameters(lengths, angles)),
        float(seconds) / evaluations if known else None,
    )


def _tensors(path: Path) -> Any:
    """What torch.save wrote, rebuilt without running code; tensors stay on the disk until they are used."""
    import argparse
    import pathlib
    import pickle

    import torch

    if not zipfile.is_zipfile(path):
        raise ValueError("not a file of tensors: no zip archive, as torch.save writes them since version 1.6")
    # The authors' scripts store their command line beside the tensors; plain containers, rebuilt without running code.
    harmless: list[Any] = [argparse.Namespace, pathlib.PosixPath]
    try:
        with zipfile.ZipFile(path) as archive:
            packed = next((info for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED), None)
            if packed is not None:
                raise ValueError(f"not a file of tensors: {packed.filename} in it is compressed")
        with torch.serialization.safe_globals(harmless):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        detail = f"it carries Python objects ({named[1]}), which are not loaded" if named else "it is damaged"
        raise ValueError(f"not a file of tensors: {detail}") from error
    except ValueError:
        raise
    except Exception as error:  # a damaged file raises anything
        raise ValueError(f"not a file of tensors ({one_line(error)})") from error


def _array(key: str, content: Any) -> FloatArray:
    """A tensor's values. ValueError where they are too many: strides of 0 repeat what is stored once."""
    import torch

    tensor = torch.as_tensor(content)
    if tensor.numel() > MAX_TENSOR_VALUES:
        raise ValueError(f"{key} has {tensor.numel()} values; at most {MAX_TENSOR_VALUES} are read")
    return np.asarray(tensor.double().numpy(force=True))


def lattices_from_parameters(lengths: ArrayLike, angles: ArrayLike) -> FloatArray:
    """(B, 3, 3) lattices in A as pymatgen orients them: c along z, a in the xz plane.

    lengths: (B, 3) A. angles: (B, 3) degrees. NaN where a length is not positive.
    """
    a, b, c = np.asarray(lengths, dtype=np.float64).reshape(-1, 3).T
    alpha, beta, gamma = np.radians(np.asarray(angles, dtype=np.float64).reshape(-1, 3)).T
    with np.errstate(all="ignore"):
        cosine = (np.cos(alpha) * np.cos(beta) - np.cos(gamma)) / (np.sin(alpha) * np.sin(beta))
        gamma_star = np.arccos(np.clip(cosine, -1, 1))
        zero, b_xy = np.zeros_like(a), b * np.sin(alpha)
        vectors = [
            np.stack([a * np.sin(beta), zero, a * np.cos(beta)], axis=1),
            np.stack([-b_xy * np.cos(gamma_star), b_xy * np.sin(gamma_star), b * np.cos(alpha)], axis=1),
            np.stack([zero, zero, c], axis=1),
        ]
    lattices = np.stack(vectors, axis=1)  # (B, 3, 3)
    lattices[~((a > 0) & (b > 0) & (c > 0))] = np.nan
    return lattices
