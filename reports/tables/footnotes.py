"""What stands under Table 1: how each column was measured, with what, and on which crystals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bench.sample_size import crystals_for_rates
from bench.statistics import Metric
from reports.run_results import METHODS, ModelResult
from reports.tables.card_notes import card_notes
from reports.tables.columns import distance, three_digits
from reports.tables.paper_rows import PAPER, PrintedRow
from reports.tables.paper_rows import STABILITY_SAMPLES as PAPER_SAMPLES
from reports.tables.ranking import rank
from reports.tables.split_row import split_remark
from reports.tables.stability_notes import calibration_note, consensus_notes, second_potentials, stability_note

OF_PAPERS = {*METHODS, "crysldm-as-written", "diffcsp-csp"}
FEW_BATCHES = 10  # with fewer the interval of a time is wide


def column_note(metric: str, results: Sequence[ModelResult]) -> str:
    """How a column was measured; empty where its title says it or no model has it."""
    having = [result for result in results if result.known(metric)]
    if not having:
        return ""
    match metric:
        case "valid_composition":
            return _composition_note(having)
        case "emd_num_elements" | "emd_density":
            return _distance_note(having)
        case "stable_rate":
            return stability_note(having)
        case "stable_rate_calibrated":
            return calibration_note(having)
        case "steps_per_stable":
            return (
                "steps / (1000 × stable rate): per 1000 samples, as the paper prints it; what a stable crystal really "
                "costs is seconds_per_stable and evaluations_per_stable in summary.json"
            )
        case "seconds_per_crystal":
            note = "device seconds of sampling, without loading, warm-up and scoring"
            return "; ".join(filter(None, [note, _devices([r for r in having if not _is_file(r)]), _stated(having)]))
        case "network_evaluations":
            return "; ".join(filter(None, ["network evaluations per crystal, counted while sampling", _stated(having)]))
    return ""


def dash_note(metric: str, task: str | None, result: ModelResult) -> str:
    """Why a model has no such figure, and what would give it."""
    if task is not None and task not in result.run.tasks:
        if task in result.run.manifest.get("known_tasks", ()):
            return f"not computed in this run; `python -m bench rescore DIR --tasks {task}` adds it"
        return f"not computed: it needs the task {task}, which is not part of the version that made this run"
    if task is None:
        return "not known: the crystals came from a file that does not say what they cost"
    if metric == "steps_per_stable" and not result.known("steps"):
        return "not known: a model without a number of steps"
    return "undefined: there is no crystal to compute it from"


def disturbed_note(result: ModelResult) -> str:
    """What is to be known of a time that was measured on a busy machine; empty for others."""
    if not result.was_disturbed:
        return ""
    share = 100 * (result.undisturbed_share or 0.0)
    return f"measured while the machine was busy ({share:.0f} % of the seconds undisturbed): does not count, not ranked"


def remarks(results: Sequence[ModelResult], printed: Sequence[PrintedRow] = ()) -> list[str]:
    """What holds for the whole table: denominators, crystals and seeds, presets, controls, printed rows."""
    lines = ["Rates are over all crystals asked for: what is not there or cannot be scored counts against its model."]
    lines += [_run_remark(list(members)) for _, members in groupby(results, key=lambda result: result.run.root)]
    small = dict.fromkeys(result.method for result in results if _is_small(result))
    if small:
        lines.append(f"Small networks trained on a CPU (preset cpu), not the published sizes: {', '.join(small)}.")
    ours = dict.fromkeys(result.method for result in results if is_of_no_paper(result))
    if ours:
        lines.append(f"Of this project and no paper (`bench models` says what each is): {', '.join(ours)}.")
    own_weights = dict.fromkeys(result.method for result in results if _has_own_weights(result))
    if own_weights:
        lines.append(f"Weights that the user gave, not those of the package: {', '.join(own_weights)}.")
    few = [f"{r.method} ({batches})" for r in results if 0 < (batches := _timed_batches(r)) < FEW_BATCHES]
    if few:
        lines.append(f"Times from fewer than ten batches, with wide intervals: {', '.join(few)}.")
    lines += too_small(results)
    controls = dict.fromkeys(result.method for result in results if result.is_control)
    if controls:
        lines.append(f"Controls, which use no network and are not ranked: {', '.join(controls)}.")
    lines += card_notes(results)
    own = [list(members) for _, members in groupby(results, key=lambda result: result.run.dataset)]
    lines += filter(None, map(split_remark, own))
    lines += [*second_potentials(results), *consensus_notes(results)]
    if printed:
        lines.append(
            f"(paper): as printed in {PAPER}. Their intervals are computed here from the 1000 crystals that the paper "
            "names for stability; it prints none, and no times. Not ranked."
        )
    return lines


def too_small(results: Sequence[ModelResult]) -> list[str]:
    """For each data set, the largest difference of stable rates (or valid ones) that its runs are too small to show.

    Only between the best and those that noise cannot tell from it; nothing where all are equal.
    """
    lines = []
    for dataset, members in groupby(results, key=lambda result: result.dataset):
        models = [result for result in members if result.is_compared]
        for metric, word in (("stable_rate", "stable"), ("valid", "valid")):
            rates = {m.method: rate for m in models if (rate := m.known(metric)) and rate.value is not None}
            if len(rates) < 2:
                continue
            best = max(rates, key=lambda method: rates[method].value or 0.0)
            marks = dict(zip(rates, rank(list(rates.values()), "high"), strict=True))
            tied = {m: r for m, r in rates.items() if r.value != rates[best].value and marks[m] == "tied"}
            if tied:
                least = min(tied, key=lambda method: tied[method].value or 0.0)
                lines.append(_more_crystals(dataset, word, (best, rates[best]), (least, tied[least])))
            break
    return list(filter(None, lines))


def _more_crystals(dataset: str, word: str, best: tuple[str, Metric], other: tuple[str, Metric]) -> str:
    """That two rates would differ beyond noise with more crystals, and with how many; empty where they have so many."""
    high, low = best[1].value or 0.0, other[1].value or 0.0
    needed, there = crystals_for_rates(high, low), min(best[1].n, other[1].n)
    if there >= needed:
        return ""
    return (
        f"{dataset}: {there} crystals cannot show whether {best[0]} ({100 * high:.1f} % {word}) and {other[0]} "
        f"({100 * low:.1f} %) differ as they seem to; about {round_up(needed)} of each would, in 80 % of cases "
        "(`bench plan`)."
    )


def round_up(number: int) -> int:
    """To two digits, upwards."""
    unit = int(10 ** max(len(str(number)) - 2, 0))
    return -(-number // unit) * unit


def _timed_batches(result: ModelResult) -> int:
    """Batches that its time comes from, 0 where it has none or somebody else measured it."""
    time = result.known("seconds_per_crystal")
    return 0 if time is None or result.is_control or _is_file(result) else time.n


def _composition_note(results: Sequence[ModelResult]) -> str:
    validity = results[0].run.manifest["protocol"]["tasks"]["validity"]
    if "rules" in validity:
        rule = f"SMACT {validity['smact']}, by --rules {validity['rules']}"
    else:
        states = validity["composition"]["oxidation_states_set"]
        rule = f"SMACT {validity['smact']}, oxidation states of {states}, the published rule"
    newer = []
    for dataset, members in groupby(results, key=lambda result: result.dataset):
        rates = [
            f"{member.method} {100 * metric.value:.1f}\u00a0%"
            for member in members
            if (metric := member.known("valid_composition_icsd24")) and metric.value is not None
        ]
        newer += [f"{dataset}: {', '.join(rates)}"] if rates else []
    return f"{rule}; by the newer set icsd24, {'; '.join(newer)}" if newer else rule


def _distance_note(results: Sequence[ModelResult]) -> str:
    """What the distances are, and for each data set their floor at the largest number of valid crystals of a model."""
    note = "earth mover's distance of the valid crystals to the test split (density in g/cm³)"
    floors = []
    for dataset, members in groupby(results, key=lambda result: result.dataset):
        model = max(members, key=lambda member: member.metrics["emd_density"].n)
        shown = [
            f"{title} {distance(floor.value, 0)} [{distance(floor.low, 0)}, {distance(floor.high, 0)}]"
            for title, metric in (("#\u00a0elements", "emd_num_elements_floor"), ("density", "emd_density_floor"))
            if (floor := model.known(metric)) and floor.value is not None
            if floor.low is not None and floor.high is not None
        ]
        if shown:
            number = model.metrics["emd_density"].n
            floors.append(f"{dataset}, {number} random training crystals: {', '.join(shown)}")
    return f"{note}; floor: {'; '.join(floors)}" if floors else note


def _devices(results: Sequence[ModelResult]) -> str:
    """The device that sampled; with more than one, which runs each did."""
    runs: dict[str, dict[str, None]] = {}
    for result in results:
        manifest = result.run.manifest
        threads = f", {manifest['threads']} thread{'s' * (manifest['threads'] > 1)}"
        device = manifest["device"]["name"] + (threads if manifest["device"]["kind"] == "cpu" else "")
        runs.setdefault(device, {})[result.run.name] = None
    if len(runs) == 1:
        return next(iter(runs))
    return "; ".join(f"{', '.join(names)}: {device}" for device, names in runs.items())


def _is_file(result: ModelResult) -> bool:
    """Whether the crystals came from a file."""
    entry = result.run.manifest["models"].get(result.model, {})
    return bool(entry.get("kind") == "file")


def _stated(results: Sequence[ModelResult]) -> str:
    """Of which models a figure is what the author of their file states, and on what device it was measured."""
    stated: dict[str, list[str]] = {}
    for result in results:
        if _is_file(result):
            measured = result.run.manifest["models"][result.model].get("costs", {}).get("measured", {})
            device = measured.get("device")  # an object as a manifest has it, or what a person writes
            name = device.get("name") if isinstance(device, dict) else device
            threads = f", {t} thread{'s' * (t != 1)}" if (t := measured.get("threads")) else ""
            where = f" ({name}{threads})" if name else ""
            stated.setdefault(f"as stated with the file{where}", []).append(result.method)
    return "; ".join(f"{', '.join(methods)}: {how}" for how, methods in stated.items())


def _run_remark(results: Sequence[ModelResult]) -> str:
    """Crystals, seed, repeats, what is missing, and what the paper's number would cost, of one run."""
    run = results[0].run
    # A budget of seconds buys nothing of what is in a file already.
    by_seconds = "seconds" in run.manifest["budget"]
    files = [result for result in results if by_seconds and _is_file(result)]
    sampled = [result for result in results if not (by_seconds and _is_file(result))]
    counts = {result.requested for result in sampled}
    asked = (
        f"{counts.pop()} crystals" + " of each model" * (len(sampled) > 1)
        if len(counts) == 1 and not (files and len(sampled) == 1)
        else ", ".join(f"{result.method} {result.requested}" for result in sampled) + " crystals" * bool(sampled)
    )
    asked += _budget(sampled) if sampled else ""
    asked += ", batches in turns" if run.manifest.get("in_turns") else ""
    repeats = f" and {run.manifest['repeats']} repeats" if run.manifest["repeats"] > 1 else ""
    skipped = [f"{model} skipped: {reason}" for model, reason in run.summary().get("skipped", {}).items()]
    name = f"{results[0].dataset}, run {run.name}"
    lost = [_loss(result) for result in results if result.lost]
    asked += f"{', ' if asked else ''}seed {run.manifest['seed']}{repeats}"
    return "; ".join([f"{name}: {asked}", *map(_whole_file, files), *_paper_cost(results), *lost, *skipped]) + "."


