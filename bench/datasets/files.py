"""The published files of the data sets: where they lie, how they are found and downloaded, and their hashes."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from bench.datasets.parsed import cache_dir
from bench.errors import one_line

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

TIMEOUT_S = (5.0, 10.0)  # to connect, and between two pieces of what comes
ENTRY_POINTS = "crysldm_bench.datasets"
DIFFCSP = "https://raw.githubusercontent.com/jiaor17/DiffCSP/main/data"
CDVAE = "https://raw.githubusercontent.com/txie-93/cdvae/main/data"


class DataUnavailable(ValueError):
    """The published file of a split is nowhere at hand; the message says what was tried and what to do."""


@dataclass(frozen=True)
class DatasetSpec:
    """A data set of three files, train.csv, val.csv and test.csv, with a column `cif`.

    name: as it is typed, of small letters and digits. folder: its name below BENCH_DATA_DIR and in the published
    repositories. urls: bases of those, in the order in which they are tried. blobs: split -> git blob SHA-1s of the
    published files, any of which will do; empty where nobody publishes them, and then any file is taken as it is.
    rows: split -> published number of crystals. reference: folder of its reference card, None for the package's.
    """

    name: str
    title: str
    folder: str
    urls: tuple[str, ...] = ()
    blobs: Mapping[Split, tuple[str, ...]] = field(default_factory=dict)
    rows: Mapping[Split, int] = field(default_factory=dict)
    citation: str = ""
    reference: Path | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z0-9]+", self.name):
            raise ValueError(f"data set name {self.name!r}: use small letters and digits")
        if self.urls and set(self.blobs) != set(SPLITS):
            raise ValueError(f"data set {self.name}: what is downloaded is verified, so urls need blobs of every split")

    def accepts(self, split: Split, blob: str) -> bool:
        """Whether a file of that git blob SHA-1 is a published one, or none is published."""
        return split not in self.blobs or blob in self.blobs[split]


DATASETS: Mapping[str, DatasetSpec] = MappingProxyType(
    {
        "perov5": DatasetSpec(
            name="perov5",
            title="Perov-5",
            folder="perov_5",
            urls=(DIFFCSP, CDVAE),
            blobs={
                "train": ("62ce91686595d45d484d026bbfd14c2518b66abd", "0769074b5d51d293b765c4371b8f55c468c9c9f2"),
                "val": ("872fc814e6a513024cb923a0576d723fca25969c", "4a2c8dde98347dd0e01fa83dcf3982c2abe98f9f"),
                "test": ("cb97501bed31c8cdcb603f9b9c3a59842828c9d8", "d3c5d5af4b27a2a139149f2bb73c8a3dba9d8ac1"),
            },
            rows={"train": 11356, "val": 3787, "test": 3785},
            citation="Castelli et al. 2012, doi:10.1039/C2EE22341D; split of Xie et al. 2022, arXiv:2110.06197",
        ),
        "mp20": DatasetSpec(
            name="mp20",
            title="MP-20",
            folder="mp_20",
            urls=(DIFFCSP, CDVAE),
            blobs={
                "train": ("b1c9d498565ac2fd8d075a51ff2ef5e51ba6c21f",),
                "val": ("7efe4d7ebeb4f460ceaad35e5326c42111d9c9a1",),
                "test": ("5dc643041df53f5ce4970a79930ad262b4f07acd",),
            },
            rows={"train": 27136, "val": 9047, "test": 9046},
            citation="Jain et al. 2013, doi:10.1063/1.4812323 (CC-BY 4.0); split of Xie et al. 2022, arXiv:2110.06197",
        ),
    }
)


def known_datasets() -> dict[str, DatasetSpec]:
    """Ours, and those of other packages by entry point. ValueError where one is no spec or two have one name."""
    found = dict(DATASETS)
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            spec = entry.load()
        except (ImportError, AttributeError) as error:
            raise ValueError(f"the data set {entry.name} ({entry.value}) cannot be loaded: {error}") from error
        if not isinstance(spec, DatasetSpec) or spec.name != entry.name:
            raise ValueError(f"the data set {entry.name} ({entry.value}) is no DatasetSpec of that name")
        if found.setdefault(spec.name, spec) != spec:
            raise ValueError(f"two data sets are named {spec.name!r}, one of them {entry.value}; uninstall one of them")
    return found


def canonical_name(name: str) -> str:
    """The data set's name: "perov5" for perov5, perov_5, Perov-5. ValueError lists the known ones."""
    return dataset_spec(name).name


