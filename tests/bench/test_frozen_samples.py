"""Frozen crystals against their frozen figures: only the code of the metrics can move them, and it must not.

tests/baselines/frozen-perov5.extxyz holds crystals of all kinds, none with a formula of the training split: sampled in
ten steps, with random elements, twice the same, with two atoms on one site, and one that is far too dense.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.commands.check import check
from bench.model_specs import file_model
from bench.runner import Plan, run
from bench.statistics import Metric
from tasks import properties

BASELINES = Path(__file__).parents[1] / "baselines"
FROZEN, FIGURES = BASELINES / "frozen-perov5.extxyz", BASELINES / "frozen-perov5.json"


def score(root: Path) -> Path:
    models = [file_model(FROZEN, "frozen")]
    run(Plan(models, "perov5", tasks=("validity", "properties", "novelty"), workers=1, device="cpu"), root)
    return root


def test_the_metrics_of_frozen_crystals_are_exactly_what_they_were(tmp_path: Path) -> None:
    found = check(score(tmp_path / "r"), FIGURES, exact=True)
    assert [str(comparison) for comparison in found if comparison.failed] == []
    rates = {c.metric: c.old.value for c in found if c.old.value not in (None, 0.0, 1.0) and c.gated}
    assert len(rates) >= 10  # figures that a fault would move, not all of them 0 or 1


def test_a_metric_that_moves_by_a_millionth_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = properties.median  # type: ignore[attr-defined]

    def slightly_other(values: object) -> Metric:
        found = real(values)  # type: ignore[arg-type]
        return Metric((found.value or 0.0) * (1 + 1e-6), found.low, found.high, found.n)

    monkeypatch.setattr(properties, "median", slightly_other)
    failed = [c.metric for c in check(score(tmp_path / "r"), FIGURES, exact=True) if c.failed]
    assert failed == ["median_density"]
