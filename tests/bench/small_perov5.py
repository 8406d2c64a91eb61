"""A small data set in the layout of Perov-5's published files, and fixtures of a machine with and without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

ELEMENTS = ["Sr", "Ti", "O", "Ba", "Zr", "La", "Cs"]


def structure(number: int) -> Structure:
    """A crystal in a cell that is far from reduced."""
    rng = np.random.default_rng(number)
    cell = np.array([[1, 0, 0], [3, 1, 0], [-2, 1, 1]]) @ (np.diag([4.1, 4.3, 4.7]) + 0.1 * rng.random((3, 3)))
    count = 1 + number % 4
    return Structure(Lattice(cell), rng.choice(ELEMENTS, count), rng.random((count, 3)))


def csv_bytes(structures: list[Structure]) -> bytes:
    """A file in the layout of the published ones."""
    rows = [
        f'{number},{100 + number},"{entry.to(fmt="cif")}",{entry.composition.reduced_formula},{number / 8}\n'
        for number, entry in enumerate(structures)
    ]
    return ("Unnamed: 0,material_id,cif,formula,heat_all\n" + "".join(rows)).encode()


STRUCTURES = {
    split: [structure(100 * place + n) for n in range(5 + place)]
    for place, split in enumerate(("train", "val", "test"))
}


TEXTS = {split: csv_bytes(structures) for split, structures in STRUCTURES.items()}


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("bench.datasets.files._warned", set())
    return tmp_path / "cache"


@pytest.fixture
def small_perov5(tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """BENCH_DATA_DIR with a small perov_5."""
    folder = tmp_path / "data" / "perov_5"
    folder.mkdir(parents=True)
    for split, content in TEXTS.items():
        (folder / f"{split}.csv").write_bytes(content)
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path / "data"))
    return folder


@pytest.fixture
def no_data(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)
