"""Counts of crystals: additive, equal to the reference card where both count, and readable from the package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.crystals import Crystals
from bench.datasets import DATASETS, reference_card, split_counts
from bench.datasets.histograms import Binned, CrystalCounts
from tests.stored_crystal_runs import perovskites


@pytest.mark.parametrize("dataset", DATASETS)
def test_counts_of_the_package_are_of_the_same_crystals_as_the_reference_card(dataset: str) -> None:
    counts, card = split_counts(dataset), reference_card(dataset)
    assert counts.crystals == len(card.test) == card.splits["test"].rows
    assert counts.num_elements.tolist() == np.bincount(card.test.num_elements).tolist()
    assert counts.binned["density"].counts.tolist() == Binned.of("density", card.test.density).counts.tolist()
    assert counts.num_atoms.sum() == counts.crystals
    assert counts.elements.sum() == (np.arange(len(counts.num_atoms)) * counts.num_atoms).sum()
    for quantity, factor in (("density", 1), ("volume_per_atom", 1), ("length", 3), ("angle", 3)):
        assert counts.binned[quantity].total == factor * counts.crystals


def test_counts_of_parts_add_up_to_those_of_the_whole() -> None:
    rocksalt = Crystals(np.array([2]), np.array([11, 17]), np.array([[0.0] * 3, [0.5] * 3]), 60.0 * np.eye(3)[None])
    whole = Crystals.concatenate([perovskites(20), rocksalt])
    sums = [CrystalCounts.of(whole), CrystalCounts.of(whole[:7]) + CrystalCounts.of(whole[7:])]
    for counts in sums:
        assert counts.num_atoms.tolist() == [0, 0, 1, 0, 0, 20]
        assert counts.num_elements.tolist() == [0, 0, 1, 20]
        assert counts.elements[[8, 11, 22]].tolist() == [60, 1, 20]
        assert counts.element_shares.sum() == pytest.approx(1)
        assert counts.binned["length"].outside == 3  # 60 A
    for quantity in sums[0].binned:
        assert (sums[0].binned[quantity].counts == sums[1].binned[quantity].counts).all()


def test_right_angles_lie_in_the_middle_of_their_bin() -> None:
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 3, 3)))[0]
    cells = Crystals(np.full(50, 1), np.full(50, 8), np.zeros((50, 3)), 4.0 * turned)
    angles = CrystalCounts.of(cells).binned["angle"]
    assert angles.counts.max() == 150
    assert angles.edges[angles.counts.argmax()] == pytest.approx(89.5)


def test_counts_come_back_from_a_file_and_a_damaged_one_says_how_to_write_it(tmp_path: Path) -> None:
    counts = CrystalCounts.of(perovskites(5))
    counts.write(tmp_path, "mine")
    again = CrystalCounts.read(tmp_path, "mine")
    assert again.crystals == 5
    assert again.elements.tolist() == counts.elements.tolist()
    assert again.binned["volume_per_atom"].counts.tolist() == counts.binned["volume_per_atom"].counts.tolist()
    file = tmp_path / "mine.test-counts.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "elements": {"200": 1}}))
    with pytest.raises(ValueError, match=r"python -m bench data mine --reference"):
        CrystalCounts.read(tmp_path, "mine")
