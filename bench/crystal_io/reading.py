"""Crystals from files of all kinds that are read, with a name or a reason for each place in them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.arrays import IntArray
from bench.crystal_io.cif import parse_cifs, plain_crystal, read_cif
from bench.crystal_io.eval_gen import read_eval_gen
from bench.crystal_io.extxyz import read_extxyz
from bench.crystal_io.folders import read_folder, read_zip
from bench.crystal_io.json_texts import read_json
from bench.crystal_io.parquet_tables import read_parquet
from bench.crystal_io.streams import MAX_ATOMS, MAX_PLACES, CifText, Missing, Place, Remark, open_text, printable
from bench.crystal_io.texts import read_csv
from bench.crystals import Crystals, FilteredCrystals
from bench.errors import reason_of

TEXT_READERS = {".cif": read_cif, ".extxyz": read_extxyz, ".xyz": read_extxyz, ".json": read_json, ".csv": read_csv}
PARSED_CHARACTERS = 2**25  # of CIFs that are in memory at a time
PARSED_TEXTS = 4096
MAX_NAME, MAX_REASON = 300, 500  # characters


@dataclass(frozen=True)
class ReadResult:
    """What a file held.

    names: (requested,) where each place lies in it ("a/0017.cif", "frame 3", "row 12"), all different.
    sampling_seconds: what making all of them took, where the file says it.
    remarks: what was not read as it stands there -> how many crystals. unread: which files in it were not read at all
    -> how many.
    """

    filtered: FilteredCrystals
    names: tuple[str, ...]
    sampling_seconds: float | None = None
    remarks: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.names) != self.filtered.requested:
            raise ValueError(f"{len(self.names)} names for {self.filtered.requested} places")

    def reasons(self) -> dict[str, str]:
        """Name -> why there is no crystal."""
        return {self.names[place]: reason for place, reason in self.filtered.reasons.items()}


def read_crystals(path: str | Path, workers: int = 1, every_evaluation: bool = False) -> ReadResult:
    """All crystals of a file or folder; what cannot be read there is a reason and costs nothing else.

    A CIF file, a folder or zip of CIF or extended XYZ files, extended XYZ with all its frames, pymatgen's JSON (one
    structure or a list), CSV (a `cif` or `structure` column), each of them also as .gz, Parquet (our tables, or such a
    column) and `eval_gen*.pt` of CDVAE and DiffCSP. Cells are taken as they are given. Memory is bounded by the number
    of crystals, not by what the file claims; a crystal of more than MAX_ATOMS atoms is a reason. workers: processes
    that parse CIFs. every_evaluation: of a file of tensors that has several; else the first. ValueError where the whole
    is not what its name says or holds no crystal at all.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # parsers warn of rounded coordinates and unknown keys
            result = _read(path, workers, every_evaluation)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {printable(reason_of(error), MAX_REASON)}") from error
    if len(result.filtered.crystals) == 0:
        first = next(iter(result.reasons().items()), None)
        why = f": none of its {len(result.names)} could be read; {first[0]}: {first[1]}" if first else ""
        raise ValueError(f"{path}: holds no crystal{why}")
    return result


def _read(path: Path, workers: int, every_evaluation: bool) -> ReadResult:
    if not path.is_file() and not path.is_dir():
        raise ValueError("neither a file nor a folder")
    if path.suffix.lower() in (".pt", ".pth"):
        found = read_eval_gen(path, every_evaluation)
        remarks = [Remark(*remark) for remark in found.remarks.items()]
        return _collected([found.filtered, *remarks], "crystal", workers, found.sampling_seconds)
    return _collected(_places(path), "row", workers)


def _places(path: Path) -> Iterator[Place | FilteredCrystals | Remark]:
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if path.is_dir():
        yield from read_folder(path)
    elif suffix in TEXT_READERS:
        with open_text(path) as text:
            yield from TEXT_READERS[suffix](text, "" if suffix in (".extxyz", ".xyz") else path.name)
    elif name.endswith(".zip"):
        yield from read_zip(path)
    elif name.endswith(".parquet"):
        yield from read_parquet(path)
    else:
        known = ", ".join(TEXT_READERS)
        raise ValueError(
            f"unknown kind of file; known are {known} (each also .gz), .zip, .parquet, .pt and folders. Of many others "
            f"(POSCAR, .traj, .db) `ase convert {path.name} crystals.extxyz` makes one"
        )


