"""The site: every run has its page, protocols stay apart, links lead somewhere, a broken run costs only itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports.site.collection import collect
from reports.site.history import changes, histories, moves
from reports.site.pages import write_site

MakeRun = Callable[..., Path]
EVIL = "</script><script>alert(1)</script>"


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty figures, which have tests of their own."""
    monkeypatch.setattr("reports.page.figures.inline_svg", lambda draw, name: f'<svg id="{name}"></svg>')
    monkeypatch.setattr("reports.site.history.inline_svg", lambda draw, name: f'<svg id="{name}"></svg>')


def at(day: int, **changes: object) -> dict[str, object]:
    code = {"sha256": f"{day}" * 16, "commit": f"{day}" * 40}
    return {"created": f"2026-11-{day:02}T10:00:00+0000", "sessions": [{"code": code}], **changes}


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script" and dict(attrs).get("type") is None
        self.found += [value or "" for name, value in attrs if name in ("href", "src")]


def test_every_link_of_the_site_leads_to_a_page_of_it(make_run: MakeRun, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for day in (1, 2):
        make_run({"crysldm": {"stable": 30 * day}}, name=f"runs/day {day}", **at(day))
    make_run({"crysldm": {"stable": 3}}, name="runs/mp", dataset="mp20", **at(3))
    make_run({EVIL.replace("/", ""): {"stable": 3}}, name="runs/evil", smact=EVIL, **at(4))
    (runs / "half").mkdir()
    (runs / "half" / "manifest.json").write_text((runs / "mp" / "manifest.json").read_text())
    (runs / "torn").mkdir()
    (runs / "torn" / "manifest.json").write_text('{"format": 1, ')
    (runs / "crystals.zip").write_bytes(b"PK")
    said = write_site([runs], tmp_path / "site")
    assert "4 runs, 3 leaderboards" in said
    assert sorted(line.split()[2] for line in said.splitlines()[1:]) == ["crystals.zip:", "half:", "torn:"]
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) == 1 + 3 + 4
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert str(tmp_path) not in text
        links = Links(text)
        assert links.scripts == 1
        for link in links.found:
            address, _, anchor = link.partition("#")
            target = (page.parent / address).resolve() if address else page
            assert link.startswith("data:") or target in pages, link
            assert link.startswith("data:") or not anchor or f'id="{anchor}"' in target.read_text(encoding="utf-8")


def test_the_same_runs_give_the_same_bytes_and_pages_that_are_no_longer_needed_go(
    make_run: MakeRun, tmp_path: Path
) -> None:
    one, other = (make_run({"crysldm": {"stable": 3}}, name=name, **at(1)) for name in ("one", "other"))
    site = tmp_path / "site"
    write_site([one, other], site)
    first = {path.name: path.read_bytes() for path in site.rglob("*.html")}
    write_site([one, other], site)
    assert {path.name: path.read_bytes() for path in site.rglob("*.html")} == first
    write_site([one], site)
    assert sorted(path.name for path in (site / "runs").iterdir()) == ["one.html"]
    (site / "site.json").write_text(json.dumps({"pages": ["../one/summary.json", str(one / "x.html")]}))
    write_site([one], site)
    assert (one / "summary.json").is_file()


def test_a_folder_with_other_files_is_not_written_to(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run({"crysldm": {"stable": 3}})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match=r"holds other files and no site"):
        write_site([run], tmp_path / "mine")
    with pytest.raises(ValueError, match=r"nowhere: there is no such run or folder"):
        write_site([tmp_path / "nowhere"], tmp_path / "site")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no finished run in .*empty"):
        write_site([tmp_path / "empty"], tmp_path / "site")


def test_the_history_says_what_moved_beyond_noise_and_what_changed_in_between(make_run: MakeRun) -> None:
    rates = {1: 300, 2: 310, 3: 200}
    software = {1: {"torch": "2.13"}, 2: {"torch": "2.13"}, 3: {"torch": "2.14"}}
    folders = [
        make_run({"crysldm": {"stable": rates[day], "density": 0.1}}, name=f"d{day}", **at(day, software=software[day]))
        for day in (3, 1, 2)
    ]
    (points,) = histories(collect(folders).runs).values()
    assert [point.at.date for point in points] == ["2026-11-01", "2026-11-02", "2026-11-03"]
    assert moves(points[0], points[1]) == []
    assert moves(points[1], points[2]) == ["stable: worse"]
    assert 'software.torch: "2.13" -> "2.14"' in changes(points[1], points[2])
    assert [line.partition(":")[0] for line in changes(points[0], points[1])] == ["code"]


def test_a_leaderboard_has_the_latest_run_of_a_model(make_run: MakeRun, tmp_path: Path) -> None:
    folders = [make_run({"crysldm": {"stable": 3}}, name=f"on-day-{day}", **at(day)) for day in (2, 1)]
    write_site(folders, tmp_path / "site")
    (page,) = (tmp_path / "site").glob("perov5-*.html")
    leaderboard, _, history = page.read_text(encoding="utf-8").partition('id="history"')
    assert "on-day-2" in leaderboard and "on-day-1" not in leaderboard
    assert "on-day-2" in history and "on-day-1" in history


def test_seconds_of_another_device_have_not_moved(make_run: MakeRun) -> None:
    folders = [
        make_run({"crysldm": {"seconds": 0.04 * threads}}, name=f"t{threads}", **at(threads, threads=threads))
        for threads in (1, 8)
    ]
    (points,) = histories(collect(folders).runs).values()
    assert moves(*points) == []
    folders[1] = make_run({"crysldm": {"seconds": 0.32}}, name="slower", **at(9))
    (points,) = histories(collect(folders).runs).values()
    assert moves(*points) == ["device seconds per crystal: worse"]


def test_runs_judged_by_other_potentials_have_leaderboards_of_their_own(make_run: MakeRun) -> None:
    one = make_run({"crysldm": {"stable": 3}}, name="one", **at(1))
    other = make_run({"crysldm": {"stable": 3}}, name="other", **at(2))
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["protocol"]["tasks"]["stability"]["potential"]["name"] = "m3gnet"
    (other / "manifest.json").write_text(json.dumps(manifest))
    third = make_run({"crysldm": {}}, name="third", **at(3))  # nothing of stability: it fits both
    groups = collect([one, other, third]).groups
    assert sorted(sorted(run.run.name for run in group.runs) for group in groups) in (
        [["one", "third"], ["other"]],
        [["one"], ["other", "third"]],
    )
