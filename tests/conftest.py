"""What all tests share: a cache folder that can be written, and skips where a folder with data is missing."""

from __future__ import annotations

import os
import tempfile

import pytest

# Folders that are not in the repository: how to get them. Tests marked needs_data need BENCH_DATA_DIR, and so on.
FOLDERS = {
    "data": "put the data sets' train.csv, val.csv and test.csv into perov_5 and mp_20 of a folder (`python -m bench "
    "data perov5` downloads them) and name it",
    "potentials": "`hf download materialyze/M3GNet-MP-2021.2.8-PES --local-dir FOLDER/M3GNet-MP-2021.2.8-PES`, the "
    "same for TensorNet-MatPES-PBE-v2025.1-PES, and name FOLDER",
    "golden": "outputs recorded from published code, too large for the repository; ask its maintainers for the folder "
    "and name it",
}


def pytest_configure(config: pytest.Config) -> None:
    """Names a new cache folder where the user has none that can be written (a container, a closed account)."""
    if "BENCH_CACHE_DIR" in os.environ:
        return
    from bench.datasets.parsed import cache_dir

    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_dir()):
            return
    except (OSError, RuntimeError):  # RuntimeError: no home folder is known
        folder = tempfile.TemporaryDirectory(prefix="crysldm-bench-tests-")
        config.add_cleanup(folder.cleanup)
        os.environ["BENCH_CACHE_DIR"] = folder.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests whose folder no variable names; each says how to get it."""
    for folder, remedy in FOLDERS.items():
        variable = f"BENCH_{folder.upper()}_DIR"
        if variable not in os.environ:
            skip = pytest.mark.skip(reason=f"{variable} is not set: {remedy}")
            for item in items:
                if item.get_closest_marker(f"needs_{folder}"):
                    item.add_marker(skip)
