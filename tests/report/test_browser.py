"""The report in a real browser: it draws, it fits, it follows the theme, it asks nobody."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from miscible.analyse import analyse
from miscible.report import write_report
from report.synthetic import small_analysis, small_study, synthetic_tables
from report.test_page import EVIL, QUICK

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH"),
]

OVERFLOW = "document.documentElement.scrollWidth - innerWidth"
TICK = "getComputedStyle(document.querySelector('#dose-behaviour-0 .xtick text')).fill"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        held = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield held
        held.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(small_study(), path, small_analysis())
    return path


class Visit:
    """A page opened without network, with everything it complained about or asked for."""

    def __init__(self, browser: Browser, path: Path, **context: object) -> None:
        self.context = browser.new_context(offline=True, **context)  # type: ignore[arg-type]
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.drawn()

    def drawn(self) -> None:
        self.page.wait_for_selector("html[data-charts=drawn]", state="attached", timeout=60_000)

    def _heard(self, message: object) -> None:
        if getattr(message, "type", "") in ("error", "warning"):
            self.complaints.append(str(getattr(message, "text", message)))


def test_every_chart_is_drawn_without_a_word_or_a_request(browser: Browser, report: Path) -> None:
    visit = Visit(browser, report, viewport={"width": 1280, "height": 900})
    plots = visit.page.locator(".js-plotly-plot").count()
    assert plots == visit.page.locator(".plotly-graph-div").count() > 20
    assert visit.complaints == []
    assert {url.split(":")[0] for url in visit.requests} <= {"file", "data"}
    assert visit.page.evaluate(OVERFLOW) <= 0


def test_it_fits_a_phone(browser: Browser, report: Path) -> None:
    visit = Visit(browser, report, viewport={"width": 390, "height": 844}, is_mobile=True)
    assert visit.page.evaluate(OVERFLOW) <= 0
    for details in visit.page.locator("details").all():
        details.evaluate("element => element.open = true")
    assert visit.page.evaluate(OVERFLOW) <= 0
    widths = visit.page.evaluate(
        "[...document.querySelectorAll('#dose figure')].map(f => f.getBoundingClientRect().width)"
    )
    assert max(widths) <= 390


def test_charts_follow_the_theme_as_it_changes(browser: Browser, report: Path) -> None:
    visit = Visit(browser, report, color_scheme="light")
    light = visit.page.evaluate(TICK)
    visit.page.evaluate("delete document.documentElement.dataset.charts")
    visit.page.emulate_media(color_scheme="dark")
    visit.drawn()
    dark = visit.page.evaluate(TICK)
    assert (light, dark) == ("rgb(27, 31, 36)", "rgb(232, 235, 238)")
    background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(16, 19, 23)"
    assert visit.complaints == []


def test_the_keyboard_shows_and_hides_a_model(browser: Browser, report: Path) -> None:
    visit = Visit(browser, report)
    lines = visit.page.locator("#layers-0 .scatterlayer .trace")
    before = lines.count()
    box = visit.page.get_by_role("group", name="Models shown").get_by_role("checkbox")
    hidden = box.and_(visit.page.locator(":not(:checked)")).first
    hidden.focus()
    visit.page.keyboard.press("Space")
    visit.page.wait_for_function(
        "n => document.querySelectorAll('#layers-0 .scatterlayer .trace').length === n",
        arg=before + 2,  # its curve, and its selectivity
    )


def test_a_selector_shows_another_map_with_its_numbers(browser: Browser, report: Path) -> None:
    visit = Visit(browser, report, viewport={"width": 1280, "height": 900})
    chart = visit.page.locator("#difference-map")
    rows = chart.locator(".ytick text")
    assert rows.count() == 5
    lists = visit.page.locator(".selectors[data-group=difference-maps] select")
    lists.nth(2).select_option(label="data sets")
    visit.page.wait_for_function(
        "document.querySelectorAll('#difference-map .ytick text').length === 13"
    )
    lists.nth(0).select_option(label="slerp-0.7")
    chart.scroll_into_view_if_needed()
    box = chart.locator(".nsewdrag").bounding_box()
    assert box
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    hover = chart.locator(".hoverlayer .hovertext")
    hover.wait_for()
    text = hover.text_content()
    assert text
    assert "layer 2" in text
    assert "40 items" in text
    lists = visit.page.locator(".selectors[data-group=similarity-charts] select")
    lists.select_option(label="linear-0.25 with code")
    title = visit.page.locator("#cka-map .ytitle")
    title.get_by_text("layer of linear-0.25").wait_for(state="attached")
    assert visit.complaints == []


def test_hostile_names_stay_text(browser: Browser, tmp_path: Path) -> None:
    names = {"ties-0.6": EVIL, "math": f"<b>{EVIL}</b>" + "x" * 80, "arc_easy": EVIL + "4"}
    study = synthetic_tables(layers=3, pairs=10, items=60, rename=names)
    path = tmp_path / "report.html"
    write_report(study, path, analyse(study, QUICK))
    visit = Visit(browser, path, viewport={"width": 390, "height": 844})
    assert visit.complaints == []
    assert visit.page.locator("img").count() == 0
    assert {url.split(":")[0] for url in visit.requests} <= {"file", "data"}
    assert visit.page.evaluate(OVERFLOW) <= 0
    assert EVIL in visit.page.locator("#verdicts").inner_text()
