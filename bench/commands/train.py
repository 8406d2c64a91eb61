"""`bench train`: a model's trainer, with metrics of the crystals that it samples meanwhile."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

from bench import registry
from bench.crystals import Crystals, FilteredCrystals
from bench.datasets import canonical_name, reference_card
from bench.interfaces import TrainingPlan
from bench.progress import progress
from bench.scoring.tables import score_in_memory

LOGGED = ("valid_composition", "valid_structure", "valid", "emd_num_elements", "emd_density")


def train(plan: TrainingPlan) -> Path:
    """Trains a model and gives its weights file. ValueError says what to change."""
    reference = reference_card(canonical_name(plan.dataset))
    tasks = registry.build_tasks(("validity", "properties"))

    def score(crystals: Crystals) -> dict[str, float]:
        """Metrics of some crystals, those that are defined."""
        if len(crystals) == 0:
            return {}
        tables = score_in_memory(tasks, FilteredCrystals.complete(crystals))
        found = {name: m.value for task in tasks for name, m in task.summary(tables, reference, plan.seed).items()}
        return {name: value for name in LOGGED if (value := found.get(name)) is not None}

    written: Path = registry.plugin("trainer", "train")(plan, score=score, progress=progress)
    return written


def parse_time(text: str) -> timedelta:
    """The duration in "HH:MM:SS". ValueError says how to write one."""
    found = re.fullmatch(r"(\d+):([0-5]?\d):([0-5]?\d)", text.strip())
    if not found or not any(map(int, found.groups())):
        raise ValueError(f"--max-time {text!r}: write HH:MM:SS, such as 02:00:00")
    hours, minutes, seconds = map(int, found.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)
