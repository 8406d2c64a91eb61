"""docs/paper.md names files and functions that are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?) \| `(.+?)`: `(.+?)` \|$", PAGE, re.M)


def names(body: list[ast.stmt], before: str = "") -> set[str]:
    """Functions and classes of a module, methods as Class.method."""
    found = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(before + node.name)
        if isinstance(node, ast.ClassDef):
            found |= names(node.body, f"{node.name}.")
    return found


@pytest.mark.parametrize(("what", "file", "name"), ROWS, ids=[row[0] for row in ROWS])
def test_what_the_page_names_is_there(what: str, file: str, name: str) -> None:
    assert name in names(ast.parse((ROOT / file).read_text(encoding="utf-8")).body), what


def test_every_row_of_the_page_is_read() -> None:
    assert len(ROWS) == PAGE.count("\n| ") - 1
