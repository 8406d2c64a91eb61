"""The page in headless Chromium: no error, figures visible, sorting, filtering, keyboard, light, dark, telephone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.page.html_page import write_page
from tests.reports.chromium import TELEPHONE, WIDE, browser, view
from tests.stored_crystal_runs import whole_run

__all__ = ["browser"]  # the fixture
pytestmark = pytest.mark.slow
MakeRun = Callable[..., Path]
ENERGIES = [0.02, 0.3, 0.05, None, 0.7, -0.1, 0.2, 0.4, 0.09, 1.2]
TALL = (1280, 1500)


@pytest.fixture
def page(browser: Any, make_run: MakeRun, tmp_path: Path, written: dict[str, Path]) -> Any:
    """The browser with the page of two runs, one of which names two models, and a leaderboard; light and wide."""
    if "page" not in written:
        reasons = {"validity": {"structure: atoms .. A apart": 7, "composition": 30}, "novelty": {"not new": 4}}
        one = whole_run(make_run, {"crysldm@20": ENERGIES, "diffcsp@20": ENERGIES[::-1]}, name="one")
        other = whole_run(make_run, {"cdvae": [0.5] * 10}, name="other")
        summary = json.loads((one / "summary.json").read_text())
        summary["models"]["crysldm@20"]["ledger"]["reasons"] = reasons
        (one / "summary.json").write_text(json.dumps(summary))
        write_page([one, other], tmp_path / "page.html", leaderboard=True)
        written["page"] = tmp_path / "page.html"
    view(browser, WIDE, "light")
    browser.get_log("browser")
    browser.get(written["page"].as_uri())
    return browser


@pytest.fixture(scope="module")
def written() -> dict[str, Path]:
    return {}


def column(page: Any, table: str, place: int) -> list[str]:
    """The visible texts of a column, top to bottom."""
    script = """return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].filter((row) => !row.hidden)
        .map((row) => row.cells[arguments[1]].firstChild.textContent.trim())"""
    return page.execute_script(script, table, place)


def pictures(page: Any, selector: str) -> Iterator[tuple[str, Any]]:
    """What stands in the place of each element, in grey, with its label: screen after screen, half a screen apart."""
    from PIL import Image

    boxes = """return [...document.querySelectorAll(arguments[0])].map((element) => {
        const box = element.getBoundingClientRect();
        return [element.getAttribute("aria-label"), box.left, box.top, box.right, box.bottom]; })"""
    height = page.execute_script("return document.documentElement.scrollHeight")
    seen: set[int] = set()
    for top in range(0, height, TALL[1] // 2):
        page.execute_script("window.scrollTo({top: arguments[0], behavior: 'instant'})", top)
        inside = {
            place: (label, box)
            for place, (label, *box) in enumerate(page.execute_script(boxes, selector))
            if place not in seen and box[1] >= 0 and box[3] <= TALL[1]
        }
        screen = Image.open(io.BytesIO(page.get_screenshot_as_png())).convert("L") if inside else None
        for label, box in inside.values():
            yield label, screen.crop([round(side) for side in box])
        seen |= inside.keys()
    assert len(seen) == len(page.find_elements("css selector", selector))


def find(page: Any, selector: str) -> Any:
    return page.find_element("css selector", selector)


def unfold(page: Any) -> None:
    page.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = true; })")


def test_nothing_is_said_on_the_console_and_nothing_is_asked_of_a_network(page: Any) -> None:
    unfold(page)
    assert page.get_log("browser") == []
    assert page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_is_visible_and_not_blank(page: Any, scheme: str) -> None:
    view(page, TALL, scheme)
    labels = []
    for label, seen in pictures(page, ".plot, .view svg"):
        assert seen.width > 100 and seen.height > 60, label
        darkest, brightest = seen.getextrema()
        assert brightest - darkest > 100, label
        labels.append(label)
    assert len(labels) > 15


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_the_reader_s_colour_scheme_is_followed_and_text_stands_out(page: Any, scheme: str, is_dark: bool) -> None:
    view(page, WIDE, scheme)
    script = """const of = (selector, what) => getComputedStyle(document.querySelector(selector))[what];
        return [of("body", "backgroundColor"), of("body", "color"), of(".notes", "color"), of("figcaption", "color"),
                of("nav a", "color"), of("figure .plot text", "fill")]"""
    background, *texts = (luminance(colour) for colour in page.execute_script(script))
    assert (background < 0.2) == is_dark
    for text in texts:
        light, dark = max(text, background), min(text, background)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(colour: str) -> float:
    """Relative luminance after WCAG 2.2."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("width", [320, 360, 768])
