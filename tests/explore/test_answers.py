"""Answers of the server, tested without a browser."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from threading import Thread

import numpy as np
import pandas as pd
import pytest

from leadline.explore.page._controls import to_control
from leadline.explore.page._room import PendingError
from leadline.explore.page._settings import fields_of
from leadline.explore.rooms import _search as search_room
from leadline.explore.rooms._gradients import ROOM, Settings, soundings
from leadline.explore.server._answers import (
    FORMULA,
    ONE_AT_A_TIME,
    Answers,
    _for_spreadsheets,
    file,
)

SMALL = Settings(time=6, hidden_size=2)


def question(shown: list[str]) -> dict:
    values = [to_control(field, getattr(SMALL, field.name)) for field in fields_of(Settings)]
    return {
        "values": values,
        "shown": [ROOM.id(name) for name in shown],
        "narrow": [],
        "dark": False,
    }


@pytest.fixture
def taken() -> list[str]:
    """The names of the computed soundings, in order."""
    return []


@pytest.fixture
def answers(taken) -> Answers:
    def noted_soundings(settings: Settings) -> Iterator:
        for name, sounding in soundings(settings):
            taken.append(name)
            yield name, sounding

    return Answers(replace(ROOM, soundings=noted_soundings))


def cards(lines: Iterator[str]) -> list[str]:
    return [part["card"] for part in map(json.loads, lines) if "card" in part]


def test_cards_out_of_sight_are_measured_only_on_request(answers, taken):
    assert cards(answers.lines(question(["flow", "stability"]))) == [
        "gradients-flow",
        "gradients-stability",
    ]
    assert taken == ["flow", "stability"]
    assert len(cards(answers.lines(question(["influence"])))) == 3
    assert taken == ["flow", "stability", "influence"], "what was taken before is still there"


def test_a_page_that_stops_reading_blocks_no_other_page(answers):
    slow = answers.lines(question(["influence"]))
    next(slow)
    assert not ONE_AT_A_TIME.locked()
    other: list[str] = []
    thread = Thread(
        target=lambda: other.extend(answers.lines(question(["influence"]))), daemon=True
    )
    thread.start()
    thread.join(60)
    assert len(other) == 4
    assert len(list(slow)) == 3


def test_a_pending_sounding_is_computed_at_the_next_request(taken):
    def not_yet(settings: Settings) -> Iterator:
        taken.append("tried")
        if len(taken) < 2:
            raise PendingError("wait")
        yield from soundings(settings)

    answers = Answers(replace(ROOM, soundings=not_yet))
    assert [json.loads(line)["notes"] for line in answers.lines(question(["flow"]))] == ["wait"]
    assert cards(answers.lines(question(["flow"]))) == ["gradients-flow"]


FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    '=HYPERLINK("x","y")',
]


def test_a_csv_table_contains_no_formulas():
    words = [*FORMULAS, "the", "", "a=b", "'x"]
    table = pd.DataFrame(
        {"word": words, "log_prob": np.linspace(-2, 1, len(words)), "=rank": range(len(words))}
    )
    safe = _for_spreadsheets(table)
    assert safe["word"].tolist() == [*(f"'{word}" for word in FORMULAS), "the", "", "a=b", "'x"]
    assert list(safe.columns) == ["word", "log_prob", "'=rank"]
    assert np.array_equal(safe["log_prob"], table["log_prob"]), (
        "numbers stay numbers, also negative ones"
    )
    assert table["word"].tolist() == words, "the caller's table is untouched"


def test_a_csv_download_of_hostile_words_contains_no_formula():
    settings = search_room.Settings(first_word="=1+1", second_word="@x")
    for name, sounding in search_room.ROOM.take(settings).items():
        text = file(sounding, search_room.ROOM.cards[name], "csv")
        rows = list(csv.reader(io.StringIO(text)))
        cells = [cell for row in rows for cell in row]
        assert any("=1+1" in cell for cell in cells)
        numbers = [cell for cell in cells if cell.startswith(FORMULA)]
        assert all(float(cell) < 0 for cell in numbers), "what begins with a minus is a number"


def test_a_json_download_keeps_words_unchanged():
    sounding = search_room.ROOM.take(search_room.Settings(first_word="=1+1"))["tree"]
    rows = json.loads(file(sounding, search_room.ROOM.cards["tree"], "json"))["rows"]
    assert "=1+1" in [value for row in rows for value in row.values()]
