"""Files made to do harm: each is refused or counted in one clear line, in bounded memory, and nothing in it is run."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.bench.crystal_examples import HEAD, SITE

ROOT = Path(__file__).parents[2]
MIB = 2**20


def gzip_of(repeated: bytes, times: int) -> bytes:
    """A gzip of many times the same: its members stand one behind the other."""
    return gzip.compress(repeated) * times


def zip_of(path: Path, size: int, method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive, archive.open("0.cif", "w") as member:
        for _ in range(size // MIB):
            member.write(bytes(MIB))


def lying_zip(path: Path) -> None:
    """A list of files that says 1000 bytes of what is unpacked to many."""
    zip_of(path, 400 * MIB)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(content)


def same_cell_parquet(path: Path) -> None:
    """A cell of 32 MiB that is stored once and stands in a hundred thousand rows: 3 TiB as texts."""
    cells = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array(["x" * (32 * MIB)]))
    pq.write_table(pa.table({"cif": cells}), path, compression="zstd", store_schema=False)


def packed_tensors(path: Path) -> None:
    """Half a gigabyte of zeros as torch.save never packs them."""
    buffer = io.BytesIO()
    torch.save({"frac_coords": torch.zeros(2**20, 3)}, buffer)
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for info in plain.infolist():
            content = plain.read(info)
            with packed.open(info.filename, "w") as member:
                for _ in range(40 if len(content) > MIB else 1):
                    member.write(content)


def wide_tensors(path: Path) -> None:
    """Tensors of 3e12 values over a storage of one: strides of 0."""
    one = torch.zeros(1)
    wide = {"frac_coords": one.expand(10**12, 3), "num_atoms": one, "atom_types": one, "lengths": one, "angles": one}
    torch.save(wide, path)


def large_pickle(path: Path) -> None:
    """Objects, not tensors, of 300 MiB."""
    torch.save({"frac_coords": [0] * 8, "note": "x" * (300 * MIB)}, path)


def wide_scores(path: Path) -> None:
    """Lists of arrays that are each allowed and together are not."""
    one = torch.zeros(1)
    wide = one.expand(2**19, 118)
    torch.save(
        {
            "frac_coords": [one.expand(2, 3)] * 9,
            "num_atoms": one,
            "atom_types": [wide] * 9,
            "lengths": one,
            "angles": one,
        },
        path,
    )


BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {  # name -> how it is made, and what is said of it
    "large.cif": (
        lambda p: p.write_text(HEAD + SITE * (200 * MIB // len(SITE))),
        "more than 1048576 characters of CIF",
    ),
    "line.cif.gz": (lambda p: p.write_bytes(gzip_of(b"x" * MIB, 400)), "more than 1048576 characters of CIF"),
    "zeros.csv.gz": (lambda p: p.write_bytes(gzip_of(bytes(MIB), 400)), "a row of more than 16777216 characters"),
    "commas.csv": (lambda p: p.write_text("cif" + "," * (64 * MIB)), "a row of more than 16777216 characters"),
    "quote.csv": (lambda p: p.write_text('cif\n"' + "a\n" * (32 * MIB)), "field larger than field limit"),
    "zeros.extxyz.gz": (lambda p: p.write_bytes(gzip_of(bytes(MIB), 400)), "instead of a number of atoms"),
    "string.json.gz": (
        lambda p: p.write_bytes(gzip.compress(b'["') + gzip_of(b"a" * MIB, 400)),
        "structure 0: more than 8388608 characters",
    ),
    "one.json.gz": (
        lambda p: p.write_bytes(gzip.compress(b'{"a":"') + gzip_of(b"a" * MIB, 400)),
        "8388608 characters",
    ),
    "brackets.json": (lambda p: p.write_text("[[" + "[]," * (16 * MIB)), "more than 8388608 characters, or not JSON"),
    "bomb.zip": (lambda p: zip_of(p, 400 * MIB), "more than 1048576 characters of CIF"),
    "lie.zip": (lying_zip, "Bad CRC-32"),
    "bzip2.zip": (lambda p: zip_of(p, 32 * MIB, zipfile.ZIP_BZIP2), "packed by method 12; only stored and deflated"),
    "same.parquet": (same_cell_parquet, "bytes; at most 8388608 are read"),
    "packed.pt": (packed_tensors, "in it is compressed"),
    "pickle.pt": (large_pickle, "bytes of objects; at most 268435456 are read"),
    "scores.pt": (wide_scores, "atom_types has more than 67108864 values"),
    "wide.pt": (wide_tensors, "frac_coords has 3000000000000 values"),
}
READER = """
import json, resource, sys
import pyarrow, pymatgen.io.cif, torch
from bench.crystal_io import read_crystals, write_crystals
from bench.crystals import Crystals
write_crystals(Crystals([1], [14], [[0, 0, 0]], [[3, 0, 0], [0, 3, 0], [0, 0, 3]]), sys.argv[1])
read_crystals(sys.argv[1])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
for path in sys.argv[2:]:
    try:
        said = f"no error: {len(read_crystals(path).filtered.crystals)} crystals"
    except ValueError as error:
        said = str(error)
    print(json.dumps([path, said, peak() - before]), flush=True)
"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int]]:
    """Name of a bomb -> what one process said of it, and how far its memory had risen by then in bytes."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, (make, _) in BOMBS.items():
        make(folder / name)
    command = [sys.executable, "-c", READER, str(folder / "warm.cif"), *(str(folder / name) for name in BOMBS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    for name in BOMBS:
        (folder / name).unlink()
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {Path(path).name: (said, risen) for path, said, risen in lines}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_one_clear_line(name: str, verdicts: dict[str, tuple[str, int]]) -> None:
    said, _ = verdicts[name]
    assert BOMBS[name][1] in said
    assert name in said.partition(": ")[0]
    assert "\n" not in said


@pytest.mark.slow
def test_no_bomb_takes_more_memory_than_the_largest_crystal_that_is_read(verdicts: dict[str, tuple[str, int]]) -> None:
    # The most that is in memory at a time: 8 MiB of JSON, twice as it grows, and Python's lists of it, up to 64 bytes
    # for every three characters, 180 MiB; or 16 MiB of commas as fields of 8 bytes each, 128 MiB; or a cell of 32 MiB
    # in the dictionary of a Parquet file, packed, unpacked and copied. Most bombs hold more than this, unpacked.
    assert {name: risen // MIB for name, (_, risen) in verdicts.items() if risen > 256 * MIB} == {}
