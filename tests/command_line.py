"""The command line within the test's own process."""

from __future__ import annotations

import pytest

from bench import cli


def bench(*arguments: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return ended.value.code if isinstance(ended.value.code, int) else 0
