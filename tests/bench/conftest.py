"""What the tests of the harness share: fake generators and tasks in place of the real ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench.small_perov5 import cache_folder, no_data, small_perov5  # noqa: F401 (fixtures)

sys.path.insert(0, str(Path(__file__).parent))  # fake_generators and fake_tasks, also for worker processes


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry with fake tasks and no report."""
    from fake_bench import FAKE_PLUGINS

    monkeypatch.setattr("bench.registry.PLUGINS", FAKE_PLUGINS)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
