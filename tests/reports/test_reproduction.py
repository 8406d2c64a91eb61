"""docs/reproduction.md and docs/measurements: ratios by each way of counting, noise, places for tables."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.statistics import Metric
from reports.reproduction import __main__ as command
from reports.reproduction.paper_noise import noise_rows
from reports.reproduction.samplers import HEADERS, sampler_rows
from reports.reproduction.speedups import printed_speedup, shown, speedup_rows
from reports.reproduction.statements import statement_table
from reports.reproduction.timings import timed
from reports.run_results import read_results

MakeRun = Callable[..., Path]
ROOT = Path(__file__).parents[2]
MODELS = {
    "crysldm": {"stable": 20, "seconds": 0.02},
    "diffcsp": {"stable": 20, "steps": 1000, "evaluations": 2000.0, "seconds": 0.2},
    "shuffled-sites": {"stable": 0, "steps": None, "evaluations": 0.0, "seconds": 0.0001},
}
NAMES = ("statements", "table 1, perov5", "equal evaluations, perov5", "samplers, perov5", "speed-ups", "noise")
PLACES = "".join(f"<!-- {name}: from here -->\nold\n<!-- {name}: to here -->\n" for name in NAMES)


def test_one_pair_of_models_has_four_different_speed_ups(make_run: MakeRun) -> None:
    results = read_results([make_run(MODELS)])
    timings = read_results([make_run({**MODELS, "diffcsp": {**MODELS["diffcsp"], "seconds": 0.3}}, name="timing")])
    (row,) = speedup_rows(timed(results, timings))
    assert row[:4] == ["Perov-5", "DiffCSP", "10.0", "10.0"]
    assert row[4].startswith("15.0 [14.")  # of the timing run
    assert row[5].startswith("15.0 [")
    assert row[6].startswith("10.0 [5.")
    assert row[7].startswith("10.7 [")


def test_a_model_of_two_runs_is_not_counted_in_silence(make_run: MakeRun) -> None:
    results = read_results([make_run(MODELS), make_run(MODELS, name="again")])
    with pytest.raises(ValueError, match=r"crysldm is in .* and in .*again; leave one of them out"):
        speedup_rows(results)
    with pytest.raises(ValueError, match=r"crysldm is in .* and in .*again"):
        timed(results[:2], results)


def test_seconds_come_from_no_other_run_than_the_timed_one(make_run: MakeRun) -> None:
    (row,) = speedup_rows(timed(read_results([make_run(MODELS)]), []))
    assert row[4:6] == ["–", "–"]


def test_a_time_is_marked_by_the_run_that_timed_it(make_run: MakeRun) -> None:
    busy, free = ({"crysldm": {**MODELS["crysldm"], "undisturbed": share}} for share in (0.0, 1.0))
    (result,) = timed(read_results([make_run(busy)]), read_results([make_run(free, name="timing")]))
    assert not result.was_disturbed
    (result,) = timed(read_results([make_run(free, name="free")]), read_results([make_run(busy, name="busy")]))
    assert result.was_disturbed


def test_a_model_without_a_stable_crystal_has_a_bound(make_run: MakeRun) -> None:
    run = make_run({**MODELS, "diffcsp": {**MODELS["diffcsp"], "stable": 0}})
    (row,) = speedup_rows(read_results([run]))
    assert row[5].startswith("> ")
    assert row[6].startswith("> ")


def test_the_printed_speed_ups_are_the_papers_with_the_noise_of_a_thousand_crystals() -> None:
    cdvae, diffcsp = (printed_speedup("perov5", method) for method in ("CDVAE", "DiffCSP"))
    assert (cdvae.value, diffcsp.value) == pytest.approx((32, 10.67), rel=0.01)
    assert diffcsp.low is not None
    assert diffcsp.low < 10.67 / 1.8  # 15 against 16 stable crystals
    assert printed_speedup("perov5", "crysldm@20") == Metric(None)
    assert shown(Metric(None)) == "–"


def test_sixteen_against_fifteen_stable_crystals_is_noise_and_thirty_against_fifty_percent_is_not(
    make_run: MakeRun,
) -> None:
    runs = [make_run(MODELS), make_run(MODELS, name="mp20", dataset="mp20")]
    rows = {tuple(row[:3]): row[3:] for row in noise_rows(read_results(runs))}
    values, _, verdict, ours, p, our_verdict = rows["Perov-5", "stable %", "DiffCSP / CrysLDM"]
    assert (values, verdict) == ("1.5 / 1.6", "no")
    assert (ours, p, our_verdict) == ("2.0 / 2.0", "1.000", "no")
    assert rows["MP-20", "stable %", "DiffCSP / CrysLDM"][2] == "yes"
    assert rows["Perov-5", "EMD density", "DiffCSP / CrysLDM"][2] == "yes"
    # No error of CDVAE's was measured.
    assert rows["Perov-5", "EMD density", "CDVAE / CrysLDM"][1:3] == ["–", "–"]
    assert rows["Perov-5", "stable %", "CDVAE / CrysLDM"][3:] == ["– / 2.0", "–", "–"]


def test_the_command_fills_each_place_and_leaves_the_text(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tmp_path / "reproduction.md"
    document.write_text(f"# Ours\n{PLACES}The end.\n")
    monkeypatch.setattr(sys, "argv", ["reproduction", str(make_run(MODELS)), "--docs", str(document)])
    command.main()
    text = document.read_text()
    assert text.startswith("# Ours\n")
    assert text.endswith("The end.\n")
    assert "\nold\n" not in text
    assert "| Perov-5    | DiffCSP           | 10.0" in text
    once = text
    command.main()
    assert document.read_text() == once


def test_tables_may_stand_in_several_documents(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "one.md", tmp_path / "two.md"
    here, there = PLACES.split("<!-- speed-ups: from here -->")
    first.write_text(here)
    second.write_text(f"<!-- speed-ups: from here -->{there}")
    monkeypatch.setattr(sys, "argv", ["reproduction", str(make_run(MODELS)), "--docs", str(first), str(second)])
    command.main()
    assert "| Statement " in first.read_text()
    assert "| Data set " in second.read_text()
    assert "\nold\n" not in first.read_text() + second.read_text()


def test_the_pages_show_what_the_stored_runs_say() -> None:
    text = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    (line,) = (line.strip() for line in text.splitlines() if line.strip().startswith("python -m reports.reproduction "))
    runs, timing, pages = re.split(" --timing | --docs ", line.removeprefix("python -m reports.reproduction "))
    found = [[path for word in part.split() for path in sorted(ROOT.glob(word))] for part in (runs, timing, pages)]
    documents = {page: page.read_text(encoding="utf-8") for page in found[2]}
    assert len(documents) > 1
    assert command.fill(documents, command.sections(found[0], found[1])) == documents


def test_a_statement_says_in_what_a_model_is_worse_and_what_is_noise(make_run: MakeRun) -> None:
    worse = {**MODELS, "crysldm": {**MODELS["crysldm"], "stable": 2}, "diffcsp": {**MODELS["diffcsp"], "stable": 300}}
    for models, word in ((MODELS, "yes, within noise"), (worse, "no: stability worse")):
        headers, rows = statement_table(read_results([make_run(models, name=word.replace(" ", "-").replace(":", ""))]))
        assert headers == ["Statement", "Perov-5"]
        assert dict(rows)["CrysLDM's crystals are as good as DiffCSP's"] == word
        assert dict(rows)["CrysLDM's crystals are as good as CDVAE's"] == "–"


def test_a_sampler_has_one_row_with_its_cost_and_a_control_has_none(make_run: MakeRun) -> None:
    rows = sampler_rows(read_results([make_run(MODELS)]))
    assert [row[:2] for row in rows] == [["CrysLDM", "200"], ["DiffCSP", "2000"]]
    assert all(len(row) == len(HEADERS) for row in rows)


def test_data_sets_come_in_the_papers_order(make_run: MakeRun) -> None:
    runs = [make_run(MODELS, name="mp20", dataset="mp20"), make_run(MODELS)]
    tables = command.sections(runs, [])
    assert [line.split()[1] for line in tables["speed-ups"].splitlines()[2:]] == ["Perov-5", "MP-20"]
    assert tables["noise"].index("Perov-5") < tables["noise"].index("MP-20")


@pytest.mark.parametrize("document", ["nothing", PLACES + "<!-- more: from here --><!-- more: to here -->"])
def test_places_and_tables_must_agree(document: str) -> None:
    with pytest.raises(ValueError, match=r"doc\.md: has"):
        command.fill({Path("doc.md"): document}, dict.fromkeys(NAMES, "new"))
