"""The models of a run, built when they are first needed: a complete run resumes without their weights."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench import model_specs
from bench.atomic import write_json
from bench.budget import Budget, timed_batch_size
from bench.datasets.files import DataUnavailable
from bench.executor import Executor
from bench.interfaces import Generator
from bench.model_specs import ModelSpec
from bench.prediction.compositions import Targets
from bench.prediction.sampling import require_predictor
from bench.run_folder import manifest as manifests
from bench.sampling.loop import Sampling, in_batches
from bench.sampling.sources import (
    CALIBRATION_SIZE,
    CPU_WARMUP_SIZE,
    DEFAULT_BATCH_SIZE,
    FILE_BATCH_SIZE,
    FileSource,
    Recipe,
    Source,
    declared_batch_size,
)
from bench.store import MANIFEST, Run


@dataclass(frozen=True)
class Model:
    """One model of a run. workers: processes that parse a file of CIFs. predicts: compositions, if it has to."""

    spec: ModelSpec
    name: str
    dataset: str
    preset: str
    workers: int = 1
    predicts: Targets | None = None

    @cached_property
    def generator(self) -> Generator:
        """The generator, built but not loaded. ValueError where it has to predict structures and cannot."""
        generator = model_specs.build_generator(self.spec, self.dataset, self.preset)
        if self.predicts is not None:
            require_predictor(generator)
        return generator

    @cached_property
    def file(self) -> FileSource:
        """The crystals of a file."""
        meta = None if self.spec.meta is None else Path(self.spec.meta)
        return FileSource.read(Path(self.spec.target), meta, self.workers, self.predicts)

    def batches(self, how: Sampling, run: Run, executor: Executor) -> Iterator[None]:
        """Fills the folders of its repeats, from where they stand, a batch each step."""
        return in_batches(how, run.folders(self.name), functools.partial(self.open_source, run, executor))

    def open_source(self, run: Run, executor: Executor) -> Source:
        """Where its crystals come from. ValueError where that is not what the run began with."""
        manifest, entry = run.manifest, run.manifest["models"][self.name]
        if self.spec.is_file:
            digest = {"sha256": manifests.file_sha256(Path(self.spec.target))}
            manifests.require_same({"sha256": entry["sha256"]}, digest, self.spec.target, manifests.START_ANEW)
            costs = manifests.as_json(self.file.costs.to_json())
            manifests.require_same(entry.get("costs", costs), costs, f"{self.spec.meta}", manifests.START_ANEW)
            return self.file
        device, size = manifest["device"]["kind"], entry["batch_size"]
        most = min(size, manifest["budget"].get("num_samples", size))
        # A GPU chooses kernels and takes memory by the shape of the batch.
        awake = CPU_WARMUP_SIZE if device == "cpu" else most
        warmup_sizes: tuple[int, ...] = (awake,)
        if "seconds" in manifest["budget"]:  # calibrates the size of a batch: two sizes, once the device is awake
            calibration = {min(CALIBRATION_SIZE, most)} if device == "cpu" else set()
            warmup_sizes = (awake, *sorted({awake, max(1, most // 8), *calibration}))

        def loaded(generator: Generator) -> None:
            card = manifests.as_json(getattr(generator, "card", None))
            if "card" in entry:
                what = f"{run.root}: the weights or settings of {self.name}"
                manifests.require_same(entry["card"], card, what, manifests.START_ANEW)
            entry["card"] = card
            write_json(run.root / MANIFEST, manifest)

        threads, seed = manifest["threads"], manifest["seed"]
        fresh = entry["repeats"] > 1 or manifest.get("in_turns", False)
        recipe = Recipe(
            self.name,
            self.spec,
            self.dataset,
            self.preset,
            device,
            threads,
            seed,
            warmup_sizes,
            fresh,
            None if self.predicts is None else self.predicts.compositions,
        )
        return executor.open(recipe, self.generator, loaded)


def build_model(
    spec: ModelSpec,
    dataset: str,
    preset: str,
    workers: int = 1,
    predicts: Targets | None = None,
) -> Model:
    """The model of an entry, so far that it is known to be there: a generator built, a file read.

    One of ours that has no data here is left for `open_source` to say so.
    """
    if spec.name is None:  # module:Class, whose generator says the name
        generator = model_specs.build_generator(spec, dataset, preset)
        if predicts is not None:
            require_predictor(generator)
        model = Model(spec, generator.name, dataset, preset, workers, predicts)
        model.__dict__["generator"] = generator  # fills the cached property
        return model
    model = Model(spec, spec.name, dataset, preset, workers, predicts)
    with suppress(DataUnavailable):
        _ = model.file if spec.is_file else model.generator
    return model


def stored_model(name: str, run: Run, workers: int = 1, predicts: Targets | None = None) -> Model:
    """The model of a stored run by its name there."""
    spec = ModelSpec(**run.manifest["models"][name]["spec"])
    return Model(spec, name, run.dataset, run.manifest["preset"], workers, predicts)


def describe_model(model: Model, device: str, repeats: int, budget: Budget) -> dict[str, Any]:
    """What the manifest holds of a model before it is loaded; its card comes then."""
    spec = asdict(model.spec)
    if not model.spec.compiled:  # as in the manifests of runs before there was a choice
        del spec["compiled"]
    if model.spec.is_file:
        path = Path(model.spec.target).resolve()
        spec |= {"target": str(path), "meta": model.spec.meta and str(Path(model.spec.meta).resolve())}
        digest = manifests.file_sha256(path)
        entry = {"kind": "file", "spec": spec, "batch_size": FILE_BATCH_SIZE, "repeats": 1, "sha256": digest}
        remarks = {"remarks": dict(model.file.remarks)} if model.file.remarks else {}
        return {**entry, "costs": model.file.costs.to_json(), **remarks}
    try:
        size = declared_batch_size(model.generator, device)
    except DataUnavailable:
        size = DEFAULT_BATCH_SIZE[device]
    return {"kind": "generator", "spec": spec, "batch_size": timed_batch_size(size, budget), "repeats": repeats}
