"""Skips of tests that need what is not in the repository; each says how to get it."""

from __future__ import annotations

import os

import pytest

DATA = (
    "BENCH_DATA_DIR is not set: put the data sets' train.csv, val.csv and test.csv into perov_5 and mp_20 of a folder "
    "(`python -m bench data perov5` downloads them) and name it"
)
POTENTIALS = (
    "BENCH_POTENTIALS_DIR is not set: `hf download materialyze/M3GNet-MP-2021.2.8-PES --local-dir "
    "FOLDER/M3GNet-MP-2021.2.8-PES`, the same for TensorNet-MatPES-PBE-v2025.1-PES, and name FOLDER"
)
GOLDEN = (
    "BENCH_GOLDEN_DIR is not set: outputs recorded from published code, too large for the repository; ask its "
    "maintainers for the folder and name it"
)

needs_data = pytest.mark.skipif("BENCH_DATA_DIR" not in os.environ, reason=DATA)
needs_potentials = pytest.mark.skipif("BENCH_POTENTIALS_DIR" not in os.environ, reason=POTENTIALS)
needs_golden = pytest.mark.skipif("BENCH_GOLDEN_DIR" not in os.environ, reason=GOLDEN)
