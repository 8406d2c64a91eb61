"""What relaxing changes: space group, validity and match with the training split, and S.U.N. by relaxed crystals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.arrays import BoolArray
from bench.crystals import Crystals
from bench.interfaces import flags
from bench.statistics import Metric
from tasks.novelty import Novelty, novel_rate, rate_between
from tasks.space_groups import TOLERANCES_ANGSTROM, space_group_number
from tasks.validity import Validity

if TYPE_CHECKING:
    import pyarrow as pa

SYMPREC_ANGSTROM = TOLERANCES_ANGSTROM[0]  # relaxed coordinates are exact to no more than that


def changes(
    dataset: str,
    given: Crystals,
    relaxed: Crystals,
    has_relaxed: BoolArray,
    tasks: Sequence[str],
    rules: str | None = None,
) -> dict[str, pa.Array]:
    """Columns of B rows that say what became of each crystal. relaxed: of those that `has_relaxed` (B,), in order.

    space_group_as_generated, space_group_relaxed: numbers within 0.1 A, null where spglib finds none. valid_relaxed,
    novel_relaxed: as the tasks validity and novelty say of the relaxed crystal, where `tasks` names them. Null without
    a relaxed crystal, and where it is not known whether it is novel.
    """
    import pyarrow as pa

    columns = {"space_group_as_generated": pa.array(_space_groups(given), pa.int64())}
    after: dict[str, tuple[list[Any], pa.DataType]] = {"space_group_relaxed": (_space_groups(relaxed), pa.int64())}
    for task, column, scorer in (
        ("validity", "valid", Validity(rules=rules)),
        ("novelty", "novel", Novelty(dataset, rules=rules)),
    ):
        if task in tasks:
            after[f"{column}_relaxed"] = (scorer.score(relaxed)[column].to_pylist(), pa.bool_())
    place = pa.array(np.cumsum(has_relaxed) - 1, pa.int64(), mask=~has_relaxed)
    return columns | {name: pa.array(values, kind).take(place) for name, (values, kind) in after.items()}


def sun_rate_relaxed(dataset: str, stable: Crystals, n: int, rules: str | None = None) -> Metric:
    """The share of n crystals that are stable, unique and novel, by the relaxed geometry.

    stable: those of them that are stable, relaxed, in sampling order. Unique is the first of a group among these.
    Matched and without a value as `sun_rate` is (`tasks.novelty`).
    """
    if not len(stable):
        return rate_between(0, 0, n)
    novelty = Novelty(dataset, rules=rules)
    table = novelty.compare(novelty.score(stable), lambda rows: stable[rows])
    return novel_rate(table, flags(table["unique"]), n)


def _space_groups(crystals: Crystals) -> list[int | None]:
    return [space_group_number(crystals, b, SYMPREC_ANGSTROM) for b in range(len(crystals))]
