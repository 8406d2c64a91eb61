"""Relaxed crystals in the run folder: which they are, that a kill costs none, and that archives hold them."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fake_tasks import FakeValidity

from bench.commands.archive import copy, pack
from bench.crystals import Crystals, FilteredCrystals
from bench.parquet import read_table, table_bytes, write_table
from bench.run_folder.shards import SampleFolder
from bench.scoring.pool import ScoringPool
from bench.scoring.tables import score
from bench.store import Run
from tests.toy_potential import rattled

STORED = Path(__file__).parents[2] / "examples" / "runs" / "perov5.zip"
COST = {"start_s": 0.0, "end_s": 1.0, "network_evaluations": 1.0, "steps": 1, "counted": True, "wall_s": 1.0}


class Relaxing(FakeValidity):
    """Relaxes the second, fourth, ... of the crystals that it is given, four places at a time."""

    chunk_crystals = 4

    def score_and_relaxed(self, crystals: Crystals) -> tuple[pa.Table, pa.Table]:
        places = np.arange(1, len(crystals), 2)
        return self.score(crystals), pa.table({"index": places, "volume": crystals.volumes[places]})


@pytest.fixture
def folder(tmp_path: Path) -> SampleFolder:
    """Ten places, of which the first and the sixth have no crystal."""
    found = SampleFolder(tmp_path / "run" / "model", batch_size=10)
    found.recover()
    places = np.array([1, 2, 3, 4, 6, 7, 8, 9])
    found.append(FilteredCrystals(rattled(0, 8), places, {0: "NaN", 5: "NaN"}), handed_over=10, **COST)
    (found.path / "state.json").write_text(json.dumps({"scoring_seconds": {}}))
    return found


def scored(folder: SampleFolder, *names: str) -> dict[str, bytes]:
    tasks = [Relaxing(name) for name in names]
    score(tasks, "model", folder, ScoringPool(tasks, workers=1))
    return {path.name: path.read_bytes() for path in sorted((folder.path / "relaxed").iterdir())}


def test_a_relaxed_crystal_has_the_place_of_the_one_that_it_came_from(folder: SampleFolder) -> None:
    files = scored(folder, "stability")
    assert list(files) == [f"stability.{row:09d}.parquet" for row in (0, 4, 8)]
    tables = [read_table(folder.path / "relaxed" / name) for name in files]
    assert [table["index"].to_pylist() for table in tables] == [[2], [6], [9]]
    crystals = next(folder.shards()).read().crystals
    assert tables[1]["volume"].to_pylist() == [crystals.volumes[4]]


def test_two_tasks_of_a_run_keep_their_relaxed_crystals_apart(folder: SampleFolder) -> None:
    files = scored(folder, "stability", "stability-m3gnet")
    assert sorted({name.split(".")[0] for name in files}) == ["stability", "stability-m3gnet"]
    assert len(files) == 6


def test_scoring_anew_gives_the_same_bytes_and_removes_files_of_other_chunks(folder: SampleFolder) -> None:
    first = scored(folder, "stability")
    (folder.path / "stability.parquet").unlink()
    write_table(folder.path / "relaxed" / "stability.000000002.parquet", pa.table({"index": [2]}))
    (folder.path / "relaxed" / "stability.000000004.parquet.1.tmp").write_bytes(b"half")
    assert scored(folder, "stability") == first


def test_a_task_that_relaxes_nothing_leaves_no_folder(folder: SampleFolder) -> None:
    task = FakeValidity()
    score([task], "model", folder, ScoringPool([task], workers=1))
    assert not (folder.path / "relaxed").exists()


def test_an_archive_holds_relaxed_crystals(tmp_path: Path) -> None:
    copy(STORED, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    place = run.folders(run.models[0])[0].path / "relaxed" / "another.000000000.parquet"
    place.parent.mkdir(exist_ok=True)
    content = table_bytes(pa.table({"index": [0]}))
    place.write_bytes(content)
    pack(tmp_path / "run", tmp_path / "packed.zip")
    with zipfile.ZipFile(tmp_path / "packed.zip") as archive:
        assert archive.read(place.relative_to(tmp_path / "run").as_posix()) == content
