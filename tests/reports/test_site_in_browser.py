"""The site in headless Chromium, opened from the disk: its links are followed, its figures drawn, no error is said."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.site.pages import write_site
from tests.reports.chromium import TELEPHONE, WIDE, browser, view

__all__ = ["browser"]  # the fixture
pytestmark = pytest.mark.nightly
MakeRun = Callable[..., Path]


@pytest.fixture(scope="module")
def written() -> dict[str, Path]:
    return {}


@pytest.fixture
def site(make_run: MakeRun, tmp_path: Path, written: dict[str, Path]) -> Path:
    """Of five runs, four of which have the same two models; BENCH_SITE_OUT=FOLDER leaves it there to be looked at."""
    if "site" in written:
        return written["site"]
    for day, stable in enumerate((300, 310, 320, 200), 1):
        versions = {"torch": "2.13" if day < 4 else "2.14", "crysldm-bench": f"0.{day}.0"}
        make_run(
            {"crysldm": {"stable": stable, "stable_below": {"0": 20}}, "diffcsp@100": {"stable": stable - 100}},
            name=f"runs/day-{day}",
            created=f"2026-11-{day:02}T10:00:00+0000",
            software=versions,
            sessions=[{"code": {"commit": f"{day}" * 40}}],
        )
    make_run({"cdvae": {"stable": 50}}, name="runs/mp", dataset="mp20")
    out = Path(os.environ.get("BENCH_SITE_OUT", tmp_path / "site"))
    write_site([tmp_path / "runs"], out)
    written["site"] = out
    return out


def test_a_reader_gets_from_the_list_to_a_leaderboard_to_a_run_and_back(browser: Any, site: Path) -> None:
    view(browser, WIDE, "light")
    browser.get_log("browser")
    browser.get((site / "index.html").as_uri())
    for selector, title in (
        ("#leaderboards-table tbody tr:last-child th a", "Perov-5: leaderboard and history"),
        ("#history0 tbody tr:last-child th a", "Generative models of crystals on Perov-5"),
        ("nav a", "Runs of generative models of crystals"),
        ("#runs-table tbody tr:first-child th a", "Generative models of crystals on Perov-5"),
    ):
        link = browser.find_element("css selector", selector)
        browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", link)
        link.click()
        assert browser.title == title
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (TELEPHONE, "dark")])
def test_the_history_is_drawn_and_names_what_changed(
    browser: Any, site: Path, size: tuple[int, int], scheme: str
) -> None:
    (page,) = site.glob("perov5-*.html")
    view(browser, size, scheme)
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('.plot svg')].map((svg) => svg.getBoundingClientRect().height)"
    )
    assert len(drawn) == 2 and min(drawn) > 60
    overlaps = browser.execute_script(
        """const found = [];
        for (const svg of document.querySelectorAll(".plot svg")) {
          const texts = [...svg.querySelectorAll("text")];
          const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
          boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
            const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (across > 1 && down > 3) found.push([one, other]);
          }));
        }
        return found"""
    )
    assert overlaps == []
    rows = browser.find_elements("css selector", "#history0 tbody tr")
    texts = [row.get_attribute("textContent") for row in rows]
    assert "stable: worse" in texts[3] and 'software.torch: "2.13" -> "2.14"' in texts[3]
    assert not any("worse" in text for text in texts[:3])
