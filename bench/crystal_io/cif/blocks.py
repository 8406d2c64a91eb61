"""CIF texts: their blocks, as a stream, and the items of a block by gemmi's strict parser."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO, cast

import gemmi

from bench.crystal_io.streams import MAX_CIF_CHARACTERS, CifText, Missing, Place, bounded_lines

# What programs and editors put where CIF, which is ASCII, has a sign: each is read as that sign. All else becomes ~,
# which stands in no number, symbol or operator.
_SIGNS = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"),
    **dict.fromkeys("\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a", " "),
    **dict.fromkeys("\u202f\u205f\u3000\x0b\x0c", " "),
    **dict.fromkeys("\u2028\u2029\x85", "\n"),
    **dict.fromkeys("\u200b\u2060\ufeff", ""),
    **dict.fromkeys("\u2018\u2019", "'"),
    **dict.fromkeys("\u201c\u201d", '"'),
}
_SIGN = re.compile("[^\x00-\x0a\x0d-\x7f]")
_CRYSTAL = re.compile(r"(?:^|\s)_(?:cell[_.]length_a|atom_site[_.](?:fract|cartn)_x)(?=\s|$)", re.IGNORECASE)
_QUOTES = ("'", '"', ";")


def read_cif(text: TextIO, name: str) -> Iterator[Place]:
    """The blocks of a CIF text, those without cell and atoms (publication data) left out where others have them."""
    yield from _named_blocks(text, name)


def _named_blocks(text: TextIO, name: str) -> Iterator[tuple[str, CifText | Missing]]:
    first: CifText | Missing | None = None  # kept back: its name depends on whether a second one follows
    nothing: CifText | Missing = Missing("is empty")
    number = 0
    for block, is_crystal in _blocks(text):
        if not is_crystal:
            nothing = block
            continue
        if number == 1 and first is not None:
            yield f"{name} block 0", first
        if number:
            yield f"{name} block {number}", block
        else:
            first = block
        number += 1
    if number <= 1:
        yield name, first or nothing


def _blocks(text: TextIO) -> Iterator[tuple[CifText | Missing, bool]]:
    """Each data block, or what stands before the first, and whether it has a cell or atoms."""
    lines: list[str] = []
    length, is_crystal, in_text_field = 0, False, False
    for line in bounded_lines(text, MAX_CIF_CHARACTERS):
        if line.startswith(";"):
            in_text_field = not in_text_field
        elif not in_text_field:
            if line.lstrip("\ufeff \t").lower().startswith("data_"):
                if lines:
                    yield _block(lines, length), is_crystal
                lines, length, is_crystal = [], 0, False
            is_crystal = is_crystal or ("_" in line and _CRYSTAL.search(line) is not None)
        length += len(line) + 1
        if length <= MAX_CIF_CHARACTERS:
            lines.append(line)
        elif not lines:
            lines.append("")
    if lines:
        if in_text_field and length <= MAX_CIF_CHARACTERS:
            yield Missing("a text field (a line that starts with ;) has no end; close or remove it"), True
        else:
            yield _block(lines, length), is_crystal


def _block(lines: list[str], length: int) -> CifText | Missing:
    if length > MAX_CIF_CHARACTERS:
        return Missing(f"more than {MAX_CIF_CHARACTERS} characters of CIF, which are not parsed")
    return cif_text("\n".join(lines) + "\n")


def cif_text(text: str) -> CifText | Missing:
    """A CIF text, or why it is not parsed."""
    if len(text) > MAX_CIF_CHARACTERS:
        return Missing(f"{len(text)} characters of CIF; at most {MAX_CIF_CHARACTERS} are parsed")
    return CifText(text) if text.strip() else Missing("is empty")


def only_block(text: str) -> CifText | Missing:
    """The one crystal of a text that holds one."""
    blocks = [entry for _, entry in _named_blocks(io.StringIO(text), "")]
    return blocks[0] if len(blocks) == 1 else Missing(f"{len(blocks)} crystals where one belongs")


@dataclass(frozen=True)
class CifItems:
    """The items of a data block.

    values: tag -> value or, in a loop, values, as they are written but for quotes. Tags are in small letters with _ for
    the dots of newer dictionaries. loops: tag -> number of the loop in which it stands.
    """

    values: dict[str, str | list[str]]
    loops: dict[str, int]

    def one(self, *tags: str) -> str | None:
        """The value of the first of the tags that has one, None where each is absent, `.` or `?`."""
        for tag in tags:
            value = self.values.get(tag)
            if isinstance(value, list):
                if len(set(value)) > 1:
                    raise ValueError(f"{tag} has {len(value)} values, where one belongs")
                value = value[0] if value else None
            if value is not None and value not in (".", "?", ""):
                return value
        return None

    def column(self, tag: str) -> list[str] | None:
        """The values of a tag in a loop, or the one value of a tag without."""
        value = self.values.get(tag)
        return [value] if isinstance(value, str) else value


def parse_block(text: str) -> CifItems:
    """The items of a text of one data block. ValueError where its syntax is wrong, or a tag stands there twice."""
    if not text.isascii() or "\x0b" in text or "\x0c" in text:
        text = _SIGN.sub(lambda sign: _SIGNS.get(sign[0], "~"), text)
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"not CIF: {_fault(str(error), text)}") from error
    if len(document) != 1:
        raise ValueError(f"{len(document)} data blocks where one belongs")
    values: dict[str, str | list[str]] = {}
    loops: dict[str, int] = {}
    for number, item in enumerate(document[0]):
        pair = cast("tuple[str, str] | None", item.pair)
        if pair is not None:  # an item is a pair, a loop or, passed over, a frame
            tag, value = pair
            _add(values, tag, _unquoted(value) if value[:1] in _QUOTES else value)
        elif (loop := item.loop) is not None:
            tags, width = loop.tags, loop.width()
            cells = [_unquoted(cell) if cell[:1] in _QUOTES else cell for cell in loop.values]
            for column, tag in enumerate(tags):
                loops[_add(values, tag, cells[column::width])] = number
    return CifItems(values, loops)


def _unquoted(value: str) -> str:
    return str(gemmi.cif.as_string(value)).strip()


@functools.lru_cache(maxsize=1000)
def _plain_tag(tag: str) -> str:
    return tag.lower().replace(".", "_")


def _add(values: dict[str, str | list[str]], tag: str, value: str | list[str]) -> str:
    plain = _plain_tag(tag)
    if values.setdefault(plain, value) is not value and values[plain] != value:
        raise ValueError(f"{tag} stands there twice, with different values; remove one of them")
    return plain


def _fault(said: str, text: str) -> str:
    """What gemmi says of a text, without its name for it, with what stands there and the remedy where there is one."""
    where = re.match(r"string:(\d+)(?::\S*)?(?: in data_\S*)?:? ?(.*)", said, re.DOTALL)
    fault = f"line {where[1]}: {where[2].lstrip()}" if where else said.removeprefix("string: ")
    if "duplicate tag" in fault:
        fault += " stands there twice; remove one of them"
    elif where and where[2].strip() == "parse error":
        line = text.split("\n")[int(where[1]) - 1].strip()[:60]
        fault += f" at {line!r}; a value with blanks needs quotes"
    return fault


_DIGITS = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"  # no digit can match in two ways: a long one takes no long time
_PLAIN = re.compile(rf"(?:{_DIGITS} )*{_DIGITS}\Z", re.ASCII)
_NUMBER = re.compile(rf"({_DIGITS}(?:[eE][+-]?\d+)?)(?:\(\d+\))?\Z", re.ASCII)


def numbers_of(texts: Sequence[str], tags: Sequence[str]) -> list[float]:
    """The numbers, their uncertainties in brackets left out. ValueError naming the first that is none.

    tags: of each, or the one of a column.
    """
    if _PLAIN.match(" ".join(texts)):
        return list(map(float, texts))
    found = [_NUMBER.match(text) for text in texts]
    for place, (text, match) in enumerate(zip(texts, found, strict=True)):
        if match is None:
            what = tags[place] if len(tags) > 1 else f"{tags[0]} of atom site {place + 1}"
            raise ValueError(f"{what} is {text[:40]!r}, not a number")
    return [float(match[1]) for match in found if match is not None]
