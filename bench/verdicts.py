"""What became of a metric from one run to another: the same, within noise, better, worse."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bench.statistics import Metric, differ

EXACT_RTOL = 1e-9  # other processors and libraries round differently

HIGHER_IS_BETTER = (
    "valid",
    "stable_rate",
    "stable_by_",
    "unique_rate",
    "novel_rate",
    "sun_rate",
    "cov_",
    "match_rate",
    "metre",
)
LOWER_IS_BETTER = (
    "emd_",
    "js_",
    "amsd_",
    "amcd_",
    "steps",
    "network_evaluations",
    "evaluations_per",
    "collapsed_rate",
    "match_rmsd",
    "match_crmse",
)
OF_THE_MACHINE = ("undisturbed_share", "peak_", "energy_")  # never gated: another machine has others
FLOOR = "_floor"  # ends the name of what real crystals give: nobody's merit
# Figures whose expectation depends on the number of crystals: compared at equal numbers only.
DEPENDS_ON_N = (
    "emd_",
    "js_",
    "unique_rate",
    "novel_rate",
    "sun_rate",
    "cov_recall",
    "amsd_recall",
    "amcd_recall",
    "match_",
    "metre",
)


class Verdict(StrEnum):
    """What became of one metric."""

    SAME = "same"
    NOISE = "within noise"
    BETTER = "better"
    WORSE = "worse"
    MOVED = "moved"
    LOST = "no longer measured"
    NOT_COMPARED = "not compared"
    UNDEFINED = "undefined"


@dataclass(frozen=True)
class Tolerance:
    """How much a figure may move. rtol None: as much as noise does. exact: in neither direction."""

    rtol: float | None = None
    exact: bool = False


def compare(name: str, old: Metric, new: Metric, equal_n: bool, tolerance: Tolerance) -> tuple[Verdict, str]:
    """What became of a metric, and a remark."""
    if old.value is None:
        return (Verdict.UNDEFINED, "") if new.value is None else (Verdict.NOT_COMPARED, "undefined in the baseline")
    if new.value is None:
        # A cost per hit at zero hits is undefined by chance as well; its bound says whether it can still be as low.
        may_be_as_low = new.low is not None and new.low <= (old.value if old.high is None else old.high)
        if may_be_as_low and not tolerance.exact:
            return Verdict.NOISE, "no hit"
        return Verdict.LOST, ""
    if not equal_n and name.startswith(DEPENDS_ON_N):
        return Verdict.NOT_COMPARED, "depends on the number of crystals, which differs"
    change = new.value - old.value
    if change == 0:
        return Verdict.SAME, ""
    better = direction(name) * change
    if tolerance.rtol is not None:
        if abs(change) <= tolerance.rtol * abs(old.value):
            return Verdict.SAME, f"within {tolerance.rtol:g}"
        if tolerance.exact:
            return Verdict.WORSE, "must not move"
    elif not differ(old, new):
        return Verdict.NOISE, ""
    return (Verdict.BETTER if better > 0 else Verdict.WORSE if better < 0 else Verdict.MOVED), ""


def direction(name: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where neither is known to be."""
    if name.endswith(FLOOR):
        return 0
    if name.startswith(HIGHER_IS_BETTER):
        return 1
    return -1 if name.startswith(LOWER_IS_BETTER) or is_time(name) else 0


def is_time(name: str) -> bool:
    """Whether a metric is a time, or a cost in time."""
    return "seconds" in name
