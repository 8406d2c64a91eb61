"""Reference cards: what the tasks and reports need to know of a data set without having it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.arrays import FloatArray, IntArray
from bench.atomic import write_text
from bench.crystals import MAX_ATOMIC_NUMBER, Crystals
from bench.datasets.counts import dense, sparse
from bench.datasets.files import DatasetSpec, Split
from bench.errors import one_line

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

FORMAT = 1


@dataclass(frozen=True)
class SplitCard:
    """One split's file. rows: its crystals. blob: its git blob SHA-1; published: whether that is a published one."""

    rows: int
    blob: str
    published: bool


@dataclass(frozen=True, eq=False)
class Distribution:
    """Properties of one split's crystals, in ascending order of density.

    density: (n,) g/cm^3. num_elements: (n,) different elements of the same crystals.
    """

    density: FloatArray
    num_elements: IntArray

    @classmethod
    def of(cls, crystals: Crystals) -> Distribution:
        """The distribution of these crystals."""
        density, num_elements = crystals.densities, crystals.num_elements
        order = np.lexsort((num_elements, density))
        return cls(density[order], num_elements[order])

    def __len__(self) -> int:
        return len(self.density)


@dataclass(frozen=True, eq=False)
class ReferenceCard:
    """Counts, hashes and distributions of a data set.

    splits: by "train", "val", "test". train, test: distributions of those splits.
    num_atoms_counts: (max N + 1,) crystals of the training split by their number of atoms.
    element_counts: (119,) atoms of the training split by atomic number. note: what sets the data apart from the
    published files, empty if nothing does.
    """

    dataset: str
    title: str
    citation: str
    note: str
    splits: Mapping[Split, SplitCard]
    train: Distribution
    test: Distribution
    num_atoms_counts: IntArray
    element_counts: IntArray

    @property
    def num_atoms_probabilities(self) -> FloatArray:
        """(max N + 1,) p(N) of the training split, from which the published ab initio evaluations draw N."""
        return np.asarray(self.num_atoms_counts / self.num_atoms_counts.sum())

    @cached_property
    def sha256(self) -> str:
        """Hash of everything on the card."""
        digest = hashlib.sha256(json.dumps(self._content(), sort_keys=True).encode())
        for distribution in (self.train, self.test):
            digest.update(distribution.density.astype("<f8").tobytes())
            digest.update(distribution.num_elements.astype("<i8").tobytes())
        return digest.hexdigest()

    def _content(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "dataset": self.dataset,
            "title": self.title,
            "citation": self.citation,
            "note": self.note,
            "splits": {
                split: {"rows": card.rows, "git_blob_sha1": card.blob, "published": card.published}
                for split, card in self.splits.items()
            },
            "num_atoms_counts": sparse(self.num_atoms_counts),
            "element_counts": sparse(self.element_counts),
        }

    @classmethod
    def from_crystals(
        cls, spec: DatasetSpec, splits: Mapping[Split, SplitCard], train: Crystals, test: Crystals
    ) -> ReferenceCard:
        """The card of these training and test crystals."""
        altered = [split for split, card in splits.items() if not card.published]
        note = (
            f"Made from files of {', '.join(altered)} that are not byte-identical with the published ones; "
            "the row counts and hashes are of the files used."
        )
        return cls(
            spec.name,
            spec.title,
            spec.citation,
            note if altered else "",
            splits,
            Distribution.of(train),
            Distribution.of(test),
            np.bincount(train.num_atoms),
            np.bincount(train.atomic_numbers, minlength=MAX_ATOMIC_NUMBER + 1),
        )

    def write(self, folder: Path) -> None:
        """Writes NAME.json and NAME.parquet into the folder."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            {
                "split": ["train"] * len(self.train) + ["test"] * len(self.test),
                "density": np.concatenate([self.train.density, self.test.density]),
                "num_elements": np.concatenate([self.train.num_elements, self.test.num_elements]).astype(np.int8),
            }
        )
        pq.write_table(
            table,
            folder / f"{self.dataset}.parquet",
            compression="zstd",
            use_dictionary=["split", "num_elements"],
            column_encoding={"density": "BYTE_STREAM_SPLIT"},
        )
        text = json.dumps({**self._content(), "sha256": self.sha256}, indent=1)
        write_text(folder / f"{self.dataset}.json", text + "\n")

    @classmethod
    def read(cls, folder: Path | Traversable, dataset: str) -> ReferenceCard:
        """The card of that data set in a folder. ValueError where it is absent, damaged or of another format."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        place = folder / f"{dataset}.json"
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']}, not {FORMAT}")
            table = pq.read_table(pa.BufferReader((folder / f"{dataset}.parquet").read_bytes()))
            names = table["split"].to_numpy()
            density, num_elements = table["density"].to_numpy(), table["num_elements"].to_numpy().astype(np.int64)
            train, test = (Distribution(density[names == s], num_elements[names == s]) for s in ("train", "test"))
            card = cls(
                content["dataset"],
                content["title"],
                content["citation"],
                content["note"],
                {
                    split: SplitCard(entry["rows"], entry["git_blob_sha1"], entry["published"])
                    for split, entry in content["splits"].items()
                },
                train,
                test,
                num_atoms_counts=dense(content["num_atoms_counts"]),
                element_counts=dense(content["element_counts"], MAX_ATOMIC_NUMBER + 1),
            )
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise ValueError(f"{place}: not a readable reference card ({one_line(error)})") from error
        if card.sha256 != content.get("sha256"):
            raise ValueError(f"{place}: the card and its distributions do not belong together; write both anew")
        return card
