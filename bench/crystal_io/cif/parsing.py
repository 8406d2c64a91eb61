"""From CIF texts to crystals: in parallel, a reason for each text that holds none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.crystal_io.cif.crystal import Atoms
from bench.crystals import Crystals, FilteredCrystals, filter_crystals
from bench.errors import one_line

CHUNK = 1024  # texts a worker gets at a time: some 0.3 s of work; for one or two chunks no worker is started

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Parsed:
    """What became of some CIF texts. remarks: how some were read -> how many of them."""

    filtered: FilteredCrystals
    remarks: Mapping[str, int] = field(default_factory=dict)


def parse_cifs(
    cifs: Sequence[str], read: Callable[[str], Atoms], workers: int = 2, on_progress: Progress | None = None
) -> Parsed:
    """Each CIF text through `published_crystal` or `plain_crystal`; one that cannot be read is a reason.

    workers: processes, of one thread each. on_progress is called with (done, total) texts.
    """
    from joblib import Parallel, delayed, parallel_config

    chunks = [cifs[start : start + CHUNK] for start in range(0, len(cifs), CHUNK)]
    workers = min(workers, len(chunks)) if len(chunks) > 2 else 1
    # loky starts workers by itself: no fork of a process with threads, and no guard needed in the caller's main module.
    with parallel_config(backend="loky", inner_max_num_threads=1):
        jobs = Parallel(n_jobs=workers, return_as="generator")(delayed(_parse_chunk)(chunk, read) for chunk in chunks)
        parts: list[FilteredCrystals] = []
        remarks: Counter[str] = Counter()
        done = 0
        for chunk, part in zip(chunks, jobs, strict=True):
            parts.append(part.filtered)
            remarks.update(part.remarks)
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, len(cifs))
    return Parsed(
        FilteredCrystals.concatenate(parts) if parts else FilteredCrystals.complete(Crystals.empty()), dict(remarks)
    )


def _parse_chunk(cifs: Sequence[str], read: Callable[[str], Atoms]) -> Parsed:
    found: dict[int, Atoms] = {}
    reasons: dict[int, str] = {}
    for place, cif in enumerate(cifs):
        try:
            found[place] = read(cif)
        except Exception as error:  # a parser fed foreign text raises anything; it becomes the reason
            reasons[place] = one_line(error)
    if not found:
        return Parsed(FilteredCrystals(Crystals.empty(), np.zeros(0, dtype=np.int64), reasons))
    crystals = list(found.values())
    filtered = filter_crystals(
        [len(atoms.atomic_numbers) for atoms in crystals],
        np.concatenate([atoms.atomic_numbers for atoms in crystals]),
        np.concatenate([atoms.frac_coords for atoms in crystals]),
        np.array([atoms.lattice for atoms in crystals]),
    )
    places = np.array(list(found), dtype=np.int64)
    reasons |= {int(places[row]): reason for row, reason in filtered.reasons.items()}
    kept = [crystals[row].remarks for row in filtered.indices]
    remarks = Counter(remark for each in kept for remark in dict.fromkeys(each))
    return Parsed(
        FilteredCrystals(filtered.crystals, places[filtered.indices], dict(sorted(reasons.items()))), dict(remarks)
    )
