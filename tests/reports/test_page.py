"""The page: everything in one file, nothing of a run can break out of it, and what is missing is a sentence."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from bench import registry
from bench.cli import main
from bench.crystals import Crystals
from reports.page.html_page import render, write_page
from tests.stored_crystal_runs import TASKS, perovskites, store, whole_run

MakeRun = Callable[..., Path]
ENERGIES = [0.02, 0.3, 0.05, None, 0.7, -0.1, 0.2, 0.4, 0.09, 1.2] * 3
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"


class Parsed(HTMLParser):
    """Tags with their attributes, ids, and the texts of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    return whole_run(make_run, {"crysldm@20": ENERGIES, "diffcsp@20": ENERGIES[::-1]})


@pytest.fixture
def text(run: Path, rendered: dict[str, str]) -> str:
    """The page of `run`, made once: it depends on nothing but what is in the folder, as a test says."""
    if "run" not in rendered:
        rendered["run"] = render([run])
    return rendered["run"]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty figures, for tests of what stands around them."""
    monkeypatch.setattr("reports.page.figures.inline_svg", lambda draw, name: f'<svg id="{name}"></svg>')


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return {}


def change_summary(folder: Path, change: Callable[[dict], None]) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    change(summary)
    (folder / "summary.json").write_text(json.dumps(summary))


def test_the_page_asks_for_nothing_outside_of_itself_and_is_small(run: Path, tmp_path: Path) -> None:
    said = write_page([run], tmp_path / "new" / "page.html")
    text = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert said.startswith(f"HTML: {tmp_path / 'new' / 'page.html'} (")
    assert len(text.encode()) < 5e6
    for tag, attributes in Parsed(text).tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, name, value)
    assert not re.findall(r"url\((?!#)", text)
    assert "@import" not in text


def test_the_same_run_gives_the_same_page(run: Path, text: str) -> None:
    assert render([run]) == text


def test_every_id_occurs_once_and_every_reference_leads_to_one(text: str) -> None:
    page = Parsed(text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = [
        value.removeprefix("#")
        for _, attributes in page.tags
        for name, value in attributes.items()
        if value and ((name.startswith("aria-") and name.endswith("by")) or (name == "href" and value[0] == "#"))
    ]
    references += re.findall(r"url\(#([\w-]+)\)", text)
    assert references
    assert set(references) - set(ids) == set()


def test_tables_have_captions_and_scopes_and_figures_have_words(text: str) -> None:
    page = Parsed(text)
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("scope" in attributes for attributes in page.all("th"))
    figures = [attributes for attributes in page.all("div") if attributes.get("class") == "plot"]
    assert len(figures) > 10
    assert all(attributes["role"] == "img" and len(attributes["aria-label"] or "") > 20 for attributes in figures)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_texts_of_a_run_are_text_wherever_they_stand(make_run: MakeRun) -> None:
    folder = whole_run(make_run, {"evil": ENERGIES, "crysldm@20": ENERGIES}, device={"kind": "cpu", "name": EVIL})

    def spoil(summary: dict) -> None:
        summary["models"]["evil"]["ledger"]["reasons"] = {EVIL: {EVIL: 3}}
        summary["skipped"] = {"cdvae": EVIL}

    change_summary(folder, spoil)
    text = render([folder])
    page = Parsed(text)
    assert "<img" not in text
    assert "alert(1)</script>" not in text
    assert "{{ 7 * 7 }}" in text
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert len(page.scripts) == 1 + text.count('class="card crystal"')
    for script in page.scripts[:-1]:
        json.loads(script)


@pytest.mark.usefixtures("undrawn")
def test_nothing_in_the_data_of_a_crystal_can_end_its_script(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "reports.page.best_crystals.view", lambda crystal: {"kinds": [], "cell": EVIL, "atoms": ["<!--"]}
    )
    page = Parsed(render([run]))
    data = [json.loads(script) for script in page.scripts[:-1]]
    assert data
    assert all(content == {"kinds": [], "cell": EVIL, "atoms": ["<!--"]} for content in data)
    assert len(page.scripts) == len(data) + 1


def test_the_policy_lets_only_the_pages_own_script_run(text: str) -> None:
    page = Parsed(text)
    [policy] = [m["content"] or "" for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_names_with_signs_of_mathematics_are_drawn_as_they_are(make_run: MakeRun) -> None:
    one = whole_run(make_run, {"a": ENERGIES, "b": ENERGIES}, name="x$_{$y")
    other = whole_run(make_run, {"a": ENERGIES, "b": ENERGIES}, name="<b>&amp;")
    text = render([one, other])
    assert "x$_{$y" in text
    assert "<b>" not in text


def test_the_lowest_stable_crystals_are_shown_with_a_cif_that_gives_them_back(text: str) -> None:
    from pymatgen.core import Structure

    page = Parsed(text)
    links = [a for a in page.all("a") if "download" in a]
    assert [link["download"] for link in links][:2] == ["CrysLDM@20-SrTiO3-0-5.cif", "CrysLDM@20-SrTiO3-0-15.cif"]
    cif = unquote((links[0]["href"] or "").partition(",")[2])
    structure = Structure.from_str(cif, fmt="cif")
    wanted = perovskites(30, 0)[5]
    assert structure.composition.reduced_formula == "SrTiO3"
    assert structure.volume == pytest.approx(float(wanted.volumes[0]), rel=1e-4)


def test_atoms_on_faces_are_drawn_on_all_of_them_and_turning_does_not_mirror() -> None:
    from reports.page.best_crystals import view

    crystal = perovskites(1)
    turned = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turned *= np.sign(np.linalg.det(turned))
    lattice = crystal.lattices[0] @ np.diag([1, 1.2, 1.5]) + np.array([[0, 0.3, 0], [0, 0, 0.2], [0.1, 0, 0]])
    one, other = (
        view(Crystals(crystal.num_atoms, crystal.atomic_numbers, crystal.frac_coords, cell[None]))
        for cell in (lattice, lattice @ turned)
    )
    kinds = [kind["symbol"] for kind in one["kinds"]]
    assert kinds == ["O", "Ti", "Sr"]
    assert np.bincount([atom[0] for atom in one["atoms"]]).tolist() == [6, 1, 8]
    np.testing.assert_allclose(one["cell"], other["cell"], atol=1e-3)
    np.testing.assert_allclose(np.array(one["atoms"]), np.array(other["atoms"]), atol=2e-3)
    assert np.linalg.det(np.array(one["cell"])) == pytest.approx(np.linalg.det(lattice), rel=1e-3)


@pytest.mark.usefixtures("undrawn")
def test_without_a_stable_crystal_the_nearest_are_shown_and_said_to_be_unstable(make_run: MakeRun) -> None:
    text = render([whole_run(make_run, {"crysldm": [0.4, 0.2, None, 0.9]})])
    assert "None of 4 is stable. The nearest to the hull that converged:" in text
    assert text.count('class="card crystal"') == 2
    assert "0.200 eV/atom above the hull, not stable" in text
    assert "no relaxation converged" in render([whole_run(make_run, {"crysldm": [None] * 3}, name="none")])


@pytest.mark.usefixtures("undrawn")
def test_a_large_crystal_is_passed_over_and_a_small_one_shown(make_run: MakeRun) -> None:
    folder = make_run({"crysldm": {"n": 2, "valid": 2, "stable": 2}}, tasks=TASKS)
    rng = np.random.default_rng(0)
    large = Crystals(np.array([300]), np.full(300, 8), rng.random((300, 3)), 20 * np.eye(3)[None])
    store(folder, "crysldm", Crystals.concatenate([large, perovskites(1)]), [-1.0, 0.05])
    text = render([folder])
    assert text.count('class="card crystal"') == 1
    assert "-0-1.cif" in text


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_stability_says_what_would_add_it(make_run: MakeRun) -> None:
    folder = make_run({"crysldm": {"n": 10, "valid": 10}}, tasks=("validity", "properties"))
    store(folder, "crysldm", perovskites(10))
    text = render([folder])
    assert "No crystal was relaxed" in text
    assert "Not relaxed, so nothing is known of stability" in text
    assert "This takes two models" in text


def test_a_file_without_costs_and_a_control_have_no_curve_and_that_is_said(make_run: MakeRun) -> None:
    sizes = {
        "mine": {"n": 10, "valid": 10, "stable": 0, "evaluations": None, "seconds": None, "steps": None},
        "shuffled-sites": {"n": 10, "valid": 10, "stable": 0, "evaluations": 0.0, "steps": None},
    }
    folder = make_run(sizes, tasks=TASKS)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"]["mine"] |= {"kind": "file"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for model in sizes:
        store(folder, model, perovskites(10), [0.5] * 10, costs=False)
    text = render([folder])
    assert "so there is no yield curve" in text
    assert "Density" in text


@pytest.mark.usefixtures("undrawn")
def test_a_run_whose_samples_and_ledger_are_gone_is_shown_in_sentences(make_run: MakeRun) -> None:
    text = render([make_run({"crysldm": {}, "diffcsp": None})])
    assert "No ledger is stored of CrysLDM, DiffCSP" in text
    assert "Without a valid crystal: CrysLDM, DiffCSP." in text


@pytest.mark.usefixtures("undrawn")
def test_a_data_set_that_is_not_ours_has_no_distributions(make_run: MakeRun) -> None:
    text = render([whole_run(make_run, {"crysldm": ENERGIES}, dataset="other")])
    assert "Nothing is known of the test split of other" in text


@pytest.mark.usefixtures("undrawn")
def test_two_data_sets_stand_under_headings_of_their_own(make_run: MakeRun) -> None:
    one = whole_run(make_run, {"crysldm": ENERGIES}, name="one")
    other = whole_run(make_run, {"crysldm": ENERGIES}, name="other", dataset="mp20")
    page = Parsed(render([one, other], leaderboard=True))
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert {"perov5", "mp20", "perov5-ledger", "mp20-ledger", "leaderboard"} <= ids


@pytest.mark.usefixtures("undrawn")
def test_seconds_of_different_devices_are_not_drawn_into_one_figure(make_run: MakeRun) -> None:
    one = whole_run(make_run, {"crysldm": ENERGIES}, name="one")
    other = whole_run(make_run, {"diffcsp": ENERGIES}, name="other", threads=8)
    text = render([one, other])
    assert "Device seconds are left out" in text
    assert "By network evaluations" in text
    assert "By device seconds" not in text


def test_runs_of_different_protocols_are_refused(make_run: MakeRun) -> None:
    one, other = (whole_run(make_run, {"crysldm": ENERGIES}, name=name, smact=name) for name in ("4.0.1", "4.0.2"))
    with pytest.raises(ValueError, match="different protocols"):
        render([one, other])


@pytest.mark.usefixtures("undrawn")
def test_names_of_machines_and_folders_are_not_on_the_page(make_run: MakeRun) -> None:
    folder = whole_run(
        make_run,
        {"crysldm": ENERGIES},
        sessions=[{"host": "secret-host", "pid": 4711, "workers": 3}],
        hull="/somewhere/secret-folder/hull.parquet",
    )
    text = render([folder])
    assert "secret" not in text
    assert "…/hull.parquet" in text
    assert "4711" not in text


@pytest.mark.usefixtures("undrawn")
def test_the_command_line_writes_the_page_and_says_what_stands_in_its_way(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "PLUGINS", {**registry.PLUGINS, "report": {}})
    for command in ("report", "leaderboard"):
        file = tmp_path / f"{command}.html"
        assert exit_code(command, str(run), "--html", str(file)) == 0
        shown = capsys.readouterr()
        assert "CrysLDM@20" in shown.out
        assert f"HTML: {file} (" in shown.err
        assert ('id="leaderboard"' in file.read_text(encoding="utf-8")) == (command == "leaderboard")
    assert exit_code("leaderboard", str(run), "--html", str(tmp_path)) == 2
    assert "Is a directory" in capsys.readouterr().err
    assert exit_code("leaderboard", str(run), "--by", "beauty") == 2
    assert "--by beauty: known are" in capsys.readouterr().err


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0)
