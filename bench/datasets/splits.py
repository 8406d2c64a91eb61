"""Perov-5, MP-20 and data sets of other packages: crystals and properties of their splits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from csv import reader
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from bench.crystals import Crystals
from bench.datasets.card import ReferenceCard, SplitCard
from bench.datasets.figures import SplitFigures
from bench.datasets.files import (
    SPLITS,
    DatasetSpec,
    DataUnavailable,
    Split,
    SplitFile,
    canonical_name,
    dataset_spec,
    find_file,
    require_file,
)
from bench.datasets.formulas import FormulaSet
from bench.datasets.histograms import CrystalCounts
from bench.datasets.parsed import parse_published
from bench.errors import one_line

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    import pyarrow as pa


def load_split(dataset: str, split: Split, workers: int = 2, download: bool = True) -> Crystals:
    """The crystals of a split in the order of its file, Niggli-reduced as the published evaluations take them.

    Found below BENCH_DATA_DIR or downloaded; parsed by that many processes the first time and cached by content.
    DataUnavailable where the file is nowhere (download False: not at hand); ValueError naming a row without a crystal.
    """
    spec = dataset_spec(dataset)
    file = require_file(spec, _known(split)) if download else _file_at_hand(spec, _known(split))
    return _crystals(spec, split, file, workers, None)


def load_properties(dataset: str, split: Split, columns: Sequence[str]) -> pa.Table:
    """Columns of a split's file, a row for each crystal of `load_split` (heat_all and formation energies in eV/atom).

    Numbers come as float64, null where the file has none; material_id, cif and formulas as strings.
    ValueError lists the columns that the file has.
    """
    spec = dataset_spec(dataset)
    return _columns(require_file(spec, _known(split)), columns)


def split_hash(dataset: str, split: Split) -> str:
    """Git blob SHA-1 of the split's unpacked file as it is at hand. DataUnavailable where it is not (no download)."""
    return _file_at_hand(dataset_spec(dataset), _known(split)).blob


@dataclass(frozen=True)
class SplitSummary:
    """What `prepare` found of one split. blob: git blob SHA-1; published: whether that is a published one."""

    split: Split
    path: str
    rows: int
    blob: str
    published: bool


def prepare(
    dataset: str, workers: int = 2, on_progress: Callable[[str, int, int], None] | None = None
) -> list[SplitSummary]:
    """Finds or downloads, verifies and parses all splits of a data set; what stands behind `bench data NAME`.

    on_progress is called with (split, crystals done, crystals in all) while a split is parsed.
    """
    spec = dataset_spec(dataset)
    summaries = []
    for split in SPLITS:
        file = require_file(spec, split)
        report = functools.partial(on_progress, split) if on_progress is not None else None
        rows = len(_crystals(spec, split, file, workers, report))
        summaries.append(SplitSummary(split, str(file.path), rows, file.blob, file.published))
    return summaries


@functools.cache
def reference_card(dataset: str) -> ReferenceCard:
    """The card of a data set as it is shipped in a package; needs no data. ValueError where it is not there yet."""
    spec = dataset_spec(dataset)
    folder = reference_folder(dataset)
    if spec.reference is not None and not (folder / f"{spec.name}.json").is_file():
        command = f"python -m bench data {spec.name} --reference {spec.reference}"
        raise ValueError(f"{spec.title} has no reference card in {spec.reference}; make it with `{command}`")
    return ReferenceCard.read(folder, spec.name)


def write_reference_card(dataset: str, folder: Path) -> ReferenceCard:
    """Computes the card of a data set from its files and writes it into a folder."""
    spec = dataset_spec(dataset)
    splits = {s.split: SplitCard(s.rows, s.blob, s.published) for s in prepare(dataset)}
    card = ReferenceCard.from_crystals(spec, splits, load_split(dataset, "train"), load_split(dataset, "test"))
    card.write(folder)
    return card


@functools.cache
def split_figures(dataset: str) -> SplitFigures | None:
    """What the tasks say of a data set's test split as it is shipped in a package, None where it is not yet known."""
    spec = dataset_spec(dataset)
    return SplitFigures.read(reference_folder(dataset), spec.name)


@functools.cache
def split_counts(dataset: str) -> CrystalCounts:
    """How the crystals of a data set's test split are distributed, as it is shipped in a package; needs no data."""
    spec = dataset_spec(dataset)
    return CrystalCounts.read(reference_folder(dataset), spec.name)


def write_split_counts(dataset: str, folder: Path) -> CrystalCounts:
    """Counts the crystals of a data set's test split from its file and writes the counts into a folder."""
    counts = CrystalCounts.of(load_split(dataset, "test"))
    counts.write(folder, canonical_name(dataset))
    return counts


@functools.cache
def training_formulas(dataset: str) -> FormulaSet:
    """The reduced formulas of a data set's training split as they are shipped in a package, hashed; needs no data."""
    spec = dataset_spec(dataset)
    return FormulaSet.read(reference_folder(dataset), spec.name)


def write_training_formulas(dataset: str, folder: Path) -> FormulaSet:
    """Computes the formulas of a data set's training split from its file and writes them into a folder."""
    formulas = FormulaSet.of(load_split(dataset, "train"))
    formulas.write(folder, canonical_name(dataset))
    return formulas


def reference_folder(dataset: str) -> Path | Traversable:
    """Where the reference card of a data set lies, and whatever else is known of its splits without having them."""
    spec = dataset_spec(dataset)
    return resources.files("bench") / "reference" if spec.reference is None else spec.reference


def _known(split: str) -> Split:
    for known in SPLITS:
        if split == known:
            return known
    raise ValueError(f"unknown split {split!r}; known are {', '.join(SPLITS)}")


def _file_at_hand(spec: DatasetSpec, split: Split) -> SplitFile:
    found = find_file(spec, split)
    if found is None:
        raise DataUnavailable(
            f"{spec.title} {split}: the crystals are not at hand; get them with `python -m bench data {spec.name}`"
        )
    return found


def _crystals(
    spec: DatasetSpec, split: Split, file: SplitFile, workers: int, on_progress: Callable[[int, int], None] | None
) -> Crystals:
    cifs = _columns(file, ["cif"])["cif"].to_pylist()
    filtered = parse_published(cifs, workers, on_progress)
    for row, reason in filtered.reasons.items():
        raise ValueError(
            f"{spec.title} {split}: row {row} of {file.path} holds no crystal: {reason}; repair or remove it"
        )
    return filtered.crystals


TEXT_COLUMNS = ("material_id", "cif", "cif.conv", "formula", "pretty_formula", "elements")


def _columns(file: SplitFile, columns: Sequence[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv as csv

    first_line = file.content[: file.content.find(b"\n")].decode("utf-8-sig", "replace").strip()
    header = next(reader([first_line]), [])  # names may stand in quotes
    unknown = [name for name in columns if name not in header]
    if unknown:
        raise ValueError(f"{file.path}: no column {', '.join(unknown)}; it has {', '.join(filter(None, header))}")
    types = {name: pa.string() if name in TEXT_COLUMNS else pa.float64() for name in columns}
    try:
        return csv.read_csv(
            pa.py_buffer(file.content),
            read_options=csv.ReadOptions(use_threads=False, block_size=len(file.content) + 1),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(include_columns=list(columns), column_types=types),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file.path}: {one_line(error)}") from error
