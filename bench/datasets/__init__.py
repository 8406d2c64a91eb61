"""Perov-5, MP-20 and data sets of other packages: crystals and properties of their splits."""

from bench.datasets.card import ReferenceCard
from bench.datasets.figures import SplitFigures
from bench.datasets.files import (
    DATASETS,
    SPLITS,
    DatasetSpec,
    DataUnavailable,
    Split,
    canonical_name,
    dataset_spec,
    known_datasets,
)
from bench.datasets.formulas import FormulaSet, formula_hashes, hashes_of
from bench.datasets.histograms import BINS, CrystalCounts
from bench.datasets.parsed import cache_dir, kept
from bench.datasets.splits import (
    SplitSummary,
    load_properties,
    load_split,
    prepare,
    reference_card,
    reference_folder,
    split_counts,
    split_figures,
    split_hash,
    training_formulas,
    write_reference_card,
    write_split_counts,
    write_training_formulas,
)

__all__ = [
    "BINS",
    "DATASETS",
    "SPLITS",
    "CrystalCounts",
    "DataUnavailable",
    "DatasetSpec",
    "FormulaSet",
    "ReferenceCard",
    "Split",
    "SplitFigures",
    "SplitSummary",
    "cache_dir",
    "canonical_name",
    "dataset_spec",
    "formula_hashes",
    "hashes_of",
    "kept",
    "known_datasets",
    "load_properties",
    "load_split",
    "prepare",
    "reference_card",
    "reference_folder",
    "split_counts",
    "split_figures",
    "split_hash",
    "training_formulas",
    "write_reference_card",
    "write_split_counts",
    "write_training_formulas",
]
