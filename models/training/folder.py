"""What a folder of training began with, so that a run goes on as it began or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bench.atomic import folder_lock, remove_left_over, write_json
from models.training.checkpoints import epochs_done
from models.weights import differing_keys

RUN_FILE = "run.json"


def check_same_run(out: Path, asked: dict[str, Any], resume: bool) -> None:
    """ValueError where OUT holds a run and none is to go on, or one that other arguments began.

    asked: "stages", the fields of each in order, and whatever else must not change. The last stage may get other
    epochs, not fewer than are done. What an older version began is believed where it noted nothing.
    """
    if not any(out.glob("*.ckpt")):
        return
    if not resume:
        raise ValueError(f"{out}: holds a training run; go on with --resume or choose another --out")
    noted = out / RUN_FILE
    if noted.exists():
        _check_same_arguments(out, _read_noted(noted), asked)
    last, first = (out / f"{asked['stages'][k]['name']}.ckpt" for k in (-1, 0))
    if last.exists() and not first.exists():
        raise ValueError(
            f"{out}: has no {first.name}: this run began with --init WEIGHTS (give the same with --resume), "
            "or is of another model (choose another --out)"
        )
    if last.exists():
        try:
            done = epochs_done(torch.load(last, map_location="cpu", weights_only=False))
        except Exception as error:  # whatever a broken pickle raises
            raise ValueError(f"{last}: not a checkpoint of training ({type(error).__name__}); remove it") from None
        if done > asked["stages"][-1]["epochs"]:
            raise ValueError(
                f"{out}: {done} epochs are done already, more than the {asked['stages'][-1]['epochs']} asked for; "
                f"give --epochs {done}"
            )


def _read_noted(path: Path) -> dict[str, Any]:
    """What a run began with. ValueError where that is damaged."""
    try:
        noted: dict[str, Any] = json.loads(path.read_text())
        if all(isinstance(stage["name"], str) for stage in noted["stages"]):
            return noted
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path}: damaged; remove it, and nothing will be compared")


def _check_same_arguments(out: Path, began: dict[str, Any], asked: dict[str, Any]) -> None:
    """ValueError where a run began with other arguments: another model or data set, or what else differs."""
    for key in ("model", "dataset"):
        if began.get(key, asked[key]) != asked[key]:
            raise ValueError(
                f"{out}: holds a training of {began.get('model')} on {began.get('dataset')}, not of {asked['model']} "
                f"on {asked['dataset']}; choose another --out"
            )
    if began.get("init") is not None and asked["init"] is None:
        raise ValueError(f"{out}: this run began with --init WEIGHTS; give the same with --resume")
    differing = _differing(began, asked, ("stages",))
    names, asked_names = ([stage["name"] for stage in run["stages"]] for run in (began, asked))
    if names != asked_names:
        differing.append("stages")
    else:
        for k, (before, now) in enumerate(zip(began["stages"], asked["stages"], strict=True)):
            may_differ = ("epochs",) if k == len(names) - 1 else ()
            differing += [f"{key} of stage {before['name']}" for key in _differing(before, now, may_differ)]
    if differing:
        raise ValueError(
            f"{out}: this run began otherwise (differs in {', '.join(differing)}); "
            "repeat its arguments, or choose another --out"
        )


def _differing(began: dict[str, Any], asked: dict[str, Any], may_differ: tuple[str, ...]) -> list[str]:
    """Where the two differ in what was noted."""
    return differing_keys(began, {key: asked.get(key) for key in began}, may_differ)


@contextmanager
def training_folder(out: Path, asked: dict[str, Any]) -> Iterator[None]:
    """OUT, which no other training may use meanwhile, with OUT/run.json for `check_same_run` to compare with.

    FolderInUse says who uses it. Temporary files of a killed run go.
    """
    out.mkdir(parents=True, exist_ok=True)
    with folder_lock(out):
        remove_left_over(out)
        write_json(out / RUN_FILE, asked)
        yield
