"""Crystal structure prediction: which predicted structures match the test split's for their compositions.

The published rules (DiffCSP, Jiao et al. 2023, and after it FlowMM): pymatgen's StructureMatcher at stol 0.5,
angle_tol 10, ltol 0.3; a match counts where prediction and reference are both valid, in composition and structure; a
composition is matched where one of its k samples is; RMSD is `get_rms_dist()[0]`, normalised by (V/N)^(1/3), of the
best of them, averaged over the matched compositions. Their third rule of validity, that a CrystalNN fingerprint can be
made, is left out: it needs another package and concerns structures without neighbours, which match nothing.

METRe, match everyone to reference (Martirossyan et al. 2025, arXiv:2509.12178): the share of references that any
prediction of the same reduced formula matches, whichever composition of the split it was made for. cRMSE, from there
too: the mean RMSD where one that is not matched counts as stol.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bench.arrays import BoolArray, FloatArray, IntArray
from bench.crystals import Crystals
from bench.errors import one_line
from bench.interfaces import task_rows, task_schema, with_columns
from bench.statistics import Metric, mean, wilson
from tasks.closest_pair import closest_pairs
from tasks.structure_match import (
    SITE_TOLERANCE,
    NotComparable,
    Primitive,
    matching_protocol,
)
from tasks.validity import Validity, composition_faults, valid_structures

if TYPE_CHECKING:
    from bench.datasets import ReferenceCard

SHOWN_SAMPLES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # k of `match_rate_k`, besides the last
PAIR_LIMIT_S = 60.0  # processor time of one pair, a thousand times the usual
CHUNK_CRYSTALS = 100  # a crystal takes 30 ms and more


@dataclass(frozen=True, eq=False)
class StructurePrediction:
    """The task. references: the N structures of the test split; row i of a run is sample i // N of reference i % N.

    compositions: which they are, as plain JSON, for the protocol.
    """

    references: Crystals
    compositions: Mapping[str, Any]
    name: str = "structure_prediction"
    chunk_crystals = CHUNK_CRYSTALS

    @property
    def schema(self) -> pa.Schema:
        """The columns.

        composition, sample: which of the N, and which of its samples. valid: the prediction, in structure and
        composition. matches: the same structure as its reference; match: that, and both are valid, so it counts.
        rmsd: normalised, null where it does not match. others: which further references of the formula it matches.
        """
        return task_schema(
            {
                "composition": pa.int64(),
                "sample": pa.int64(),
                "valid": pa.bool_(),
                "matches": pa.bool_(),
                "match": pa.bool_(),
                "rmsd": pa.float64(),
                "others": pa.list_(pa.int64()),
            }
        )

    def protocol(self) -> dict[str, Any]:
        """Settings of the matcher, the rule of validity, and the compositions."""
        validity = Validity().protocol()
        return {
            "matching": {**matching_protocol(), "pair_limit_cpu_s": PAIR_LIMIT_S},
            "rmsd": "get_rms_dist()[0] of the best sample",
            "validity": {
                "rule": "prediction and reference valid, in composition and structure",
                "smact": validity["smact"],
                "composition": validity["composition"],
                "min_distance_angstrom": validity["min_distance_angstrom"],
                "min_volume_angstrom3": validity["min_volume_angstrom3"],
            },
            "compositions": dict(self.compositions),
        }

    @cached_property
    def valid_references(self) -> BoolArray:
        """(N,) whether a reference is valid: where it is not, no prediction of its composition counts."""
        return _valid_structures(self.references) & self._valid_compositions

    @cached_property
    def _valid_compositions(self) -> BoolArray:
        faults = composition_faults(self.references, "smact14")
        return np.array([fault is None for fault in faults], dtype=bool)

    @cached_property
    def _same_formula(self) -> dict[str, list[int]]:
        groups: dict[str, list[int]] = defaultdict(list)
        for c in range(len(self.references)):
            groups[self.references.formula(c)].append(c)
        return dict(groups)

    def score(self, crystals: Crystals) -> pa.Table:
        """One row per crystal, taken as the first samples of the first compositions."""
        return self.score_at(crystals, np.arange(len(crystals)))

    def score_at(self, crystals: Crystals, rows: IntArray) -> pa.Table:
        """One row per crystal. rows: (B,) their rows in the run, which say whose predictions they are."""
        structures = _valid_structures(crystals)
        columns: dict[str, list[Any]] = {name: [] for name in self.schema.names if name not in ("index", "formula")}
        for b, row in enumerate(rows.tolist()):
            sample, own = divmod(row, len(self.references))
            found, reason = self._matches(crystals, b, own)
            valid = bool(structures[b] and self._valid_compositions[own])
            columns["composition"].append(own)
            columns["sample"].append(sample)
            columns["valid"].append(valid)
            columns["matches"].append(own in found)
            columns["match"].append(own in found and valid and bool(self.valid_references[own]))
            columns["rmsd"].append(found.get(own))
            columns["others"].append([c for c in found if c != own])
            columns["reason"].append(reason)
        return task_rows(self.schema, crystals, columns)

    def _matches(self, crystals: Crystals, b: int, own: int) -> tuple[dict[int, float], str | None]:
        """Reference -> RMSD of those that a crystal matches, and why it could not be held against all of them."""
        found: dict[int, float] = {}
        try:
            prediction = Primitive.of(crystals, b)
            for c in self._same_formula.get(crystals.formula(b), [own]):
                with cpu_time_limit(PAIR_LIMIT_S):
                    rmsd = prediction.rms_distance(_primitive(self, c))
                if rmsd is not None:
                    found[c] = rmsd
        except NotComparable as error:
            return found, str(error)
        except TimeoutError:
            return found, f"matching a pair took more than {PAIR_LIMIT_S:g} s of processor time"
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:  # as published, such a pair is no match
            return found, f"the matcher failed ({one_line(error)})"
        return found, None

    def finish(self, table: pa.Table) -> pa.Table:
        """The table with composition and sample of the rows that have no crystal, too."""
        rows = table["index"].to_numpy()
        samples, compositions = np.divmod(rows, len(self.references))
        return with_columns(table, {"composition": compositions, "sample": samples})

    def summary(self, tables: Mapping[str, pa.Table], reference: ReferenceCard, seed: int) -> dict[str, Metric]:
        """Match rates and RMSDs by k, without the rule of validity (`_all`), METRe and cRMSE.

        A composition without a sample counts as not matched. match_ceiling: share of valid references, above which no
        match rate comes.
        """
        table, n = tables[self.name], len(self.references)
        samples = table.num_rows // n + bool(table.num_rows % n)
        counts = np.array(table["match"].to_pylist(), dtype=bool)
        rmsds = table["rmsd"].to_numpy().astype(np.float64)  # NaN where there is no match
        counted = _by_sample(np.where(counts, rmsds, np.nan), samples, n)
        regardless = _best(_by_sample(rmsds, samples, n))
        best = _best(counted)
        matched = ~np.isnan(best)
        metrics = {
            "match_rate": wilson(matched.sum(), n),
            "match_rmsd": mean(best[matched]),
            "match_crmse": mean(np.where(matched, best, SITE_TOLERANCE)),
            "match_rate_all": wilson((~np.isnan(regardless)).sum(), n),
            "match_ceiling": wilson(self.valid_references.sum(), n),
            "metre": wilson(self._matched_by_any(table).sum(), n),
        }
        for k in shown_samples(table.num_rows // n):
            best = _best(counted[:k])
            matched = ~np.isnan(best)
            metrics[f"match_rate_{k}"] = wilson(matched.sum(), n)
            metrics[f"match_rmsd_{k}"] = mean(best[matched])
        return metrics

    def _matched_by_any(self, table: pa.Table) -> BoolArray:
        """(N,) whether a valid reference is matched by any valid prediction, of its own composition or another's."""
        matched = np.zeros(len(self.references), dtype=bool)
        columns = ("valid", "matches", "composition", "others")
        for valid, matches, own, others in zip(*(table[name].to_pylist() for name in columns), strict=True):
            if valid:
                matched[[own] * matches + (others or [])] = True
        return matched & self.valid_references


