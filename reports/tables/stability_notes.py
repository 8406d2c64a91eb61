"""What stands under Table 1 about stability: by which potential, its measured error, and what a second one says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from bench.interfaces import task_name
from bench.statistics import Metric
from reports.run_results import ModelResult, task_protocols
from reports.tables.columns import percent

TASK = "stability"
CONSENSUS = {
    "stable_by_all_rate": "all of the potentials at once",
    "stable_by_majority_rate": "more than half of them",
}
SECOND_RATE = re.compile(r"stable_rate\[(.+)\]")
OTHER_LINE = re.compile(r"stable_below_[0-9.]+_rate")


def stability_note(results: Sequence[ModelResult]) -> str:
    """How the rate was computed, and how far the potential's word goes. All results are of one protocol."""
    protocol = task_protocols(results)[TASK]
    line, name = protocol["stable_below_ev_per_atom"], protocol["potential"]["name"]
    further = [*_own_hull(results, TASK), *_absent_calibration(results), *_other_lines(results)]
    return (
        f"energy above hull below {line:g} eV/atom once relaxed by {name}; what failed to relax is not stable. "
        + "".join(f"{text}. " for text in further)
        + f"Accuracy: {_error(results, TASK)}"
    )


def second_potentials(results: Sequence[ModelResult]) -> list[str]:
    """For each further potential of the runs: its rates, where it and the first disagree, and its measured error."""
    lines = []
    protocols = task_protocols(results)
    names = dict.fromkeys(name for result in results for name in result.metrics)
    for potential in (found[1] for name in names if (found := SECOND_RATE.fullmatch(name))):
        task = task_name(TASK, potential)
        if task not in protocols:
            continue
        name = protocols[task]["potential"]["name"]
        rates = [
            f"{dataset}: {', '.join(shown)}"
            for dataset, members in groupby(results, key=lambda result: result.dataset)
            if (shown := [text for member in members for text in _second_rate(member, potential)])
        ]
        if rates:
            error = _error(results, task)
            lines.append(f"Stable by {name} instead, {'; '.join(rates)}. {error[:1].upper()}{error[1:]}.")
    return lines


def consensus_notes(results: Sequence[ModelResult]) -> list[str]:
    """What several potentials say together, data set by data set; nothing where no run has two."""
    lines = []
    for metric, words in CONSENSUS.items():
        shown = [f"{r.method} {text}" for r in results if (text := _with_interval(r.known(metric)))]
        if shown:
            lines.append(f"Stable by {words}: {', '.join(shown)}.")
    return [*lines, "Where they disagree: `bench report RUN --disagreements`."] if lines else []


def _with_interval(rate: Metric | None) -> str:
    """A rate in percent with its interval; empty without one."""
    if rate is None or rate.value is None or rate.low is None or rate.high is None:
        return ""
    value, low, high = (percent(part, rate.n) for part in (rate.value, rate.low, rate.high))
    return f"{value}\u00a0% [{low}, {high}]"


def _own_hull(results: Sequence[ModelResult], task: str) -> Iterator[str]:
    """What the user's own hull is, and what of its file was left out."""
    abouts = [result.run.summary().get("about", {}).get(task, {}) for result in results]
    yield from (f"Hull: {about}" for about in dict.fromkeys(a["hull"] for a in abouts if a.get("hull")))


def calibration_note(results: Sequence[ModelResult]) -> str:
    """What the calibrated rate is, and how far it goes."""
    fitted = next(filter(None, (_calibration(result).get("fitted_on") for result in results)), None)
    if fitted is None:
        return ""
    return (
        "expected share that DFT would put below the line, by a logistic regression of DFT's verdict on the energy "
        f"above hull of {fitted['crystals']} generated crystals ({fitted['file']}). The interval holds sampling and "
        "calibration, and is widened for chemistry that those lack. On crystals of another kind the error may be "
        "larger. Rows share the calibration's error, so compare them by the rate beside it"
    )


def _absent_calibration(results: Sequence[ModelResult]) -> Iterator[str]:
    reasons = dict.fromkeys(a for result in results if (a := _calibration(result).get("absent")))
    yield from (f"No rate calibrated to DFT: {reason}" for reason in reasons)


def _calibration(result: ModelResult) -> dict[str, Any]:
    return dict(result.run.summary().get("about", {}).get(TASK, {}).get("calibration") or {})


def _other_lines(results: Sequence[ModelResult]) -> Iterator[str]:
    """Rates with the line drawn elsewhere, data set by data set, as far as the runs have them."""
    names = dict.fromkeys(name for result in results for name in result.metrics if OTHER_LINE.fullmatch(name))
    if not names:
        return
    lines = " / ".join(name.split("_")[2] for name in names)
    for dataset, members in groupby(results, key=lambda result: result.dataset):
        rates = [
            f"{member.method} {' / '.join(percent(m.value or 0.0, m.n) for m in found)}\u00a0%"
            for member in members
            if (found := [m for name in names if (m := member.known(name))])
        ]
        yield f"Stable below {lines} eV/atom, {dataset}: {', '.join(rates)}"


def _second_rate(result: ModelResult, suffix: str) -> Iterator[str]:
    rate, differ = (result.known(f"{metric}[{suffix}]") for metric in ("stable_rate", "stable_disagreement_rate"))
    shown = _with_interval(rate)
    if not shown:
        return
    text = f"{result.method} {shown}"
    if differ is not None and differ.value is not None:
        text += f" (the two disagree about {round(differ.value * differ.n)} of {differ.n} crystals)"
    yield text


def _error(results: Sequence[ModelResult], task: str) -> str:
    """The potential's error against DFT as it was measured, in words."""
    protocol = task_protocols(results)[task]
    name = protocol["potential"]["name"]
    summaries = [result.run.summary().get("about", {}).get(task, {}) for result in results]
    error = next(filter(None, (about.get("error") for about in summaries)), None)
    if error is None:
        return f"the error of {name} against DFT was not measured on generated crystals"
    low, value, high = _parts(error["agree"])
    wrong_low, wrong, wrong_high = _parts(error["unstable_called_stable"])
    elsewhere = "" if protocol["hull"]["sha256"] == error["hull"] else " and another hull than here"
    trained_on = error.get("phases")  # in runs of before, phases that potentials know
    of = error["measured_on"] if trained_on is None else f"phases of {trained_on}"
    beyond = (
        "Crystals of other models may err otherwise"
        if trained_on is None
        else "On chemistry that it was not trained on it errs more, and rates by such potentials are inflated"
    )
    return (
        f"{name} against DFT, {error['crystals']} {of}{elsewhere}: mean absolute error {error['mae']:.3f} eV/atom, "
        f"bias {error['bias']:+.3f}, agrees about {error['stable_below_ev_per_atom']:g} eV/atom for {value}\u00a0% "
        f"[{low}, {high}], calls {wrong}\u00a0% [{wrong_low}, {wrong_high}] of the "
        f"{error['unstable_called_stable']['n']} unstable ones stable. {beyond}"
    )


def _parts(share: Mapping[str, float]) -> tuple[str, str, str]:
    low, value, high = (percent(share[part], 0) for part in ("low", "value", "high"))
    return low, value, high
