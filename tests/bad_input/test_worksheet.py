"""Bad input to the worksheet, the report and soundings raises readable errors."""

import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadline import Interval, Protocol, SaveError, Verdict, decoding, report, sounding, worksheet
from leadline.data import Dataset
from leadline.errors import InputError
from leadline.worksheet import (
    STATEMENTS,
    Above,
    AllOf,
    Answer,
    AnyOf,
    Below,
    Criterion,
    Fact,
    Holds,
    Setting,
    Within,
)
from tests.bad_input.harness import Call, Room, call
from tests.worksheet import example

EFFECTS = example.answer("ae.f").effects
FACTS = example.answer("beam.a").facts
GAIN = EFFECTS["gain_at_fewest"]
WORKING = example.statement("ae.f", "works")
RESULT = worksheet.Result(WORKING, answer=example.answer("ae.f"))
SETTING = Setting("quick")


def new_folder() -> Path:
    return Path(tempfile.mkdtemp())


def saved_answer() -> Path:
    folder = new_folder()
    example.answer("ae.f").save(folder)
    return folder


def statement_fields() -> dict:
    return {field.name: getattr(WORKING, field.name) for field in fields(WORKING)}


def data() -> Dataset:
    return Dataset(np.eye(4), np.array([0, 1, 0, 1]), "mine")


@pytest.fixture(autouse=True)
def somewhere_empty(in_tmp_path: Path) -> None:
    """Run in an empty folder, because some bad values are names of folders that can be created."""


WORKSHEET = Room(
    worksheet,
    {
        "Above": lambda: call(Above, "gain", 0.5),
        "Above.judge": lambda: call(Above("gain_at_fewest").judge, EFFECTS, FACTS),
        "Above.detectable": lambda: call(Above("gain_at_fewest").detectable, GAIN),
        "Below": lambda: call(Below, "gain", 0.5),
        "Below.judge": lambda: call(Below("gain_at_fewest").judge, EFFECTS, FACTS),
        "Below.detectable": lambda: call(Below("gain_at_fewest").detectable, GAIN),
        "Within": lambda: call(Within, "gain", -1, 1),
        "Within.judge": lambda: call(Within("gain_at_fewest", -1, 1).judge, EFFECTS, FACTS),
        "Within.detectable": lambda: call(Within("gain_at_fewest", -1, 1).detectable, GAIN),
        "Holds": lambda: call(Holds, "no_leak"),
        "Holds.judge": lambda: call(Holds("beam_after_step_1").judge, EFFECTS, FACTS),
        "AllOf": lambda: Call(AllOf, {"several": (Above("a"), Holds("b"))}),
        "AllOf.judge": lambda: call(AllOf(Above("gain_at_fewest")).judge, EFFECTS, FACTS),
        "AnyOf": lambda: Call(AnyOf, {"several": (Above("a"), Holds("b"))}),
        "AnyOf.judge": lambda: call(AnyOf(Above("gain_at_fewest")).judge, EFFECTS, FACTS),
        "Criterion": lambda: call(Criterion, Above("gain"), "supported", Below("gain")),
        "Criterion.judge": lambda: call(
            Criterion(Above("gain_at_fewest"), "supported").judge, EFFECTS, FACTS
        ),
        "Fact": lambda: call(Fact, "a fact", True, "1", "1"),
        "Setting": lambda: call(Setting, "quick", data(), {"path": "mine.npz", "labels": "y"}),
        "Setting.describe": lambda: call(SETTING.describe, WORKING),
        "Setting.key": lambda: call(SETTING.key, WORKING),
        "Setting.pick": lambda: call(SETTING.pick, quick=1, full=2),
        "Statement": lambda: call(worksheet.Statement, **statement_fields()),
        "Answer.save": lambda: call(example.answer("ae.f").save, new_folder()),
        "Answer.load": lambda: call(Answer.load, saved_answer()),
        "effects_of": lambda: Call(
            worksheet.effects_of, {"statement_id": "ae.f", "measured": measured()}
        ),
        "kept": lambda: call(worksheet.kept, WORKING, SETTING, new_folder()),
        "measure": lambda: call(worksheet.measure, WORKING, SETTING),
        "run": lambda: call(
            worksheet.run,
            [WORKING],
            SETTING,
            folder=new_folder(),
            jobs=1,
            cluster=None,
            fresh=False,
        ),
        "select": lambda: call(worksheet.select, ("ae.f", "beam")),
    },
    results=frozenset({"Answer", "Result"}),
)


def measured() -> dict:
    return {"gain_at_fewest": (np.arange(4.0), "gain", "points")}


REPORT = Room(
    report,
    {
        "as_html": lambda: call(report.as_html, [RESULT], SETTING, {"ae.f": 1.5}),
        "as_json": lambda: call(report.as_json, [RESULT], SETTING),
        "as_markdown": lambda: call(report.as_markdown, [RESULT], SETTING),
        "write": lambda: call(report.write, [RESULT], SETTING, new_folder()),
    },
)

SOUNDING = Room(
    sounding,
    {
        "Interval": lambda: call(Interval, 1.0, 0.0, 2.0, 0.95),
        "Interval.above": lambda: call(Interval(1.0, 0.0, 2.0).above, 0.5),
        "Interval.below": lambda: call(Interval(1.0, 0.0, 2.0).below, 0.5),
        "Interval.within": lambda: call(Interval(1.0, 0.0, 2.0).within, -1, 3),
        "Protocol": lambda: call(Protocol, {"rows": 3}, (0, 1), {"X": "abc"}, {"torch": "2.6"}),
        "Sounding.save": lambda: call(example.answer("ae.f").save, new_folder()),
        "Sounding.load": lambda: call(Answer.load, saved_answer()),
        "Verdict": lambda: call(Verdict, "a finding", "supported"),
    },
    results=frozenset({"Sounding"}),
)

