"""The ledger as it is shown: what is left of a model's crystals after each stage, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from reports.page.html_table import HtmlTable, simple_table
from reports.run_results import ModelResult
from reports.tables.columns import percent

# Stage -> the one that its crystals are taken from, and what it says.
STAGES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "requested": ("", "asked for"),
        "generated": ("requested", "handed over"),
        "parsed": ("generated", "are crystals"),
        "valid": ("parsed", "valid in composition and structure"),
        "relaxed": ("parsed", "relaxed to a finite energy"),
        "converged": ("relaxed", "relaxation converged"),
        "stable": ("converged", "stable"),
        "unique": ("parsed", "unique among those sampled"),
        "novel": ("parsed", "new against the training split"),
    }
)
LONGEST_REASON = 300  # characters; a page is read by people


@dataclass(frozen=True)
class Step:
    """One stage of a funnel. share: of the crystals asked for. shown: that in percent. lost: since the stage before."""

    stage: str
    meaning: str
    crystals: int
    share: float
    shown: str
    lost: str


@dataclass(frozen=True)
class Funnel:
    """What became of one model's crystals. steps: empty where the run keeps no ledger of it."""

    method: str
    requested: int
    steps: Sequence[Step]


def funnel(result: ModelResult) -> Funnel:
    """The ledger of one model, with its stable, unique and new crystals where they are known."""
    counts = _ledger(result)
    steps = []
    for stage, (before, meaning) in STAGES.items():
        if isinstance(counts.get(stage), int):
            lost = int(counts.get(before) or 0) - counts[stage]
            steps.append(_step(stage, meaning, counts[stage], result.requested, f"−{lost:,}" if lost > 0 else ""))
    for metric, geometry in (("sun_rate", "as generated"), ("sun_rate_relaxed", "as relaxed")):
        together = result.known(metric)
        if steps and together is not None and together.value is not None:
            number = round(together.value * result.requested)
            steps.append(_step("S.U.N.", f"stable, unique and new at once, {geometry}", number, result.requested, ""))
    return Funnel(result.method, result.requested, steps)


def reasons_table(results: Sequence[ModelResult], name: str) -> HtmlTable | None:
    """Every reason why a crystal did not count, by model and stage; None where there is none."""
    rows = []
    for result in results:
        reasons = _ledger(result).get("reasons")
        for stage, counts in (reasons if isinstance(reasons, Mapping) else {}).items():
            for reason, count in (counts if isinstance(counts, Mapping) else {}).items():
                text = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"
                share = percent(count / max(result.requested, 1), result.requested)
                rows.append((result.method, str(stage), text, f"{count:,}", f"{share} %"))
    if not rows:
        return None
    headers = ("Model", "Stage", "Reason", "Crystals", "of those asked for")
    return simple_table(name, "Why crystals did not count", headers, rows, words=3, filtered=True)


def _step(stage: str, meaning: str, crystals: int, requested: int, lost: str) -> Step:
    share = crystals / max(requested, 1)
    return Step(stage, meaning, crystals, min(max(share, 0.0), 1.0), f"{percent(share, requested)} %", lost)


def _ledger(result: ModelResult) -> Mapping[str, Any]:
    found = result.run.summary()["models"][result.model].get("ledger")
    return found if isinstance(found, Mapping) else {}