def _collected(
    places: Iterable[Place | FilteredCrystals | Remark], word: str, workers: int, sampling_seconds: float | None = None
) -> ReadResult:
    """All places together. word: what a place is called that comes without a name."""
    found = _Collection(workers)
    for entry in places:
        if isinstance(entry, FilteredCrystals):
            found.add_many(entry, word)
        elif isinstance(entry, Remark):
            (found.unread if entry.of_files else found.remarks)[entry.text] += entry.count
        else:
            found.add(*entry)
        if len(found.names) > MAX_PLACES:
            raise ValueError(f"holds more than {MAX_PLACES} crystals; split it")
    filtered = found.filtered()
    return ReadResult(filtered, tuple(found.names), sampling_seconds, dict(found.remarks), dict(found.unread))


@dataclass
class _Collection:
    """Crystals and reasons in the order in which they come; CIFs wait a while, so that they are parsed together."""

    workers: int
    names: list[str] = field(default_factory=list)
    _crystals: list[Crystals] = field(default_factory=list)
    _indices: list[IntArray] = field(default_factory=list)
    _reasons: dict[int, str] = field(default_factory=dict)
    _waiting: dict[int, Crystals | CifText] = field(default_factory=dict)
    _characters: int = 0
    _taken: dict[str, int] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, entry: Crystals | CifText | Missing) -> None:
        """One place; a name that is taken gets a number."""
        place = len(self.names)
        count = self._taken[name] = self._taken.get(name, 0) + 1
        self.names.append(printable(name, MAX_NAME) + (f" (no. {count} of this name)" if count > 1 else ""))
        if isinstance(entry, Missing):
            self._lost(place, entry.reason)
            return
        self._waiting[place] = entry
        self._characters += len(entry.text) if isinstance(entry, CifText) else 0
        if len(self._waiting) >= PARSED_TEXTS or self._characters >= PARSED_CHARACTERS:
            self._parse()

    def add_many(self, filtered: FilteredCrystals, word: str) -> None:
        """Places that are arrays already."""
        self._parse()
        start = len(self.names)
        self.names.extend(f"{word} {start + place}" for place in range(filtered.requested))
        self._append(filtered, np.arange(start, start + filtered.requested))

    def filtered(self) -> FilteredCrystals:
        """What became of all."""
        self._parse()
        indices = np.concatenate(self._indices) if self._indices else np.zeros(0, dtype=np.int64)
        return FilteredCrystals(Crystals.concatenate(self._crystals), indices, dict(sorted(self._reasons.items())))

    def _lost(self, place: int, reason: str) -> None:
        self._reasons[place] = printable(reason, MAX_REASON)

    def _parse(self) -> None:
        waiting, self._waiting, self._characters = self._waiting, {}, 0
        texts = {place: entry.text for place, entry in waiting.items() if isinstance(entry, CifText)}
        done = parse_cifs(list(texts.values()), plain_crystal, self.workers)
        self.remarks.update(done.remarks)
        parsed = done.filtered
        places = np.array(list(texts), dtype=np.int64)
        crystals = {place: entry for place, entry in waiting.items() if isinstance(entry, Crystals)}
        crystals |= {int(places[row]): parsed.crystals[n] for n, row in enumerate(parsed.indices)}
        for row, reason in parsed.reasons.items():
            self._lost(int(places[row]), reason)
        there = np.array(sorted(crystals), dtype=np.int64)
        whole = Crystals.concatenate([crystals[int(place)] for place in there])
        self._append(FilteredCrystals.complete(whole), there)

    def _append(self, filtered: FilteredCrystals, places: IntArray) -> None:
        """Crystals and reasons, at these places of the whole; those with too many atoms become reasons."""
        crystals, indices = filtered.crystals, places[filtered.indices]
        for row, reason in filtered.reasons.items():
            self._lost(int(places[row]), reason)
        large = crystals.num_atoms > MAX_ATOMS
        for place, count in zip(indices[large], crystals.num_atoms[large], strict=True):
            self._lost(int(place), f"has {count} atoms; at most {MAX_ATOMS} are read")
        self._crystals.append(crystals[~large] if large.any() else crystals)
        self._indices.append(indices[~large])
