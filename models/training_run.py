"""What a folder of training began with, so that a run goes on as it began or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

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


def note_run(out: Path, asked: dict[str, Any]) -> None:
    """Writes what `check_same_run` compares with, OUT/run.json."""
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f"{RUN_FILE}.tmp"
    partial.write_text(json.dumps(asked, indent=1) + "\n")
    partial.replace(out / RUN_FILE)
