"""The curves in summary.json: each metric of a model's snapshots against the device seconds of its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.learning.training import train_seconds
from bench.store import Run


def curves(run: Run, models: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Sampler -> its points by the seconds of training, each with `train_seconds` and all metrics of the snapshots.

    models: the entries of the summary, which get the same of each seed. train_seconds: mean of the seeds.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name, entry in run.manifest["models"].items():
        if name in models:
            seconds = train_seconds(run, entry["snapshot"])
            models[name]["snapshot"] = {**entry["snapshot"], "train_seconds": seconds}
            point = {"train_seconds": float(np.mean(seconds)), **models[name]["metrics"]}
            found.setdefault(entry["snapshot"]["curve"], []).append(point)
    return found
