"""The log of a training: losses and metrics by epoch, over all calls that trained it, and their picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def call_logs(out: Path, stage: str) -> list[Path]:
    """The CSV logs of a stage, one for each call that trained it, in order. Lightning empties a log it finds."""
    return sorted((out / "log").glob(f"{stage}-*/metrics.csv"), key=lambda path: int(path.parent.name.rsplit("-")[-1]))


def read_log(out: Path, stage: str) -> pd.DataFrame:
    """All logged rows of a stage; epochs that a kill made train twice are kept once, as the later call saw them."""
    import pandas as pd

    log = pd.DataFrame()
    for path in call_logs(out, stage):
        call = pd.read_csv(path)
        log = call if log.empty else pd.concat([log[log["epoch"] < call["epoch"].min()], call], ignore_index=True)
    return log


def plot_losses(out: Path, stages: Sequence[str]) -> Path | None:
    """Draws the losses in OUT/log as OUT/losses.png, one panel a stage; None where nothing was logged."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    logs = {name: log for name in stages if "train_loss" in (log := read_log(out, name))}
    if not logs:
        return None
    figure, axes = plt.subplots(1, len(logs), figsize=(5 * len(logs), 3.6), squeeze=False, layout="constrained")
    for axis, (name, log) in zip(axes[0], logs.items(), strict=True):
        for column, style in (("train_loss", "-"), ("val_loss", "o-")):
            if column in log:
                rows = log[["epoch", column]].dropna()
                axis.plot(rows["epoch"], rows[column], style, ms=3, lw=1, label=column.replace("_loss", ""))
        axis.set(title=f"stage: {name}", xlabel="epoch", ylabel="loss", yscale="log")
        axis.legend(frameon=False)
    path = out / "losses.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
