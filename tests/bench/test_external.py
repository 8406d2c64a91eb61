"""`bench sample-external`: what a foreign command's crystals cost, and what it may do wrong."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.commands.sample_external import External, sample_external
from bench.crystal_io import read_crystals
from bench.store import Run
from tests.command_line import bench

EXAMPLE = Path(__file__).parents[2] / "examples" / "external_model.py"
MODEL = f"{shlex.quote(sys.executable)} {shlex.quote(str(EXAMPLE))} --num-samples {{num_samples}} --seed {{seed}}"
WRITES = f"{MODEL} --out {{out}}"


@dataclass
class Laps:
    """A clock on which every look at it takes what the script says."""

    script: list[float] = field(default_factory=list)

    def start(self) -> None:
        pass

    def stop(self) -> float:
        return self.script.pop(0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sample(command: str, laps: Iterable[float] = (1.0,), out: str = "mine.extxyz", **options: object) -> dict:
    """What the meta file says after a run of the command with three crystals."""
    asked = {"num_samples": 3, **options}
    meta = Path(f"{out.split('.')[0]}.meta.json")
    sample_external(External(command, out=Path(out), meta=meta, **asked), Laps([*laps]))  # type: ignore[arg-type]
    return json.loads(meta.read_text())


@pytest.mark.usefixtures("here")
def test_sampling_is_timed_from_the_line_that_ends_start_up() -> None:
    costs = sample(WRITES, [7.0, 2.0], ready="model ready", steps=10, network_evaluations=20.0)
    assert (costs["load_seconds"], costs["sampling_seconds"], costs["measured"]["wall_seconds"]) == (7.0, 2.0, 9.0)
    assert (costs["steps"], costs["network_evaluations"], costs["num_samples"]) == (10, 20.0, 3)
    assert costs["measured"]["start_up"] == "until 'model ready' was printed"
    assert len(read_crystals("mine.extxyz").filtered.crystals) == 3
    assert "model ready" in Path("mine.log").read_text()


@pytest.mark.usefixtures("here")
def test_a_line_that_ends_sampling_leaves_out_what_comes_after_it() -> None:
    costs = sample(f"{WRITES}; echo sampled; sleep 0.01", [7.0, 2.0, 30.0], ready="model ready", done="sampled")
    assert costs["sampling_seconds"] == 2.0
    assert costs["measured"]["wall_seconds"] == 39.0


@pytest.mark.usefixtures("here")
def test_what_a_program_prints_is_seen_when_it_prints_it_and_not_when_it_ends() -> None:
    lines = f"import sys, time, pathlib; print('ready'); time.sleep(1.0); pathlib.Path('seen').touch(); {COPY}"
    costs = {}
    for name, python in (("python", sys.executable), ("buffered", f"env -u PYTHONUNBUFFERED {sys.executable}")):
        sample_external(
            External(f'{python} -c "{lines}" {{out}}', 1, Path(f"{name}.cif"), Path(f"{name}.json"), ready="ready")
        )
        costs[name] = json.loads(Path(f"{name}.json").read_text())
    for name, found in costs.items():
        assert found["sampling_seconds"] >= 1.0, f"{name}: the sleep of a second is not start-up"


SALT = """data_x
_cell_length_a 5.6
_cell_length_b 5.6
_cell_length_c 5.6
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_type_symbol
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na Na0 0 0 0
Cl Cl0 0.5 0.5 0.5
"""
COPY = f"pathlib.Path(sys.argv[1]).write_text({SALT!r})".replace('"', '\\"')


@pytest.mark.usefixtures("here")
def test_a_command_that_only_starts_up_is_subtracted_the_shorter_of_two() -> None:
    costs = sample(WRITES, [2.0, 1.5, 10.0], start_up="echo {out} {num_samples}")
    assert (costs["load_seconds"], costs["sampling_seconds"]) == (1.5, 8.5)
    assert costs["measured"]["start_up"] == "the time of 'echo {out} {num_samples}'"


@pytest.mark.usefixtures("here")
def test_start_up_that_takes_longer_than_everything_is_told() -> None:
    with pytest.raises(ValueError, match=r"mine\.extxyz: written, but --start-up took 3 s and all of --command 2 s"):
        sample(WRITES, [3.0, 3.0, 2.0], start_up="true")


@pytest.mark.usefixtures("here")
def test_what_a_start_up_command_writes_is_not_taken_for_the_samples() -> None:
    with pytest.raises(ValueError, match=r"wrote no mine\.extxyz"):
        sample("true {out}", [1.0, 1.0, 2.0], start_up=WRITES)


@pytest.mark.usefixtures("here")
def test_without_a_line_all_time_counts_and_the_files_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    costs = sample(WRITES, [9.0])
    assert costs["sampling_seconds"] == 9.0
    assert "load_seconds" not in costs
    assert "upper bound" in costs["measured"]["start_up"]
    costs = sample(WRITES, [9.0], out="other.extxyz", ready="never said")
    assert costs["sampling_seconds"] == 9.0
    assert "warning: --command did not print 'never said' before it ended" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("echo no weights; exit 3 # {out}", "failed with exit code 3; it said last: no weights"),
        ("kill -9 $$ # {out}", "failed with signal SIGKILL; it said nothing"),
        ("true {out}", r"ended well but wrote no mine\.extxyz; its output is in mine\.log"),
        ("echo rubbish > {out}", r"mine\.extxyz: holds no crystal"),
        ("printf 'bad \\033[2J line\\n'; exit 1; {out}", r"it said last: bad \\x1b\[2J line"),
    ],
)
def test_a_command_that_does_not_do_it_is_one_clear_line(command: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        sample(command)
    assert "\n" not in str(caught.value)
    assert not list(Path().glob("*.json")), "no costs of what failed"
    assert not list(Path().glob(".mine*")), "nothing is left lying about"


def alive(process: int) -> bool:
    """Whether a process runs; one that is dead and only not yet collected by its parent does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.usefixtures("here")
