"""Novelty: unique among those sampled, new against the training split, and what is known without it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from bench.crystals import Crystals, FilteredCrystals
from bench.datasets import formula_hashes, reference_card, training_formulas
from bench.scoring.tables import crystals_of, finished, score_in_memory, score_rows
from bench.statistics import Metric, combine, wilson
from tasks import novelty
from tasks.novelty import Novelty, first_of_groups, rate_between

SITES = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
TASK = Novelty("perov5")


def perovskite(*elements: str, edge: float = 4.0, noise: float = 0.0, seed: int = 0) -> Structure:
    coords = np.array(SITES) + np.random.default_rng(seed).normal(scale=noise, size=(5, 3))
    return Structure(Lattice.cubic(edge), elements, coords)


KNOWN = ("Tl", "Co", "N", "N", "O")  # a formula of the training split
SWAPPED = ("Co", "Tl", "N", "N", "O")
FOREIGN = ("Pu", "Np", "F", "F", "F")  # not one of it


def crystals(*structures: Structure) -> Crystals:
    return Crystals.from_structures(structures)


def table_of(*structures: Structure) -> pa.Table:
    return score_in_memory([TASK], FilteredCrystals.complete(crystals(*structures)))["novelty"]


def stability(*stable: bool) -> pa.Table:
    return pa.table({"stable": pa.array(stable, pa.bool_())})


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No data at hand but what a test puts into the folder that this gives; a download fails the test."""

    def download(*arguments: object) -> None:
        pytest.fail("novelty downloaded training data")

    folder = tmp_path / "data" / "perov_5"
    folder.mkdir(parents=True)
    monkeypatch.setenv("BENCH_DATA_DIR", str(folder.parent))
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("bench.datasets.files._download", download)
    novelty.training_crystals.cache_clear()
    yield folder
    novelty.training_crystals.cache_clear()


def put_training_split(folder: Path, *structures: Structure) -> None:
    rows = [f'{i},"{CifWriter(structure)}"' for i, structure in enumerate(structures)]
    (folder / "train.csv").write_text("\n".join(["material_id,cif", *rows]) + "\n")


def test_the_formulas_of_these_tests_are_what_they_are_said_to_be() -> None:
    hashes = formula_hashes(crystals(perovskite(*KNOWN), perovskite(*SWAPPED), perovskite(*FOREIGN)))
    assert training_formulas("perov5").contains(hashes).tolist() == [True, True, False]


def test_a_formula_that_the_training_split_lacks_is_novel_without_its_crystals() -> None:
    table = table_of(perovskite(*FOREIGN))
    assert table["novel"].to_pylist() == table["unique"].to_pylist() == [True]
    assert table["reason"].to_pylist() == [None]


def test_a_formula_of_the_training_split_is_not_decided_without_its_crystals() -> None:
    table = table_of(perovskite(*KNOWN), perovskite(*FOREIGN))
    assert table["novel"].to_pylist() == [None, True]
    (reason, nothing) = table["reason"].to_pylist()
    assert nothing is None
    assert "its formula is in the training split" in reason
    assert "`python -m bench data perov5`" in reason


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_with_the_training_crystals_only_one_of_the_same_structure_is_not_novel(elsewhere: Path) -> None:
    put_training_split(elsewhere, perovskite(*FOREIGN), perovskite(*KNOWN))
    close = perovskite(*KNOWN, edge=4.3, noise=0.01).get_reduced_structure()
    close.make_supercell([1, 1, 2])
    table = table_of(close, perovskite(*SWAPPED), perovskite(*FOREIGN, noise=0.01))
    assert table["novel"].to_pylist() == [False, True, True]  # the last: the shipped formulas say what is published
    assert table["reason"].to_pylist() == ["not novel: matches training crystal 1", None, None]


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_training_crystals_that_lack_a_published_formula_decide_nothing(elsewhere: Path) -> None:
    put_training_split(elsewhere, perovskite(*FOREIGN))
    table = table_of(perovskite(*KNOWN))
    assert table["novel"].to_pylist() == [None]
    assert "the training crystals at hand lack its formula" in table["reason"][0].as_py()


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_cell_that_cannot_be_matched_is_neither_called_novel_nor_unique(elsewhere: Path) -> None:
    put_training_split(elsewhere, perovskite(*KNOWN))
    thin = Structure(Lattice.orthorhombic(1, 1, 5000), KNOWN, SITES)
    table = table_of(thin, thin, perovskite(*KNOWN))
    assert table["novel"].to_pylist() == [None, None, False]
    assert table["unique"].to_pylist() == [True, False, True]
    assert "cannot be compared: its cell is too thin" in table["reason"][1].as_py()


def test_unique_is_the_first_of_each_group_that_pymatgen_finds() -> None:
    rng = np.random.default_rng(0)
    # Noise of a size at which the relation is not transitive: chains of crystals, each like its neighbour.
    structures = [
        perovskite(*(KNOWN if rng.random() < 0.5 else SWAPPED), edge=rng.uniform(3.5, 5), noise=0.12, seed=seed)
        for seed in range(40)
    ]
    matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10)
    groups = matcher.group_structures(structures)
    place = {id(structure): i for i, structure in enumerate(structures)}
    firsts = {min(place[id(member)] for member in group) for group in groups}
    assert 3 <= len(firsts) < len(structures) - 3
    assert set(np.flatnonzero(table_of(*structures)["unique"].to_pylist())) == firsts


