"""The data set's own test split beside the models: what a faithful generator would reach."""

from __future__ import annotations

from collections.abc import Sequence

from bench.datasets import SplitFigures, canonical_name, reference_card, split_figures
from bench.statistics import Metric
from reports.run_results import ModelResult, task_protocols
from reports.tables.columns import COLUMNS, Column

TEST_SPLIT = "test split"
AGAINST_ITSELF = ("properties",)  # tasks that compare with the test split: nothing to learn of it


def split_metrics(results: Sequence[ModelResult], columns: Sequence[Column] = COLUMNS) -> dict[str, Metric]:
    """Figures of the test split for some columns, of the tasks that scored it as they did these models of one data set.

    columns: by default those of Table 1.
    """
    figures = _figures(results)
    if figures is None:
        return {}
    protocols = task_protocols(results)
    known = {c.metric: figures.known(c.metric, c.task, protocols) for c in columns if c.task not in AGAINST_ITSELF}
    return {name: metric for name, metric in known.items() if metric is not None}


def split_energies(results: Sequence[ModelResult]) -> SplitFigures | None:
    """The test split with its energies above hull, None where it was not relaxed as these models of one data set."""
    figures = _figures(results)
    if figures is None or figures.known("stable_rate", "stability", task_protocols(results)) is None:
        return None
    return figures


def split_remark(results: Sequence[ModelResult]) -> str:
    """What the row of the test split is; empty where the table has none."""
    figures = _figures(results)
    if figures is None or not split_metrics(results):
        return ""
    whole = reference_card(results[0].run.dataset).splits["test"].rows
    which = f"the {whole} crystals" if figures.requested == whole else f"{figures.requested} of the {whole} crystals"
    return (
        f"{TEST_SPLIT}: {which} of {results[0].dataset}'s own test split, scored in the same way as crystals "
        "of a model. Not ranked."
    )


def _figures(results: Sequence[ModelResult]) -> SplitFigures | None:
    try:
        dataset = canonical_name(results[0].run.dataset)
    except ValueError:  # the package that brought it is no longer installed
        return None
    return split_figures(dataset)
