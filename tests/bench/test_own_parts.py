"""Tasks, data sets and potentials of other packages: the examples, installed, and what is refused."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from bench import registry
from bench.commands.listing import prepare_dataset
from bench.datasets import files as dataset_files
from bench.datasets.files import DatasetSpec
from bench.store import Run

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLES = ROOT / "examples"
PARTS = ("space_groups", "rock_salts", "ase_potential")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed the three examples, their entry points with them."""
    sources, site = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("site")
    for name in PARTS:
        shutil.copytree(EXAMPLES / name, sources / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", "--target", site, *(sources / name for name in PARTS)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BENCH_DATA_DIR with the rock salts, written by the example."""
    folder = tmp_path_factory.mktemp("data")
    done = python(f"{EXAMPLES / 'rock_salts' / 'rock_salts.py'} {folder / 'rock_salts'}", folder)
    assert done.returncode == 0, done.stderr
    return folder


def python(arguments: str, cwd: Path, *paths: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    if "BENCH_DATA_DIR" in variables:
        variables["BENCH_CACHE_DIR"] = str(cwd / "cache")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT))),
        **variables,
    }
    command = [sys.executable, *shlex.split(arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def entry_points_of(monkeypatch: pytest.MonkeyPatch, module: Any, *entries: tuple[str, str]) -> None:
    found = [EntryPoint(name, value, "group") for name, value in entries]
    monkeypatch.setattr(module, "entry_points", lambda group: found)


def test_an_installed_task_is_scored_where_it_is_named_and_its_metrics_are_in_the_summary(
    installed: Path, tmp_path: Path
) -> None:
    command = "-m bench run --models fake_generators:Fake --dataset perov5 --num-samples 20 --workers 1 --out r"
    done = python(f"{command} --tasks validity,space_groups", tmp_path, installed, HERE)
    assert done.returncode == 0, done.stderr
    run = Run.open(tmp_path / "r")
    assert run.tasks == ["validity", "space_groups"]
    numbers = run.task_table("fake", "space_groups")["space_group"].to_pylist()
    metrics = run.summary()["models"]["fake"]["metrics"]
    assert metrics["symmetric_rate"]["value"] == sum(number > 1 for number in numbers) / 20
    assert metrics["symmetric_rate"]["low"] < metrics["symmetric_rate"]["high"]
    again = python("-m bench rescore r --tasks space_groups", tmp_path, installed)
    assert again.returncode == 0, again.stderr


def test_an_installed_task_changes_no_run_that_does_not_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points_of(monkeypatch, registry, ("mine", "fake_tasks:FakeNovelty"))
    assert "mine" not in registry.task_names(None)
    assert registry.task_names(["mine", "validity"]) == ["validity", "mine"]


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("validity", "elsewhere:Task", "two tasks are named 'validity'"),
        ("two-words", "elsewhere:Task", "must be of letters, digits and _"),
        ("batches", "elsewhere:Task", "not batches"),
        ("mine", "fake_tasks:FakeNovelty", r"the task mine \(fake_tasks:FakeNovelty\) must have that as its `name`"),
    ],
)
def test_a_task_whose_name_cannot_be_that_of_a_table_is_refused(
    name: str, target: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_points_of(monkeypatch, registry, (name, target))
    with pytest.raises(ValueError, match=message):
        registry.build_tasks([name])


@pytest.mark.nightly
def test_two_tasks_with_one_metric_are_refused(tmp_path: Path) -> None:
    (tmp_path / "again.py").write_text(
        "from dataclasses import dataclass\nfrom tasks.validity import Validity\n\n\n"
        "@dataclass(frozen=True)\nclass Again(Validity):\n    name: str = 'again'\n"
    )
    info = tmp_path / "again-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: again\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[crysldm_bench.tasks]\nagain = again:Again\n")
    command = "-m bench run --models fake_generators:Fake --dataset perov5 --num-samples 4 --workers 1 --out r"
    done = python(f"{command} --tasks validity,again", tmp_path, tmp_path, HERE)
    assert done.returncode == 2
    assert "task again: another one has the metric" in done.stderr


def test_an_installed_data_set_is_run_scored_and_named_in_the_table(
    installed: Path, data: Path, tmp_path: Path
) -> None:
    command = "-m bench run --models train-copy --dataset rock_salts --num-samples 12 --workers 1 --out r"
    done = python(f"{command} --tasks validity,properties,novelty", tmp_path, installed, BENCH_DATA_DIR=str(data))
    assert done.returncode == 0, done.stderr
    assert "Rock salts" in done.stdout
    metrics = Run.open(tmp_path / "r").summary()["models"]["train-copy"]["metrics"]
    assert metrics["novel_rate"]["value"] == 0
    assert metrics["emd_density"]["value"] is not None
    shown = python("-m bench report r", tmp_path)  # without the package that brought the data set
    assert shown.returncode == 0, shown.stderr
    assert "rocksalts" in shown.stdout


