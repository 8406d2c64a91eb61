"""`bench models`: every model of ours by a sentence that a stranger understands."""

import re

import pytest

from bench import registry
from bench.commands import listing


@pytest.mark.parametrize("name", list(registry.known("generator")))
def test_every_model_is_described_by_a_sentence(name):
    sentence = listing.first_line(registry.PLUGINS["generator"][name])
    assert re.fullmatch(r"[A-Z][^`_]{30,120}\.", sentence), sentence
    assert f"{name} " in listing.list_models() and sentence in listing.list_models()


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ('def mine():\n    """Makes crystals.\n\n    More."""', "Makes crystals."),
        ('mine = partial(f)\n"""Makes crystals."""', "Makes crystals."),
        ("mine = partial(f)\nother = 3", ""),
        ("mine = partial(f)", ""),
        ('mine, other = 1, 2\n"""Two."""', ""),
    ],
)
def test_the_sentence_is_read_without_running_the_module(tmp_path, monkeypatch, code, line):
    (tmp_path / "generators_of_mine.py").write_text(f"{code}\nraise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert listing.first_line("generators_of_mine:mine") == line


def test_a_module_that_is_not_there_has_no_sentence():
    assert listing.first_line("no_such_package.generators:mine") == ""
