"""The symmetry task: space groups, the share of P1, and distances to the test split."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
import spglib
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from scipy.spatial.distance import jensenshannon

from bench.crystals import Crystals
from tasks import space_groups
from tasks.space_groups import SpaceGroupCounts, crystal_systems, space_group_counts, write_space_groups
from tasks.symmetry import Symmetry
from tests.stored_samples import two_hundred_crystals

PEROVSKITE = Structure(
    Lattice.cubic(4.0),
    ["Sr", "Ti", "O", "O", "O"],
    [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
)


def shaken(distance: float, seed: int = 0) -> Structure:
    structure = PEROVSKITE.copy()
    structure.perturb(distance, seed=seed)
    return structure


def score(*structures: Structure) -> pa.Table:
    return Symmetry("perov5").score(Crystals.from_structures(structures))


def summary(numbers: list[int | None], dataset: str = "perov5") -> dict:
    table = pa.table({name: pa.array(numbers, pa.int64()) for name in ("space_group", "space_group_tight")})
    return Symmetry(dataset).summary({"symmetry": table}, None, seed=0)


def test_space_groups_are_those_of_pymatgen():
    structures = [PEROVSKITE, Structure(Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])]
    structures += [shaken(distance, seed) for distance in (0.001, 0.03, 0.3) for seed in range(10)]
    table = score(*structures)
    for name, symprec in (("space_group", 0.1), ("space_group_tight", 0.01)):
        theirs = [SpacegroupAnalyzer(s, symprec, angle_tolerance=-1).get_space_group_number() for s in structures]
        assert table[name].to_pylist() == theirs


def test_all_figures_of_two_hundred_stored_crystals_are_spglibs_and_scipys():
    crystals = two_hundred_crystals()
    table = Symmetry("mp20").score(crystals)
    metrics = Symmetry("mp20").summary({"symmetry": table}, None, seed=0)
    for name, symprec, share in (("space_group", 0.1, "p1_share"), ("space_group_tight", 0.01, "p1_share_tight")):
        cells = [(s.lattice.matrix, s.frac_coords, s.atomic_numbers) for s in crystals]
        theirs = [spglib.get_symmetry_dataset(cell, symprec).number for cell in cells]
        assert table[name].to_pylist() == theirs
        assert metrics[share].value == theirs.count(1) / 200
    counts = [np.bincount(table["space_group"].to_numpy(), minlength=231), space_group_counts("mp20").test]
    assert metrics["js_space_group"].value == pytest.approx(jensenshannon(*counts, base=2))
    edges = [1, 3, 16, 75, 143, 168, 195, 231]
    systems = [[c[low:high].sum() for low, high in itertools.pairwise(edges)] for c in counts]
    assert metrics["js_crystal_system"].value == pytest.approx(jensenshannon(*systems, base=2))


def test_what_is_symmetric_at_a_tenth_of_an_angstrom_need_not_be_so_at_a_hundredth():
    table = score(shaken(0.03))
    assert table["space_group"].to_pylist() == [221] and table["space_group_tight"].to_pylist() == [1]


def test_atoms_on_top_of_each_other_have_no_space_group_and_a_reason(capfd):
    table = score(Structure(Lattice.cubic(4.0), ["Na", "Na"], [[0, 0, 0], [0, 0, 0]]))
    assert table["space_group"].to_pylist() == table["space_group_tight"].to_pylist() == [None]
    assert "no space group at 0.1 A; spglib finds no space group at 0.01 A" in table["reason"][0].as_py()
    assert capfd.readouterr() == ("", "")


def test_crystals_without_a_space_group_count_in_no_share():
    metrics = summary([1, 221, None, 1])
    assert metrics["p1_share"].value == pytest.approx(2 / 3) and metrics["p1_share"].n == 3


@pytest.mark.parametrize("dataset", ["perov5", "mp20"])
def test_distances_are_scipys_to_the_test_split_that_is_shipped(dataset):
    rng = np.random.default_rng(0)
    numbers = rng.integers(1, 231, 200)
    counts = np.bincount(numbers, minlength=231)
    test = space_group_counts(dataset).test
    metrics = summary(numbers.tolist(), dataset)
    assert metrics["js_space_group"].value == pytest.approx(jensenshannon(counts, test, base=2))
    systems = [crystal_systems(c) for c in (counts, test)]
    assert metrics["js_crystal_system"].value == pytest.approx(jensenshannon(*systems, base=2))


def test_the_shares_of_the_test_split_stand_beside_those_of_the_sample():
    counts = space_group_counts("perov5")
    metrics = summary([1, 221])
    assert metrics["p1_share_test"].value == counts.test[1] / 3785 and metrics["p1_share_test"].n == 3785
    assert counts.test_tight.sum() == 3785


def test_crystal_systems_are_those_of_the_tables():
    names = ["triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic"]
    from pymatgen.symmetry.groups import SpaceGroup

    for number in (1, 2, 3, 15, 16, 74, 75, 142, 143, 167, 168, 194, 195, 230):
        systems = crystal_systems(np.bincount([number], minlength=231))
        assert names[int(systems.argmax())] == SpaceGroup.from_int_number(number).crystal_system


def test_training_crystals_reach_the_floor():
    train = space_group_counts("perov5").train
    drawn = np.random.default_rng(1).choice(231, 250, p=train / train.sum())
    metrics = summary(drawn.tolist())
    floor = metrics["js_space_group_floor"]
    assert 0 < floor.low < floor.value < floor.high and floor.n == 250
    assert 0.5 * floor.low < metrics["js_space_group"].value < 2 * floor.high


def test_without_counts_of_the_splits_there_are_shares_and_no_distances(monkeypatch):
    monkeypatch.setattr("tasks.symmetry.space_group_counts", lambda dataset: None)
    metrics = summary([1, 2])
    assert metrics["p1_share"].value == 0.5 and metrics["js_space_group"].value is None
    assert Symmetry("perov5").protocol()["reference"] is None


def test_written_counts_are_read_back(tmp_path, monkeypatch):
    crystals = {
        "train": Crystals.from_structures([PEROVSKITE, shaken(0.3)]),
        "test": Crystals.from_structures([shaken(0.03)]),
    }
    monkeypatch.setattr(space_groups, "load_split", lambda dataset, split: crystals[split])
    write_space_groups("perov5", tmp_path)
    counts = SpaceGroupCounts.read(tmp_path, "perov5")
    assert np.flatnonzero(counts.train).tolist() == [1, 221]
    assert np.flatnonzero(counts.test).tolist() == [221] and np.flatnonzero(counts.test_tight).tolist() == [1]


def test_damaged_counts_are_refused_by_name(tmp_path):
    (tmp_path / "perov5.space-groups.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match=r"perov5.space-groups.json: damaged .* writes it anew"):
        SpaceGroupCounts.read(tmp_path, "perov5")


def test_the_schema_is_that_of_the_rows_with_an_index_and_the_protocol_is_json():
    task = Symmetry("mp20")
    assert ["index", *task.score(Crystals.empty()).schema.names] == task.schema.names
    assert json.loads(json.dumps(task.protocol(), allow_nan=False)) == task.protocol()