def test_the_card_of_the_example_is_the_one_that_its_files_give(installed: Path, data: Path, tmp_path: Path) -> None:
    done = python("-m bench data rocksalts --reference new", tmp_path, installed, BENCH_DATA_DIR=str(data))
    assert done.returncode == 0, done.stderr
    assert "as it is" in done.stdout
    kept = EXAMPLES / "rock_salts" / "rock_salts_reference"
    assert {path.name for path in kept.iterdir()} == {path.name for path in (tmp_path / "new").iterdir()}
    cards = [json.loads((folder / "rocksalts.json").read_text()) for folder in (kept, tmp_path / "new")]
    assert cards[0]["element_counts"] == cards[1]["element_counts"]
    assert (kept / "rocksalts.formulas").read_bytes() == (tmp_path / "new" / "rocksalts.formulas").read_bytes()


def test_figures_of_a_run_of_the_test_split_go_beside_the_card(installed: Path, data: Path, tmp_path: Path) -> None:
    crystals = data / "rock_salts" / "test.csv"
    for command in (
        f"score {crystals} --dataset rocksalts --tasks validity,properties --out r",
        "data rocksalts --reference new --scored r",
    ):
        done = python(f"-m bench {command}", tmp_path, installed, BENCH_DATA_DIR=str(data))
        assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "new" / "rocksalts.test.json").read_text())
    counts = json.loads((tmp_path / "new" / "rocksalts.test-counts.json").read_text())
    rows = crystals.read_text().count("_cell_length_a")
    assert figures["requested"] == counts["crystals"] == rows
    assert "emd_density" in figures["metrics"]
    done = python("-m bench data perov5 --reference new --scored r", tmp_path)
    assert "--scored r: a run on rocksalts, not on perov5" in done.stderr


def test_figures_need_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name the folder for its figures with --reference"):
        prepare_dataset("perov5", 1, None, tmp_path)


def test_without_its_card_a_data_set_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from bench.datasets import reference_card

    spec = DatasetSpec("mine", "Mine", "mine", reference=tmp_path / "card")
    monkeypatch.setattr(dataset_files, "known_datasets", lambda: {"mine": spec})
    with pytest.raises(ValueError, match=r"make it with `python -m bench data mine --reference .*card`"):
        reference_card("mine")


def test_data_sets_of_one_name_and_entries_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points_of(monkeypatch, dataset_files, ("mine", "fake_tasks:FakeNovelty"))
    with pytest.raises(
        ValueError, match=r"the data set mine \(fake_tasks:FakeNovelty\) is no DatasetSpec of that name"
    ):
        dataset_files.dataset_spec("mine")
    assert dataset_files.dataset_spec("perov5").title == "Perov-5", "a damaged plug-in does not touch ours"
    entry_points_of(monkeypatch, dataset_files, ("mine", "nowhere:SPEC"))
    with pytest.raises(ValueError, match="cannot be loaded"):
        dataset_files.dataset_spec("mine")


def test_names_that_cannot_be_typed_and_downloads_that_cannot_be_verified_are_refused() -> None:
    with pytest.raises(ValueError, match="use small letters and digits"):
        DatasetSpec("My-Set", "My set", "mine")
    with pytest.raises(ValueError, match="urls need blobs of every split"):
        DatasetSpec("mine", "Mine", "mine", urls=("https://example.org",))


@pytest.mark.nightly
def test_an_installed_potential_equals_ours_and_relaxes_against_a_hull_of_its_own(
    installed: Path, tmp_path: Path
) -> None:
    code = """
import numpy as np
from pathlib import Path
from tasks.stability.hull.build import build_hull
from tasks.stability.hull.phases import Phases
from tasks.stability.potentials import load_potential
from tasks.stability.potentials.known_crystals import _crystals

theirs, ours, crystals = load_potential("chgnetase"), load_potential("chgnet"), _crystals()
for one, other in zip(vars(theirs.evaluate(crystals)).values(), vars(ours.evaluate(crystals)).values(), strict=True):
    np.testing.assert_allclose(one, other, atol=2e-4)
elements = ["Sr", "Ti", "O", "Ba", "Ca", "Zr"]
from bench.crystals import Crystals
from pymatgen.core import Lattice, Structure
cells = [Structure(Lattice.cubic(4.0), [element], [[0, 0, 0]]) for element in elements]
phases = Phases(Crystals.from_structures(cells), elements, ["made up"] * len(elements))
build_hull(phases, theirs, Path("hulls"), relax_limit=0)
"""
    (tmp_path / "compare.py").write_text(code)
    done = python("compare.py", tmp_path, installed)
    assert done.returncode == 0, done.stderr
    sampled = python(
        "examples/external_model.py --num-samples 3 --out".replace("examples", str(EXAMPLES)) + " three.extxyz",
        tmp_path,
    )
    assert sampled.returncode == 0, sampled.stderr
    command = "-m bench score three.extxyz --dataset perov5 --tasks stability --workers 1 --out r --potential chgnetase"
    scored = python(command, tmp_path, installed, BENCH_HULL_DIR="hulls")
    assert scored.returncode == 0, scored.stderr
    rows = Run.open(tmp_path / "r").task_table("three", "stability")
    assert None not in rows["e_above_hull"].to_pylist()
