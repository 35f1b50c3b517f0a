"""The search room, tested in Python and in a browser."""

import dataclasses
import re
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from playwright.sync_api import expect

from leadline import explore
from leadline.decoding import Comparison, RecurrentLM, Walk
from leadline.errors import InputError
from leadline.explore.page._cells import COURSE, Cells, cells, written
from leadline.explore.page._room import PendingError
from leadline.explore.page._settings import from_query, to_query
from leadline.explore.rooms import _manual_model as manual_model
from leadline.explore.rooms._search import ROOM, Settings
from leadline.explore.server._folders import remove
from leadline.explore.server._server import Server
from tests.explore.browser import Visitor, chromium, needs_chromium, settled, words

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
SMALL = {"vocabulary_size": 60, "hidden_size": 8, "epochs": 1, "seed": 0}
LM = Settings(model="language model", prompt="the class", width=3, length=4, end="pool")
TABLES = {name: preset for name, preset in ROOM.presets.items() if preset.model == "table"}
OTHERS = {
    "longer than the table": Settings(
        length=8, width=4, end="in beam", table="C2-0.7_C6-0.1", step=5
    ),
    "GNMT": Settings(
        table=ROOM.presets["the empty answer wins"].table, end="pool", penalty="GNMT", strength=0.6
    ),
    "reward": Settings(end="pool", table="C1-3_C4-0.2", penalty="reward", strength=0.25, step=0),
    "words": Settings(first_word=HOSTILE, second_word='it\'s \\ "so"'),
    "nothing": Settings(table="_".join(f"{column}{row}" for row in range(1, 8) for column in "AB")),
}


@pytest.fixture(scope="module", autouse=True)
def small_model(tmp_path_factory):
    """Replace the language model by a small model with a separate cache."""
    whole, lines = manual_model.text(), manual_model.code()
    lm = (
        "lm = decoding.RecurrentLM("
        + ", ".join(f"{name}={value}" for name, value in SMALL.items())
        + ").fit(text)"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manual_model, "RECIPE", SMALL)
        patch.setattr(manual_model, "text", lambda: whole[:20_000])
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(manual_model, "code", lambda: [lines[0], CUT, lm])
        yield


CUT = r"""text = re.sub(r"([^\w\s])(?:\s*\1)+", r"\1", data.manual_text().text)[:20_000]"""


@pytest.fixture(scope="module")
def trained(small_model):
    manual_model.train(SMALL, manual_model.folder())
    return manual_model.model()


def same(settings: Settings, capsys: pytest.CaptureFixture) -> None:
    there: dict[str, Any] = {}
    exec(compile(ROOM.code(settings), "code", "exec"), there)
    printed = capsys.readouterr().out
    for name, sounding in ROOM.take(settings).items():
        mine, theirs = sounding.table(), there[name].table()
        assert list(mine.columns) == list(theirs.columns)
        for column in mine:
            assert np.array_equal(mine[column], theirs[column]), column
        assert str(sounding) in printed
        assert sounding.figure() == there[name].figure()


@pytest.mark.parametrize("settings", [*TABLES.values(), *OTHERS.values()], ids=[*TABLES, *OTHERS])
def test_the_code_makes_the_same_soundings(settings, capsys):
    same(settings, capsys)


def test_the_code_trains_the_same_model(trained, capsys):
    same(LM, capsys)
    same(dataclasses.replace(LM, prompt=HOSTILE, end="in beam", penalty="length"), capsys)


def test_each_preset_gives_the_verdict_of_its_name():
    def verdicts(name: str) -> tuple[str, str]:
        soundings = ROOM.take(ROOM.presets[name])
        return str(soundings["tree"]), str(soundings["searches"])

    assert "lost at step 2 at rank 3; width 3 keeps it" in verdicts("the course's example")[0]
    assert "begins with “neural neural”, is lost here at rank 3" in verdicts("lost at step 2")[0]
    assert (
        "returned the most likely sequence, “neural neural neural”"
        in verdicts("width 3 keeps it")[0]
    )
    assert "every search finds" in verdicts("greedy is enough")[1]
    greedy = ROOM.take(ROOM.presets["greedy is enough"])["searches"].table()
    assert set(greedy["certificate"]) == {"OPTIMAL"}
    assert (
        "the most likely is “<end>”, lost at step 1 at rank 3"
        in verdicts("the empty answer wins")[0]
    )
    penalty = ROOM.presets["a length penalty changes the answer"]
    without = ROOM.take(dataclasses.replace(penalty, penalty="none"))["searches"].table()
    with_it = ROOM.take(penalty)["searches"].table()
    assert without["answer"].tolist()[:2] == ["<end>"] * 2
    assert with_it["answer"].tolist()[:2] == ["neural network neural"] * 2


