"""Table 1: what it shows, what it refuses, and that every format says the same."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.statistics import Metric
from reports.tables.formats import SUFFIXES
from reports.tables.table1 import render, write_reports

MakeRun = Callable[..., Path]
METHODS = {
    "crysldm": {"valid": 978, "stable": 16},
    "diffcsp": {"valid": 981, "stable": 15, "steps": 1000, "evaluations": 2000, "seconds": 0.4},
}
ALL_TASKS = ("validity", "properties", "stability")


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_text_table_fits_a_wide_terminal_and_has_every_figure_with_its_interval(
    make_run: MakeRun,
) -> None:
    text = render([make_run(METHODS, tasks=ALL_TASKS)])
    assert max(map(len, text.splitlines())) <= 142
    for figure in ("97.8", "96.7–98.5", "0.110", "0.077–0.154", "1.6", "1.0–2.6", "6.25", "3.87–10.1", "0.0400", "200"):
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.])", text), figure


def test_the_table_says_how_it_was_made(make_run: MakeRun) -> None:
    text = " ".join(render([make_run(METHODS, tasks=ALL_TASKS)]).replace("\u00a0", " ").split())
    for fact in (
        "1000 crystals of each model, seed 7",
        "SMACT 4.0.2, oxidation states of smact14",
        "CrysLDM 96.8 %, DiffCSP 97.1 %",  # the newer rule beside it
        "of the valid crystals",
        "981 random training crystals: # elements 0.030 [0.020, 0.050], density 0.104 [0.060, 0.210]",
        "per 1000 samples, as the paper prints it",
        "a CPU, 1 thread",
        "Small networks trained on a CPU (preset cpu), not the published sizes: CrysLDM, DiffCSP",
    ):
        assert fact in text


def test_presets_of_the_published_size_are_not_called_small(make_run: MakeRun) -> None:
    assert "Small networks" not in render([make_run(METHODS, preset="paper")])


@pytest.mark.parametrize(("preset", "small"), [("cpu", True), ("paper", False)])
def test_weights_that_the_user_gave_are_named(make_run: MakeRun, preset: str, small: bool) -> None:
    run = make_run({"crysldm@8": {}})
    manifest = json.loads((run / "manifest.json").read_text())
    entry = manifest["models"]["crysldm@8"]
    entry |= {"spec": {**entry["spec"], "builtin": False, "weights": "/w"}, "card": {"preset": preset}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    text = render([run])
    assert "Weights that the user gave, not those of the package: CrysLDM@8." in text
    assert ("Small networks" in text) == small


def test_columns_that_were_not_computed_show_a_dash_with_the_reason(make_run: MakeRun) -> None:
    for known, reason in (
        (["stability"], r"not computed in this run; `python -m bench rescore DIR --tasks stability` adds it"),
        (["validity"], "not computed: it needs the task stability, which is not part of the version"),
    ):
        text = render([make_run({"crysldm": {}}, name=known[0], known_tasks=known)])
        (note,) = re.findall(rf"^([⁰¹²³⁴-⁹]+) {reason}", text, re.MULTILINE)
        assert text.count(f"–{note}") == 2  # the rate and steps / stable


def test_crystals_from_a_file_have_no_cost_and_say_so(make_run: MakeRun) -> None:
    run = make_run({"mine": {"stable": 3, "steps": None, "evaluations": None, "seconds": None}}, tasks=ALL_TASKS)
    text = render([run])
    assert "not known: the crystals came from a file that does not say what they cost" in text
    assert "not known: a model without a number of steps" in text


def test_no_stable_crystal_gives_a_bound_instead_of_a_figure(make_run: MakeRun) -> None:
    run = make_run({"crysldm": {"stable": 0}}, tasks=ALL_TASKS)
    assert "> 33.4" in render([run])
    (row,) = rows_of(render([run], "csv"))
    assert row["steps_per_stable"] == row["steps_per_stable_high"] == ""
    assert float(row["steps_per_stable_low"]) == pytest.approx(33.4, abs=0.1)


def test_only_differences_beyond_noise_are_bold_and_ties_are_marked(make_run: MakeRun) -> None:
    markdown = render([make_run(METHODS, tasks=ALL_TASKS)], "markdown")
    crysldm, diffcsp = (line for line in markdown.splitlines() if line.startswith("|") and "[" in line)
    assert "97.8 ≈" in crysldm
    assert "98.1 ≈" in diffcsp
    assert "1.6 ≈" in crysldm
    assert "1.5 ≈" in diffcsp
    assert "**6.25**" in crysldm
    assert "**0.0400**" in crysldm
    assert "**" not in diffcsp


def test_seconds_of_different_devices_are_not_ranked(make_run: MakeRun) -> None:
    runs = [make_run({"crysldm": METHODS["crysldm"]}, "a"), make_run({"diffcsp": METHODS["diffcsp"]}, "b", threads=8)]
    assert "**0.0400**" not in render(runs, "markdown")
    assert "a: a CPU, 1 thread; b: a CPU, 8 threads" in render(runs)


def test_a_time_from_a_busy_machine_is_marked_and_not_ranked(make_run: MakeRun) -> None:
    free = {name: {**how, "undisturbed": 0.95} for name, how in METHODS.items()}
    assert "**0.0400**" in render([make_run(free, "free")], "markdown")
    busy = make_run({**free, "crysldm": {**METHODS["crysldm"], "undisturbed": 0.62}}, "busy")
    assert "**0.0400**" not in render([busy], "markdown")
    note = "measured while the machine was busy (62 % of the seconds undisturbed): does not count, not ranked"
    text = render([busy])
    assert text.count(note) == 1
    [number] = [line[0] for line in text.splitlines() if note in line]
    assert f"0.0400{number}" in text


def test_times_from_few_batches_are_named(make_run: MakeRun) -> None:
    assert "fewer than ten batches" not in render([make_run(METHODS, "many")])
    few = make_run({**METHODS, "diffcsp": {**METHODS["diffcsp"], "batches": 5}}, "few")
    assert "Times from fewer than ten batches, with wide intervals: DiffCSP (5)." in render([few])


def test_controls_are_not_ranked(make_run: MakeRun) -> None:
    models = {
        **METHODS,
        "train-copy": {"valid": 1000, "density": 0.01, "steps": None, "evaluations": 0.0, "seconds": 1e-5},
    }
    text = render([make_run(models)])
    assert "Controls, which use no network and are not ranked: train-copy" in text
    (control,) = [line for line in text.splitlines() if re.match(r" *train-copy  ", line)]
    assert "≈" not in control
    assert "*" not in control


def test_two_protocols_do_not_go_into_one_table(make_run: MakeRun) -> None:
    runs = [make_run(METHODS, "a"), make_run(METHODS, "b", smact="4.1.0")]
    with pytest.raises(
        ValueError, match=r'a and .*b have different protocols \(validity.smact: "4.0.2" -> "4.1.0"\)'
    ) as e:
        render(runs)
    assert "\n" not in str(e.value)


def test_another_protocol_hash_alone_is_another_protocol(make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match="protocol_hash"):
        render([make_run(METHODS, "a"), make_run(METHODS, "b", protocol_hash="0" * 16)])


def test_two_references_of_one_data_set_do_not_go_into_one_table(make_run: MakeRun) -> None:
    protocol = {"dataset": "mp20", "reference": "another card", "tasks": {}}
    runs = [make_run(METHODS, "p"), make_run(METHODS, "a", "mp20"), make_run(METHODS, "b", "mp20", protocol=protocol)]
    with pytest.raises(ValueError, match='reference: "card of mp20" -> "another card"'):
        render(runs)


def test_two_data_sets_go_into_one_table_and_are_ranked_apart(make_run: MakeRun) -> None:
    worse = {"crysldm": {"valid": 500}, "diffcsp": {"valid": 300}}
    runs = [make_run(METHODS, "a"), make_run(worse, "b", "mp20"), make_run({"mine": {"valid": 900}}, "c")]
    lines = [line for line in render(runs, "markdown").splitlines() if line.startswith("|")][2:]
    assert [line.split("|")[1].strip() for line in lines] == ["Perov-5", "", "", "MP-20", ""]
    assert [line.split("|")[2].strip() for line in lines] == ["CrysLDM", "DiffCSP", "mine", "CrysLDM", "DiffCSP"]
    assert "**50.0**" in lines[3]


def test_the_same_model_of_two_runs_is_told_apart_by_its_run(make_run: MakeRun) -> None:
    text = render([make_run({"crysldm": {}}, "first"), make_run({"crysldm": {}}, "second")])
    assert "CrysLDM (first)" in text
    assert "CrysLDM (second)" in text


def test_runs_in_folders_of_the_same_name_are_told_apart_by_their_paths(make_run: MakeRun) -> None:
    runs = [make_run({"crysldm": {}}, "a/run"), make_run({"crysldm": {}}, "b/run")]
    text = render([*runs, runs[0]], "csv")
    assert [row["model"] for row in rows_of(text)] == [f"crysldm ({run})" for run in runs]


def test_printed_rows_stand_beside_ours_as_printed(make_run: MakeRun) -> None:
    run = make_run(METHODS, tasks=ALL_TASKS)
    text = render([run], paper=True)
    assert re.search(r"CrysLDM \(paper\) +100 +97\.81 +100 +0\.045 +1\.21 +1\.6 +6\.25", text)
    assert re.search(r"CDVAE \(paper\) +5000 +98\.59 +100 +0\.0264 +0\.1258 +2\.5 +200", text)
    assert "0.5149" not in text  # MP-20's row
    assert "(paper)" not in render([run])


def test_printed_costs_follow_from_printed_rates() -> None:
    from reports.tables.paper_rows import PRINTED_ROWS

    assert len(PRINTED_ROWS) == 6
    for row in PRINTED_ROWS:
        per_stable = row.steps_per_stable_metric
        assert per_stable.value == pytest.approx(float(row.steps_per_stable), rel=0.02)
        assert row.stable_rate_metric.value == pytest.approx(float(row.stable_rate) / 100, abs=1e-9)


def test_csv_has_fractions_and_a_row_per_model(make_run: MakeRun) -> None:
    rows = rows_of(render([make_run(METHODS, tasks=ALL_TASKS)], "csv", paper=True))
    assert [(row["model"], row["source"]) for row in rows[:2]] == [("crysldm", "measured"), ("diffcsp", "measured")]
    assert [row["source"] for row in rows[2:]] == ["printed"] * 3
    assert {row["rates"] for row in rows} == {"fraction"}
    assert (float(rows[0]["valid_composition"]), rows[0]["valid_composition_n"]) == (0.978, "1000")
    assert float(rows[0]["valid_composition_low"]) < 0.978 < float(rows[0]["valid_composition_high"])
    assert float(rows[4]["stable_rate"]) == 0.016
    assert float(rows[4]["valid_composition"]) == 0.9781


def test_names_are_escaped_in_latex_and_markdown(make_run: MakeRun) -> None:
    run = make_run({r"a_b&c%d#e$f^g~h\i{j}|k*l": {}})
    latex = render([run], "latex")
    row = next(line for line in latex.splitlines() if "a\\_b" in line)
    assert r"a\_b\&c\%d\#e\$f\textasciicircum{}g\textasciitilde{}h\textbackslash{}i\{j\}|k*l" in row
    assert len(re.findall(r"(?<!\\)&", row)) == 10
    line = next(line for line in render([run], "markdown").splitlines() if "a\\_b" in line)
    assert len(re.findall(r"(?<!\\)\|", line)) == 12
    assert rows_of(render([run], "csv"))[0]["model"] == r"a_b&c%d#e$f^g~h\i{j}|k*l"


def test_latex_is_balanced_and_every_row_has_every_column(make_run: MakeRun) -> None:
    latex = render([make_run(METHODS, tasks=ALL_TASKS)], "latex", paper=True)
    plain = re.sub(r"\\[{}\\]", "", latex)
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
    body = latex.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows[1:]] == [10] * (len(rows) - 1)
    spans = [int(n) for n in re.findall(r"multicolumn\{(\d+)\}", rows[0])]
    assert sum(spans) + len(re.findall(r"(?<!\\)&", rows[0])) + 1 - len(spans) == 11
    assert latex.isascii()


def test_reports_are_written_for_each_run_and_the_text_is_given_back(make_run: MakeRun) -> None:
    runs = [make_run(METHODS, "a"), make_run({"mine": {}}, "b")]
    text = write_reports(runs)
    for run in runs:
        assert {path.name for path in (run / "report").iterdir()} == {f"table1.{s}" for s in SUFFIXES.values()}
    assert "mine" in text
    assert "DiffCSP" in text
    assert "mine" not in (runs[0] / "report" / "table1.txt").read_text(encoding="utf-8")
    assert (runs[0] / "report" / "table1.txt").read_text(encoding="utf-8") == render([runs[0]])


def test_a_model_that_was_given_no_time_for_a_crystal_is_shown_with_dashes(make_run: MakeRun) -> None:
    text = render([make_run({"crysldm": None})])
    assert "undefined: there is no crystal to compute it from" in text
    assert "CrysLDM" in text


def test_a_folder_without_a_finished_run_is_refused_in_one_line(tmp_path: Path, make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match="no run there"):
        render([tmp_path])
    run = make_run(METHODS)
    (run / "summary.json").unlink()
    with pytest.raises(ValueError, match="not finished"):
        render([run])
    with pytest.raises(ValueError, match="no run folder"):
        render([])


def test_a_damaged_summary_is_refused_by_name(make_run: MakeRun) -> None:
    run = make_run(METHODS)
    summary = (run / "summary.json").read_text()
    for damage in (summary.replace('"metrics"', '"figures"', 1), summary.replace("0.978", "NaN")):
        (run / "summary.json").write_text(damage)
        with pytest.raises(ValueError, match=r"summary.json is damaged at crysldm"):
            render([run])


def test_an_unknown_format_lists_the_known_ones(make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match="text, markdown, csv, latex"):
        render([make_run(METHODS)], "html")  # type: ignore[arg-type]


def test_crystals_that_are_none_are_told_with_a_reason(make_run: MakeRun) -> None:
    ledger = {"requested": 1000, "parsed": 996, "reasons": {"parsed": {"lattice is not finite": 3, "no atoms.": 1}}}
    text = render([make_run({"crysldm": {}, "diffcsp": {}}, ledgers={"crysldm": ledger})], "markdown")
    assert "CrysLDM: 4 of 1000 are no crystals, such as: lattice is not finite." in text
    assert "DiffCSP: 0" not in text


def test_a_default_number_of_crystals_is_told_with_what_the_papers_would_cost(make_run: MakeRun) -> None:
    models = {"crysldm": {"seconds": 0.04}, "diffcsp": {"seconds": 0.4}, "train-copy": {"evaluations": 0.0}}
    told = (
        "the paper's --num-samples 1000 would take 40.0 device seconds with CrysLDM, 400 device seconds with DiffCSP."
    )
    default = {"budget": {"num_samples": 250}, "default_budget": True}
    assert told in render([make_run(models, name="default", **default)], "markdown").replace("\\", "")
    assert told not in render([make_run(models, name="chosen", **{**default, "default_budget": False})], "markdown")
    full = make_run(models, name="full", budget={"num_samples": 1000}, default_budget=True)
    assert "would take" not in render([full])


def test_batches_in_turns_are_said(make_run: MakeRun) -> None:
    assert "1000 crystals of each model, batches in turns, seed 7." in render(
        [make_run({"crysldm": {}, "diffcsp": {}}, in_turns=True)]
    )


def test_a_budget_of_seconds_is_said_with_what_it_pays_for_and_how_late_the_latest_batch_was(make_run: MakeRun) -> None:
    folder = make_run({"crysldm": {}, "diffcsp": {}}, budget={"seconds": 60.0})
    assert "crystals of each model in 60 device seconds each, seed 7." in render([folder])
    summary = json.loads((folder / "summary.json").read_text())
    late = Metric(0.25, n=1000).to_json()
    summary["models"]["diffcsp"]["metrics"]["overshoot_seconds"] = late
    (folder / "summary.json").write_text(json.dumps(summary))
    assert "in 60 device seconds each (overshoot at most 0.250 s), seed 7." in render([folder])
    both = make_run({"crysldm": {}}, budget={"seconds": 60.0, "covers": "end-to-end"}, name="both")
    assert "in 60 seconds of sampling and scoring each" in render([both])


def test_a_run_too_small_for_the_difference_that_it_seems_to_show_says_so(make_run: MakeRun) -> None:
    few = {"crysldm": {"stable": 7, "valid": 98, "n": 100}, "diffcsp": {"stable": 12, "valid": 98, "n": 100}}
    text = " ".join(render([make_run(few, "few")]).split())
    said = "100 crystals cannot show whether DiffCSP (12.0 % stable) and CrysLDM (7.0 %) differ as they seem to; about"
    assert f"Perov-5: {said} 540 of each would" in text
    assert "cannot show" not in render([make_run({"crysldm": {"stable": 70}, "diffcsp": {"stable": 120}}, "many")])
    assert "cannot show" not in render([make_run({"crysldm": {"stable": 70}, "diffcsp": {"stable": 70}}, "equal")])
