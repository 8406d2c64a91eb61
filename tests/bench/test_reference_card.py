"""Reference cards: what is in them, that they are read as written, and that the shipped ones are right."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from bench.datasets import (
    load_split,
    reference_card,
    write_reference_card,
)
from bench.datasets.card import ReferenceCard
from bench.datasets.files import DATASETS, git_blob_sha1
from tests.bench.small_perov5 import TEXTS


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_reference_card_holds_what_the_crystals_give(small_perov5: Path, tmp_path: Path) -> None:
    card = write_reference_card("perov5", tmp_path)
    train, test = list(load_split("perov5", "train")), list(load_split("perov5", "test"))
    for distribution, structures in ((card.train, train), (card.test, test)):
        pairs = sorted((float(s.density), len(s.composition)) for s in structures)
        np.testing.assert_allclose(distribution.density, [density for density, _ in pairs], rtol=1e-12)
        assert distribution.num_elements.tolist() == [count for _, count in pairs]
    assert card.num_atoms_probabilities.tolist() == [0, 0.4, 0.2, 0.2, 0.2]  # 1, 2, 3, 4, 1 atoms
    symbols = [site.specie.Z for s in train for site in s]
    assert card.element_counts[8] == symbols.count(8)
    assert card.element_counts.sum() == len(symbols)
    assert card.splits["val"].rows == 6
    assert card.splits["val"].blob == git_blob_sha1(TEXTS["val"])
    assert "train, val, test that are not byte-identical" in card.note


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_card_is_read_as_it_was_written_with_the_same_bytes_each_time(small_perov5: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written = write_reference_card("perov5", tmp_path / name)
        assert ReferenceCard.read(tmp_path / name, "perov5").sha256 == written.sha256
        digests.append([hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((tmp_path / name).iterdir())])
    assert digests[0] == digests[1]


@pytest.mark.filterwarnings("ignore:.*is not the published file")
def test_a_card_that_was_changed_is_refused(small_perov5: Path, tmp_path: Path) -> None:
    write_reference_card("perov5", tmp_path)
    path = tmp_path / "perov5.json"
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "element_counts": {"8": 3}}))
    with pytest.raises(ValueError, match="do not belong together"):
        ReferenceCard.read(tmp_path, "perov5")
    path.write_text(json.dumps({**plain, "format": 99}))
    with pytest.raises(ValueError, match="format is 99"):
        ReferenceCard.read(tmp_path, "perov5")
    path.write_text("{")
    with pytest.raises(ValueError, match="not a readable reference card"):
        ReferenceCard.read(tmp_path, "perov5")


@pytest.mark.parametrize("name", ["perov5", "mp20"])
def test_the_shipped_cards_need_no_data(name: str, no_data: None) -> None:
    card = reference_card(name)
    spec = DATASETS[name]
    assert len(card.train) == card.splits["train"].rows == card.num_atoms_counts.sum()
    assert len(card.test) == card.splits["test"].rows == spec.rows["test"]
    for split, entry in card.splits.items():
        assert entry.published == (entry.blob in spec.blobs[split])
    assert all(entry.published for entry in card.splits.values()) == (card.note == "")
    assert (np.diff(card.test.density) >= 0).all()


@pytest.mark.needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["perov5", "mp20"])
def test_the_shipped_card_is_the_one_that_the_data_give(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rebuilt = write_reference_card(name, tmp_path)
    shipped = reference_card(name)
    assert rebuilt.splits == shipped.splits
    for split in ("train", "test"):
        ours, theirs = getattr(shipped, split), getattr(rebuilt, split)
        np.testing.assert_allclose(ours.density, theirs.density, rtol=1e-9)
        np.testing.assert_array_equal(ours.num_elements, theirs.num_elements)
    np.testing.assert_array_equal(shipped.num_atoms_counts, rebuilt.num_atoms_counts)
    np.testing.assert_array_equal(shipped.element_counts, rebuilt.element_counts)