ROOMS = {"worksheet": WORKSHEET, "report": REPORT, "sounding": SOUNDING}
GOOD = [(room, name) for room, rules in ROOMS.items() for name in rules.calls]
BAD = [
    (room, name, parameter) for room, rules in ROOMS.items() for name, parameter in rules.cases()
]


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_a_good_call(room):
    assert ROOMS[room].without_a_call() == []


@pytest.mark.parametrize(("room", "name"), GOOD)
def test_a_good_call_succeeds_with_numbers_of_any_kind(room, name):
    ROOMS[room].check_good(name)


@pytest.mark.parametrize(("room", "name", "parameter"), BAD)
def test_bad_values_raise_readable_errors(room, name, parameter):
    ROOMS[room].check_bad(name, parameter)


OTHER_KINDS = {
    "results and setting swapped": (
        lambda: report.write(SETTING, [RESULT], "x"),  # pyright: ignore
        "results must be a list of results",
    ),
    "a result alone": (
        lambda: report.as_json(RESULT, SETTING),  # pyright: ignore
        "results must be a list of results",
    ),
    "a running generator": (
        lambda: report.as_json(worksheet.run([], SETTING), SETTING),  # pyright: ignore
        "results must be a list",
    ),
    "answers for results": (
        lambda: report.as_markdown([RESULT.answer], SETTING),  # pyright: ignore
        "results\\[0\\] must be a Result",
    ),
    "a budget for a setting": (
        lambda: report.as_json([RESULT], "quick"),  # pyright: ignore
        "setting must be a Setting",
    ),
    "one statement twice": (
        lambda: report.as_json([RESULT, RESULT], SETTING),
        "results must be of different",
    ),
    "negative seconds": (
        lambda: report.as_html([RESULT], SETTING, {"ae.f": -1}),
        "must be a finite number at least 0",
    ),
    "an id for a statement": (
        lambda: worksheet.measure("ae.f", SETTING),  # pyright: ignore
        "statement must be a Statement",
    ),
    "ids for statements": (
        lambda: list(worksheet.run(["ae.f"], SETTING)),  # pyright: ignore
        "statements\\[0\\] must be a Statement",
    ),
    "text for ids": (lambda: worksheet.select("ae.f"), "only must be a list of ids and sections"),  # pyright: ignore
    "an array for data": (lambda: Setting("quick", np.eye(3)), "data must be a Dataset"),  # pyright: ignore
    "no jobs": (
        lambda: list(worksheet.run([], SETTING, jobs=0)),
        "jobs must be a whole number from 1",
    ),
    "a level in percent": (
        lambda: Interval(1, 0, 2, level=95),
        "level must be a finite number above 0 and below 1",
    ),
    "limits swapped": (lambda: Interval(1, 2, 0), "low must be at most high"),
    "bounds swapped": (lambda: Interval(1, 0, 2).within(3, -3), "low must be at most high"),
    "an unknown threshold": (
        lambda: Interval(1, 0, 2).above(float("nan")),
        "threshold must be a number",
    ),
    "an unknown outcome": (lambda: Verdict("a finding", "true"), "outcome must be"),  # pyright: ignore
    "a negative seed": (lambda: Protocol(seeds=(-1,)), "seeds\\[0\\] must be a whole number"),
    "fractions as names": (
        lambda: Protocol({0.5: "rows"}),  # pyright: ignore
        "names in settings must be text or whole numbers",
    ),
    "an id of no section": (
        lambda: worksheet.Statement(**{**statement_fields(), "id": "x.a"}),
        "id must be a section",
    ),
    "a measure without a name": (
        lambda: worksheet.Statement(**{**statement_fields(), "measure": "module"}),
        "measure must be written as package.module:function",
    ),
    "an unknown statement": (lambda: worksheet.effects_of("ae.z"), "statement_id must be"),
    "an unmeasured statement": (
        lambda: worksheet.measure(
            worksheet.Statement(**{**statement_fields(), "measure": None}), SETTING
        ),
        "needs a statement with a measurement",
    ),
}


@pytest.mark.parametrize("case", OTHER_KINDS)
def test_objects_of_a_wrong_type_raise_an_error_that_names_them(case):
    make, text = OTHER_KINDS[case]
    with pytest.raises(InputError, match=text):
        make()


def test_an_interval_keeps_plain_numbers():
    numbers: list[Any] = [np.float32(1), np.int64(0), np.float64(2), np.float64(0.9)]
    interval = Interval(*numbers)
    assert [
        type(value) for value in (interval.estimate, interval.low, interval.high, interval.level)
    ] == [float] * 4
    assert Interval(1.0, float("-inf"), float("inf")).above(0) is None


def test_another_kind_of_sounding_is_not_an_answer(tmp_path: Path):
    table = decoding.Table({(): {"a": -0.5}})
    decoding.beam_search(*table.problem(), width=1, max_length=1).save(tmp_path)
    with pytest.raises(SaveError, match=r"holds a .*, not a"):
        Answer.load(tmp_path)


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_registered_statement_passes_its_own_checks(name):
    assert worksheet.Statement(
        **{field.name: getattr(STATEMENTS[name], field.name) for field in fields(WORKING)}
    )
