"""Energies above the hull held against published ones: what is compared, what is kept, and what is shipped of it."""

import csv
import gzip
import json

import numpy as np
import pytest

from bench.crystals import Crystals
from tasks.stability.hull import Hull, energies_above, hull_path
from tasks.stability.hull.phases import ELEMENTS, STRUCTURES, Phases
from tasks.stability.task import STABLE_BELOW
from tasks.stability.validation import energies
from tasks.stability.validation.__main__ import REFERENCE
from tasks.stability.validation.comparison import above_hull, by_chemistry, compare
from tasks.stability.validation.energies import RELAXED_PART, hull_of_points, measure
from tasks.stability.validation.labelled import SOURCES, Labelled
from tasks.stability.validation.tables import BEGIN, END, read_figures, tables, write_tables
from tests.toy_potential import Counting, crystal, rattled

ALL = np.ones(4, dtype=bool)


def test_errors_and_the_table_of_who_calls_what_stable():
    found = compare(np.array([0.05, 0.2, 0.02, 0.4]), np.array([0.0, 0.05, 0.3, 0.3]), ALL)
    assert found["confusion"] == {"stable_by_both": 1, "by_potential_only": 1, "published_only": 1, "by_neither": 1}
    assert found["agree"]["value"] == 0.5
    assert found["agree"]["low"] < 0.2 < 0.8 < found["agree"]["high"]
    assert found["mae"] == pytest.approx((0.05 + 0.15 + 0.28 + 0.1) / 4)
    assert found["bias"] == pytest.approx((0.05 + 0.15 - 0.28 + 0.1) / 4)
    assert found["unstable_called_stable"]["value"] == 0.5
    assert found["bias_of_unstable"] == pytest.approx((-0.28 + 0.1) / 2)


def test_a_phase_below_the_hull_that_it_was_left_out_of_is_on_the_hull_of_dft():
    below, published = np.array([-0.3, 0.05, 0.2, 0.3]), np.array([0.0, 0.05, 0.2, 0.3])
    assert compare(below, published, ALL)["mae"] == 0


def test_what_did_not_converge_is_not_called_stable_and_what_has_no_number_is_not_compared():
    above = np.array([0.0, 0.0, 0.2, np.nan])
    found = compare(above, np.array([0.0, 0.0, 0.3, 0.3]), np.array([True, False, True, True]))
    assert (found["crystals"], found["without_number"]) == (3, 1)
    assert found["confusion"]["published_only"] == 1


def test_energies_by_formula_are_those_of_the_crystals():
    hull = Hull(["Na", "Cl2", "NaCl", "Na3(PO3)2"], np.array([-1.3, -1.8, -3.4, -6.0]), {})
    salt = crystal([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], np.eye(3) * 3.5)
    (expected,) = energies_above(hull, salt, np.array([-3.2]))
    assert above_hull(hull, [salt.formula(0)], np.array([-3.2])) == pytest.approx([expected])
    assert np.isnan(above_hull(hull, ["NaBr"], np.array([-3.0]))).all()


def test_each_crystal_is_of_one_kind_of_chemistry():
    formulas = ["LaMnO3", "SrTiO3", "NaCl", "ZnS", "GaN", "TiC", "Ni3Al"]
    found = by_chemistry(formulas, np.full(7, 0.3), np.zeros(7))
    assert [kind["crystals"] for kind in found.values()] == [1] * 8  # the last is lanthanides, across kinds
    assert all(kind["wrong_side"] == 1 and kind["mae"] == 0.3 for kind in found.values())


@pytest.fixture
def toy(monkeypatch):
    """The toy potential under every name."""
    potential = Counting()
    monkeypatch.setattr(energies, "load_potential", lambda name: potential)
    monkeypatch.setattr(energies, "potential_protocol", lambda name: dict(potential.protocol()))
    return potential


def some_labelled():
    crystals = rattled(0, RELAXED_PART + 3)
    return Labelled(crystals, tuple(f"id-{b}" for b in range(len(crystals))), np.linspace(0, 0.5, len(crystals)))


def test_energies_are_computed_once_and_more_relaxations_add_to_them(tmp_path, toy):
    first = measure("toy", tmp_path, "mpts52", 1, 1, some_labelled)
    assert first.ids == [f"id-{b}" for b in range(RELAXED_PART + 3)]
    assert first.published.tolist() == some_labelled().published.tolist()
    was_relaxed = np.isfinite(first.relaxed)
    assert was_relaxed.tolist() == [True] * RELAXED_PART + [False] * 3
    assert first[was_relaxed].converged.all()
    assert (first.relaxed < first.points + 1e-4)[was_relaxed].all()
    asked = len(toy.batches)
    again = measure("toy", tmp_path, "mpts52", 1, RELAXED_PART, lambda: pytest.fail("nothing is to be computed"))
    assert again[was_relaxed].relaxed.tolist() == first[was_relaxed].relaxed.tolist()
    assert len(toy.batches) == asked
    more = measure("toy", tmp_path, "mpts52", 1, RELAXED_PART + 1, some_labelled)
    assert np.isfinite(more.relaxed).all()
    assert len(measure("toy", tmp_path, "mp20", 1, 0, some_labelled)[was_relaxed].ids) == RELAXED_PART


