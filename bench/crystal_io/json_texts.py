"""Crystals in JSON texts of many forms, as a stream: one value in memory at a time."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from bench.crystal_io.streams import MAX_JSON_CHARACTERS, CifText, Missing, Place
from bench.crystal_io.structure_dicts import Repeated, crystal_of, holds_structure, structure_column
from bench.crystals import Crystals
from bench.errors import one_line

LISTS = ("structures", "entries", "crystals", "data")  # keys under which programs keep a list of crystals
COLUMNS = ("structure", "cif")
NOTES = ("ids", "nextid", "meta", "metadata", "info", "settings", "config", "description", "version", "provenance")
_CHUNK = 2**16  # characters; most structures of a list fit
_SPACE = re.compile(r"[ \t\n\r]*")
_JSON_STRUCTURE = re.compile(r"\s*\{")


def read_json(text: TextIO, name: str) -> Iterator[Place]:
    """The crystals of a JSON text: one, a list of them, or a dictionary that holds them.

    One is what `crystal_of` reads. A dictionary holds them by an id of each, as a list (`structures`, `entries`) or as
    pandas writes a table with a column `structure` or `cif` (by columns, split, or as a table with a schema).
    ValueError where the text is no JSON or both an entry and a collection.
    """
    ahead = JsonAhead(text)
    first = ahead.peek()
    if first == "[":
        yield from _listed(ahead)
    elif first == "{":
        yield from _members(ahead, name)
    else:
        yield name, crystal_of(ahead.value(""))
    if ahead.peek():
        raise ValueError("not JSON (text behind its end); one value a file: of JSON lines make a list")


def structure_json(text: str) -> Crystals | CifText | Missing:
    """The crystal of a table's cell that holds JSON."""
    try:
        return crystal_of(json.loads(text, object_pairs_hook=_dictionary))
    except (ValueError, RecursionError) as error:
        return Missing(f"not JSON ({one_line(error)})")


