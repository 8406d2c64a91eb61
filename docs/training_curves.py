"""The training curves of the weights in the package, from the logs that `bench train` wrote.

`python docs/training_curves.py` draws docs/figures/training-DATASET.png from examples/training/MODEL-DATASET/log.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from models.training import read_log

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
LOGS = ROOT / "examples" / "training"
FIGURES = ROOT / "docs" / "figures"
# The last stage of each model, and what its parts of the loss are called here.
STAGES = {"crysldm": "diffusion", "diffcsp": "diffusion", "cdvae": "cdvae"}
TITLES = {"crysldm": "CrysLDM", "diffcsp": "DiffCSP", "cdvae": "CDVAE"}
PARTS = {"type": "atom types", "coord": "coordinates", "lattice": "cell", "composition": "composition"}


def draw(dataset: str, figures: Path = FIGURES) -> Path:
    """One panel a model: each part of the loss by epoch, training as a line and validation as points."""
    logs = {model: read_log(LOGS / f"{model}-{dataset}", stage) for model, stage in STAGES.items()}
    known = {model: log for model, log in logs.items() if not log.empty}
    figure, axes = plt.subplots(1, len(known), figsize=(3.4 * len(known), 3.0), squeeze=False, layout="constrained")
    for axis, (model, log) in zip(axes[0], known.items(), strict=True):
        _panel(axis, log)
        axis.set(title=TITLES[model], xlabel="epoch", yscale="log")
    axes[0, 0].set_ylabel("mean loss, unweighted")
    path = figures / f"training-{dataset}.png"
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)
    return path


def _panel(axis: Axes, log: pd.DataFrame) -> None:
    for number, (part, label) in enumerate(PARTS.items()):
        for column, style in ((f"train_{part}", "-"), (f"val_{part}", "o")):
            if column in log:
                rows = log[["epoch", column]].dropna()
                name = label if style == "-" else None
                axis.plot(rows["epoch"] + 1, rows[column], style, color=f"C{number}", ms=3, lw=1, label=name)
    axis.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    for name in sorted({folder.name.rsplit("-", 1)[1] for folder in LOGS.iterdir() if folder.is_dir()}):
        draw(name)
