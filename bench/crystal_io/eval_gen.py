"""Crystals from files of tensors: `eval_gen.pt` of CDVAE and DiffCSP, and what FlowMM and other descendants save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.arrays import FloatArray, IntArray
from bench.crystal_io.cells import (
    CONTRADICTION,
    FAR,
    another_cell,
    impossible_parameters,
    is_far,
    lattices_from_parameters,
)
from bench.crystal_io.pickles import StandIn, load_arrays, mapping_of
from bench.crystal_io.streams import MAX_PLACES
from bench.crystals import FilteredCrystals, filter_crystals
from bench.errors import one_line

MAX_TENSOR_VALUES = 2**26  # of one array
MAX_DEPTH = 4  # of lists in lists
# A table of elements has 98 to 118 entries, one more for "no atom" or "masked"; codes of other widths are not known.
ELEMENT_TABLE = range(98, 120)
ONE_MORE = (101, 119)  # than tables have: the further entry may be the first or the last
ANALOG_BITS = 7  # FlowMM: the bits of Z - 1, the lowest first, as -scale and +scale
KNOWN_TYPES = (
    "known are element numbers, one-hot types or scores over a table of "
    f"{ELEMENT_TABLE[0]} to {ELEMENT_TABLE[-1]} elements, and FlowMM's {ANALOG_BITS} analog bits"
)
HYDROGEN_FIRST = "types over {} entries are read with hydrogen as the first"
UNDECIDED = "the type of an atom is no single element (equal or missing scores)"
NOTHING_TYPED = "beside atoms of type 0: types are read as element numbers, hydrogen as 1"

_TYPES = ("atom_types", "atomic_numbers")
_CELLS = ("lattices", "lattice")


class ArrayCrystals(NamedTuple):
    """sampling_seconds: of all, where the file says it. remarks: how they were read -> how many."""

    filtered: FilteredCrystals
    sampling_seconds: float | None
    remarks: dict[str, int]


def read_eval_gen(path: Path, every_evaluation: bool = False) -> ArrayCrystals:
    """Crystals of a file that torch.save wrote, of one mapping of arrays or of lists of such.

    frac_coords (sum N, 3), num_atoms (B,), lengths and angles (B, 3) in A and degrees or lattices (B, 3, 3), and
    atom_types: element numbers (sum N,), scores (sum N, 100 to 119) or FlowMM's bits (sum N, 7). CDVAE's have a leading
    axis of evaluations, of which the first is read, or every one: all crystals of the first, then of the next. Each
    array may be a list of arrays, one a batch or one a crystal. `time` is what all evaluations took. ValueError for a
    file that is none, naming what it holds.
    """
    records = list(_records(load_arrays(path), 0))
    if not records:
        raise ValueError("holds no frac_coords, num_atoms, atom_types, lengths, angles: not an eval_gen file")
    parts = [_crystals(record) for record in records]
    if every_evaluation:
        numbers = {part.evaluations for part in parts}
        if len(numbers) > 1:
            raise ValueError(f"its parts have {', '.join(map(str, sorted(numbers)))} evaluations, not equally many")
        more = range(1, numbers.pop())
        parts = [replace(part, remarks=part.remarks[part.first_alone :]) for part in parts]
        parts += [replace(_crystals(r, number), remarks=()) for number in more for r in records]
    remarks: dict[str, int] = {}
    for part in parts:
        for remark, count in part.remarks:
            remarks[remark] = remarks.get(remark, 0) + count
    filtered = FilteredCrystals.concatenate([part.filtered for part in parts])
    seconds = [part.seconds for part in parts if part.seconds is not None]
    return ArrayCrystals(filtered, sum(seconds) if len(seconds) == len(parts) else None, remarks)


@dataclass(frozen=True)
class _Part:
    """The crystals of one evaluation, and how many evaluations there are.

    remarks: each with its number of crystals. first_alone: those on reading the first evaluation only.
    """

    filtered: FilteredCrystals
    seconds: float | None
    remarks: tuple[tuple[str, int], ...]
    evaluations: int
    first_alone: int


def _records(content: Any, depth: int) -> Iterator[Mapping[Any, Any]]:
    """The mappings of arrays in a file: itself, or those in its lists."""
    found = mapping_of(content)
    if found is not None:
        if "frac_coords" in found or depth == 0:
            yield found
    elif isinstance(content, list | tuple) and depth < MAX_DEPTH:
        if len(content) > MAX_PLACES:
            raise ValueError(f"a list of {len(content)} entries; at most {MAX_PLACES} are read")
        for entry in content:
            yield from _records(entry, depth + 1)


def _crystals(record: Mapping[Any, Any], evaluation: int = 0) -> _Part:
    """The crystals of one mapping of arrays, where it has several evaluations those of one."""
    types_key = next((key for key in _TYPES if key in record), "atom_types")
    cells_key = next((key for key in _CELLS if key in record), None)
    parameters = ("lengths", "angles") if cells_key is None or {"lengths", "angles"} <= set(record) else ()
    needed = ("frac_coords", types_key, *parameters)
    absent = [key for key in ("frac_coords", "num_atoms", types_key, *parameters) if key not in record]
    if "num_atoms" in absent and isinstance(record.get("frac_coords"), list):
        absent.remove("num_atoms")
    if absent:
        holds = ", ".join(map(str, list(record)[:20])) or "nothing"
        raise ValueError(f"holds no {', '.join(absent)}: not an eval_gen file; it holds {holds}")
    arrays: dict[str, FloatArray] = {}
    try:
        if "num_atoms" in record:
            counts, several = _joined("num_atoms", record["num_atoms"], 1, evaluation=evaluation)
        else:
            counts, several = np.array([len(_values("frac_coords", e)) for e in record["frac_coords"]]), 0
        for key in (*needed, *([cells_key] if cells_key else [])):
            axes = {"frac_coords": 2, types_key: 2, "lengths": 2, "angles": 2}.get(key, 3)
            arrays[key], _ = _joined(key, record[key], axes, like=several > 0, evaluation=evaluation)
    except (TypeError, RuntimeError, IndexError) as error:
        raise ValueError(f"not an eval_gen file ({one_line(error)})") from error
    coords = arrays["frac_coords"]
    if coords.ndim != 2 or coords.shape[1] != 3:
        raise ValueError(
            f"frac_coords has shape {list(coords.shape)}, not (atoms, 3); of a trajectory save the last step alone"
        )
    numbers, undecided, remark = element_numbers(arrays[types_key])
    cells = lattices_from_parameters(arrays["lengths"], arrays["angles"]) if parameters else None
    differs: IntArray = np.zeros(0, dtype=np.int64)
    if cells_key is not None:
        lattices = arrays[cells_key]
        if lattices.size % 9 or lattices.shape[-1] != 3:
            raise ValueError(f"{cells_key} has shape {list(lattices.shape)}, not (crystals, 3, 3)")
        lattices = lattices.reshape(-1, 3, 3)
        if cells is None:
            cells = lattices
        elif len(cells) == len(lattices):
            differs = np.flatnonzero(another_cell(cells, lattices))
    assert cells is not None
    filtered = filter_crystals(counts, numbers, coords, cells)
    filtered = _set_aside(filtered, {int(b): CONTRADICTION for b in differs})
    if parameters:
        filtered = _set_aside(filtered, impossible_parameters(arrays["lengths"], arrays["angles"]))
    requested = filtered.requested
    crystal_of_atom = np.repeat(np.arange(requested), np.asarray(counts, dtype=np.int64).reshape(-1))
    told = {int(b): UNDECIDED for b in np.unique(crystal_of_atom[undecided])}
    filtered = FilteredCrystals(filtered.crystals, filtered.indices, {**filtered.reasons, **told})
    remarks = [(f"the first of {several} evaluations in the file is read", requested)] if several > 1 else []
    remarks += [(remark, requested)] if remark else []
    far = np.unique(crystal_of_atom[is_far(coords)])
    remarks += [(FAR, len(far))] if len(far) else []
    seconds = record.get("time")
    known = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < float("inf")
    own = float(seconds) / max(several, 1) if known and seconds is not None else None
    return _Part(filtered, own, tuple(remarks), max(several, 1), int(several > 1))


def element_numbers(types: FloatArray) -> tuple[FloatArray, IntArray, str | None]:
    """(atoms,) element numbers, the atoms whose type is none (number 0), and a remark on how they were read.

    types: (atoms,) or (atoms, 1) numbers; (atoms, K) one-hot types or scores over elements from hydrogen on, or analog
    bits (Chen et al. 2023, as FlowMM has them: the sign of a value is a bit). ValueError with the shape for any other.
    """
    if types.ndim == 2 and types.shape[1] == 1:
        types = types[:, 0]
    if types.ndim == 1:
        whole = np.isfinite(types) & (types == np.round(types))
        if not whole.all():
            raise ValueError(f"atom_types has {types[~whole][0]:g} where an element number belongs; {KNOWN_TYPES}")
        return types, np.zeros(0, dtype=np.int64), NOTHING_TYPED if (types == 0).any() else None
    width = types.shape[1] if types.ndim == 2 else 0
    if width == ANALOG_BITS:
        if len(types) and not (types < 0).any():
            raise ValueError(f"atom_types of shape {types.shape} has no value below 0, so they are no analog bits")
        undecided = ~(np.isfinite(types) & (types != 0)).all(axis=1)
        numbers = (types > 0) @ (2.0 ** np.arange(ANALOG_BITS)) + 1
    elif width in ELEMENT_TABLE:
        # Not one in a row of zeros, nor where a score is NaN.
        undecided = (types == types.max(axis=1, keepdims=True)).sum(axis=1) != 1
        numbers = types.argmax(axis=1) + 1.0
    else:
        raise ValueError(f"atom_types has the shape {types.shape}, whose code is not known; {KNOWN_TYPES}")
    numbers[undecided] = 0
    return numbers, np.flatnonzero(undecided), HYDROGEN_FIRST.format(width) if width in ONE_MORE else None


def _joined(key: str, content: Any, axes: int, like: bool = False, evaluation: int = 0) -> tuple[FloatArray, int]:
    """One array of all entries, and the number of evaluations on a leading axis, of which one is taken, or 0.

    axes: of one evaluation. like: whether num_atoms has such an axis; without it a further axis is none, and stays.
    """
    if _is_list_of_arrays(content):
        if sum(entry.numel() for entry in content if hasattr(entry, "numel")) > MAX_TENSOR_VALUES:
            raise ValueError(f"{key} has more than {MAX_TENSOR_VALUES} values")
        parts = [_joined(key, entry, axes, like, evaluation) for entry in content]
        rows = [part.reshape(1, *part.shape) if part.ndim < _rows(key) else part for part, _ in parts]
        if any(part.shape[1:] != rows[0].shape[1:] for part in rows):
            shapes = ", ".join(dict.fromkeys(str(part.shape) for part in rows))
            raise ValueError(f"{key} is a list of arrays that do not fit together ({shapes[:200]})")
        return np.concatenate(rows), max(number for _, number in parts)
    values = _values(key, content)
    if key == "num_atoms":
        values = values.reshape(-1) if values.ndim == 0 else values
        return (values[evaluation], len(values)) if values.ndim == 2 and len(values) else (values, 0)
    numbers = key in _TYPES and values.ndim == 2  # (evaluations, atoms)
    if like and len(values) and (values.ndim == axes + 1 or numbers):
        return values[evaluation], len(values)
    return values, 0


def _rows(key: str) -> int:
    """Axes of an array of several: below them it is one of a single crystal or atom."""
    return 3 if key in _CELLS else 1 if key in ("num_atoms", *_TYPES) else 2


def _is_list_of_arrays(content: Any) -> bool:
    """Whether it is a list of arrays, not one array written as nested lists of numbers."""
    return isinstance(content, list | tuple) and any(hasattr(e, "shape") or isinstance(e, StandIn) for e in content)


def _values(key: str, content: Any) -> FloatArray:
    """An array's values. ValueError where they are too many: strides of 0 repeat what is stored once."""
    import torch

    if isinstance(content, StandIn):
        made = getattr(content, "array", None)
        if made is None:
            raise ValueError(f"{key} is an object of another package, not an array")
        return np.asarray(made(), dtype=np.float64)
    tensor = torch.as_tensor(content)
    if tensor.numel() > MAX_TENSOR_VALUES:
        raise ValueError(f"{key} has {tensor.numel()} values; at most {MAX_TENSOR_VALUES} are read")
    return np.asarray(tensor.double().numpy(force=True))


def _set_aside(filtered: FilteredCrystals, reasons: Mapping[int, str]) -> FilteredCrystals:
    """The same without the crystals at these places, which have these reasons."""
    keep = ~np.isin(filtered.indices, list(reasons))
    merged = {**filtered.reasons, **reasons}
    return FilteredCrystals(filtered.crystals[keep], filtered.indices[keep], dict(sorted(merged.items())))
