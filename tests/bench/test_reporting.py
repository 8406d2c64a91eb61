"""What `bench report` shows and writes, with reports that only say their name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import registry
from bench.commands.report import report, write_reports


def full_disk(folders: Sequence[Path]) -> str:
    raise OSError(28, "No space left on device", str(folders[0] / "report" / "x.png"))


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = {
        "table1": lambda folders: "table written",
        "figure": lambda folders: f"figure of {len(folders)}",
        "nothing": lambda folders: "",
        "table1 shown": lambda folders, format, paper: f"table as {format}{' and paper' * paper}\n",
        "yield": lambda folders, at, format: f"by {at} as {format}",
    }
    kinds = {"report": ["table1", "figure", "nothing"], "table": ["table1", "yield"]}
    monkeypatch.setattr(registry, "known", lambda kind: dict.fromkeys(kinds[kind], ""))
    monkeypatch.setattr(
        registry, "plugin", lambda kind, name: plugins["table1 shown" if (kind, name) == ("table", "table1") else name]
    )


@pytest.mark.usefixtures("named")
def test_text_shows_the_table_and_what_else_was_written_and_other_formats_the_table_alone() -> None:
    folders = [Path("a"), Path("b")]
    assert report(folders, "text") == "table as text\n\nfigure of 2"
    assert report(folders, "csv", paper=True) == "table as csv and paper\n"
    assert report(folders, "markdown", at=[5.0]) == "by [5.0] as markdown"
    assert write_reports(folders) == {"table1": "table written", "figure": "figure of 2"}


@pytest.mark.usefixtures("named")
def test_a_folder_that_cannot_be_written_is_said_and_the_table_still_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = registry.plugin
    monkeypatch.setattr(registry, "plugin", lambda kind, name: full_disk if name == "figure" else plugin(kind, name))
    assert report([Path("a")], "text") == "table as text\n"
    shown = capsys.readouterr().err
    assert shown == "tables and figures were not written: a/report/x.png: No space left on device\n"
