"""The paper's statements about its Table 1, each with what the runs say about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.statistics import SIGNIFICANCE, Metric, differ, difference_p_value, holm, quotient
from reports.reproduction.paper_noise import DISTANCES, RATES, printed_metric
from reports.reproduction.speedups import once_each, printed_speedup, seconds_per_stable
from reports.run_results import METHODS, ModelResult
from reports.tables.columns import three_digits
from reports.tables.formats import DASH
from reports.tables.paper_rows import PRINTED_ROWS

CHEAP = "crysldm"
OTHERS = ("cdvae", "diffcsp")
WORDS = {
    "valid_composition": "compositions",
    "valid_structure": "structures",
    "stable_rate": "stability",
    "emd_num_elements": "number of elements",
    "emd_density": "density",
}

Models = Mapping[str, ModelResult]


def statement_table(results: Sequence[ModelResult]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows: one statement a row, one data set a column. Models as their papers sample them."""
    datasets = list(dict.fromkeys(result.run.dataset for result in results))
    models = [once_each([r for r in results if r.run.dataset == name and r.model in METHODS]) for name in datasets]
    titles = [next(result.dataset for result in results if result.run.dataset == name) for name in datasets]
    rows = [
        *([f"CrysLDM's crystals are as good as {METHODS[o]}'s", *(_worse(m, o) for m in models)] for o in OTHERS),
        *(
            [f"{title} reaches its printed validity and distances", *(_reached(m, name) for m in models)]
            for name, title in METHODS.items()
        ),
        *(
            [f"CrysLDM needs so many times fewer steps / stable than {METHODS[o]}", *(_speedup(m, o) for m in models)]
            for o in OTHERS
        ),
        *(
            [
                f"The same in device seconds, against {METHODS[o]} (not in the paper)",
                *(_seconds(m, o) for m in models),
            ]
            for o in OTHERS
        ),
        ["CrysLDM trains faster", *("[short trainings](learning.md)" for _ in models)],
    ]
    return ["Statement", *titles], rows


def _worse(models: Models, other: str) -> str:
    """In which figures CrysLDM is worse than another model beyond noise, Holm-corrected over the figures."""
    if CHEAP not in models or other not in models:
        return DASH
    pairs = {name: (models[CHEAP].known(name), models[other].known(name)) for name in RATES | DISTANCES}
    known = {name: (a, b) for name, (a, b) in pairs.items() if a and b and a.value is not None and b.value is not None}
    p_values = holm([difference_p_value(a, b) for a, b in known.values()])
    worse = [
        WORDS[name]
        for (name, (a, b)), p in zip(known.items(), p_values, strict=True)
        if p < SIGNIFICANCE and ((a.value or 0.0) < (b.value or 0.0)) == (name in RATES)
    ]
    return f"no: {', '.join(worse)} worse" if worse else "yes, within noise"


def _reached(models: Models, name: str) -> str:
    """Which printed figures a model misses beyond noise. Stability rates are on another scale, and stay out."""
    row = next(
        (
            r
            for r in PRINTED_ROWS
            if name in models and (r.dataset, r.method) == (models[name].run.dataset, METHODS[name])
        ),
        None,
    )
    if row is None:
        return DASH
    missed = []
    for metric in WORDS:
        ours = models[name].known(metric)
        if metric == "stable_rate" or ours is None or ours.value is None:
            continue
        theirs = printed_metric(row, metric, ours)
        if differ(ours, theirs) and (ours.value < (theirs.value or 0.0)) == (metric in RATES):
            missed.append(WORDS[metric])
    return f"no: {', '.join(missed)} worse" if missed else "yes"


def _speedup(models: Models, other: str) -> str:
    """The ratio of steps / stable here and as printed, and whether noise can tell them apart."""
    if CHEAP not in models or other not in models:
        return DASH
    ours = quotient(
        models[other].metrics.get("steps_per_stable", Metric(None)),
        models[CHEAP].metrics.get("steps_per_stable", Metric(None)),
    )
    printed = printed_speedup(models[CHEAP].run.dataset, METHODS[other])
    if ours.value is None or printed.value is None:
        return DASH
    word = "yes" if not differ(ours, printed) else "no, smaller" if ours.value < printed.value else "no, larger"
    return f"{word}: {_times(ours)}; printed {_times(printed)}"


def _seconds(models: Models, other: str) -> str:
    if CHEAP not in models or other not in models:
        return DASH
    ratio = quotient(seconds_per_stable(models[other]), seconds_per_stable(models[CHEAP]))
    return DASH if ratio.value is None else _times(ratio)


def _times(ratio: Metric) -> str:
    if ratio.value is None or ratio.low is None or ratio.high is None:
        return DASH
    return f"{three_digits(ratio.value, 0)} [{three_digits(ratio.low, 0)}, {three_digits(ratio.high, 0)}]"
