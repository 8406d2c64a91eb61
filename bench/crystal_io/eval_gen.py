"""Crystals from files of tensors: the `eval_gen.pt` of CDVAE, DiffCSP, FlowMM and their descendants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bench.arrays import FloatArray, IntArray
from bench.crystal_io.tensor_files import read_tensors
from bench.crystals import FilteredCrystals, filter_crystals
from bench.errors import one_line

MAX_TENSOR_VALUES = 2**26
KEYS = ("frac_coords", "num_atoms", "atom_types", "lengths", "angles")
# A table of elements has 98 to 118 entries, one more for "no atom" or "masked"; codes of other widths are not known.
ELEMENT_TABLE = range(98, 120)
ANALOG_BITS = 7  # FlowMM: the bits of Z - 1, the lowest first, as -scale and +scale
KNOWN_TYPES = (
    "known are element numbers, one-hot types or scores over a table of "
    f"{ELEMENT_TABLE[0]} to {ELEMENT_TABLE[-1]} elements, and FlowMM's {ANALOG_BITS} analog bits"
)


def read_eval_gen(path: Path) -> tuple[FilteredCrystals, float | None, dict[str, int]]:
    """Crystals of an `eval_gen.pt`; of a leading axis of evaluations, which CDVAE's have, the first.

    frac_coords (sum N, 3), num_atoms (B,), atom_types (sum N,) or (sum N, K), lengths and angles (B, 3) in A and
    degrees; or lists of such arrays, or a list of such dictionaries, as FlowMM saves them, which are joined in order.
    With them the seconds that their sampling took, where the file says it (CDVAE's `time`, of all evaluations), and
    remarks on what was not read with the number of crystals that they concern. ValueError for a file that is none,
    whose types are of an unknown kind, or which carries Python objects of other packages than torch_geometric.
    """
    content = _joined(read_tensors(path))
    absent = [key for key in KEYS if key not in content]
    if absent:
        raise ValueError(f"holds no {', '.join(absent)}: not an eval_gen file")
    try:
        arrays = {key: _array(key, content[key]) for key in KEYS}
    except (TypeError, RuntimeError, IndexError) as error:
        raise ValueError(f"not an eval_gen file ({one_line(error)})") from error
    evaluations = len(arrays["frac_coords"]) if arrays["frac_coords"].ndim == 3 else 1
    remarks: dict[str, int] = {}
    if arrays["frac_coords"].ndim == 3:
        if not evaluations or any(len(array) != evaluations for array in arrays.values()):
            shapes = ", ".join(f"{key} {array.shape}" for key, array in arrays.items())
            raise ValueError(f"not an eval_gen file: its arrays do not share the axis of evaluations ({shapes})")
        arrays = {key: array[0] for key, array in arrays.items()}
        if evaluations > 1:
            remarks[f"the first of {evaluations} evaluations in the file is read"] = arrays["num_atoms"].size
    numbers = element_numbers(arrays["atom_types"])
    lattices = lattices_from_parameters(arrays["lengths"], arrays["angles"])
    filtered = filter_crystals(arrays["num_atoms"], numbers, arrays["frac_coords"], lattices)
    seconds = content.get("time")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < float("inf"):
        return filtered, float(seconds) / evaluations, remarks
    return filtered, None, remarks


def element_numbers(types: FloatArray) -> IntArray:
    """(sum N,) atomic numbers of saved types; 0, which no element has, where a row names none.

    types: (sum N,) or (sum N, 1) element numbers; (sum N, K) one-hot types or scores over elements, or analog bits.
    ValueError with the shape for any other.
    """
    if types.ndim == 2 and types.shape[1] == 1:
        types = types[:, 0]
    if types.ndim == 1:
        whole = np.isfinite(types) & (types == np.round(types))
        if not whole.all():
            raise ValueError(f"atom_types has {types[~whole][0]:g} where an element number belongs; {KNOWN_TYPES}")
        return types.astype(np.int64)
    if types.ndim == 2 and types.shape[1] == ANALOG_BITS:
        return _from_analog_bits(types)
    if types.ndim == 2 and types.shape[1] in ELEMENT_TABLE:
        highest = types.max(axis=1, keepdims=True)
        one_winner = (types == highest).sum(axis=1) == 1  # not so in a row of zeros, nor where a score is NaN
        return np.where(one_winner, types.argmax(axis=1) + 1, 0).astype(np.int64)
    raise ValueError(f"atom_types has the shape {types.shape}, whose code is not known; {KNOWN_TYPES}")


def _from_analog_bits(bits: FloatArray) -> IntArray:
    """Chen et al. 2023 (Analog Bits), the code of FlowMM's types: a bit is the sign of its value."""
    if len(bits) and not (bits < 0).any():
        raise ValueError(f"atom_types of shape {bits.shape} has no value below 0, so they are no analog bits")
    clear = (np.isfinite(bits) & (bits != 0)).all(axis=1)
    numbers = (bits > 0).astype(np.int64) @ (1 << np.arange(ANALOG_BITS)) + 1
    return np.where(clear, numbers, 0).astype(np.int64)


def _joined(content: Any) -> dict[str, Any]:
    """Key -> what stands there, lists of dictionaries joined by key. ValueError where it is no dictionary."""
    parts = list(_dictionaries(content))
    if not parts:
        raise ValueError("holds no dictionary of arrays: not an eval_gen file")
    if len(parts) == 1:
        return parts[0]
    keys = [key for key in KEYS if any(key in part for part in parts)]
    for number, part in enumerate(parts):
        if absent := [key for key in keys if key not in part]:
            raise ValueError(f"dictionary {number} of {len(parts)} holds no {', '.join(absent)}: not an eval_gen file")
    return {key: [part[key] for part in parts] for key in keys}


def _dictionaries(content: Any, depth: int = 3) -> Iterator[dict[str, Any]]:
    if isinstance(content, Mapping):
        yield {str(key): value for key, value in content.items()}
    elif isinstance(content, list | tuple) and depth:
        for entry in content:
            yield from _dictionaries(entry, depth - 1)


def _array(key: str, content: Any) -> FloatArray:
    """The values of a tensor, or of a list of tensors joined along the first axis.

    ValueError where they are too many (strides of 0 repeat what is stored once) or do not fit together.
    """
    import torch

    if isinstance(content, list | tuple) and content and not _is_numbers(content):
        parts = [np.atleast_1d(_array(key, part)) for part in content]
        if any(part.ndim != parts[0].ndim or part.shape[1:] != parts[0].shape[1:] for part in parts):
            shapes = ", ".join(dict.fromkeys(str(part.shape) for part in parts))
            if key in ("lengths", "angles") and all(part.size == 3 for part in parts):
                return np.stack([part.reshape(3) for part in parts])
            raise ValueError(f"{key} is a list of arrays that do not fit together ({shapes[:200]})")
        if key in ("lengths", "angles") and parts[0].shape == (3,):
            return np.stack(parts)  # one crystal each
        if sum(part.size for part in parts) > MAX_TENSOR_VALUES:
            raise ValueError(f"{key} has more than {MAX_TENSOR_VALUES} values")
        # A leading axis of evaluations is not the one along which crystals follow each other.
        several = key == "frac_coords" and parts[0].ndim == 3
        return np.concatenate(parts, axis=1 if several else 0)
    tensor = torch.as_tensor(content)
    if tensor.numel() > MAX_TENSOR_VALUES:
        raise ValueError(f"{key} has {tensor.numel()} values; at most {MAX_TENSOR_VALUES} are read")
    return np.asarray(tensor.double().numpy(force=True))


def _is_numbers(content: Sequence[Any]) -> bool:
    return isinstance(content[0], int | float) or (
        isinstance(content[0], list | tuple) and bool(content[0]) and isinstance(content[0][0], int | float)
    )


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
