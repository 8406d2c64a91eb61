"""Writing crystals, the format chosen by the name's ending."""

from __future__ import annotations

import csv
import gzip
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.atomic import write_bytes
from bench.crystal_io.table import parquet_bytes
from bench.crystals import Crystals

if TYPE_CHECKING:
    from ase import Atoms


def write_crystals(crystals: Crystals, path: str | Path) -> None:
    """Writes crystals to a file or, where the name has no ending, to CIF files in a new or empty folder.

    Endings: .cif (one block each), .zip (of CIFs), .extxyz, .json (pymatgen's, a list), .csv (column `cif`),
    .parquet, and .cif.gz, .extxyz.gz, .json.gz, .csv.gz. The same crystals give the same bytes. JSON and Parquet hold
    them exactly; CIF and extended XYZ round to 8 decimals, and CIF readers order the atoms anew.
    ValueError for an unknown ending, for no crystals, and for a folder that is not empty.
    """
    path = Path(path)
    if len(crystals) == 0:
        raise ValueError(f"{path}: there are no crystals to write")
    suffix, packed = known_ending(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of every noble gas
        if not suffix:
            _write_folder(crystals, path)
            return
        content = WRITERS[suffix](crystals)
    write_bytes(path, gzip.compress(content, mtime=0) if packed else content)


def known_ending(path: Path) -> tuple[str, bool]:
    """A name's ending without `.gz`, "" of a folder, and whether it has `.gz`. ValueError where none is written so."""
    packed = path.suffix.lower() == ".gz"
    suffix = Path(path.name[:-3]).suffix.lower() if packed else path.suffix.lower()
    if (suffix or packed) and (suffix not in WRITERS or (packed and suffix in (".zip", ".parquet"))):
        raise ValueError(f"{path}: unknown ending; known are {', '.join(WRITERS)} and none for a folder of CIFs")
    return suffix, packed


def _write_folder(crystals: Crystals, path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path}: is not an empty folder; choose a new name, or one with an ending for a file")
    path.mkdir(parents=True, exist_ok=True)
    for name, text in zip(_cif_names(len(crystals)), cif_texts(crystals), strict=True):
        (path / name).write_text(text, encoding="utf-8")


def cif_texts(crystals: Crystals) -> list[str]:
    """One CIF of each crystal, without symmetry."""
    from pymatgen.io.cif import CifWriter

    return [str(CifWriter(structure)) for structure in crystals]


def _cif_names(count: int) -> list[str]:
    width = max(4, len(str(count - 1)))
    return [f"{number:0{width}d}.cif" for number in range(count)]


def _cif_bytes(crystals: Crystals) -> bytes:
    return "".join(cif_texts(crystals)).encode()


def _zip_of_cifs(crystals: Crystals) -> bytes:
    return zip_bytes(dict(zip(_cif_names(len(crystals)), cif_texts(crystals), strict=True)))


def zip_bytes(texts: Mapping[str, str]) -> bytes:
    """A zip of texts by their names. The same texts give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in texts.items():
            info = zipfile.ZipInfo(name)  # dated 1980: the bytes depend on the crystals alone
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, text)
    return buffer.getvalue()


def _extxyz_bytes(crystals: Crystals) -> bytes:
    return frames_bytes(frame(crystals, index) for index in range(len(crystals)))


def frame(crystals: Crystals, index: int) -> Atoms:
    """A crystal as ASE has it."""
    from ase import Atoms

    numbers, frac_coords, lattice = crystals.arrays(index)
    return Atoms(numbers=numbers, positions=frac_coords @ lattice, cell=lattice, pbc=True)


def frames_bytes(frames: Iterable[Atoms]) -> bytes:
    """Frames as extended XYZ."""
    from ase.io import write

    buffer = io.StringIO()
    write(buffer, list(frames), format="extxyz")
    return buffer.getvalue().encode()


def _json_bytes(crystals: Crystals) -> bytes:
    return json.dumps([structure.as_dict() for structure in crystals]).encode()


def _csv_bytes(crystals: Crystals) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["index", "formula", "cif"])
    for index, text in enumerate(cif_texts(crystals)):
        writer.writerow([index, crystals.formula(index), text])
    return buffer.getvalue().encode()


WRITERS: dict[str, Callable[[Crystals], bytes]] = {
    ".cif": _cif_bytes,
    ".zip": _zip_of_cifs,
    ".extxyz": _extxyz_bytes,
    ".json": _json_bytes,
    ".csv": _csv_bytes,
    ".parquet": parquet_bytes,
}
