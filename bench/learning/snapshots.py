"""Snapshots as models of a run: each has a folder like any other model, with one repeat for each seed."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import model_specs
from bench.atomic import write_json
from bench.budget import timed_batch_size
from bench.executor import Executor
from bench.interfaces import Generator, Trainable
from bench.learning.plan import LearningPlan, Place, entry_name, training_label
from bench.learning.trainables import all_curves, places_of, sampler_spec
from bench.model_specs import TRAINED_WEIGHTS, ModelSpec
from bench.run_folder import manifest as manifests
from bench.sampling.loop import Sampling, in_batches
from bench.sampling.sources import CPU_WARMUP_SIZE, DEFAULT_BATCH_SIZE, Recipe, Source, declared_batch_size
from bench.store import MANIFEST, Run

TRAINING = "training"  # the folder of all trainings


@dataclass(frozen=True)
class SnapshotModel:
    """The snapshots of a model at one time, one for each seed, with one sampler. spec: still without weights."""

    name: str
    spec: ModelSpec
    place: Place

    def batches(self, how: Sampling, run: Run, executor: Executor) -> Iterator[None]:
        """Fills the folders of its seeds, from where they stand, a batch each step."""
        for seed, folder in enumerate(run.folders(self.name)):
            yield from in_batches(how, [folder], functools.partial(self._open_source, run, executor, seed))

    def generator(self, run: Run, seed: int) -> Generator:
        """The sampler on the weights of one seed. ValueError where they are not there."""
        spec = model_specs.with_weights(self.spec, weights_of(run.root, self.place, seed))
        return model_specs.build_generator(spec, run.dataset, run.manifest["preset"])

    def _open_source(self, run: Run, executor: Executor, seed: int) -> Source:
        manifest = run.manifest
        entry, device = manifest["models"][self.name], manifest["device"]["kind"]
        size = min(entry["batch_size"], manifest["budget"]["num_samples"])

        def loaded(generator: Generator) -> None:
            card = manifests.as_json(getattr(generator, "card", None))
            cards = entry.setdefault("cards", {})
            if str(seed) in cards:
                what = f"{run.root}: the weights or settings of {self.name}, seed {seed},"
                manifests.require_same(cards[str(seed)], card, what, manifests.START_ANEW)
            cards[str(seed)] = card
            write_json(run.root / MANIFEST, manifest)

        spec = model_specs.with_weights(self.spec, weights_of(run.root, self.place, seed))
        own_seed = int(np.random.SeedSequence([manifest["seed"], seed]).generate_state(1)[0])
        warmup = (CPU_WARMUP_SIZE if device == "cpu" else size,)
        recipe = Recipe(self.name, spec, run.dataset, manifest["preset"], device, manifest["threads"], own_seed, warmup)
        return executor.open(recipe, recipe.build(), loaded)


def training_folder(root: Path, model: str, factor: float, seed: int) -> Path:
    """Where one training has its snapshots."""
    return root / TRAINING / training_label(model, factor) / f"seed-{seed}"


def weights_of(root: Path, place: Place, seed: int) -> Path:
    """What a sampler takes of a snapshot. ValueError where it is not there."""
    folder = training_folder(root, place.model, place.factor, seed) / f"snapshot-{place.number}"
    if not folder.is_dir():
        raise ValueError(f"{folder}: missing, the training's snapshots were deleted; start a new run")
    file = folder / TRAINED_WEIGHTS
    return file if file.is_file() else folder


def new_entries(plan: LearningPlan, trainables: list[Trainable], device: str) -> dict[str, Any]:
    """What the manifest holds of each snapshot that is to be sampled, by its name. ValueError for a bad sampler."""
    entries: dict[str, Any] = {}
    for place, text in places_of(plan, all_curves(plan, trainables)):
        name = entry_name(place)
        spec = asdict(sampler_spec(text, name))
        del spec["compiled"]
        entries[name] = {
            "kind": "generator",
            "spec": spec,
            "batch_size": DEFAULT_BATCH_SIZE[device],  # until its generator can be asked
            "repeats": plan.seeds,
            "snapshot": place._asdict(),
        }
    model_specs.require_distinct(list(entries))
    return entries


def stored_snapshots(run: Run) -> list[SnapshotModel]:
    """The snapshots of a run, in order."""
    return [
        SnapshotModel(name, sampler_spec(entry["spec"]["text"], name), Place(**entry["snapshot"]))
        for name, entry in run.manifest["models"].items()
    ]


def ask_batch_sizes(run: Run) -> None:
    """Gives the entries the size of their generators' batches, where nothing was sampled yet."""
    for model in stored_snapshots(run):
        if not any(folder.batches for folder in run.folders(model.name)):
            size = declared_batch_size(model.generator(run, 0), run.manifest["device"]["kind"])
            run.manifest["models"][model.name]["batch_size"] = timed_batch_size(size, run.budget)
    write_json(run.root / MANIFEST, run.manifest)
