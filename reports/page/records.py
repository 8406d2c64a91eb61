"""Protocol and manifests as tables: one row for each setting, without what names a person's machine or folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports.page.html_table import HtmlTable, simple_table
from reports.run_results import ModelResult, task_protocols

PRIVATE = ("host", "pid")
APART = ("protocol",)  # shown once for all runs
FOLDERS = re.compile(r"(?<![\w.:/\\])(?:/|[A-Za-z]:\\)(?:[^/\\\s]+[/\\])+")  # of an absolute path, not of an address


def record_tables(results: Sequence[ModelResult]) -> list[HtmlTable]:
    """The protocol that all results share, then the manifest of each run."""
    rows = list(_rows(task_protocols(results)))
    tables = [_table("protocol-table", "Protocol", rows)]
    runs = {result.run.root.resolve(): result.run for result in results}
    for place, run in enumerate(runs.values()):
        shared = {"reference": run.manifest["protocol"].get("reference")}
        content = {key: value for key, value in run.manifest.items() if key not in APART}
        tables.append(_table(f"manifest{place}", f"Manifest of {run.name}", [*_rows(content), *_rows(shared)]))
    return tables


def public(text: str) -> str:
    """A text with the folders of absolute paths left out."""
    return FOLDERS.sub("…/", text)


def _table(name: str, caption: str, rows: Sequence[tuple[str, str]]) -> HtmlTable:
    return simple_table(name, caption, ["Setting", "Value"], rows, words=2, filtered=True)


def _rows(content: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of some JSON, with the way to it; lists of plain values are one leaf."""
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            if key not in PRIVATE:
                yield from _rows(value, f"{place}.{key}" if place else str(key))
    elif isinstance(content, list) and any(isinstance(part, Mapping | list) for part in content):
        for number, value in enumerate(content):
            yield from _rows(value, f"{place}[{number}]")
    else:
        shown = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        yield place, public(shown)