def test_another_step_needs_no_new_search():
    steps = [ROOM.take(Settings(width=4, step=step)) for step in (0, 1, 2, 3, 12)]
    trees = [taken["tree"] for taken in steps]
    assert [tree.step for tree in trees if isinstance(tree, Walk)] == [0, 1, 2, 3, 3]
    assert len({id(taken["searches"]) for taken in steps}) == 1
    assert isinstance(steps[0]["searches"], Comparison)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("B4_A40.3", r"at most 0\n.*table\[\('neural', 'neural'\)\]\['neural'\] = 0.3"),
        ("B5nan", r"at most 0\n.*table\[\('neural', 'network'\)\]\['network'\] = nan"),
        ("A1inf", r"at most 0\n.*table\[\(\)\]\['neural'\] = inf"),
        ("B7abc", "'abc' for 'network' after 'network network'"),
        ("A1" + HOSTILE[:20], "'neural'? after|for 'neural' after"),
    ],
)
def test_an_error_names_the_invalid_cell(table, message):
    with pytest.raises(InputError, match=message):
        ROOM.take(Settings(table=table))


@pytest.mark.parametrize("text", ["D1-2", "A8-2", "-0.5", "A", "A1-0.5__", "A1" + "1" * 25])
def test_an_unknown_cell_is_refused(text):
    with pytest.raises(InputError, match="cells \\(A to C, 1 to 7\\)"):
        from_query(Settings, f"?table={text}")


def test_an_address_names_only_edited_cells():
    settings = Settings(table=Cells().read("B4-0.9_A4-0.5_C1"), width=3)
    assert to_query(settings) == "?table=A4-0.5_B4-0.9&width=3"
    assert from_query(Settings, to_query(settings)) == settings
    assert cells(settings.table)["A4"] == "-0.5"
    assert written(cells("A1-0.65_B4-4.61")) == ""
    emptied = Cells().read("A4_B7 -0.1 ")
    assert emptied == "A4_B7-0.1"
    assert cells(emptied)["A4"] == ""
    assert len(COURSE) == 21


@pytest.mark.parametrize(
    ("first", "second"), [("a", "a"), ("", "b"), (" ", "b"), ("<end>", "b"), ("a", " a ")]
)
def test_the_two_words_of_the_table_must_differ(first, second):
    with pytest.raises(InputError, match="first_word and second_word must be different words"):
        ROOM.take(Settings(first_word=first, second_word=second))


def test_rows_that_do_not_sum_to_1_are_noted_and_searched():
    odd = Settings(table="A4-0.5_B4-3_A1-2")
    assert ROOM.note(odd) == (
        "The probabilities of a row should sum to 1. These sums differ: at the start 0.62, after "
        "“neural neural” 0.66. The search uses the numbers unchanged."
    )
    assert "holds “network neural”" in str(ROOM.take(dataclasses.replace(odd, step=2))["tree"])
    assert all(ROOM.note(preset) == "" for preset in TABLES.values())


def test_the_search_of_a_table_has_a_largest_length():
    with pytest.raises(InputError, match="length must be at most 8 for the table"):
        ROOM.take(Settings(length=9))


def test_notes_name_empty_prompts_and_unknown_words(trained):
    assert ROOM.note(LM) == ""
    assert "The prompt is empty" in ROOM.note(dataclasses.replace(LM, prompt=" "))
    note = ROOM.note(dataclasses.replace(LM, prompt="the qqq class zzz QQQ"))
    assert note == (
        "The model does not know “qqq”, “zzz”. It reads <unknown> instead, and its answers never "
        "contain <unknown>."
    )
    assert "and 3 more" in ROOM.note(dataclasses.replace(LM, prompt="q1 q2 q3 q4 q5 q6 q7 q8"))
    for prompt in ("", HOSTILE, "qqq"):
        taken = ROOM.take(dataclasses.replace(LM, prompt=prompt))
        assert "<unknown>" not in "".join(taken["searches"].table()["answer"])


