"""Behaviour of every page, tested on the gradient room: links, files, keys, widths, dark mode."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import expect

from leadline.explore.page._settings import to_query
from leadline.explore.rooms._gradients import ROOM, Settings
from leadline.explore.server._notebook import Inline, inline
from leadline.explore.server._server import Server
from tests.explore.browser import Visitor, chromium, needs_chromium, settled, words

pytestmark = needs_chromium

SMALL = Settings(cell="GRU", time=9, hidden_size=3, gate_bias=1.5, loss="all", sample=7, weights=2)


@pytest.fixture(scope="module")
def browser():
    with chromium() as instance:
        yield instance


@pytest.fixture(scope="module")
def server():
    running = Server([ROOM], port=0).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def visitor(browser, server):
    one = Visitor(browser, server)
    yield one
    one.leave()


@pytest.fixture(scope="module")
def page(visitor):
    """One page for all tests; every test sets the controls that it needs."""
    return visitor.open("gradients" + to_query(SMALL), viewport={"width": 1280, "height": 900})


def words_of(settings: Settings, card: str = "stability") -> str:
    return ROOM.cards[card].words(ROOM.take(settings)[card])


def test_a_link_restores_all_settings(page, visitor):
    settled(page, ROOM, to_query(SMALL))
    expect(words(page, ROOM, "stability")).to_have_text(words_of(SMALL))
    again = visitor.tab(page.context, page.url)
    for name in ("time", "hidden_size", "gate_bias", "sample", "weights"):
        assert float(again.locator(f"#gradients-{name}").input_value()) == getattr(SMALL, name)
    for label in ("GRU", "all"):
        expect(again.get_by_role("radio", name=label, exact=True)).to_be_checked()
    expect(words(again, ROOM, "stability")).to_have_text(words_of(SMALL))
    again.close()


def test_two_tabs_are_independent(page, visitor):
    other = visitor.tab(page.context, visitor.server.url("gradients?time=11"))
    other.get_by_role("button", name="stable", exact=True).click()
    settled(other, ROOM, to_query(ROOM.presets["stable"]))
    settled(page, ROOM, to_query(SMALL))
    page.locator("#gradients-time").press("ArrowRight")
    settled(page, ROOM, to_query(SMALL).replace("time=9", "time=10"))
    page.locator("#gradients-time").press("ArrowLeft")
    settled(page, ROOM, to_query(SMALL))
    settled(other, ROOM, to_query(ROOM.presets["stable"]))
    expect(words(other, ROOM, "stability")).to_have_text(words_of(ROOM.presets["stable"]))
    other.close()


@pytest.mark.parametrize(
    "query", ["?time=4", "?cell=<img src=x onerror=alert(1)>", "?nonsense=1", "?sample=1e99"]
)
def test_an_invalid_address_shows_an_error_and_the_page_still_works(page, visitor, query):
    other = visitor.tab(page.context, visitor.server.url("gradients" + query))
    expect(other.locator("#gradients-refused")).to_contain_text("got:")
    assert other.locator("img").count() == 0
    expect(words(other, ROOM, "stability")).to_have_text(words_of(Settings()))
    other.locator("#gradients-time").press("ArrowRight")
    settled(other, ROOM, "?time=51")
    expect(other.locator("#gradients-refused")).to_be_hidden()
    other.close()


def test_buttons_draw_new_seeds_and_reset_them(page):
    page.get_by_role("button", name="new sample").click()
    expect(page).to_have_url(re.compile("sample=8"))
    page.get_by_role("button", name="new weights").click()
    expect(page).to_have_url(re.compile("weights=3"))
    page.get_by_role("button", name="reset").click()
    settled(page, ROOM, "")
    expect(words(page, ROOM, "stability")).to_have_text(words_of(Settings()))


def test_the_code_button_shows_the_code(page):
    page.get_by_role("button", name="reset").click()
    settled(page, ROOM, "")
    page.locator("summary", has_text="code").click()
    assert page.locator("#gradients-code").text_content() == ROOM.code(Settings())
    page.locator("summary", has_text="code").click()


def test_settings_without_effect_are_faint(page):
    page.get_by_role("button", name="reset").click()
    settled(page, ROOM, "")
    expect(page.locator("#gradients-gate_bias-row")).to_have_class(re.compile("silent"))
    page.get_by_role("radio", name="LSTM").click()
    settled(page, ROOM, "?cell=LSTM")
    expect(page.locator("#gradients-gate_bias-row")).not_to_have_class(re.compile("silent"))
    expect(page.locator("#gradients-nonlinearity-row")).to_have_class(re.compile("silent"))


def downloaded(page, form: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.locator(f"#gradients-flow-{form}").click()
    file = waiting.value
    return file.suggested_filename, Path(file.path()).read_bytes()


def test_each_download_contains_the_numbers_or_the_figure(page):
    page.get_by_role("button", name="the course's notebook, 1.D").click()
    course = ROOM.presets["the course's notebook, 1.D"]
    settled(page, ROOM, to_query(course))
    flow = ROOM.take(course)["flow"]
    name, content = downloaded(page, "csv")
    assert name == "gradients-flow.csv"
    pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(content)), flow.table(), check_dtype=False)
    name, content = downloaded(page, "json")
    document = json.loads(content)
    assert document["verdict"] == str(flow)
    assert document["rows"][3]["log10_total"] == flow.table()["log10_total"][3]
    name, content = downloaded(page, "html")
    assert b"<html>" in content
    assert b'src="http' not in content
    assert b'"modebar":{"remove":["sendChartToCloud"]}' in content
    name, content = downloaded(page, "svg")
    assert name == "gradients-flow-figure.svg"
    assert content.startswith(b"<svg")
    name, content = downloaded(page, "png")
    assert content.startswith(b"\x89PNG")


def test_the_keyboard_reaches_all_controls_and_the_focus_is_visible(page):
    page.get_by_role("button", name="reset").click()
    settled(page, ROOM, "")
    page.locator(".skip").focus()
    reached: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "() => { const e = document.activeElement; return [e.tagName == 'BUTTON' ? "
            "e.textContent : e.id || e.className, getComputedStyle(e).outlineStyle] }"
        )
        assert outline != "none", name
        if "exploding" in reached and name == "reset":
            break
        reached.append(name)
    assert next(iter(ROOM.presets)) in reached
    while page.evaluate("document.activeElement.id") != "gradients-time":
        page.keyboard.press("Tab")
    page.keyboard.press("Home")
    settled(page, ROOM, "?time=5")


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_the_page_fits_every_width(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    try:
        page.get_by_role("button", name="loss at every step").click()
        settled(page, ROOM, "?loss=all")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator("#gradients-flow-figure").bounding_box()
        assert box is not None
        assert box["width"] > min(width, 400) * 0.8
    finally:
        page.set_viewport_size({"width": 1280, "height": 900})


def test_an_answer_does_not_move_the_page(page):
    def places() -> list[float]:
        return page.evaluate(
            "[...document.querySelectorAll('.card, .row, h1')].map(e => "
            "e.getBoundingClientRect().top)"
        )

    page.evaluate("scrollTo(0, 0)")
    page.get_by_role("button", name="reset").click()
    settled(page, ROOM, "")
    before = places()
    for name in ("exploding", "the LSTM's cell path", "spectral radius zero, yet exploding"):
        page.get_by_role("button", name=name, exact=True).click()
        settled(page, ROOM, to_query(ROOM.presets[name]))
        page.evaluate("scrollTo(0, 0)")
        assert places() == before


def test_dark_mode_changes_page_and_figures(page):
    tick = page.locator("#gradients-flow-figure .xtick text").first
    page.emulate_media(color_scheme="dark")
    expect(page.locator("body")).to_have_css("background-color", "rgb(20, 25, 31)")
    expect(tick).to_have_css("fill", "rgb(228, 232, 236)")
    page.emulate_media(color_scheme="light")
    expect(page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    expect(tick).to_have_css("fill", "rgb(29, 39, 51)")


def test_a_drag_sends_one_request_at_a_time(page):
    page.get_by_role("button", name="reset").click()
    settled(page, ROOM, "")
    under_way, most = [], 0

    def began(request) -> None:
        nonlocal most
        if "/answer/" in request.url:
            under_way.append(request)
            most = max(most, len(under_way))

    def ended(request) -> None:
        if request in under_way:
            under_way.remove(request)

    page.on("request", began)
    page.on("requestfinished", ended)
    slider = page.locator("#gradients-time")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2)
    page.mouse.down()
    for i in range(40):
        page.mouse.move(box["x"] + 5 + (box["width"] - 60) * i / 39, box["y"] + box["height"] / 2)
    page.mouse.up()
    last = int(slider.input_value())
    assert last > 100
    settled(page, ROOM, f"?time={last}")
    expect(words(page, ROOM, "flow")).to_have_text(words_of(Settings(time=last), "flow"))
    page.remove_listener("request", began)
    page.remove_listener("requestfinished", ended)
    assert most == 1


def test_a_notebook_shows_the_same_room_in_a_frame(browser):
    room = inline("gradients", {"cell": "LSTM", "time": 7})
    assert isinstance(room, Inline)
    context = browser.new_context()
    page = context.new_page()
    page.set_content(f"<h1>a notebook</h1>{room._repr_html_()}")
    frame = page.frame_locator("iframe")
    expect(page.locator("iframe")).to_be_visible()
    expect(page.get_by_text("Run the cell again")).to_be_hidden()
    expect(frame.locator("#gradients-flow-words")).to_have_text(
        words_of(Settings(cell="LSTM", time=7), "flow")
    )
    context.close()


def test_a_notebook_without_its_kernel_shows_a_picture_and_a_sentence(browser):
    room = inline("gradients", {"cell": "LSTM", "time": 7})
    gone = replace(room, url="http://127.0.0.1:9/token/gradients")
    context = browser.new_context()
    page = context.new_page()
    page.set_content(gone._repr_html_())
    expect(page.get_by_text("Run the cell again to open it")).to_be_visible()
    assert page.locator("img").evaluate("picture => picture.naturalWidth") > 700
    expect(page.locator("iframe")).to_be_hidden()
    context.close()