def test_the_order_of_sampling_decides_which_of_two_equals_is_unique() -> None:
    one, other = perovskite(*KNOWN), perovskite(*KNOWN, edge=4.2)
    table = table_of(perovskite(*FOREIGN), one, other, one)
    assert table["unique"].to_pylist() == [True, True, False, False]
    assert [reason.split(";")[0] for reason in table["reason"].to_pylist()[2:]] == ["not unique: matches crystal 1"] * 2


def test_rows_do_not_depend_on_how_the_sample_was_cut() -> None:
    structures = [perovskite(*(KNOWN, SWAPPED, FOREIGN)[i % 3], noise=0.05, seed=i) for i in range(12)]
    filtered = FilteredCrystals.complete(crystals(*structures))
    parts = [score_rows(TASK, filtered.rows(start, start + 5), start) for start in (0, 5, 10)]
    pieces = pa.concat_tables(parts)
    assert finished(TASK, pieces, lambda rows: crystals_of(filtered, rows)) == table_of(*structures)


def test_few_crystals_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    structures = [perovskite(*(KNOWN, FOREIGN)[i % 2]) for i in range(8)] + [perovskite(*SWAPPED[::-1])]
    filtered = FilteredCrystals.complete(crystals(*structures))
    asked = []

    def read(rows):
        asked.append(rows.tolist())
        return crystals_of(filtered, rows)

    monkeypatch.setattr(novelty, "COMPARED_AT_ONCE", 5)
    rows = finished(TASK, score_rows(TASK, filtered, 0), read)
    assert asked == [[0, 2, 4, 6, 8], [1, 3, 5, 7]]
    assert rows["unique"].to_pylist() == [True, True, *[False] * 6, True]


def test_a_crystal_that_does_not_exist_is_neither_unique_nor_novel() -> None:
    filtered = FilteredCrystals(crystals(perovskite(*FOREIGN)), np.array([1]), {0: "not a number", 2: "no volume"})
    table = score_in_memory([TASK], filtered)["novelty"]
    assert table["unique"].to_pylist() == table["novel"].to_pylist() == [False, True, False]
    assert table["reason"].to_pylist() == ["not a number", None, "no volume"]


def test_no_crystals_give_empty_rows_and_undefined_rates() -> None:
    table = table_of()
    assert table.schema == TASK.schema
    metrics = TASK.summary({"novelty": table, "stability": stability()}, reference_card("perov5"), 0)
    assert set(metrics.values()) == {Metric(None)}


def test_the_schema_is_that_of_the_rows_with_an_index_and_the_protocol_is_plain() -> None:
    assert ["index", *TASK.score(Crystals.empty()).schema.names] == TASK.schema.names
    assert json.loads(json.dumps(TASK.protocol(), allow_nan=False)) == TASK.protocol()
    assert TASK.protocol() != Novelty("mp20").protocol()
    assert pickle.loads(pickle.dumps(TASK)) == TASK


def rows(unique: list[bool], novel: list[bool | None]) -> pa.Table:
    return pa.table({"unique": unique, "novel": pa.array(novel, pa.bool_())})


def test_rates_are_over_all_crystals_and_sun_needs_all_three() -> None:
    table = rows([True, True, False, True], [True, False, True, True])
    metrics = TASK.summary(
        {"novelty": table, "stability": stability(True, True, True, False)}, reference_card("perov5"), 0
    )
    assert metrics == {"unique_rate": wilson(3, 4), "novel_rate": wilson(3, 4), "sun_rate": wilson(1, 4)}


def test_what_is_not_known_widens_the_interval_to_both_possibilities() -> None:
    table = rows([True] * 4, [True, None, None, False])
    metrics = TASK.summary({"novelty": table, "stability": stability(*[True] * 3, False)}, reference_card("perov5"), 0)
    for name in ("novel_rate", "sun_rate"):
        assert metrics[name] == Metric(None, wilson(1, 4).low, wilson(3, 4).high, 4)
    only_unstable = stability(True, False, False, True)
    assert TASK.summary({"novelty": table, "stability": only_unstable}, reference_card("perov5"), 0)[
        "sun_rate"
    ] == wilson(1, 4)  # what is not known is not stable either


def test_without_stability_there_is_no_sun_rate() -> None:
    metrics = TASK.summary({"novelty": rows([True], [True])}, reference_card("perov5"), 0)
    assert metrics["sun_rate"] == Metric(None)


def test_repeats_of_which_not_all_is_known_keep_both_bounds() -> None:
    together = combine([rate_between(1, 3, 10), rate_between(2, 2, 10)], most=1.0)
    assert together == Metric(None, wilson(1, 10).low, wilson(3, 10).high, 20)


def test_a_rate_that_is_known_has_its_value() -> None:
    assert rate_between(3, 3, 10) == wilson(3, 10)


def test_a_thin_cell_is_unique_where_it_is_the_first_of_its_formula() -> None:
    thin = Structure(Lattice.orthorhombic(1, 1, 5000), FOREIGN, SITES)
    assert [found for found, _ in first_of_groups(crystals(thin, thin, perovskite(*FOREIGN)))] == [True, False, True]
