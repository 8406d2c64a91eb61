"""The training curves of weights in the package, from the logs that `bench train` wrote.

`python docs/training_curves.py` draws docs/figures/training-DATASET.png, training-DATASET-posterior.png for the models
with a posterior head, and training-DATASET-structures.png for structure prediction. Each folder
examples/training/MODEL-DATASET/PART is that of a training: its log and its card. Parts follow one another: each began
with the weights of the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from models.training.log import read_log
from models.weights import read_card
from reports.run_results import METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
LOGS = ROOT / "examples" / "training"
FIGURES = ROOT / "docs" / "figures"
# What the parts of the loss are called here.
LOSSES = {
    "type": "atom types",
    "composition": "composition",
    "coord": "coordinates",
    "lattice": "cell",
    "cross_entropy": "cross entropy of types",
    "cell": "draft of a cell, nats",
    "place": "draft of an atom's place, nats",
}
POSTERIOR = {f"{model}-posterior": f"{METHODS[model]}, posterior head" for model in ("crysldm", "diffcsp")}

STRUCTURES = {"diffcsp-csp": "Structure prediction", "crystal-draft": "Drafts"}


def draw(dataset: str, figures: Path = FIGURES, models: Mapping[str, str] = METHODS, suffix: str = "") -> Path | None:
    """One panel a model: each part of the loss by epoch, training as a line and validation as points.

    models: their titles. suffix: of the file's name. None where no log of them is stored.
    """
    found = {title: read_parts(LOGS / f"{model}-{dataset}") for model, title in models.items()}
    logs = {title: log for title, log in found.items() if not log.empty}
    if not logs:
        return None
    figure, axes = plt.subplots(1, len(logs), figsize=(3.4 * len(logs), 3.2), squeeze=False, layout="constrained")
    for axis, (title, log) in zip(axes[0], logs.items(), strict=True):
        _panel(axis, log)
        axis.set(title=title, xlabel="epoch", yscale="log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    entries = {label: line for axis in axes[0] for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside right center", frameon=False, fontsize=8)
    axes[0, 0].set_ylabel("loss before weighting\n(line: training, points: validation)")
    path = figures / f"training-{dataset}{suffix}.png"
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)
    return path


def read_parts(folder: Path) -> pd.DataFrame:
    """The logs of a model's last stage, epochs counted on from part to part."""
    parts = []
    for part in sorted(path.parent for path in folder.glob("*/weights.json")):
        card = read_card(part / "weights.safetensors")
        log = read_log(part, card["stages"][-1]["name"])
        parts.append(log.assign(epoch=log["epoch"] + 1 + epochs_before(card)))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def epochs_before(card: Mapping[str, Any]) -> int:
    """Epochs of the weights that training began with."""
    start = card.get("init")
    return 0 if start is None else int(start["stages"][-1]["epochs"]) + epochs_before(start)


def _panel(axis: Axes, log: pd.DataFrame) -> None:
    for number, (part, label) in enumerate(LOSSES.items()):
        for column, style in ((f"train_{part}", "-"), (f"val_{part}", "o")):
            if column in log:
                rows = log[["epoch", column]].dropna()
                name = label if style == "-" else None
                axis.plot(rows["epoch"], rows[column], style, color=f"C{number}", ms=3, lw=1, label=name)


if __name__ == "__main__":
    for name in sorted({folder.name.rsplit("-", 1)[1] for folder in LOGS.iterdir() if folder.is_dir()}):
        draw(name)
        draw(name, models=POSTERIOR, suffix="-posterior")
        draw(name, models=STRUCTURES, suffix="-structures")
