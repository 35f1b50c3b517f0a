"""Properties of the answers to all twenty statements, measured in small sizes."""

import copy
import math
import pickle
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from leadline import cli, report
from leadline.storage import canonical_json
from leadline.worksheet import STATEMENTS, Answer, Result, Setting, Within, select
from tests.worksheet.small import result_of

SETTING = Setting("quick")
NUMBER = re.compile(r"(?<![\w.^])[-−]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?P<percent> ?%)?")
SHORT = 12
"""Rows of a table that a reader takes in at a glance."""


def answer_of(name: str) -> Answer:
    answer = result_of(name).answer
    assert answer is not None
    return answer


def shown(result: Result) -> dict[str, str]:
    """Everything that is printed of a result."""
    answer = result.answer
    assert answer is not None
    texts = {
        "status": result.status,
        "criterion": str(result.statement.criterion),
        "verdict": str(answer),
        "table": answer.table().to_json(),
        "figure": str(answer.figure().to_json()),
        "JSON": canonical_json(report.as_json([result], SETTING)),
        "Markdown": report.as_markdown([result], SETTING),
        "page": report.as_html([result], SETTING, {}),
    }
    for name, sounding in answer.soundings.items():
        texts[f"verdict of {name}"] = str(sounding)
        texts[f"table of {name}"] = sounding.table().to_json()
        texts[f"figure of {name}"] = str(sounding.figure().to_json())
    return texts


def from_disk(result: Result, folder: Path) -> Result:
    assert result.answer is not None
    result.answer.save(folder)
    return Result(result.statement, answer=Answer.load(folder))


TRIPS = {
    "copied": lambda result, folder: copy.deepcopy(result),
    "from a worker": lambda result, folder: pickle.loads(pickle.dumps(result)),
    "from disk": from_disk,
    "from disk, through a worker": lambda result, folder: pickle.loads(pickle.dumps(from_disk(result, folder))),
}


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize("name", STATEMENTS)
def test_a_result_prints_the_same_after_every_trip(name, trip, tmp_path: Path):
    result = result_of(name)
    again = shown(TRIPS[trip](result, tmp_path))
    for what, text in shown(result).items():
        assert again[what] == text, what


def numbers_in(text: str) -> Iterator[tuple[float, int, bool]]:
    """Each number in a text, its decimals, and True where it is a percentage."""
    for match in NUMBER.finditer(text):
        digits = match[0].replace(match["percent"] or "", "").replace(",", "").replace("−", "-")
        mantissa, _, exponent = digits.partition("e")
        decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
        yield float(digits), decimals, bool(match["percent"])


def sources(answer: Answer) -> list[float]:
    """The numbers in the answer's table, in its facts, and in short tables of what it rests on."""
    found: list[float] = []
    tables = [answer.table(), *(sounding.table() for sounding in answer.soundings.values())]
    for table in tables:
        if len(table) <= max(SHORT, len(answer.table())):
            found += values_of(table)
    simultaneous = [effect.simultaneous for effect in answer.effects.values()]
    found += [(interval.high - interval.low) / 2 for interval in simultaneous]
    for leaf in answer.statement.criterion.leaves():
        found += [(leaf.high - leaf.low) / 2] if isinstance(leaf, Within) else []
    texts = [text for fact in answer.facts.values() for text in (fact.label, fact.measured, fact.expected)]
    texts += [effect.label for effect in answer.effects.values()]
    for text in texts:
        found += [number / 100 if is_percent else number for number, _, is_percent in numbers_in(text)]
    return found


def values_of(table: pd.DataFrame) -> list[float]:
    columns = [table[name] for name in table if pd.api.types.is_numeric_dtype(table[name])]
    return [float(value) for column in columns for value in column if math.isfinite(value)]


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_number_of_the_verdict_stands_in_the_table(name):
    answer = answer_of(name)
    known = sources(answer)
    missing = [
        number
        for number, decimals, is_percent in numbers_in(answer.verdict.sentence)
        if not any(is_rounded(value, number, decimals, is_percent) for value in known)
    ]
    assert missing == [], f"{answer.verdict.sentence}\n{answer.table().to_string()}"


def is_rounded(value: float, number: float, decimals: int, is_percent: bool) -> bool:
    if is_percent:
        return any(abs(scale * value - number) <= 0.5000001 * 10.0**-decimals for scale in (1, 100))
    return abs(value - number) <= (0.5000001 * 10.0**-decimals if decimals > 0 else 1e-9 + 0.5 * (number >= 100))


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_printed_command_of_a_measured_answer_selects_its_statement(name):
    (document,) = report.as_json([result_of(name)], SETTING)["statements"]
    program, *words = shlex.split(document["command"])
    function, bound, _ = cli.app.parse_args(words, exit_on_error=False, print_error=False)
    assert (program, function.__name__) == ("leadline", "worksheet")
    assert [statement.id for statement in select(bound.arguments.pop("only"))] == [name]
    assert bound.arguments == {"budget": "quick", "fresh": True}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_number_is_a_negative_zero_or_missing(name):
    for what, text in shown(result_of(name)).items():
        if "figure" in what or what == "page":
            continue
        assert not re.search(r"(?<![\w.^])[-−]0(?:\.0+)?(?![\d.])", text), what
        assert "nan" not in text.lower().replace("nanobeam", ""), what