def test_soundings_work_at_the_ends_of_all_sliders(trained):
    for model, longest in (("table", 8), ("language model", 12)):
        for width, end in ((1, "pool"), (8, "in beam")):
            s = Settings(model, width=width, length=longest, end=end, penalty="GNMT", strength=2.0)  # type: ignore[arg-type]
            for sounding in ROOM.take(s).values():
                assert str(sounding)
                assert sounding.figure().to_plotly_json()["data"]
            assert ROOM.slider_limits(s) == {"length": longest, "step": longest}


def test_a_worker_trains_the_model_and_caches_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    where = manual_model.folder()
    assert where.is_relative_to(tmp_path)
    with pytest.raises(PendingError, match="Training the language model on the manual of Python"):
        manual_model.model()
    worker, _ = manual_model._workers[where]
    with pytest.raises(PendingError):  # no second worker starts
        manual_model.model()
    assert manual_model._workers[where][0] is worker
    worker.join(120)
    assert worker.exitcode == 0
    assert manual_model.model().vocabulary == RecurrentLM.load(where).vocabulary
    assert {file.suffix for file in where.iterdir()} == {".json", ".safetensors"}


def test_a_failed_training_is_an_error(monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(manual_model, "RECIPE", {**SMALL, "epochs": 0})
    with pytest.raises(PendingError):
        manual_model.model()
    manual_model._workers[manual_model.folder()][0].join(120)
    with pytest.raises(InputError, match="exit code 1"):
        manual_model.model()
    assert "epochs must be a whole number from 1" in capfd.readouterr().err


def test_an_unwritable_cache_is_replaced_by_a_temporary_folder(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    where = manual_model.folder()
    assert where.parent.is_dir()
    assert where == manual_model.folder()
    remove(where.parent)


def test_a_notebook_shows_the_room():
    shown = explore.search(width=3, table="A4-0.5_B4-0.9")
    assert shown.url.endswith("/search?table=A4-0.5_B4-0.9&width=3")
    with pytest.raises(InputError, match="width must be a whole number from 1 to 8"):
        explore.search(width=9)


@pytest.fixture(scope="module")
def server():
    running = Server([ROOM], port=0).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser():
    with chromium() as instance:
        yield instance


@pytest.fixture
def visitor(browser, server):
    one = Visitor(browser, server)
    yield one
    one.leave()


def shown(page, settings: Settings) -> None:
    """Assert that the page shows these settings and their soundings."""
    settled(page, ROOM, to_query(settings))
    for card, sounding in ROOM.take(settings).items():
        expect(words(page, ROOM, card)).to_have_text(str(sounding))


@needs_chromium
def test_one_click_sets_each_preset_and_reset_restores_the_defaults(visitor, trained):
    page = visitor.open("search?width=5")
    for name, preset in ROOM.presets.items():
        page.get_by_role("button", name=name, exact=True).click()
        shown(page, preset)
        for cell, text in cells(preset.table).items():
            expect(page.locator(f"#search-table-{cell}")).to_have_value(text)
    page.get_by_role("button", name="reset", exact=True).click()
    shown(page, Settings())


@needs_chromium
def test_arrow_keys_move_the_sliders(visitor):
    page = visitor.open("search?step=0")
    boxes = page.locator("#search-tree-figure .annotation")
    page.locator("#search-step").focus()
    for step in (1, 2, 3):
        page.keyboard.press("ArrowRight")
        shown(page, Settings(step=step))
        expect(page.locator("#search-step-shown")).to_have_text(str(step))
    expect(boxes.filter(has_text="lost here")).to_have_count(1)
    # Step 3 is the last.
    page.keyboard.press("ArrowRight")
    expect(page.locator("#search-step-shown")).to_have_text("3")
    page.locator("#search-length").focus()
    page.keyboard.press("ArrowRight")
    shown(page, Settings(step=3, length=4))
    page.locator("#search-width").focus()
    page.keyboard.press("ArrowRight")
    shown(page, Settings(step=3, length=4, width=3))


@needs_chromium
def test_a_step_beyond_the_last_shows_the_last_step(visitor):
    page = visitor.open("search")
    expect(page.locator("#search-step-shown")).to_have_text("3")
    page.locator("#search-step").focus()
    page.keyboard.press("ArrowLeft")
    shown(page, Settings(step=2))


@needs_chromium
def test_choices_and_strength_change_the_search(visitor):
    page = visitor.open("search")
    expect(page.locator("#search-strength-row")).to_have_class(re.compile("silent"))
    page.get_by_label("in beam").check()
    page.get_by_label("length", exact=True).last.check()
    page.locator("#search-strength").focus()
    page.keyboard.press("ArrowLeft")
    shown(page, Settings(end="in beam", penalty="length", strength=0.95))
    expect(page.locator("#search-strength-row")).not_to_have_class(re.compile("silent"))


@needs_chromium
def test_a_link_restores_an_edited_cell(visitor):
    page = visitor.open("search")
    cell = page.get_by_label("log-probability of neural after network neural")
    cell.fill("-0.1")
    shown(page, Settings(table="A6-0.1"))
    expect(page.locator("#search-notes")).to_contain_text("after “network neural” 1.45")
    other = visitor.open(page.url.rpartition("/")[2])
    expect(other.get_by_label("log-probability of neural after network neural")).to_have_value(
        "-0.1"
    )
    shown(other, Settings(table="A6-0.1"))
    cell.fill("0.5")
    expect(page.locator("#search-trouble")).to_contain_text(
        "table[('network', 'neural')]['neural'] = 0.5"
    )
    cell.fill("minus one")
    expect(page.locator("#search-trouble")).to_contain_text(
        "'minus one' for 'neural' after 'network neural'"
    )
    cell.fill("-0.80")
    shown(page, Settings())
    expect(page.locator("#search-trouble")).to_be_empty()
    expect(page.locator("#search-notes")).to_be_empty()


@needs_chromium
def test_hostile_words_are_shown_as_text(visitor, trained):
    page = visitor.open("search")
    page.get_by_label("first word").fill(HOSTILE[:40])
    shown(page, Settings(first_word=HOSTILE[:40]))
    expect(page.locator("table.cells .word-0").first).to_have_text(HOSTILE[:40])
    page.get_by_label("language model").check()
    page.get_by_label("prompt").fill(HOSTILE)
    expect(page.locator("#search-notes")).to_contain_text("“img”")
    again = visitor.open(
        f"search?first_word={quote(HOSTILE[:40])}&second_word={quote('<b>x</b>')}&table={quote('A1<b>')}"
    )
    expect(again.locator("#search-trouble")).to_contain_text("'<b>'")
    for tab in (page, again):
        elements = "[...document.querySelectorAll('img, b, [onerror]')].map((e) => e.outerHTML)"
        assert tab.evaluate(elements) == []
        assert "owned" not in tab.title()


@needs_chromium
def test_the_page_shows_the_rows_of_all_searches(visitor):
    page = visitor.open("search")
    rows = page.locator("#search-searches-rows tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("exact search")
    expect(rows.nth(1)).to_contain_text("OPTIMAL")
    expect(rows.nth(0)).to_contain_text("beam search (width 2)")


@needs_chromium
def test_each_download_contains_the_search(visitor):
    page = visitor.open("search?step=2")
    for form, inside in (
        ("csv", "neural neural"),
        ("json", '"outcome"'),
        ("json", "neural network"),
    ):
        with page.expect_download() as coming:
            page.locator(f"#search-tree-{form}").click()
        text = coming.value.path().read_text()
        assert inside in text or form == "json"
    with page.expect_download() as coming:
        page.locator("#search-tree-svg").click()
    assert "lost here" in coming.value.path().read_text()


@needs_chromium
def test_the_page_waits_until_the_model_is_trained(visitor, monkeypatch, trained):
    calls = []

    def model():
        calls.append(None)
        if len(calls) < 3:
            raise PendingError(f"call {len(calls)}")
        return trained

    page = visitor.open("search")
    monkeypatch.setattr(manual_model, "model", model)
    page.get_by_label("language model").check()
    expect(page.locator("#search-notes")).to_have_text("call 1")
    expect(page.locator("#search-notes")).to_have_text("call 2")
    settled(page, ROOM, to_query(Settings(model="language model")))
    expect(page.locator("#search-notes")).to_be_empty()


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_only_the_tree_scrolls_on_a_phone(visitor, scheme):
    page = visitor.open("search", viewport={"width": 390, "height": 800}, color_scheme=scheme)
    shown(page, Settings())
    widths = (
        "[document.documentElement.scrollWidth, "
        "document.querySelector('#search-tree-figure').offsetWidth]"
    )
    whole, tree = page.evaluate(widths)
    assert whole <= 390
    assert tree > 390
    ink = page.evaluate(
        "getComputedStyle(document.querySelector('#search-tree-figure .annotation text')).fill"
    )
    assert ink == {"light": "rgb(29, 39, 51)", "dark": "rgb(228, 232, 236)"}[scheme]
