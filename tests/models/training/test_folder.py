"""The folder of a training: one run, that goes on as it began or not at all."""

from dataclasses import replace

import pytest

from bench.atomic import folder_lock
from models.presets import preset
from models.training.log import read_log
from tests.tiny_training import give_preset, run, tiny_preset


def test_two_trainings_do_not_share_a_folder(tiny, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    with folder_lock(out), pytest.raises(ValueError, match="run is in use by process"):
        run(tiny, out)
    left = out / "diffusion.ckpt.1.tmp"
    left.touch()
    run(tiny, out)
    assert not left.exists()


def test_a_folder_with_a_run_is_not_overwritten(tiny, tmp_path):
    run(tiny, tmp_path / "run")
    with pytest.raises(ValueError, match="--resume"):
        run(tiny, tmp_path / "run")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, r"differs in seed\); repeat its arguments"),
        ({"preset": "cpu-weak"}, r"differs in preset\)"),
        ({"epochs": 1}, r"2 epochs are done already, more than the 1 asked for; give --epochs 2"),
    ],
)
def test_a_run_goes_on_as_it_began_or_not_at_all(tiny, tmp_path, changed, message):
    run(tiny, tmp_path / "run", epochs=2)
    with pytest.raises(ValueError, match=message):
        run(tiny, tmp_path / "run", resume=True, **changed)
    run(tiny, tmp_path / "run", resume=True, epochs=3)
    assert len(read_log(tmp_path / "run", "diffusion")["train_loss"].dropna()) == 3


def test_a_run_whose_stage_changed_does_not_go_on(tiny, tmp_path, monkeypatch):
    run(tiny, tmp_path / "run", epochs=1)
    chosen = preset(tiny, "perov5", "cpu")
    other = replace(chosen, stages=(*chosen.stages[:-1], replace(chosen.stages[-1], learning_rate=0.5)))
    give_preset(monkeypatch, tiny, other)
    with pytest.raises(ValueError, match=r"differs in learning_rate of stage diffusion\)"):
        run(tiny, tmp_path / "run", resume=True)


def test_what_stands_in_the_folder_of_a_run_and_is_damaged_is_named(tiny, tmp_path):
    run(tiny, tmp_path / "run", epochs=1)
    for name, message in (
        ("run.json", r"run\.json: damaged; remove it"),
        ("diffusion.ckpt", r"ckpt: not a checkpoint"),
    ):
        path = tmp_path / "run" / name
        whole = path.read_bytes()
        path.write_bytes(b"garbage")
        with pytest.raises(ValueError, match=message):
            run(tiny, tmp_path / "run", resume=True, epochs=2)
        path.write_bytes(whole)


def test_the_folder_of_another_model_is_named(tiny, tmp_path, monkeypatch):
    other = "crysldm" if tiny != "crysldm" else "diffcsp"
    give_preset(monkeypatch, other, tiny_preset(other))
    run(tiny, tmp_path / "run", epochs=1)
    with pytest.raises(ValueError, match=rf"run: holds a training of {tiny} on perov5, not of {other} on perov5"):
        run(other, tmp_path / "run", resume=True)


def test_a_folder_that_noted_nothing_may_be_of_another_model_or_of_given_weights(tmp_path, monkeypatch, tiny_data):
    for name in ("diffcsp", "crysldm"):
        give_preset(monkeypatch, name, tiny_preset(name))
    run("diffcsp", tmp_path / "run", epochs=1)
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(ValueError, match=r"has no vae\.ckpt: .*--init WEIGHTS .* or is of another model"):
        run("crysldm", tmp_path / "run", resume=True)
