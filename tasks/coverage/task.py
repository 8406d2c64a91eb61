"""Coverage of the test split as CDVAE and DiffCSP measure it, and the diversity of the sample.

COV-R: share of the test crystals near which the sample has a structure and a composition. COV-P: share of the sample
that is near the test split in both. AMSD and AMCD: mean distance of structures and of compositions to the nearest one,
over the test split (recall) or the sample (precision). Xie et al. 2022 (CDVAE), appendix B; Xu et al. 2021 (GeoDiff).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.arrays import BoolArray, FloatArray
from bench.crystals import MAX_ATOMIC_NUMBER, Crystals
from bench.interfaces import flags, task_rows, task_schema, with_columns
from bench.statistics import Metric, emd, jackknife, wilson
from tasks.coverage.composition_fingerprint import composition_fingerprints
from tasks.coverage.diversity import mean_pair_distance, vendi_score
from tasks.coverage.nearest import Nearest, is_covered, recall_without
from tasks.coverage.split_fingerprints import fingerprint_rows, identity, require_split, split_fingerprints
from tasks.coverage.structure_fingerprint import NUM_FEATURES, coordination_numbers

if TYPE_CHECKING:
    from bench.datasets import ReferenceCard

# Distances of structures and of compositions; those of the published code, MP-20's for other data sets.
CUTOFFS: Mapping[str, tuple[float, float]] = MappingProxyType({"perov5": (0.2, 4.0), "mp20": (0.4, 10.0)})
OTHER_CUTOFFS = CUTOFFS["mp20"]


@dataclass(frozen=True)
class Coverage:
    """The task. dataset: whose test split is to be covered. Needs the table of `validity` for its summary."""

    dataset: str
    name: str = "coverage"
    needs: ClassVar[tuple[str, ...]] = ("validity",)
    chunk_crystals: ClassVar[int] = 100  # 10 to 20 s of CrystalNN

    @property
    def cutoffs(self) -> tuple[float, float]:
        """Distances of structures and of compositions within which a crystal is covered."""
        return CUTOFFS.get(self.dataset, OTHER_CUTOFFS)

    @property
    def schema(self) -> pa.Schema:
        """covered: near the test split; distances: to its nearest structure and composition; null without fingerprint.

        coordination_number: mean over the atoms. structure_fingerprint: 61 numbers.
        """
        return task_schema(
            {
                "covered": pa.bool_(),
                "structure_distance": pa.float64(),
                "composition_distance": pa.float64(),
                "coordination_number": pa.float64(),
                "structure_fingerprint": pa.list_(pa.float32()),
            }
        )

    def protocol(self) -> dict[str, Any]:
        """Fingerprints, cut-offs and the test split. DataUnavailable where that is neither shipped nor at hand."""
        require_split(self.dataset)
        return {
            "structure": "CrystalNN order parameters, mean over the atoms",
            "composition": "Magpie statistics, scaled by CDVAE's constants",
            "pymatgen": version("pymatgen"),
            "cutoffs": dict(zip(("structure", "composition"), self.cutoffs, strict=True)),
            "reference": identity(self.dataset),
            "interval": {"precision": "wilson", "others": "jackknife"},
            "diversity": "mean distance of pairs of valid crystals",
            "vendi": "of valid crystals, by cosines of the fingerprints",
        }

    def score(self, crystals: Crystals) -> pa.Table:
        """One row per crystal; `covered` and the distances are left to `finish`."""
        found = fingerprint_rows(crystals)
        fingerprints = [fingerprint for fingerprint, _ in found]
        columns = {
            **dict.fromkeys(("covered", "structure_distance", "composition_distance"), [None] * len(found)),
            "coordination_number": [None if f is None else float(coordination_numbers(f)) for f in fingerprints],
            "structure_fingerprint": fingerprints,
            "reason": [None if reason is None else f"no fingerprint: {reason}" for _, reason in found],
        }
        return task_rows(self.schema, crystals, columns)

    def finish(self, table: pa.Table) -> pa.Table:
        """The table with the distances to the test split. A crystal without a fingerprint is not covered."""
        present = np.asarray(table["structure_fingerprint"].is_valid())
        distances = np.full((2, table.num_rows), np.nan)
        if present.any():
            structure, composition = _nearest(table, present, self.dataset)
            distances[:, present] = structure.of_sample, composition.of_sample
        covered = np.all(distances <= np.array(self.cutoffs)[:, None], axis=0)
        columns = {
            "covered": pa.array(covered),
            "structure_distance": pa.array(distances[0], mask=~present),
            "composition_distance": pa.array(distances[1], mask=~present),
        }
        return with_columns(table, columns)

    def summary(self, tables: Mapping[str, pa.Table], reference: ReferenceCard, seed: int) -> dict[str, Metric]:
        """Coverage over all crystals asked for; distances over those with fingerprints; diversity over valid ones."""
        table = tables[self.name]
        present = np.asarray(table["structure_fingerprint"].is_valid())
        hits = int(pc.sum(table["covered"], min_count=0).as_py())
        metrics = {"cov_recall": Metric(0.0, n=table.num_rows), "cov_precision": wilson(hits, table.num_rows)}
        names = [f"{what}_{side}" for what in ("amsd", "amcd") for side in ("recall", "precision")]
        of_sample = [f"{what}_{kind}" for what in ("structure", "composition") for kind in ("diversity", "vendi")]
        metrics |= dict.fromkeys([*names, *of_sample], Metric(None))
        metrics["emd_coordination_number"] = Metric(None)
        if not table.num_rows:
            return {**metrics, "cov_recall": Metric(None)}
        if not present.any():
            return metrics
        structure, composition = _nearest(table, present, self.dataset)
        split = split_fingerprints(self.dataset)
        known = len(split.structure) / split.crystals  # test crystals without a fingerprint are covered by nothing
        recall = is_covered(structure, composition, self.cutoffs).mean() * known
        without = recall_without(structure, composition, self.cutoffs) * known
        metrics["cov_recall"] = jackknife(float(recall), without, most=1.0)
        for what, nearest in (("amsd", structure), ("amcd", composition)):
            metrics[f"{what}_recall"] = jackknife(float(nearest.of_split.mean()), nearest.means_without())
            to_split = nearest.of_sample
            without = (to_split.sum() - to_split) / max(len(to_split) - 1, 1)
            metrics[f"{what}_precision"] = jackknife(float(to_split.mean()), without)
        valid = present & flags(tables["validity"]["valid"])
        if valid.any():
            for what, own in (("structure", _structures(table, valid)), ("composition", _compositions(table, valid))):
                metrics[f"{what}_diversity"], metrics[f"{what}_vendi"] = mean_pair_distance(own), vendi_score(own)
            numbers = table["coordination_number"].to_numpy()[valid]
            metrics["emd_coordination_number"] = emd(numbers, coordination_numbers(split.structure), seed)
        return metrics


def _nearest(table: pa.Table, present: BoolArray, dataset: str) -> tuple[Nearest, Nearest]:
    """Structures and compositions of these rows beside those of the test split."""
    split = split_fingerprints(dataset)
    return (
        Nearest.between(_structures(table, present), split.structure),
        Nearest.between(_compositions(table, present), split.composition),
    )


def _structures(table: pa.Table, rows: BoolArray) -> FloatArray:
    chosen = table["structure_fingerprint"].filter(pa.array(rows)).combine_chunks()
    return np.asarray(chosen.flatten().to_numpy(zero_copy_only=False), dtype=np.float64).reshape(-1, NUM_FEATURES)


def _compositions(table: pa.Table, rows: BoolArray) -> FloatArray:
    formulas = table["formula"].filter(pa.array(rows)).to_pylist()
    different, place = np.unique(np.asarray(formulas, dtype=object).astype(str), return_inverse=True)
    return np.asarray(np.concatenate([_of_formula(formula) for formula in different.tolist()])[place])


@functools.lru_cache(maxsize=100_000)
def _of_formula(formula: str) -> FloatArray:
    """(1, 132) fingerprint of a reduced formula: it depends on the shares of the elements alone."""
    from pymatgen.core import Composition

    counts = np.zeros((1, MAX_ATOMIC_NUMBER + 1), dtype=np.int64)
    for element, amount in Composition(formula).items():
        counts[0, element.Z] = round(amount)
    return composition_fingerprints(counts)
