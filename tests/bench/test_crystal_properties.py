"""Whatever crystals are written come back from every format; whatever bytes are read raise nothing but ValueError."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench.crystal_io import ReadResult, read_crystals, write_crystals
from bench.crystals import Crystals, FilteredCrystals
from tests.bench.crystal_examples import eval_gen, some_crystals

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
CIF_FORMATS = ["x.cif", "x.cif.gz", "x.zip", "x.csv", "x.csv.gz"]
EXACT_FORMATS = ["x.parquet", "x.json", "x.json.gz"]
GRID = 12  # sites per edge; pymatgen merges sites within 1e-4 of the cell


@st.composite
def apart(draw: st.DrawFn) -> Crystals:
    """Crystals whose sites differ by more than a CIF's decimals, in skewed cells of all sizes, of every element."""
    sizes = draw(st.lists(st.integers(1, 8), min_size=1, max_size=3))
    coords = []
    for size in sizes:
        sites = draw(st.lists(st.integers(0, GRID**3 - 1), min_size=size, max_size=size, unique=True))
        shake = draw(st.floats(0, 0.4 / GRID))
        coords.append(np.stack(np.unravel_index(sites, (GRID,) * 3), axis=1) / GRID + shake)
    numbers = draw(st.lists(st.integers(1, 118), min_size=sum(sizes), max_size=sum(sizes)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = 10 ** rng.uniform(0, 2, (len(sizes), 1, 1))
    cells = scale * (np.eye(3) + rng.uniform(-0.3, 0.3, (len(sizes), 3, 3)))
    return Crystals(np.array(sizes), np.array(numbers), np.concatenate(coords), cells)


def same_sites(ours: Crystals, theirs: Crystals) -> bool:
    """Whether two single crystals have the same atoms on the same sites, in any order and to 1e-4 of the cell."""
    numbers, coords, _ = ours.arrays(0)
    others, other_coords, _ = theirs.arrays(0)
    if len(numbers) != len(others):
        return False
    shift = coords[:, None] - other_coords[None]  # (N, N, 3)
    near = (np.abs(shift - np.round(shift)) < 2e-4).all(axis=2) & (numbers[:, None] == others[None])
    return bool((near.sum(axis=0) == 1).all() and (near.sum(axis=1) == 1).all())


@settings(max_examples=15, deadline=None, suppress_health_check=QUIET)
@given(crystals=apart(), name=st.sampled_from(CIF_FORMATS))
def test_every_format_of_cifs_gives_cells_and_sites_back(tmp_path: Path, crystals: Crystals, name: str) -> None:
    write_crystals(crystals, tmp_path / name)
    result = read_crystals(tmp_path / name)
    assert result.filtered.requested == len(crystals)
    assert result.reasons() == {}
    for back, crystal in zip(result.filtered.crystals, crystals, strict=True):
        np.testing.assert_allclose(back.lattice.parameters, crystal.lattice.parameters, rtol=1e-7, atol=2e-8)
    assert all(same_sites(result.filtered.crystals[b], crystals[b]) for b in range(len(crystals)))


@settings(max_examples=15, deadline=None, suppress_health_check=QUIET)
@given(crystals=apart(), name=st.sampled_from(EXACT_FORMATS))
def test_what_holds_crystals_exactly_gives_them_back_exactly(tmp_path: Path, crystals: Crystals, name: str) -> None:
    write_crystals(crystals, tmp_path / name)
    assert read_crystals(tmp_path / name).filtered == FilteredCrystals.complete(crystals)


@settings(max_examples=10, deadline=None, suppress_health_check=QUIET)
@given(crystals=apart(), evaluations=st.integers(0, 2))
def test_eval_gen_files_hold_cells_and_sites_to_single_precision(
    tmp_path: Path, crystals: Crystals, evaluations: int
) -> None:
    content = eval_gen(crystals)
    if evaluations:
        content = {key: torch.stack([value] * evaluations) for key, value in content.items()}
    torch.save(content, tmp_path / "eval_gen.pt")
    back = read_crystals(tmp_path / "eval_gen.pt").filtered.crystals
    np.testing.assert_array_equal(back.atomic_numbers, crystals.atomic_numbers)
    shift = back.frac_coords - crystals.frac_coords
    assert np.abs(shift - np.round(shift)).max() < 1e-6
    np.testing.assert_allclose(back.volumes, crystals.volumes, rtol=1e-4)


@settings(max_examples=15, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_crystals_keep_their_places_among_texts_that_are_none(tmp_path: Path, data: st.DataObject) -> None:
    crystals = some_crystals([1, 2, 3])
    good = data.draw(st.lists(st.booleans(), min_size=1, max_size=8).filter(any))
    rubbish = st.text(max_size=40).filter(lambda text: "\r" not in text and "\0" not in text)
    texts = [
        str(crystals.structure(n % 3).to(fmt="cif")) if is_good else data.draw(rubbish)
        for n, is_good in enumerate(good)
    ]
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([["id", "cif"], *([str(n), text] for n, text in enumerate(texts))])
    (tmp_path / "x.csv").write_text(buffer.getvalue(), newline="", encoding="utf-8", errors="replace")
    result = read_crystals(tmp_path / "x.csv")
    assert result.names == tuple(f"row {n}" for n in range(len(good)))
    assert result.filtered.indices.tolist() == [n for n, is_good in enumerate(good) if is_good]
    assert result.filtered.crystals.num_atoms.tolist() == [n % 3 + 1 for n, is_good in enumerate(good) if is_good]


# Bytes that nobody meant


def contents() -> dict[str, bytes]:
    """A sound file of every format, by its name."""
    crystals = some_crystals([2, 3, 1])
    cifs = [str(structure.to(fmt="cif")) for structure in crystals]
    found = {"x.cif": "".join(cifs).encode(), "x.json": json.dumps([s.as_dict() for s in crystals]).encode()}
    found["x.csv"] = ("id,cif\n" + "".join(f'{n},"{text}"\n' for n, text in enumerate(cifs))).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, text in enumerate(cifs):
            archive.writestr(f"{number}.cif", text)
    found["x.zip"] = buffer.getvalue()
    frames = []
    for structure in crystals:
        cell = " ".join(map(str, structure.lattice.matrix.ravel()))
        frames += [str(len(structure)), f'Lattice="{cell}" Properties=species:S:1:pos:R:3 pbc="T T T"']
        frames += [f"{site.specie} {site.x} {site.y} {site.z}" for site in structure]
    found["x.extxyz"] = "".join(f"{line}\n" for line in frames).encode()
    buffer = io.BytesIO()
    torch.save(eval_gen(crystals), buffer)
    found["x.pt"] = buffer.getvalue()
    return found | {"x.extxyz.gz": gzip.compress(found["x.extxyz"])}


CONTENTS = contents()
TOKENS = [
    b"",
    b"\0",
    b"\n",
    b"\n\n",
    b"-1",
    b"0",
    b"nan",
    b"1e999",
    b"99999999999999999999",
    b'"',
    b"'",
    b";",
    b"#",
    b"[",
    b"{",
]
TOKENS += [
    b"]",
    b"}",
    b",",
    b":",
    b"\\u0000",
    b"\\ud800",
    b"\xff\xfe",
    b"loop_",
    b"data_y\n",
    b"_atom_site_fract_x",
    b"null",
    b"Xx",
]
TOKENS += [
    b"PK\x05\x06",
    b"PK\x01\x02",
    b"\x1f\x8b",
    b"\x80\x02",
    b"\xe2\x80\xa8",
    b"?",
    b".",
    b"(5)",
    b"Lattice=",
    b"VEC1",
]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes of a file with pieces cut out, doubled, moved or replaced."""
    content = whole
    for _ in range(draw(st.integers(1, 4))):
        first, second = sorted(draw(st.lists(st.integers(0, len(content)), min_size=2, max_size=2)))
        piece = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8)))
        match draw(st.sampled_from(["replace", "insert", "cut", "double", "end", "byte"])):
            case "replace":
                content = content[:first] + piece + content[min(first + len(piece), len(content)) :]
            case "insert":
                content = content[:first] + piece + content[first:]
            case "cut":
                content = content[:first] + content[min(second, first + 200) :]
            case "double":
                content = content[:second] + content[first:second][:500] + content[second:]
            case "end":
                content = content[:second]
            case "byte" if content:
                place = min(first, len(content) - 1)
                content = content[:place] + bytes([content[place] ^ draw(st.integers(1, 255))]) + content[place + 1 :]
    return content


def read_or_refused(path: Path) -> ReadResult | str:
    try:
        return read_crystals(path)
    except ValueError as error:
        return str(error)


def check(path: Path) -> None:
    """What every reader promises of any bytes."""
    found = read_or_refused(path)
    if isinstance(found, str):
        assert found.startswith(f"{path}: ")
        assert "\n" not in found
        return
    assert len(found.names) == len(set(found.names)) == found.filtered.requested
    assert len(found.filtered.crystals) > 0
    for text in [*found.names, *found.reasons().values()]:
        assert text.isprintable()


@pytest.mark.parametrize("name", CONTENTS)
def test_a_damaged_file_gives_crystals_reasons_or_one_clear_line(name: str, tmp_path: Path) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
    @given(content=damaged(CONTENTS[name]))
    def damage(content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        check(tmp_path / name)

    (tmp_path / name).write_bytes(CONTENTS[name])
    assert isinstance(found := read_or_refused(tmp_path / name), ReadResult)
    assert len(found.filtered.crystals) == 3
    damage()


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(
    content=st.binary(max_size=300), name=st.sampled_from([*CONTENTS, "x.parquet", "x.xyz", "x.json.gz", "x.csv.gz"])
)
@example(content=b"\xef\xbb\xbf", name="x.json")
@example(content=b"5\n\n\n\n\n\n\n\n", name="x.xyz")
def test_any_bytes_give_one_clear_line(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    check(tmp_path / name)


values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("Fe"), st.just(10**400)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["lattice", "matrix", "sites", "species", "element", "occu", "abc", "xyz"]), inner
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(content=st.lists(values, max_size=4))
@example(content=[{"lattice": {"matrix": [[10**400, 0, 0], [0, 1, 0], [0, 0, 1]]}, "sites": []}])
@example(
    content=[{"lattice": {"matrix": np.eye(3).tolist()}, "sites": [{"species": [{"element": 3}], "abc": [0] * 3}]}]
)
@example(
    content=[{"lattice": {"matrix": np.eye(3).tolist()}, "sites": [{"species": [{"element": "Fe"}], "xyz": ["a"]}]}]
)
def test_any_json_gives_crystals_reasons_or_one_clear_line(tmp_path: Path, content: list) -> None:
    (tmp_path / "x.json").write_text(json.dumps([some_structure(), *content]))
    found = read_or_refused(tmp_path / "x.json")
    if isinstance(found, str):  # Python refuses integers of more than 4300 digits, and reads no other rubbish
        assert "not JSON" in found
    else:
        assert found.filtered.requested == 1 + len(content)


def some_structure() -> dict:
    return next(iter(some_crystals([2]))).as_dict()


mutations = st.sampled_from(
    [
        lambda t: t.double(),
        lambda t: t[:0],
        lambda t: t[..., :-1],
        lambda t: t.flatten(),
        lambda t: t[None],
        lambda t: t[None, None],
        lambda t: -t,
        lambda t: t * 1e30,
        lambda t: t * float("nan"),
        lambda t: t.to_sparse(),
        lambda t: t.to(torch.complex64),
        lambda t: t.bool(),
        lambda t: t.tolist(),
        lambda t: "text",
        lambda t: None,
        lambda t: {},
        lambda t: torch.zeros(()),
        lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    ]
)


@settings(max_examples=80, deadline=None, suppress_health_check=QUIET)
@given(
    changes=st.dictionaries(st.sampled_from(sorted(eval_gen(some_crystals([1])))), mutations, min_size=1, max_size=3)
)
def test_any_tensors_give_crystals_reasons_or_one_clear_line(tmp_path: Path, changes: dict) -> None:
    content = eval_gen(some_crystals([2, 3]))
    content |= {key: change(content[key]) for key, change in changes.items()}
    torch.save(content, tmp_path / "eval_gen.pt")
    check(tmp_path / "eval_gen.pt")


def rows() -> Iterator[bytes]:
    """Extended XYZ frames in which one word is another."""
    words = CONTENTS["x.extxyz"].split(b" ")
    for place in range(0, len(words), 5):
        for word in (b"", b"-3", b"1e400", b"Q", b"0"):
            yield b" ".join([*words[:place], word, *words[place + 1 :]])


def test_any_other_word_in_a_frame_costs_at_most_that_frame(tmp_path: Path) -> None:
    for content in rows():
        (tmp_path / "x.extxyz").write_bytes(content)
        found = read_or_refused(tmp_path / "x.extxyz")
        assert isinstance(found, ReadResult)
        assert len(found.filtered.crystals) >= 2