def test_a_narrow_page_does_not_scroll_sideways_and_its_figures_can_be_read(page: Any, width: int) -> None:
    view(page, (width, 740), "light")
    unfold(page)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    sizes = page.execute_script(
        """return [...document.querySelectorAll(".figures:not(.wide) .plot text")].map((text) =>
            parseFloat(getComputedStyle(text).fontSize) * text.ownerSVGElement.getBoundingClientRect().width
            / text.ownerSVGElement.viewBox.baseVal.width)"""
    )
    assert min(sizes) >= 7.0
    if width >= 360:
        assert sorted(sizes)[len(sizes) // 4] >= 9.0


def test_a_click_on_a_title_sorts_by_figures_down_then_up(page: Any) -> None:
    unfold(page)
    button = find(page, "#perov5-reasons-table thead th:nth-child(4) button")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
    button.click()
    assert column(page, "perov5-reasons-table", 3) == ["30", "7", "4"]
    assert find(page, "#perov5-reasons-table thead th:nth-child(4)").get_attribute("aria-sort") == "descending"
    button.click()
    assert column(page, "perov5-reasons-table", 3) == ["4", "7", "30"]
    status = find(page, "[data-name=perov5-reasons-table] [role=status]")
    assert status.get_attribute("textContent") == "Sorted by Crystals, ascending"


def test_sorting_keeps_to_the_rows_between_two_rules_and_puts_dashes_last(page: Any) -> None:
    find(page, "#ranks thead tr:last-child th:nth-child(6) button").click()
    rows = column(page, "ranks", 5)
    assert rows.index("–") > 0 if "–" in rows else True
    figures = [float(row) for row in rows if row != "–"]
    assert figures == sorted(figures, reverse=True)


def test_typing_filters_rows_and_tells_how_many_are_left(page: Any) -> None:
    unfold(page)
    field = find(page, "#perov5-reasons-table-filter")
    field.send_keys("ATOMS apart")
    assert column(page, "perov5-reasons-table", 3) == ["7"]
    assert find(page, "output[for=perov5-reasons-table-filter]").text == "1 of 3 rows"
    field.send_keys(*["\ue003"] * len("ATOMS apart"))  # backspace
    assert len(column(page, "perov5-reasons-table", 3)) == 3


def test_a_crystal_turns_by_keys_by_buttons_and_by_dragging_and_goes_back(page: Any) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    view_of = "return [...document.querySelectorAll('.view svg')[0].querySelectorAll('circle')].map(c => c.outerHTML)"
    svg = find(page, ".view svg")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", svg)
    start = page.execute_script(view_of)
    page.execute_script("arguments[0].focus()", svg)
    assert page.execute_script("return getComputedStyle(document.activeElement).outlineStyle") != "none"
    seen = [start]
    for move in (
        lambda: svg.send_keys(Keys.ARROW_RIGHT),
        lambda: svg.send_keys(Keys.ARROW_UP),
        lambda: find(page, ".view button[aria-label='Turn left']").click(),
        lambda: ActionChains(page).click_and_hold(svg).move_by_offset(40, 15).release().perform(),
    ):
        move()
        seen.append(page.execute_script(view_of))
        assert seen[-1] != seen[-2]
    svg.send_keys(Keys.HOME)
    assert page.execute_script(view_of) == start


def test_everything_that_can_be_used_is_reached_by_the_tab_key_and_has_a_name(page: Any) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    nameless = page.execute_script(
        """const named = (element) => element.getAttribute("aria-label") || element.getAttribute("aria-labelledby")
            || element.textContent.trim() || (element.labels && element.labels.length);
        return [...document.querySelectorAll("a, button, input, summary, [tabindex], [role=img]")]
            .filter((element) => !named(element)).map((element) => element.outerHTML)"""
    )
    assert nameless == []
    ActionChains(page).send_keys(Keys.TAB).perform()
    assert page.execute_script("return document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        ActionChains(page).send_keys(Keys.TAB).perform()
        reached.add(page.execute_script("return document.activeElement.tagName"))
    assert {"A", "BUTTON", "DIV"} <= reached  # links, titles of columns, tables that scroll


@pytest.mark.nightly
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, TELEPHONE])
def test_no_text_of_a_figure_lies_upon_another(page: Any, size: tuple[int, int], scheme: str) -> None:
    view(page, size, scheme)
    overlaps = page.execute_script(
        """const found = [];
        for (const svg of document.querySelectorAll(".figures:not(.wide) .plot svg")) {
          const boxes = [...svg.querySelectorAll("g[id*=axis_] text, g[id*=tick] text")].map((text) =>
            [text.textContent, text.getBoundingClientRect()]);
          boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
            const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (across > 1 && down > 2) found.push([svg.parentElement.getAttribute("aria-label"), one, other]);
          }));
        }
        return found"""
    )
    assert overlaps == []
