"""The page as a reader meets it: in a real browser, from a file, without a network."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from leadline import report
from leadline.worksheet import STATEMENTS, Result, Setting
from tests.worksheet import example

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    kinds = {"ae.f": example.answer("ae.f"), "beam.a": example.answer("beam.a", gain=-1.0)}
    results = [Result(statement, answer=kinds.get(name)) for name, statement in STATEMENTS.items()]
    return report.write(results, Setting("quick"), tmp_path_factory.mktemp("page")).as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield instance
        instance.close()


@pytest.fixture
def visit(browser: Browser, url: str):
    """Open the page in a context of its own; on leaving, assert that it made no request and no complaint."""
    requests, complaints, contexts = [], [], []

    def open_page(**options) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [request for request in requests if not request.startswith(("file:", "data:", "blob:"))] == []


def drawn(page: Page, statement: str):
    page.locator(f"[data-figure='figure-{statement}']").scroll_into_view_if_needed()
    page.wait_for_selector(f"[data-figure='figure-{statement}'] .main-svg")
    return page.locator(f"[data-figure='figure-{statement}']")


def test_figures_are_drawn_when_they_come_into_view(visit):
    page = visit(viewport={"width": 1200, "height": 800})
    assert page.locator(".main-svg").count() == 0
    assert drawn(page, "ae.f").locator(".scatterlayer path.js-line").count() > 0


def test_the_table_leads_to_each_statement_by_keyboard_alone(visit):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    links = [
        page.keyboard.press("Tab") or page.evaluate("document.activeElement.getAttribute('href')") for _ in STATEMENTS
    ]
    assert links == [f"#{name}" for name in STATEMENTS]
    page.keyboard.press("Enter")
    assert page.url.endswith("#beam.e")
    page.locator("#beam\\.e summary").press("Enter")
    assert page.locator("#beam\\.e details").get_attribute("open") is not None


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_nothing_sticks_out_at_any_width(visit, width):
    page = visit(viewport={"width": width, "height": 800})
    drawn(page, "ae.f")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_mode_reaches_text_and_figures(visit):
    colours = {}
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme)
        drawn(page, "ae.f")
        colours[scheme] = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, "
            "getComputedStyle(document.querySelector('.gtitle')).fill]"
        )
    assert colours == {
        "light": ["rgb(255, 255, 255)", "rgb(29, 39, 51)"],
        "dark": ["rgb(20, 25, 31)", "rgb(228, 232, 236)"],
    }
    page.emulate_media(color_scheme="light")
    expect(page.locator(".gtitle").first).to_have_css("fill", "rgb(29, 39, 51)")


def test_the_printed_page_holds_all_figures(visit, tmp_path: Path):
    page = visit(color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    for place in page.locator("[data-figure]").all():
        expect(place.locator(".main-svg").first).to_be_attached()
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_it_can_be_read_without_scripts(visit):
    page = visit(java_script_enabled=False)
    text = page.inner_text("main")
    assert "the gain is 5.0 points" in text
    assert "gain at 10 labels" in text