def test_a_command_that_takes_too_long_is_stopped_with_its_children() -> None:
    begun = time.monotonic()
    with pytest.raises(ValueError, match=r"still ran after 2 s \(--timeout\) and was stopped; it said last: waiting"):
        sample("sleep 600 & echo $! > child; echo waiting; wait; {out}", timeout_s=2)
    assert time.monotonic() - begun < 300, "its child was waited for"
    assert not alive(int(Path("child").read_text()))


@pytest.mark.usefixtures("here")
def test_a_child_that_stays_behind_does_not_hold_the_clock_up() -> None:
    sample(f"{WRITES}; sleep 600 & echo $! > child")
    assert not alive(int(Path("child").read_text()))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("asked", "number", "per_crystal"), [(3, 3, 2.0), (5, 5, 1.2), (2, 3, 2.0)])
def test_crystals_that_are_owed_count_and_surplus_ones_share_the_time(
    asked: int, number: int, per_crystal: float
) -> None:
    costs = sample(WRITES.replace("{num_samples}", "3"), [6.0], num_samples=asked)
    assert costs["num_samples"] == number
    assert costs["sampling_seconds"] / costs["num_samples"] == pytest.approx(per_crystal)


def test_placeholders_are_quoted_and_other_braces_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    sample(f"echo '{{}}' ${{HOME:-x}} > braces; {WRITES}")
    assert Path("braces").read_text().startswith("{} ")
    assert Path("mine.extxyz").is_file()


@pytest.mark.usefixtures("here")
def test_the_command_has_the_threads_of_the_run_and_on_a_cpu_sees_no_gpu() -> None:
    sample(f'echo "$OMP_NUM_THREADS,$CUDA_VISIBLE_DEVICES,$PYTHONUNBUFFERED" > seen; {WRITES}', threads=3)
    assert Path("seen").read_text() == "3,,1\n"


@pytest.mark.usefixtures("here")
def test_a_command_that_writes_where_it_will_is_told_by_its_result() -> None:
    costs = sample(f"{MODEL} --out deep.extxyz", result=Path("deep.extxyz"))
    assert costs["num_samples"] == 3
    assert not Path("deep.extxyz").exists()
    Path("deep.extxyz").touch()
    with pytest.raises(ValueError, match=r"deep\.extxyz exists; choose another, or remove it, so that what is there"):
        sample(f"{MODEL} --out deep.extxyz", out="other.extxyz", result=Path("deep.extxyz"))


@pytest.mark.usefixtures("here")
def test_a_folder_of_crystals_is_a_result_too() -> None:
    folder = "for i in 1 2 3; do " + " ".join([f"printf {shlex.quote(SALT)}", "> {out}/$i.cif; done"])
    assert sample(folder, out="cifs")["num_samples"] == 3


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_samples": 0}, "--num-samples 0"),
        ({"command": "true"}, "put {out} into it, or name with --result"),
        ({"result": Path("x.zip")}, "must say where it writes"),
        ({"ready": "a", "start_up": "b"}, "by one of them, not both"),
        ({"done": "a"}, "--done needs --ready"),
        ({"steps": -1}, "--steps -1: must be 0 or more"),
        ({"network_evaluations": float("nan")}, "--network-evaluations nan"),
    ],
)
def test_what_cannot_be_asked_for_is_named(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        External(**{"command": WRITES, "num_samples": 3, "out": Path("m.zip"), "meta": Path("m.json"), **options})


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["mine.extxyz", "mine.meta.json"])
def test_nothing_that_exists_is_overwritten(name: str) -> None:
    Path(name).write_text("precious")
    with pytest.raises(ValueError, match=f"{name} exists"):
        sample(WRITES)
    assert Path(name).read_text() == "precious"


@pytest.mark.usefixtures("here")
def test_an_external_model_is_a_row_of_the_table_with_its_seconds_per_crystal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = ["--num-samples", "20", "--out", "theirs.extxyz", "--ready", "model ready", "--steps", "1"]
    assert bench("sample-external", "--command", WRITES, *options) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("theirs.extxyz: 20 crystals of 20 asked for; ")
    assert "--models crysldm,theirs=theirs.extxyz --meta theirs=theirs.meta.json" in shown
    models = ["--models", "fake_generators:Fake,theirs=theirs.extxyz", "--meta", "theirs=theirs.meta.json"]
    scored = ["--dataset", "perov5", "--tasks", "validity", "--workers", "1", "--num-samples", "5", "--out", "r"]
    assert bench("run", *models, *scored) == 0
    costs = json.loads(Path("theirs.meta.json").read_text())
    device = costs["measured"]["device"]["name"]
    assert f"theirs: as stated with the file ({device}, 1 thread)" in " ".join(capsys.readouterr().out.split())
    run = Run.open(Path("r"))
    metrics = run.summary()["models"]["theirs"]["metrics"]
    assert metrics["seconds_per_crystal"]["value"] == pytest.approx(costs["sampling_seconds"] / 20)
    assert metrics["load_seconds"]["value"] == costs["load_seconds"]
    assert run.manifest["models"]["theirs"]["costs"]["measured"]["by"] == "bench sample-external"


def test_a_command_line_without_what_it_needs_is_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("sample-external", "--command", "false {out}", "--num-samples", "1", "--out", "m.zip") == 2
    assert capsys.readouterr().err == "error: --command failed with exit code 1; it said nothing\n"
    assert os.listdir(here) == ["m.log"]
