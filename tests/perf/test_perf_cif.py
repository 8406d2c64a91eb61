"""Reading 300 CIFs of a data set's size in one process: gemmi and our checks against pymatgen's parser, one by one."""

import warnings

import numpy as np
import pytest
from pymatgen.core import Structure
from pymatgen.io.cif import CifParser

from bench.crystal_io.cif import parse_cifs, plain_crystal
from bench.crystals import Crystals


def texts_of_a_data_set(number=300, seed=0):
    """CIFs as pymatgen writes them for MP-20 and others: up to 20 atoms, every atom listed."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3) / 4
    sizes = rng.integers(1, 21, number)
    coords = np.concatenate([rng.permutation(grid)[:size] + rng.uniform(0.01, 0.04, (size, 3)) for size in sizes])
    cells = 7 * np.eye(3) + rng.normal(size=(number, 3, 3)) * 0.5
    return [str(s.to(fmt="cif")) for s in Crystals(sizes, rng.integers(19, 36, sizes.sum()), coords, cells)]


TEXTS = texts_of_a_data_set()


def by_pymatgen(texts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [CifParser.from_str(text, check_cif=False).parse_structures(primitive=False)[0] for text in texts]


def ours(texts):
    return parse_cifs(texts, plain_crystal, workers=1).filtered.crystals


@pytest.mark.benchmark(group="cif")
def test_reading_cifs_by_pymatgen_reference(benchmark):
    read = benchmark.pedantic(by_pymatgen, (TEXTS,), rounds=5, warmup_rounds=1)
    assert isinstance(read[0], Structure)


@pytest.mark.benchmark(group="cif")
def test_reading_cifs(benchmark):
    read = benchmark.pedantic(ours, (TEXTS,), rounds=5, warmup_rounds=1)
    assert read == Crystals.from_structures(by_pymatgen(TEXTS))
