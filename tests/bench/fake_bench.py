"""The command line with the fake tasks, without reports: `python fake_bench.py run ...`."""

from __future__ import annotations

from types import MappingProxyType

from bench import registry
from bench.cli import main

FAKE_PLUGINS = MappingProxyType(
    {
        **registry.PLUGINS,
        "task": {"validity": "fake_tasks:FakeValidity", "novelty": "fake_tasks:FakeNovelty"},
        "report": {},
    }
)

if __name__ == "__main__":
    registry.PLUGINS = FAKE_PLUGINS
    main()