def _dictionary(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of keys with their values; without any where one stands twice."""
    content = dict(members)
    if len(content) < len(members):
        return Repeated(Counter(key for key, _ in members).most_common(1)[0][0])
    return content


def _listed(ahead: JsonAhead, word: str = "structure") -> Iterator[Place]:
    for number, entry in enumerate(ahead.items()):
        yield f"{word} {number}", _entry(entry)


def _entry(content: Any) -> Crystals | CifText | Missing:
    if isinstance(content, str) and _JSON_STRUCTURE.match(content):
        return structure_json(content)
    return crystal_of(content)


def _members(ahead: JsonAhead, name: str) -> Iterator[Place]:
    """The crystals of a dictionary, whatever its form; those of a collection are passed on as they come."""
    own: dict[str, Any] = {}  # what describes the dictionary itself, or its one crystal
    lost: list[str] = []  # members where those of a collection by ids have a crystal
    by_id = listed = 0
    for key in ahead.members():
        following = ahead.peek()
        whole = own.keys() & {"structure", "cif", "sites"}
        if key in LISTS and following == "[" and not whole and "columns" not in own:
            for place, entry in _listed(ahead, "row" if key == "data" else "structure"):
                listed += 1
                yield place, entry
        elif key in COLUMNS and following == "{" and not whole and not by_id:
            yield from _structure_or_column(ahead, key, name)
            own[key] = None
        else:
            value = ahead.value(f"{key[:40]}: ")
            if key in COLUMNS:
                if value is not None and own.keys() & {*COLUMNS}:
                    raise ValueError("both structure and cif, perhaps of different crystals; keep one of the two")
                own.setdefault(key, value)
            elif isinstance(value, Repeated) and (_is_field(key) or _is_note(key)):
                own[key] = value
            elif whole and key in LISTS and isinstance(value, list) and any(map(holds_structure, value)):
                raise ValueError(f"both a structure and a list of structures ({key}); keep one of the two")
            elif whole or listed:  # what stands beside crystals that were passed on is not kept
                own[key] = None if listed or whole & {*COLUMNS} else value
            elif holds_structure(value) or _is_cif(value):
                by_id += 1
                yield key, _entry(value)
            else:
                own[key] = None if by_id else value  # what stands beside a collection is not kept
                lost += [key] if isinstance(value, Mapping) or value is None else []
        if ahead.characters > MAX_JSON_CHARACTERS and own and not by_id + listed and not own.keys() & set(COLUMNS):
            raise ValueError(f"more than {MAX_JSON_CHARACTERS} characters and no structure")
    if by_id and own.keys() & {"structure", "cif", "sites"}:
        raise ValueError("both a structure and structures by their ids; keep one of the two")
    if "columns" in own and isinstance(own.get("data"), list):
        yield from _split_table(own)
    elif by_id:
        yield from ((key, Missing("holds no structure")) for key in lost if not _is_note(key))
    elif not listed and not any(key in own and own[key] is None for key in COLUMNS):
        yield name, _entry(own)


def _is_note(key: str) -> bool:
    """Whether a member beside structures by their ids is about the collection, as in ASE's data base."""
    return key.startswith(("@", "_")) or key.lower() in NOTES


def _is_cif(value: Any) -> bool:
    return isinstance(value, str) and "_cell_length_a" in value


def _structure_or_column(ahead: JsonAhead, key: str, name: str) -> Iterator[Place]:
    """What stands under `structure`: one crystal, or a table's column by the rows' names."""
    single: dict[str, Any] = {}
    rows = 0
    for member in ahead.members():
        value = ahead.value(f"{member[:40]}: ")
        if not single and (holds_structure(value) or isinstance(value, str) or value is None) and not _is_field(member):
            rows += 1
            yield f"row {member}", Missing("is empty") if value is None else _entry(value)
        else:
            single[member] = value
    if single and rows:
        raise ValueError(f"{key}: both a structure and a column of structures")
    if single or not rows:
        yield name, crystal_of(single)


def _is_field(member: str) -> bool:
    """Whether a name is one of a structure's own fields."""
    fields = ("charge", "lattice", "sites", "properties", "numbers", "positions", "cell")
    return member in fields or member.startswith("@")


def _split_table(fields: Mapping[str, Any]) -> Iterator[Place]:
    """Pandas' `split` form: names of columns, and rows."""
    columns, rows = fields["columns"], fields["data"]
    place = columns.index(structure_column([str(column) for column in columns]))
    for number, row in enumerate(rows):
        short = not isinstance(row, list) or place >= len(row) or row[place] is None
        yield f"row {number}", Missing("is empty") if short else _entry(row[place])


class JsonAhead:
    """A JSON text of which only the value that comes next is in memory. characters: read so far."""

    def __init__(self, text: TextIO) -> None:
        self._rest = text
        self._decoder = json.JSONDecoder(object_pairs_hook=_dictionary)
        self._text = ""
        self._place = 0  # in what is in memory
        self.characters = 0

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            self._place = _SPACE.match(self._text, self._place).end()  # type: ignore[union-attr]  # matches nothing too
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._more(_CHUNK):
                return ""

    def items(self) -> Iterator[Any]:
        """The entries of the list that begins here, each read when it is asked for."""
        for number in self._separated("]", "list"):
            yield self.value(f"structure {number}: ")

    def members(self) -> Iterator[str]:
        """The keys of the dictionary that begins here; whoever iterates reads the value behind each."""
        seen: set[str] = set()
        for _ in self._separated("}", "dictionary"):
            key = self.value("")
            if not isinstance(key, str) or self.peek() != ":":
                raise ValueError(f"not JSON (no key with its value where {str(key)[:40]!r} stands)")
            if key in seen:
                raise ValueError(f"the key {key[:80]!r} stands twice in one dictionary; keep one of them")
            seen.add(key)
            self._place += 1
            yield key

    def _separated(self, end: str, what: str) -> Iterator[int]:
        self._place += 1
        number = 0
        following = self.peek()
        while following != end:
            yield number
            following = self.peek()
            if following not in (",", end):
                raise ValueError(f"not JSON (neither , nor {end} behind entry {number} of a {what})")
            self._place += following == ","
            number += 1
        self._place += 1

    def value(self, what: str) -> Any:
        """The next value. ValueError, beginning with `what`, where there is none."""
        self.peek()
        while True:
            complete, recursion = False, False
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
                complete = end < len(self._text)
                fault = "it has no end"
            except ValueError as error:
                fault = one_line(error)
            except RecursionError:
                fault, recursion = "nested too deeply", True
            if complete:
                self._place = end
                return value
            ahead = len(self._text) - self._place
            if ahead > MAX_JSON_CHARACTERS:
                raise ValueError(f"{what}more than {MAX_JSON_CHARACTERS} characters, or not JSON ({fault})")
            # Perhaps the value goes on. Twice as much each time keeps the work in proportion to the text.
            if recursion or not self._more(max(ahead, _CHUNK)):
                raise ValueError(f"{what}not JSON ({fault})")

    def _more(self, size: int) -> bool:
        more = self._rest.read(size)
        self.characters += len(more)
        self._text, self._place = self._text[self._place :] + more, 0
        return bool(more)
