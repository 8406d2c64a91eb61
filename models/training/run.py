"""`bench train`: all stages of a model's training (Algorithm 1 for CrysLDM), in a folder with which a call goes on."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.datasets import canonical_name, load_split, reference_card
from bench.interfaces import TrainingPlan
from models.dense import pack
from models.presets import Preset, StageConfig
from models.presets import preset as find_preset
from models.training import checkpoints
from models.training.card import training_card
from models.training.checkpoints import Progress, train_stage
from models.training.folder import check_same_run, training_folder
from models.training.interruption import interruptible
from models.training.log import plot_losses
from models.training.optimiser import check_optimiser
from models.training.stage import SampledMetrics, ScoreSamples, Stage
from models.type_posterior import PosteriorHead
from models.weights import (
    MAY_DIFFER_AT_THE_START,
    MAY_DIFFER_IN_A_WEAK_NETWORK,
    differing_keys,
    load_into,
    read_card,
    read_weights,
    save_weights,
)

# Adam knows nothing of trained weights at its first steps, whose length is the learning rate whatever the gradient.
INIT_WARMUP_STEPS = 300
# Parts that a network may have and the weights that it starts from not: what they add, or have for other ends.
NEW_PARTS = {"type_posterior": ("network.head.", "network.node_out."), "type_urn": ("network.head.urn_",)}


def train(plan: TrainingPlan, score: ScoreSamples | None = None, progress: Progress | None = None) -> Path:
    """Trains all stages of a model on a data set; returns the weights file, OUT/weights.safetensors.

    score: metrics of sampled crystals, logged every so often. progress: shows how far a stage is. ValueError says what
    to change when the folder holds a run or another one, names are unknown, data is missing or the weights are of
    another network.
    """
    dataset = canonical_name(plan.dataset)
    preset = find_preset(plan.model, dataset, plan.preset)
    out = plan.out or Path("checkpoints") / f"{plan.model}-{dataset}-{plan.preset}"
    device = "cuda" if plan.device == "cuda" or (plan.device == "auto" and torch.cuda.is_available()) else "cpu"
    stages = stages_of(plan, preset)
    for stage in stages:
        check_optimiser(stage.optimiser)
    asked = {"model": plan.model, "dataset": dataset, "preset": plan.preset, "seed": plan.seed}
    asked["init"] = None if plan.init is None else read_card(plan.init).get("sha256")
    asked["stages"] = [dataclasses.asdict(stage) for stage in stages]
    check_same_run(out, asked, plan.resume)
    crystals = {split: pack(load_split(dataset, split)) for split in ("train", "val")}
    with training_folder(out, asked), interruptible(plan, out) as interruption:
        torch.set_num_threads(plan.threads)
        compiled = plan.compile_network
        if compiled is None:
            compiled = (device == "cuda" or len(crystals["train"]) == 1) and shutil.which("g++") is not None
        model: Any = preset.build(plan.seed)
        start = None if plan.init is None else load_start(model, plan.init, preset.config, plan.preset == "cpu-weak")
        probabilities = reference_card(dataset).num_atoms_probabilities
        sampled = None if score is None else SampledMetrics(score, probabilities, plan.seed)
        deadline = None if plan.max_time is None else checkpoints.now() + plan.max_time.total_seconds()
        seconds, finished = 0.0, True
        for number, stage in enumerate(stages, start=len(preset.stages) - len(stages)):
            seen = {split: model.stage_input(stage.name, buckets) for split, buckets in crystals.items()}
            if start is None:
                model.fit_statistics(stage.name, seen["train"], plan.seed)
            elif lacks_head(model):
                model.fit_head(seen["train"])
            module = Stage(model, stage, seen["train"], seen["val"], plan.seed * 10 + number, sampled)
            finished, stage_seconds = train_stage(module, out, deadline, device, compiled, interruption, progress)
            model.cpu()
            seconds += stage_seconds
            if not finished:
                break
        card = training_card(
            plan.model,
            dataset,
            preset.config,
            stages,
            model,
            sum(map(len, crystals["train"])),
            preset=plan.preset,
            seed=plan.seed,
            threads=plan.threads,
            device=device,
            finished=finished,
            training_seconds=round(seconds),
            **({} if start is None else {"init": start}),
        )
        path = out / "weights.safetensors"
        save_weights(path, model.state_dict(), card)
        plot_losses(out, [stage.name for stage in stages])
        return path


def stages_of(plan: TrainingPlan, preset: Preset) -> tuple[StageConfig, ...]:
    """The stages to train: the preset's, or from given weights the last one alone, with a rise of the learning rate."""
    stages = preset.stages
    if plan.init is not None:
        stages = (dataclasses.replace(stages[-1], warmup_steps=max(stages[-1].warmup_steps, INIT_WARMUP_STEPS)),)
    if plan.epochs is not None:
        stages = (*stages[:-1], dataclasses.replace(stages[-1], epochs=plan.epochs))
    return stages


def load_start(network: nn.Module, init: Path, config: Any, weak: bool = False) -> dict[str, Any]:
    """Loads weights to start from; gives what the new card says of them. ValueError for another network's.

    How losses weigh and how the sampler steps are no part of a network. weak: takes the latents alone. A posterior head
    may start on weights without one, and an urn on a head without one, from zero.
    """
    state_dict, card = read_weights(init)
    ours, theirs = dataclasses.asdict(config), card.get("config", {})
    may_differ: tuple[str, ...] = MAY_DIFFER_AT_THE_START
    fresh: tuple[str, ...] = ()
    if weak:
        may_differ, fresh = MAY_DIFFER_IN_A_WEAK_NETWORK, ("network.",)
    elif new := [part for part in NEW_PARTS if _is_new(part, ours, theirs)]:
        ours = {**ours, "network": {**ours["network"], **dict.fromkeys(new)}}
        fresh = tuple(key for part in new for key in NEW_PARTS[part])
    kept_fresh = {key: value for key, value in network.state_dict().items() if key.startswith(fresh)}
    state_dict = {**{k: v for k, v in state_dict.items() if not k.startswith(fresh)}, **kept_fresh}
    differing = differing_keys(ours, theirs, may_differ)
    if differing:
        raise ValueError(f"{init}: not the network of this preset (differs in {', '.join(differing)})")
    load_into(network, state_dict, init)
    kept = ("sha256", "seed", "training_seconds", "stages", "init")
    return {key: card[key] for key in kept if key in card}


def lacks_head(model: Any) -> bool:
    """Whether the model's network has a posterior head whose closed form is not set yet."""
    head = getattr(getattr(model, "network", None), "head", None)
    return isinstance(head, PosteriorHead) and not head.fitted


def _is_new(part: str, ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether the first of two configurations has a part of the network that the other has not."""
    with_it, without = (config.get("network", {}) for config in (ours, theirs))
    return with_it.get(part) is not None and without.get(part) is None