def shown_samples(most: int) -> list[int]:
    """The k at which figures are given, where each composition has `most` samples."""
    return sorted({k for k in SHOWN_SAMPLES if k <= most} | ({most} if most else set()))


def _by_sample(values: FloatArray, samples: int, n: int) -> FloatArray:
    """(samples, N) from the rows in order; what was not sampled any more is NaN."""
    padded = np.full(samples * n, np.nan)
    padded[: len(values)] = values
    return padded.reshape(samples, n)


def _best(values: FloatArray) -> FloatArray:
    """(N,) smallest over the samples; NaN where there is none."""
    if not len(values):
        return np.full(values.shape[1], np.nan)
    return np.asarray(np.fmin.reduce(values, axis=0))


def _valid_structures(crystals: Crystals) -> BoolArray:
    return valid_structures(closest_pairs(crystals), crystals.volumes, crystals.num_atoms)


@functools.lru_cache(maxsize=5000)
def _primitive(task: StructurePrediction, c: int) -> Primitive:
    return Primitive.of(task.references, c)


@contextmanager
def cpu_time_limit(seconds: float) -> Iterator[None]:
    """TimeoutError in the block once this process has computed for so long; no limit where that cannot be told.

    By the time of the processor, so that a busy machine gives the same rows. It can be told in the main thread of a
    Unix process, as all scoring processes are.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expired(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, expired)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
