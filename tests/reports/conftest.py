"""Finished run folders with chosen metrics: manifest and summary as `bench.runner` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.run_folder.manifest import protocol_hash
from bench.statistics import Metric, cost_per_hit, wilson
from bench.store import FORMAT

MakeRun = Callable[..., Path]
N = 1000


def model_metrics(
    valid: int = 980,
    density: float = 0.11,
    stable: int | None = None,
    stable_by_m3gnet: int | None = None,
    steps: int | None = 100,
    evaluations: float | None = 200.0,
    seconds: float | None = 0.04,
    n: int = N,
    stable_below: Mapping[str, int] = {},
    undisturbed: float | None = None,
    batches: int = 20,
) -> dict[str, Metric]:
    """The metrics of a model with these many valid and stable crystals of n; stable None: not scored.

    stable_below: how many are stable with the line drawn elsewhere (eV/atom). undisturbed: share of the seconds.
    """
    cost = None if steps is None else float(steps) * n / 1000
    return {
        "steps": Metric(steps, n=n),
        "network_evaluations": Metric(evaluations, evaluations, evaluations, 20),
        "seconds_per_crystal": Metric(seconds, seconds and 0.97 * seconds, seconds and 1.03 * seconds, batches),
        **({} if undisturbed is None else {"undisturbed_share": Metric(undisturbed, n=batches)}),
        "steps_per_stable": Metric(None, n=n) if stable is None or cost is None else cost_per_hit(cost, stable, n),
        "valid_composition": wilson(valid, n),
        "valid_composition_icsd24": wilson(valid - n // 100, n),
        "valid_structure": wilson(n, n),
        "emd_num_elements": Metric(0.05, 0.03, 0.08, valid),
        "emd_num_elements_floor": Metric(0.03, 0.02, 0.05, valid),
        "emd_density": Metric(density, 0.7 * density, 1.4 * density, valid),
        "emd_density_floor": Metric(0.104, 0.06, 0.21, valid),
        **({} if stable is None else {"stable_rate": wilson(stable, n)}),
        **{f"stable_below_{line}_rate": wilson(hits, n) for line, hits in stable_below.items()},
        **(
            {}
            if stable_by_m3gnet is None or stable is None
            else {
                "stable_rate[m3gnet]": wilson(stable_by_m3gnet, n),
                "stable_disagreement_rate[m3gnet]": wilson(abs(stable - stable_by_m3gnet) + 2, n),
            }
        ),
    }


def stability_protocol(potential: str) -> dict[str, Any]:
    """What a table reads of the stability task's settings."""
    return {
        "potential": {"name": potential},
        "stable_below_ev_per_atom": 0.1,
        "hull": {"sha256": f"hull of {potential}"},
    }


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a run folder and gives its path. models: name -> arguments of `model_metrics`, or None for no crystals.

    Further keywords replace entries of the manifest.
    """

    def make(
        models: Mapping[str, Mapping[str, Any] | None],
        name: str = "run",
        dataset: str = "perov5",
        smact: str = "4.0.2",
        tasks: tuple[str, ...] = ("validity", "properties"),
        ledgers: Mapping[str, Any] = {},
        about: Mapping[str, Any] = {},
        **changes: Any,
    ) -> Path:
        validity = {"smact": smact, "composition": {"oxidation_states_set": "smact14"}}
        contents = {
            "validity": validity,
            "properties": {"against": "test split"},
            "novelty": {"against": "training split"},
            "stability": stability_protocol("chgnet"),
            "stability-m3gnet": stability_protocol("m3gnet"),
        }
        if any(arguments and arguments.get("stable") is not None for arguments in models.values()):
            tasks = tuple(dict.fromkeys([*tasks, "stability"]))
        protocol = {
            "dataset": dataset,
            "reference": f"card of {dataset}",
            "tasks": {task: contents[task] for task in tasks},
        }
        spec = {"builtin": True, "is_file": False}
        manifest = {
            "format": FORMAT,
            "dataset": dataset,
            "protocol": protocol,
            "protocol_hash": protocol_hash(protocol),
            "budget": {"num_samples": N},
            "preset": "cpu",
            "device": {"kind": "cpu", "name": "a CPU", "cores": 2},
            "threads": 1,
            "seed": 7,
            "repeats": 1,
            "models": {model: {"kind": "generator", "spec": spec, "batch_size": 50, "repeats": 1} for model in models},
            **changes,
        }
        entries = {}
        for model, arguments in models.items():
            metrics = model_metrics(**(arguments or {}))
            if arguments is None:
                metrics = {metric: Metric(None) for metric in metrics}
            found = {metric: figure.to_json() for metric, figure in metrics.items()}
            entries[model] = {
                "requested": metrics["valid_structure"].n,
                "ledger": ledgers.get(model, {}),
                "metrics": found,
            }
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        summary = {"dataset": dataset, "models": entries, "skipped": {}, "about": about}
        (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    return make