def _whole_file(result: ModelResult) -> str:
    """What a file holds beside models that have seconds to spend, and what making it took where somebody says it."""
    seconds = result.run.manifest["models"][result.model].get("costs", {}).get("sampling_seconds")
    made = "" if seconds is None else f", made in {three_digits(seconds, 0)} device seconds"
    return f"{result.method}: all {result.requested} crystals of its file, whatever the budget{made}"


def _budget(results: Sequence[ModelResult]) -> str:
    """What each model of a run had to spend, and how late the latest batch ended; empty for a number of crystals."""
    budget = results[0].run.manifest["budget"]
    if "seconds" not in budget:
        return ""
    unit = "seconds of sampling and scoring" if budget.get("covers") == "end-to-end" else "device seconds"
    late = [metric.value or 0.0 for result in results if (metric := result.known("overshoot_seconds"))]
    together = ", repeats together" if results[0].run.manifest["repeats"] > 1 else ""
    overshoot = f" (overshoot at most {three_digits(max(late), 0)} s{together})" if any(late) else ""
    return f" in {budget['seconds']:g} {unit} each{overshoot}"


def _loss(result: ModelResult) -> str:
    """How many crystals of a model are none, and the most frequent reason."""
    reason = f", such as: {result.loss.rstrip('.!')}" if result.loss else ""
    return f"{result.method}: {result.lost} of {result.requested} are no crystals{reason}"


