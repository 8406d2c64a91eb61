"""Consensus of several potentials against votes counted one crystal at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tasks.stability.consensus import consensus

FIRST, OTHERS = "stability", ("stability-m3gnet", "stability-tensornet", "stability-sevennet")


def verdicts(potentials: int) -> dict[str, list[bool | None]]:
    """Of 200 crystals, alike but not the same; None where a potential has none."""
    rng = np.random.default_rng(0)
    truth = rng.random(200) < 0.4
    names = [FIRST, *OTHERS][:potentials]
    found = {name: [bool(t) != (rng.random() < 0.2) for t in truth] for name in names}
    return {name: [None if rng.random() < 0.05 else flag for flag in flags] for name, flags in found.items()}


@pytest.mark.parametrize("potentials", [2, 3, 4])
def test_rates_are_those_of_votes_counted_crystal_by_crystal(potentials: int) -> None:
    flags = verdicts(potentials)
    tables = {name: pa.table({"stable": pa.array(column, pa.bool_())}) for name, column in flags.items()}
    unique, novel = [row % 3 > 0 for row in range(200)], [row % 2 > 0 for row in range(200)]
    tables["novelty"] = pa.table({"stable": [True] * 200, "unique": unique, "novel": novel})
    votes = [[column[row] for column in flags.values()].count(True) for row in range(200)]
    expected = {"stable_by_all_rate": sum(vote == potentials for vote in votes) / 200}
    if potentials > 2:
        expected["stable_by_majority_rate"] = sum(vote > potentials / 2 for vote in votes) / 200
    sun = [vote == potentials and u and new for vote, u, new in zip(votes, unique, novel, strict=True)]
    expected["sun_by_all_rate"] = sum(sun) / 200
    metrics = consensus(tables, FIRST)
    assert {name: metric.value for name, metric in metrics.items()} == expected
    assert all(0.01 < value < 0.6 for value in expected.values())


def test_one_potential_alone_has_no_consensus() -> None:
    assert consensus({FIRST: pa.table({"stable": [True, False]})}, FIRST) == {}


def test_what_may_be_novel_leaves_the_rate_open_between_two_bounds() -> None:
    tables = {name: pa.table({"stable": [True] * 4}) for name in (FIRST, OTHERS[0])}
    novel = pa.array([True, None, False, False], pa.bool_())
    tables["novelty"] = pa.table({"unique": [True] * 4, "novel": novel})
    found = consensus(tables, FIRST)["sun_by_all_rate"]
    assert (
        found.value is None and found.low is not None and found.high is not None and found.low < 0.25 < 0.5 < found.high
    )
