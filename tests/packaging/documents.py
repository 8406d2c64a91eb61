"""Commands that README and docs show, so that tests can parse and run them."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "examples" / "README.md", *(ROOT / "docs").rglob("*.md")],
    key=lambda path: path.relative_to(ROOT).as_posix(),
)
COMMAND = re.compile(r" {4}((?:[A-Z_]+=\S* )*(?:bench|python|pip|export|make) .*)")
INLINE = re.compile(r"(?<!\\)`((?:python -m )?bench [a-z][^`]*)`")
ASSIGNMENT = re.compile(r"[A-Z_]+=")

# The mechanical way to make a command small: these options are added at its end, where the last one counts.
SMALLER = {
    "run": ["--num-samples", "4", "--workers", "1"],
    "csp": ["--num-compositions", "4", "--workers", "1"],
    "score": ["--workers", "1"],
    "rescore": ["--workers", "1"],
    "sample": ["--num-samples", "4"],
    "sample-external": ["--num-samples", "4"],
}
CHEAP_TASKS = ["--tasks", "validity,properties,novelty"]  # in place of those that relax, or of all


@dataclass(frozen=True)
class Shown:
    """One command line as a reader would type it, lines that go on joined.

    document: relative to the repository. begins: whether it is the first of its block.
    """

    document: str
    line: int
    text: str
    begins: bool = True

    def __str__(self) -> str:
        return f"{self.document}:{self.line}: {self.text}"

    def parts(self) -> list[list[str]]:
        """The words of each simple command in it, without variables that are set for it."""
        found: list[list[str]] = [[]]
        for word in shlex.split(self.text, comments=True):
            if word in ("&&", "&"):
                found.append([])
            elif found[-1] or not ASSIGNMENT.match(word):
                found[-1].append(word)
        return [words for words in found if words]


def shown_commands(path: Path) -> Iterator[Shown]:
    """Lines of `sh` blocks, and indented lines that begin like a command."""
    lines = iter(enumerate(path.read_text(encoding="utf-8").splitlines(), 1))
    fence, begins = "", True
    for number, line in lines:
        opened = re.match(r"\s*```(\w*)", line)
        if opened:
            fence, begins = "" if fence else opened[1] or "text", True
            continue
        indented = COMMAND.match(line) if not fence else None
        if fence == "sh" or indented:
            text = (indented[1] if indented else line).strip()
            while text.endswith("\\"):
                text = text[:-1] + next(lines)[1].strip()
            if text and not text.startswith("#"):
                yield Shown(path.relative_to(ROOT).as_posix(), number, text, begins)
                begins = False


def inline_commands(path: Path) -> Iterator[Shown]:
    """Commands of the harness within a sentence or a table; they may be abbreviated."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for text in INLINE.findall(line):
            yield Shown(path.relative_to(ROOT).as_posix(), number, text)


def names_of_examples(group: str) -> set[str]:
    """Names of the entry points of a group that the examples bring."""
    found: set[str] = set()
    for file in (ROOT / "examples").glob("*/pyproject.toml"):
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        found |= set(project.get("entry-points", {}).get(f"crysldm_bench.{group}", {}))
    return found


def option(words: list[str], name: str) -> list[str]:
    """The names behind an option, such as those of --models."""
    return [part for word, value in pairwise(words) if word == name for part in value.split(",")]


def make_smaller(words: list[str]) -> list[str]:
    """The arguments of a command with what makes it small."""
    name = words[0]
    more = list(SMALLER.get(name, ()))
    if name == "run" and "--resume" in words:
        more = ["--workers", "1"]
    elif words[:2] == ["rows", "score"]:
        more = ["--workers", "1", "--tasks", "validity,properties,symmetry,distribution"]
    elif "--budget" in words:
        more = ["--budget", "1s", "--workers", "1"]
    tasks = option(words, "--tasks")
    if name in ("run", "score", "rescore") and "--resume" not in words and (not tasks or "stability" in tasks):
        more += CHEAP_TASKS
    return [*words, *more]
