from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bench import model_specs, registry
from bench.model_specs import ModelSpec, build_generator, parse_models
from bench.registry import build_tasks

ROOT = Path(__file__).parents[2]


def test_an_unknown_model_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError,
        match=r"unknown model 'crysldn'; known are crysldm.*name=FILE \(of crystals or weights\), or module:Class",
    ):
        parse_models("crysldn")


def test_an_unknown_task_is_named_with_the_known_ones(fakes: None) -> None:
    with pytest.raises(ValueError, match=r"unknown task 'speed'; known are validity, novelty"):
        build_tasks(("speed",))


def test_entries_keep_their_order_and_their_names_as_typed(tmp_path: Path) -> None:
    file = tmp_path / "mine.zip"
    file.touch()
    specs = parse_models(f"crysldm@10, crysldm,mine={file},some.module:Class")
    assert [spec.name for spec in specs] == ["crysldm@10", "crysldm", "mine", None]
    assert [spec.steps for spec in specs] == [10, None, None, None]
    assert specs[2].is_file
    assert specs[2].target == str(file)


def test_weights_go_to_the_generator_of_that_name_or_else_to_their_own(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.touch()
    specs = parse_models(f"mine@10={file},crysldm-fast@12={file}")
    assert [spec.target for spec in specs] == ["models.trained:trained", "models.crysldm.generator:crysldm_fast"]
    assert [spec.steps for spec in specs] == [10, 12]
    assert {spec.weights for spec in specs} == {str(file)}
    assert parse_models(f"mine={tmp_path}")[0].weights == str(file)  # the folder of `bench train`
    with pytest.raises(ValueError, match=r"diffusion\.ckpt: a checkpoint; name weights\.safetensors beside it"):
        parse_models(f"mine={tmp_path / 'diffusion.ckpt'}")
    with pytest.raises(ValueError, match=r"there is no file .*none\.safetensors"):
        parse_models(f"mine={tmp_path / 'none.safetensors'}")
    (control,) = parse_models(f"train-copy={file}")
    with pytest.raises(ValueError, match=r"controls:TrainCopy takes no weights"):
        build_generator(control, "perov5", "cpu")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("crysldm,crysldm", "two models are named 'crysldm'"),
        ("crysldm@0", "number of steps"),
        ("crysldm@many", "number of steps"),
        ("mine=", "write name=FILE"),
        ("mine=nowhere.zip", "no file or folder nowhere.zip"),
        ("", "names no model"),
        (",", "names no model"),
    ],
)
def test_entries_that_mean_nothing_are_refused(entries: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_models(entries)


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "report", "two words", ""])
def test_names_that_cannot_be_folders_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model name"):
        model_specs.file_model(tmp_path, name)


@pytest.mark.parametrize(
    ("file", "name"),
    [("samples.zip", "samples"), ("eval gen (2).pt", "eval-gen-2"), ("a.csv.gz", "a"), (".x", "crystals")],
)
def test_a_file_is_named_after_itself(file: str, name: str, tmp_path: Path) -> None:
    (tmp_path / file).touch()
    assert model_specs.file_model(tmp_path / file).name == name


def test_a_class_of_the_user_is_built_without_arguments() -> None:
    generator = build_generator(parse_models("fake_generators:Fake")[0], "perov5", "cpu")
    assert generator.name == "fake"


def test_a_factory_gets_what_its_signature_names() -> None:
    spec = ModelSpec("x@7", "x@7", "fake_generators:WithSteps", steps=7)
    assert build_generator(spec, "perov5", "cpu").options == ("perov5", "cpu", 7)  # type: ignore[attr-defined]


def test_steps_for_a_generator_without_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="takes no number of steps"):
        build_generator(ModelSpec("x@7", "x@7", "fake_generators:Fake", steps=7), "perov5", "cpu")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module:Class", "no module 'no_such_module'"),
        ("fake_generators:Missing", "has no 'Missing'"),
        ("fake_generators:TakesNoSeed", "no name, load and sample"),
        ("fake_generators:np", "no class or factory"),
    ],
)
def test_what_is_no_generator_is_refused(target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_generator(parse_models(target)[0], "perov5", "cpu")


def test_a_missing_dependency_of_a_plug_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_something.py").write_text("import something_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="needs the package 'something_not_installed'"):
        registry.load("needs_something:Class")


def test_an_installed_package_joins_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("dice", "fake_generators:Fake", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    spec = parse_models("dice")[0]
    assert (spec.name, spec.target, spec.builtin) == ("dice", "fake_generators:Fake", False)
    assert build_generator(spec, "perov5", "cpu").name == "fake"


def test_an_entry_point_with_the_name_of_ours_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("crysldm", "elsewhere:Model", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    with pytest.raises(ValueError, match="two generators are named 'crysldm'"):
        parse_models("dice")


def test_a_task_whose_module_does_not_exist_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = {**registry.PLUGINS, "task": {"a": "tasks.never_written:Task", "b": "no_package.task:Task"}}
    monkeypatch.setattr(registry, "PLUGINS", plugins)
    assert registry.known("task") == {}


def test_a_potential_that_no_task_takes_is_refused(fakes: None) -> None:
    with pytest.raises(ValueError, match="none of the tasks asked for takes a potential"):
        build_tasks(None, ("chgnet",))


def test_a_foreign_package_named_models_is_told_apart_without_running_it(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise SystemExit('it was run')\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["-m", "bench", "run", "--models", "crysldm", "--dataset", "perov5"]
    shadowed = subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert shadowed.returncode == 2
    assert len(shadowed.stderr.splitlines()) == 1
    assert f"another package named 'models' ({tmp_path / 'models'})" in shadowed.stderr
    assert "python -P -m bench" in shadowed.stderr
    safe = subprocess.run(
        [sys.executable, "-P", "-m", "bench", "models"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert safe.returncode == 0, safe.stderr
    assert "crysldm" in safe.stdout


def test_each_potential_has_a_task_of_its_own_and_a_hull_goes_to_those_that_take_one() -> None:
    first, second = registry.build_tasks(["stability"], ("chgnet", "models/own-potential"), "perov5", "own.json")
    assert (first.name, second.name) == ("stability", "stability-own-potential")
    assert {vars(task)["hull"] for task in (first, second)} == {"own.json"}
    with pytest.raises(ValueError, match="--hull own.json: none of the tasks asked for takes a hull"):
        registry.build_tasks(["validity"], (), "perov5", "own.json")


def test_a_task_brings_along_those_that_it_needs_in_the_tables_order() -> None:
    assert registry.task_names(["properties"]) == ["validity", "properties"]
    assert registry.task_names(["properties", "validity"]) == ["validity", "properties"]
    assert registry.task_names(["validity"]) == ["validity"]
    assert registry.task_names(None) == [name for name in registry.known("task") if name not in registry.NAMED_TASKS]
    assert [task.name for task in registry.build_tasks(["properties"])] == ["validity", "properties"]
    with pytest.raises(ValueError, match="unknown task 'speed'; known are validity, properties"):
        registry.task_names(["properties", "speed"])
