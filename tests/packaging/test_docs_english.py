"""The documents are in plain English: no sentence is longer than one breath."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from documents import DOCUMENTS, ROOT

MOST_WORDS = 35
PAGES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
FENCE = re.compile(r"\s*(```|~~~)")
NO_PROSE = re.compile(r"\s*(\||#|<!--|--8<--|:::|!\[|hide:|---)")  # tables, titles, markers, pictures
ITEM = re.compile(r"^(\s*)([-*]|\d+\.)\s+")
NOT_SAID = (
    (re.compile(r"\[([^\]]*)\]\([^)]*\)(\{[^}]*\})?"), r"\1"),  # of a link its text
    (re.compile(r"`[^`]*`"), "code"),
    (re.compile(r"\\?\[[^\]a-z]*\]"), ""),  # an interval
    (
        re.compile(r"[\w@-]+ [\d./ ]+\xa0%,?"),
        "figure",
    ),  # figures of models one after the other, as notes of tables have them
    (re.compile(r"(figure ?)+"), "figures "),
)
# A stop, then what a new sentence may begin with.
END = re.compile(r"(?<=[.!?])[*)\"”]*\s+(?=[*\"“(\[]*(?:[A-Z0-9]|code\b))")


def paragraphs(markdown: str) -> Iterator[tuple[int, str]]:
    """The running text of a document, each paragraph and list item with the line that it begins on."""
    begin, words, fenced, in_item = 0, [], False, False
    for number, line in enumerate([*markdown.splitlines(), ""], 1):
        fence = FENCE.match(line)
        fenced ^= bool(fence)
        item = ITEM.match(line)
        indented = line.startswith("    ") and not item and not (in_item and words)
        ends = not line.strip() or fenced or fence or NO_PROSE.match(line) or indented
        if (ends or item) and words:
            yield begin, " ".join(words)
            words = []
        if not ends:
            begin = begin if words else number
            words.append(ITEM.sub("", line).strip())
        in_item = bool(item) or (in_item and (not line.strip() or line.startswith(" ")))


def sentences(markdown: str) -> Iterator[tuple[int, str]]:
    """Its sentences, without what nobody reads aloud: targets of links, code, intervals."""
    for number, text in paragraphs(markdown):
        for pattern, instead in NOT_SAID:
            text = pattern.sub(instead, text)
        yield from ((number, sentence) for sentence in END.split(text))


def length(sentence: str) -> int:
    """Its number of words and figures."""
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


@pytest.mark.parametrize("page", PAGES)
def test_no_sentence_of_a_document_is_longer_than_one_breath(page: str) -> None:
    found = list(sentences((ROOT / page).read_text(encoding="utf-8")))
    long = [f"{page}:{line}: {length(text)} words: {text}" for line, text in found if length(text) > MOST_WORDS]
    assert not long, "\n".join(long)


def test_the_choices_in_the_models_fit_on_one_page() -> None:
    assert len((ROOT / "docs" / "models.md").read_text(encoding="utf-8").split()) <= 1300


def test_a_long_sentence_is_found_wherever_it_stands() -> None:
    long = "word " * 36 + "end."
    for text in (
        f"Short. {long}",
        f"- an item\n- {long}",
        f"1. {long}",
        "A short one.\nIt goes on " + long,
        f"**{long}**",
    ):
        assert max(length(sentence) for _, sentence in sentences(text)) > MOST_WORDS, text


def test_what_nobody_reads_aloud_is_not_counted() -> None:
    cells = "| " + "cell " * 40 + "|"
    code = "```sh\n" + "word " * 40 + "\n```\n\n    " + "word " * 40
    link = "A [link](to/" + "a/" * 40 + "page.md) to `" + "code " * 40 + "` at 3.2 [1.0, 4.5]."
    assert max(length(sentence) for _, sentence in sentences(f"{cells}\n\n{code}\n\n{link}")) == 6
