"""What a folder of training began with, so that a run goes on as it began or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bench.atomic import folder_lock, remove_left_over, write_json
from models.weights import differing_keys

RUN_FILE = "run.json"


def check_same_run(out: Path, asked: dict[str, Any]) -> None:
    """ValueError where OUT holds a run that other arguments began. Its last stage may get other epochs, not too few.

    asked: "stages", the fields of each in order, and whatever else must not change. What an older version began is
    believed: it noted nothing.
    """
    last = asked["stages"][-1]
    checkpoint, noted = out / f"{last['name']}.ckpt", out / RUN_FILE
    if checkpoint.exists():
        try:
            done = torch.load(checkpoint, map_location="cpu", weights_only=False)["epoch"] + 1
        except Exception as error:  # whatever a broken pickle raises
            raise ValueError(
                f"{checkpoint}: not a checkpoint of training ({type(error).__name__}); remove it"
            ) from None
        if done > last["epochs"]:
            raise ValueError(
                f"{out}: {done} epochs are done already, more than the {last['epochs']} asked for; give --epochs {done}"
            )
    if not noted.exists() or not any(out.glob("*.ckpt")):
        return
    try:
        began = json.loads(noted.read_text())
        names, asked_names = ([stage["name"] for stage in run["stages"]] for run in (began, asked))
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{noted}: damaged; remove it, and nothing will be compared") from None
    differing = _differing(began, asked, ("stages",))
    if names != asked_names:
        differing.append("stages")
    else:
        for k, (before, now) in enumerate(zip(began["stages"], asked["stages"], strict=True)):
            free = ("epochs",) if k == len(names) - 1 else ()
            differing += [f"{key} of stage {before['name']}" for key in _differing(before, now, free)]
    if differing:
        raise ValueError(
            f"{out}: this run began otherwise (differs in {', '.join(differing)}); "
            "repeat its arguments, or choose another --out"
        )


def _differing(began: dict[str, Any], asked: dict[str, Any], free: tuple[str, ...]) -> list[str]:
    """Where the two differ in what was noted."""
    return differing_keys(began, {key: asked.get(key) for key in began}, free)


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
