"""Tests of the page in a real browser, loaded from a file, without a network."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from leadline import figures, report
from leadline.statistics import effect
from leadline.worksheet import STATEMENTS, Answer, Holds, Result, Setting
from tests.worksheet import example

CHROMIUM = (
    shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]

PATCHES = {
    name: effect(np.random.default_rng(0).normal(5, 1, 12), name, "points")
    for name in {
        leaf.effect for leaf in STATEMENTS["ae.g"].criterion.leaves() if not isinstance(leaf, Holds)
    }
}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def with_drawing(answer: Answer, drawing: Any) -> Answer:
    """Return the answer with another drawing."""
    sounding = replace(answer.soundings["flow"])
    object.__setattr__(sounding, "drawing", lambda: drawing)
    return replace(answer, soundings={"flow": sounding})


def panels() -> Any:
    title = "Two views of one and the same thing, <s> & all"
    drawing = figures.panels(title, [("left", "t", "y"), ("right", "t", "y")])
    lines = [
        figures.line([1, 2], [1, 2], name=f"line {name}", mode="lines+markers", panel=panel)
        for panel, name in enumerate(("", "2"), 1)
    ]
    return figures.extended(drawing, lines)


def tree() -> Any:
    labels = ["start", "<s>", "</s>", "<b>x</b>", "&amp;"]
    return figures.tree(
        np.array([-1, 0, 1, 2, 2]),
        labels,
        ["", *["−1.45, rank 3"] * 4],
        title="<i>a tree</i>",
        paths={"the <u>best</u>": [0, 1], "another": [2]},
        columns=["", "step 1", "step 2", "step 3"],
    )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    kinds = {
        "ae.f": example.answer("ae.f"),
        "ae.g": replace(
            with_drawing(example.answer("ae.f"), panels()), statement_id="ae.g", effects=PATCHES
        ),
        "beam.a": with_drawing(example.answer("beam.a", gain=-1.0), tree()),
    }
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
    """Open the page in a new context; assert on exit that it made no request and no error."""
    requests, complaints, contexts = [], [], []

    def open_page(anchor: str = "", **options) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on(
            "console",
            lambda message: complaints.append(message.text) if message.type == "error" else None,
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url + anchor)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [
        request for request in requests if not request.startswith(("file:", "data:", "blob:"))
    ] == []


def drawn(page: Page, statement: str):
    page.locator(f"[data-figure='figure-{statement}']").scroll_into_view_if_needed()
    page.wait_for_selector(f"[data-figure='figure-{statement}'] .main-svg")
    return page.locator(f"[data-figure='figure-{statement}']")


def test_figures_are_drawn_when_they_come_into_view(visit):
    page = visit(viewport={"width": 1200, "height": 800})
    assert page.locator(".main-svg").count() == 0
    assert drawn(page, "ae.f").locator(".scatterlayer path.js-line").count() > 0


def test_the_button_bar_does_not_cover_the_axes(
    visit,
):
    figure = drawn(visit(viewport={"width": 1280, "height": 900}), "ae.g")
    figure.hover()
    axes, buttons = (
        figure.locator(part).last.bounding_box() for part in (".nsewdrag", ".modebar-group")
    )
    assert axes is not None
    assert buttons is not None
    assert axes["x"] + axes["width"] <= buttons["x"]
    offered = [
        button.get_attribute("data-title") for button in figure.locator(".modebar-btn").all()
    ]
    assert "Zoom" in offered
    assert not [name for name in offered if name and "Share" in name], (
        "a figure stays on this machine"
    )


def test_the_table_links_to_each_statement_by_keyboard(visit):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    links = [
        page.keyboard.press("Tab") or page.evaluate("document.activeElement.getAttribute('href')")
        for _ in STATEMENTS
    ]
    assert links == [f"#{name}" for name in STATEMENTS]
    page.keyboard.press("Enter")
    assert page.url.endswith("#beam.e")
    page.locator("#beam\\.e summary").press("Enter")
    assert page.locator("#beam\\.e details").get_attribute("open") is not None


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_nothing_overflows_at_any_width(visit, width):
    page = visit(viewport={"width": width, "height": 800})
    drawn(page, "ae.f")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_mode_changes_text_and_figures(visit):
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


def size(page: Page, statement: str) -> tuple[float, float]:
    """Return width and height of a drawing after it fills its element."""
    place = drawn(page, statement)
    page.wait_for_function(
        "([name, width, height]) => { const { clientWidth, clientHeight } = "
        "document.querySelector(`[data-figure='${name}'] .main-svg`); "
        "return clientWidth == width && clientHeight == height }",
        arg=[
            f"figure-{statement}",
            *place.evaluate("place => [place.clientWidth, place.clientHeight]"),
        ],
    )
    box = place.locator(".main-svg").first.bounding_box()
    assert box is not None
    return box["width"], box["height"]


def test_a_figure_grows_and_shrinks_with_its_element(visit):
    page = visit(viewport={"width": 800, "height": 900})
    wide = size(page, "ae.g")
    headings = page.locator("[data-figure='figure-ae.g'] .annotation-text")
    assert wide == (760, 380)
    page.set_viewport_size({"width": 360, "height": 800})
    narrow = size(page, "ae.g")
    assert narrow == (328, 646)
    left, right = (headings.nth(i).bounding_box() for i in range(2))
    assert right["y"] > left["y"] + 200
    bottom = page.locator("[data-figure='figure-ae.g']").bounding_box()
    assert page.locator("#ae\\.g .parts").bounding_box()["y"] >= bottom["y"] + bottom["height"]
    page.set_viewport_size({"width": 800, "height": 900})
    assert size(page, "ae.g") == wide
    left, right = (headings.nth(i).bounding_box() for i in range(2))
    assert right["y"] == left["y"]


@pytest.mark.parametrize("width", [390, 1100])
def test_the_page_does_not_move_after_following_a_link(visit, width):
    options = {"viewport": {"width": width, "height": 700}, "reduced_motion": "reduce"}
    top = "document.getElementById('beam.a').getBoundingClientRect().top"
    page = visit("#beam.a", **options)
    page.wait_for_selector("[data-figure='figure-beam.a'] .main-svg")
    assert 0 <= page.evaluate(top) <= 20
    page = visit(**options)
    page.locator("a[href='#beam.a']").click()
    page.wait_for_selector("[data-figure='figure-beam.a'] .main-svg")
    assert 0 <= page.evaluate(top) <= 20
    # The page keeps its height while figures appear, so nothing moves for a reader who scrolls.
    assert page.evaluate("document.documentElement.scrollHeight") == whole(visit(**options))


def whole(page: Page) -> int:
    """Return the height of the page after all figures are drawn."""
    for statement in ("ae.f", "ae.g", "beam.a"):
        drawn(page, statement)
    return page.evaluate("document.documentElement.scrollHeight")


def test_text_in_figures_is_not_read_as_markup(visit):
    place = drawn(visit(), "beam.a")
    texts = place.locator(".annotation-text").evaluate_all("all => all.map(one => one.textContent)")
    assert [text.removesuffix("−1.45, rank 3") for text in texts[:5]] == [
        "start",
        "<s>",
        "</s>",
        "<b>x</b>",
        "&amp;",
    ]
    assert place.locator(".gtitle").text_content() == "<i>a tree</i>"
    assert place.locator(".legendtext").first.text_content() == "the <u>best</u>"


def test_a_tree_scrolls_if_its_text_would_overflow_its_boxes(visit):
    page = visit(viewport={"width": 360, "height": 800})
    place = drawn(page, "beam.a")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert place.evaluate("place => place.parentElement.clientWidth") == 328
    assert place.evaluate("place => place.clientWidth") > 400
    width = place.locator(".shapelayer path").evaluate_all(
        "all => Math.min(...all.filter(one => one.getAttribute('d').endsWith('Z')).map(one => "
        "one.getBBox().width))"
    )
    text = place.locator(".annotation-text").evaluate_all(
        "all => Math.max(...all.slice(0, 5).map(one => one.getBBox().width))"
    )
    assert text < width


def test_the_printed_page_contains_all_figures_and_folded_sections(visit, tmp_path: Path):
    page = visit(color_scheme="dark", viewport={"width": 390, "height": 800})
    page.locator("#ae\\.f summary").click()
    folded = page.locator("details:not([open])")
    before = folded.count()
    assert before == 19
    drawn(page, "ae.f")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert folded.count() == 0
    for place in page.locator("[data-figure]").all():
        expect(place.locator(".main-svg").first).to_have_attribute("width", "680")
        expect(place.locator(".gtitle")).to_have_css("fill", "rgb(0, 0, 0)")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert folded.count() == before
    assert size(page, "ae.f")[0] == 358
    page.evaluate("addEventListener('beforeprint', () => window.printed = 'details:not([open])')")
    page.evaluate(
        "addEventListener('beforeprint', () => window.folded = "
        "document.querySelectorAll(printed).length)"
    )
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    assert page.evaluate("window.folded") == 0
    assert folded.count() == before


def test_the_page_can_be_read_without_scripts(visit):
    page = visit(java_script_enabled=False)
    text = page.inner_text("main")
    assert "The gain is 5.0 points" in text
    assert "gain at 10 labels" in text
