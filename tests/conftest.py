"""What all tests share: a cache folder that can be written, also where the user's cannot."""

from __future__ import annotations

import os
import tempfile

import pytest


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
