"""`make gpu` where there is no GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.perf import gpu


def test_without_a_gpu_it_says_so_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu", str(tmp_path / "report.md")])
    gpu.main()
    assert capsys.readouterr().out.startswith("make gpu: skipped, torch ")
    assert not list(tmp_path.iterdir())
