"""Novelty: which crystals are unique among those sampled, and new against the training split.

Two crystals are the same where pymatgen's StructureMatcher says so, on the crystals as they were generated. It is
neither symmetric nor transitive, so the order is fixed. Unique: in sampling order, a crystal that none of the unique
ones before it matches (`fit(earlier, later)`), which is what pymatgen's `group_structures` calls the first of a group.
Novel: no training crystal matches (`fit(training, crystal)`). A crystal whose formula occurs nowhere in the training
split is novel for certain, and the package has the hashes of all training formulas. Others have to be compared with
the training crystals; where those are not at hand, nothing is downloaded: novel is null, with the reason.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bench.arrays import BoolArray, IntArray
from bench.crystals import Crystals
from bench.datasets import DataUnavailable, formula_hashes, load_split, training_formulas
from bench.interfaces import flags, task_rows, task_schema, with_columns
from bench.statistics import Metric, wilson
from tasks.rules.disordered import Disordered, disordered_protocol
from tasks.structure_match import NotComparable, Primitive, matching_protocol

if TYPE_CHECKING:
    from bench.datasets import ReferenceCard

Matching = type[Primitive] | type[Disordered]  # how two crystals are compared

REDUCED_KEPT = 2000  # training crystals, of some 20 kB each
COMPARED_AT_ONCE = 20_000  # crystals in memory while those of one formula are compared, if no formula has more


class TrainingCrystals:
    """The training split by formula, each crystal reduced when it is first compared."""

    def __init__(self, crystals: Crystals, matching: Matching = Primitive) -> None:
        self._rows: dict[int, list[int]] = defaultdict(list)
        for row, hashed in enumerate(formula_hashes(crystals).tolist()):
            self._rows[hashed].append(row)
        self._primitive = functools.lru_cache(maxsize=REDUCED_KEPT)(functools.partial(matching.of, crystals))

    def of_formula(self, hashed: int) -> Iterator[tuple[int, Any]]:
        """Rows and crystals of one formula. NotComparable where one of them cannot be matched."""
        for row in self._rows.get(hashed, ()):
            yield row, self._primitive(row)

    def has_formula(self, hashed: int) -> bool:
        """Whether a crystal has that formula."""
        return hashed in self._rows


@functools.cache
def training_crystals(dataset: str, rules: str | None = None) -> TrainingCrystals:
    """The training split that is at hand. DataUnavailable where there is none."""
    return TrainingCrystals(load_split(dataset, "train", workers=1, download=False), matching_of(rules))


def matching_of(rules: str | None) -> Matching:
    """How crystals are compared by these rules."""
    return Disordered if rules == "mattergen" else Primitive


def is_novel(
    crystals: Crystals, index: int, hashed: int, training: TrainingCrystals, matching: Matching = Primitive
) -> tuple[bool | None, str | None]:
    """Whether no training crystal matches one whose formula is in the training split, None where that is not known.

    hashed: its formula. Beside it the reason for anything but True.
    """
    if not training.has_formula(hashed):
        return None, "novel is not known: the training crystals at hand lack its formula, the published ones do not"
    try:
        own: Any = matching.of(crystals, index)
        for row, other in training.of_formula(hashed):
            if other.matches(own):
                return False, f"not novel: matches training crystal {row}"
    except NotComparable as error:
        return None, f"novel is not known: {error}"
    return True, None


def first_of_groups(crystals: Crystals, matching: Matching = Primitive) -> Iterator[tuple[bool, int | str | None]]:
    """For each of B crystals of one formula: whether it is unique, else the place of the one that matches it.

    One that cannot be compared, a str says why, is unique only where it is the first.
    """
    leaders: list[tuple[int, Any]] = []
    for place in range(len(crystals)):
        try:
            own = matching.of(crystals, place)
            same = next((earlier for earlier, leader in leaders if leader.matches(own)), None)
        except NotComparable as error:
            yield place == 0, str(error)
            continue
        if same is None:
            leaders.append((place, own))
        yield same is None, same


def rate_between(least: int, most: int, n: int) -> Metric:
    """A rate of which is known that at least and at most so many of n count; without a value unless they are equal."""
    low, high = wilson(least, n), wilson(most, n)
    return Metric(low.value if least == most else None, low.low, high.high, n)


def novel_rate(table: pa.Table, good: BoolArray, n: int | None = None) -> Metric:
    """The share that is novel and good, as of `rate_between`.

    table: of `Novelty`. good: bool, one for each of its rows. n: crystals asked for, where it has not a row of each.
    """
    new, perhaps_new = flags(table["novel"]), flags(table["novel"], if_null=True)
    return rate_between(int((good & new).sum()), int((good & perhaps_new).sum()), table.num_rows if n is None else n)


@dataclass(frozen=True)
class Novelty:
    """The task. dataset: whose training split; novel is null where it cannot be known, with a reason.

    rules: "mattergen" for its matcher (`tasks.rules.disordered`); the other published rules are ours here.
    """

    dataset: str
    name: str = "novelty"
    rules: str | None = None

    @property
    def schema(self) -> pa.Schema:
        """`reason` says what makes a crystal not unique or not novel, or why that is not known."""
        return task_schema({"unique": pa.bool_(), "novel": pa.bool_()})

    def protocol(self) -> dict[str, Any]:
        """The matcher's settings, the order of comparison and the training formulas."""
        return {
            **matching_protocol(),
            **(disordered_protocol() if self.rules == "mattergen" else {}),
            "crystals": "as generated",
            "unique": "first of its group in sampling order",
            "training_formulas": training_formulas(self.dataset).sha256,
        }

    def score(self, crystals: Crystals) -> pa.Table:
        """One row per crystal; `unique` is left to `compare`."""
        hashes = formula_hashes(crystals)
        novel: list[bool | None] = [True] * len(crystals)
        reasons: list[str | None] = [None] * len(crystals)
        known = np.flatnonzero(training_formulas(self.dataset).contains(hashes)).tolist()
        if known:
            try:
                training = training_crystals(self.dataset, self.rules)
            except DataUnavailable as error:
                for b in known:
                    novel[b], reasons[b] = None, f"novel is not known: its formula is in the training split. {error}"
            else:
                for b in known:
                    novel[b], reasons[b] = is_novel(crystals, b, int(hashes[b]), training, matching_of(self.rules))
        columns = {"unique": [None] * len(crystals), "novel": novel, "reason": reasons}
        return task_rows(self.schema, crystals, columns)

    def compare(self, table: pa.Table, crystals: Callable[[IntArray], Crystals]) -> pa.Table:
        """The table with `unique`. A crystal whose formula occurs once is unique; the others are compared."""
        formulas = table["formula"].to_pylist()
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row, formula in enumerate(formulas):
            if formula is not None:
                rows_of[formula].append(row)
        unique = np.array([formula is not None for formula in formulas], dtype=bool)
        reasons = table["reason"].to_pylist()
        for groups in _portions([rows for rows in rows_of.values() if len(rows) > 1]):
            batch = crystals(np.concatenate(groups))
            start = 0
            for rows in groups:
                found = first_of_groups(batch[start : start + len(rows)], matching_of(self.rules))
                start += len(rows)
                for row, (is_unique, why) in zip(rows, found, strict=True):
                    unique[row] = is_unique
                    if not is_unique:
                        same = f"matches crystal {rows[why]}" if isinstance(why, int) else f"cannot be compared: {why}"
                        reasons[row] = "; ".join(filter(None, [f"not unique: {same}", reasons[row]]))
        return with_columns(table, {"unique": unique, "reason": reasons})

    def summary(self, tables: Mapping[str, pa.Table], reference: ReferenceCard, seed: int) -> dict[str, Metric]:
        """Rates over all requested crystals; sun_rate, of those that are stable, unique and novel, needs `stability`.

        Where `novel` is not known of all, a rate has no value, and its interval covers both possibilities.
        """
        table = tables[self.name]
        n = table.num_rows
        unique = flags(table["unique"])
        metrics = {
            "unique_rate": wilson(int(unique.sum()), n),
            "novel_rate": novel_rate(table, np.ones(n, dtype=bool)),
            "sun_rate": Metric(None),
        }
        if "stability" in tables:
            metrics["sun_rate"] = novel_rate(table, unique & flags(tables["stability"]["stable"]))
        return metrics


def _portions(groups: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    """The groups in order, so many at a time that they have COMPARED_AT_ONCE rows, or a single one has more."""
    portion: list[list[int]] = []
    held = 0
    for group in groups:
        if portion and held + len(group) > COMPARED_AT_ONCE:
            yield portion
            portion, held = [], 0
        portion.append(group)
        held += len(group)
    if portion:
        yield portion