def test_energies_of_other_weights_are_refused(tmp_path, toy, monkeypatch):
    measure("toy", tmp_path, "mpts52", 1, 0, some_labelled)
    monkeypatch.setattr(energies, "potential_protocol", lambda name: {"name": "toy", "sha256": "another"})
    with pytest.raises(ValueError, match=r"mpts52-points-000.parquet: computed with other weights or settings"):
        measure("toy", tmp_path, "mpts52", 1, 0, some_labelled)


def test_the_hull_of_some_systems_is_there_that_of_all_phases(tmp_path, toy):
    crystals = Crystals.concatenate([rattled(1, 12), crystal([92], [[0, 0, 0]], np.eye(3) * 3)])
    phases = Phases(crystals, tuple(f"id-{b:02d}" for b in range(13)), ("mp20 test",) * 13)
    system = frozenset(crystals.structure(0).symbol_set)
    hull, ids = hull_of_points("toy", tmp_path, [system], lambda: phases)
    assert "id-00" in ids
    assert len(ids) < 13
    every = Hull([crystals.formula(b) for b in range(13)], toy.evaluate(crystals).energies / crystals.num_atoms, {})
    assert hull.phases(system) == pytest.approx(every.phases(system), abs=1e-4)
    kept, _ = hull_of_points("toy", tmp_path, [system], lambda: pytest.fail("nothing is to be computed"))
    assert kept.phases(system) == hull.phases(system)
    asked = sum(toy.batches)
    _, more = hull_of_points("toy", tmp_path, [system, frozenset(["U"])], lambda: phases)
    assert sum(toy.batches) - asked == len(more) - len(ids) == 1  # of the other system alone


def test_held_out_phases_lie_on_both_sides_of_the_line_and_a_larger_number_begins_with_the_same(tmp_path, monkeypatch):
    (tmp_path / "phases").mkdir()
    for name in (STRUCTURES, *ELEMENTS):
        (tmp_path / "phases" / name).touch()
    published = np.random.default_rng(0).choice([0.0, 0.01, 0.05, 0.2, 0.4, 0.9], 60)
    with gzip.open(tmp_path / "phases" / "mp_phases.csv.gz", "wt", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["material_id", "e_above_hull"])
        rows.writerows([f"id-{b}", value] for b, value in enumerate(published))
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    sources = ["mpts52" if b % 3 else "mp20 train" for b in range(60)]
    phases = Phases(rattled(0, 60), tuple(f"id-{b}" for b in range(60)), tuple(sources))
    found = SOURCES["mpts52"].read(lambda: phases)
    assert {sources[int(i[3:])] for i in found.ids} == {"mpts52"}
    assert ((found.published >= STABLE_BELOW) == (np.arange(len(found.ids)) % 2 == 0)).all()
    assert found.published.max() <= 0.5
    assert found.published.tolist() == [published[int(i[3:])] for i in found.ids]
    assert len(found.ids) > 10


FILES = sorted(REFERENCE.glob("*.validation.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_shipped_figures_are_those_of_the_shipped_hull_and_weights(file):
    found = json.loads(file.read_text())
    name = found["potential"]["name"]
    try:
        path = hull_path(name)
    except ValueError:
        assert "sha256" not in found["hull"]
    else:
        assert found["hull"]["sha256"] == json.loads(path.with_suffix(".json").read_text())["sha256"]  # type: ignore[attr-defined]
    for source in found["sources"].values():
        for kind in {"relaxed", "as_given", "as_given_of_relaxed"} & set(source):
            assert sum(source[kind]["confusion"].values()) == source[kind]["crystals"]


def test_the_document_shows_the_shipped_figures():
    document = REFERENCE.parents[2] / "docs" / "stability.md"
    shown = document.read_text().partition(BEGIN)[2].partition(END)[0]
    assert shown.strip() == tables(read_figures(REFERENCE)).strip()


def test_a_document_without_marks_is_refused(tmp_path):
    (tmp_path / "page.md").write_text("# Page\n")
    with pytest.raises(ValueError, match="to put the tables between"):
        write_tables(tmp_path / "page.md", REFERENCE)