def _paper_cost(results: Sequence[ModelResult]) -> list[str]:
    """What the paper's number of crystals would take, where a smaller one was chosen for the user."""
    manifest = results[0].run.manifest
    if not manifest.get("default_budget") or manifest["budget"].get("num_samples", PAPER_SAMPLES) >= PAPER_SAMPLES:
        return []
    costs = [
        f"{three_digits(PAPER_SAMPLES * figure.value, 0)} device seconds with {result.method}"
        for result in results
        if not result.is_control and (figure := result.known("seconds_per_crystal")) and figure.value
    ]
    return (
        [f"the default number; the paper's --num-samples {PAPER_SAMPLES} would take {', '.join(costs)}"]
        if costs
        else []
    )


def _is_small(result: ModelResult) -> bool:
    """Whether it samples with a small network of ours, the package's or one that the user trained."""
    entry = result.run.manifest["models"][result.model]
    if _has_own_weights(result):
        return bool((entry.get("card") or {}).get("preset") == "cpu")
    return bool(entry["spec"]["builtin"] and not result.is_control and result.run.manifest["preset"] == "cpu")


def is_of_no_paper(result: ModelResult) -> bool:
    """Whether it is a model of the package, or a sampler, that none of the papers describes."""
    spec = result.run.manifest["models"][result.model]["spec"]
    return bool(spec["builtin"] and not result.is_control and result.model.partition("@")[0] not in OF_PAPERS)


def _has_own_weights(result: ModelResult) -> bool:
    return bool(result.run.manifest["models"][result.model]["spec"].get("weights"))
