"""Files of predicted structures: which structure is for which composition."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from bench.crystal_io import ReadResult
from bench.crystals import Crystals, FilteredCrystals, reduced_composition
from bench.prediction.compositions import Targets, composition_name


def arranged(result: ReadResult, path: Path, targets: Targets) -> ReadResult:
    """The predictions of a file in the order of a run's rows: all compositions once, then again for each sample.

    ValueError names the first structure that has other atoms than its composition, or none that it could be for.
    """
    return _by_formula(result, path, targets) if targets.plan.by_formula else _by_place(result, path, targets)


def _by_place(result: ReadResult, path: Path, targets: Targets) -> ReadResult:
    """Structure i of the file is sample i // N of composition i % N, and must have its reduced formula."""
    places, n = result.filtered.requested, len(targets)
    if places % n or (targets.plan.samples is not None and places != targets.plan.samples * n):
        asked = (
            f"{targets.plan.samples} samples each of {targets}" if targets.plan.samples is not None else str(targets)
        )
        raise ValueError(
            f"{path}: holds {places} structures, which do not fit {asked}: all compositions once, in the order of the "
            "split, then all again for each further sample; --num-compositions says how many compositions, --samples "
            "how many of each, and --by-formula goes by the atoms instead"
        )
    crystals = result.filtered.crystals
    for b, place in enumerate(result.filtered.indices.tolist()):
        own, asked_for = crystals.arrays(b)[0], targets.compositions[place % n]
        if reduced_composition(own) != reduced_composition(asked_for):
            raise ValueError(
                f"{path}: {result.names[place]} is {composition_name(own)}, and composition {place % n} (row "
                f"{targets.rows[place % n]} of the test split) is {composition_name(asked_for)}; put the structures in "
                "the order of the split, or give --by-formula"
            )
    return result


def _by_formula(result: ReadResult, path: Path, targets: Targets) -> ReadResult:
    """Each structure goes to the composition with the atoms of its cell; of several with the same, one after the other.

    A composition has as many samples as the file has for the one with most, or as --samples says: those that the file
    lacks have a reason.
    """
    wanted: dict[bytes, list[int]] = defaultdict(list)
    for c, composition in enumerate(targets.compositions):
        wanted[composition.tobytes()].append(c)
    crystals, n = result.filtered.crystals, len(targets)
    seen: Counter[bytes] = Counter()
    rows: list[int] = []
    if result.filtered.reasons:
        place, reason = next(iter(result.filtered.reasons.items()))
        raise ValueError(
            f"{path}: {result.names[place]} cannot be read ({reason}), so nobody knows which composition it is for; "
            "take it out, or leave out --by-formula"
        )
    for b, place in enumerate(result.filtered.indices.tolist()):
        key = np.sort(crystals.arrays(b)[0]).tobytes()
        if key not in wanted:
            raise ValueError(
                f"{path}: {result.names[place]} is {composition_name(crystals.arrays(b)[0])}, and none of {targets} "
                "has these atoms in its cell; take it out"
            )
        same = wanted[key]
        sample, which = divmod(seen[key], len(same))
        seen[key] += 1
        if targets.plan.samples is not None and sample >= targets.plan.samples:
            raise ValueError(
                f"{path}: {result.names[place]} is one {composition_name(crystals.arrays(b)[0])} more than --samples "
                f"{targets.plan.samples} takes"
            )
        rows.append(sample * n + same[which])
    samples = targets.plan.samples or max(rows) // n + 1
    order = np.argsort(rows)
    indices = np.array(rows, dtype=np.int64)[order]
    missing = sorted(set(range(samples * n)) - set(rows))
    reasons = dict.fromkeys(missing, f"{path.name} holds no structure for this sample of the composition")
    names = [f"composition {row % n}, sample {row // n}" for row in range(samples * n)]
    for b, row in zip(order.tolist(), indices.tolist(), strict=True):
        names[row] = f"{result.names[result.filtered.indices[b]]} ({names[row]})"
    filtered = FilteredCrystals(crystals[order] if len(order) else Crystals.empty(), indices, reasons)
    return ReadResult(filtered, tuple(names), result.sampling_seconds, result.remarks, result.unread)