def dataset_spec(name: str) -> DatasetSpec:
    """The data set of that name, by any of its spellings. ValueError lists the known ones."""
    key = name.lower().replace("_", "").replace("-", "")
    if key in DATASETS:  # which needs no look at other packages
        return DATASETS[key]
    known = known_datasets()
    if key not in known:
        raise ValueError(f"unknown data set {name!r}; known are {', '.join(known)}")
    return known[key]


def git_blob_sha1(content: bytes) -> str:
    """SHA-1 of the content as git names it: of `blob <length>`, a zero byte and the content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class SplitFile:
    """One split's file, unpacked. blob: git blob SHA-1 of the content; published: whether that is a published one."""

    path: Path
    content: bytes
    blob: str
    published: bool


def find_file(spec: DatasetSpec, split: Split) -> SplitFile | None:
    """The split's file below BENCH_DATA_DIR or among the downloaded ones, unpacked; None where there is none.

    One below BENCH_DATA_DIR that is not the published one is used with one warning; a downloaded one that is not is
    passed over. ValueError where BENCH_DATA_DIR names no folder or a .gz is damaged.
    """
    named = os.environ.get("BENCH_DATA_DIR")
    if named:
        if not Path(named).is_dir():
            raise ValueError(f"BENCH_DATA_DIR={named}: no such folder; correct or unset it")
        for suffix in (".csv", ".csv.gz"):
            path = Path(named) / spec.folder / f"{split}{suffix}"
            if path.is_file():
                found = _read(spec, split, path)
                if not found.published:
                    _warn_unpublished(path, found.blob)
                return found
    path = download_path(spec, split)
    if path.is_file():
        found = _read(spec, split, path)
        return found if found.published else None
    return None


def require_file(spec: DatasetSpec, split: Split) -> SplitFile:
    """`find_file`, downloaded first where it is not at hand. DataUnavailable where that does not succeed either."""
    from requests import ConnectionError, Timeout

    found = find_file(spec, split)
    if found is not None:
        return found
    failures = []
    silent: set[str] = set()  # hosts that gave no answer are asked once
    for base in spec.urls:
        url = f"{base}/{spec.folder}/{split}.csv"
        host = urlsplit(url).netloc
        if host in silent:
            failures.append(f"{url} (the same host)")
            continue
        try:
            return _download(spec, split, url)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            failures.append(f"{url} ({_reason(error)})")
            silent |= {host} if isinstance(error, ConnectionError | Timeout) else set()
    named = os.environ.get("BENCH_DATA_DIR")
    looked = f"{Path(named) / spec.folder}" if named else "BENCH_DATA_DIR (unset)"
    raise DataUnavailable(
        f"{spec.title} {split}: not in {looked} nor {download_path(spec, split).parent}, and no download from "
        f"{' or '.join(failures)}; put {split}.csv or {split}.csv.gz into $BENCH_DATA_DIR/{spec.folder}"
    )


def _reason(error: OSError | ValueError) -> str:
    from requests import ConnectionError, Timeout

    if isinstance(error, Timeout):
        return "timed out"
    if isinstance(error, ConnectionError):
        return "no connection"
    return one_line(error)


def download_path(spec: DatasetSpec, split: Split) -> Path:
    """Where a downloaded file is kept."""
    return cache_dir() / "downloads" / spec.folder / f"{split}.csv"


def _download(spec: DatasetSpec, split: Split, url: str) -> SplitFile:
    """Fetches one file and keeps it if it is a published one; ValueError if not, OSError without a connection."""
    import pooch

    final = download_path(spec, split)
    partial = final.with_name(f"{final.name}.{os.getpid()}.part")
    pooch.get_logger().setLevel("WARNING")
    try:
        # pooch's own hashes are of the bare bytes; git's blob hash is checked on what came.
        fetch = pooch.HTTPDownloader(progressbar=False, timeout=TIMEOUT_S)
        pooch.retrieve(url, known_hash=None, fname=partial.name, path=final.parent, downloader=fetch)
        found = _read(spec, split, partial)
        if not found.published:
            raise ValueError(f"git blob {found.blob} instead of {' or '.join(spec.blobs[split])}")
        partial.replace(final)
    finally:
        partial.unlink(missing_ok=True)
    return SplitFile(final, found.content, found.blob, True)


def _read(spec: DatasetSpec, split: Split, path: Path) -> SplitFile:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file ({error}); replace it") from error
    blob = git_blob_sha1(content)
    return SplitFile(path, content, blob, spec.accepts(split, blob))


_warned: set[tuple[Path, str]] = set()


def _warn_unpublished(path: Path, blob: str) -> None:
    """Once a file and process."""
    if (path, blob) not in _warned:
        _warned.add((path, blob))
        warnings.warn(f"{path} is not the published file (its git blob is {blob}); it is used as it is", stacklevel=4)
