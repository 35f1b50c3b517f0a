"""Properties of the answers to all twenty statements, from small measurements."""

import math
import pickle
import re
import shlex
from collections.abc import Iterator
from functools import cache
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
"""Maximal number of rows in a table that counts as short."""


def answer_of(name: str) -> Answer:
    answer = result_of(name).answer
    assert answer is not None
    return answer


def shown(result: Result) -> dict[str, str]:
    """Return every printed text of a result."""
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
    "from a worker": lambda result, folder: pickle.loads(pickle.dumps(result)),
    "from disk, through a worker": lambda result, folder: pickle.loads(
        pickle.dumps(from_disk(result, folder))
    ),
}


@cache
def shown_at_first(name: str) -> dict[str, str]:
    return shown(result_of(name))


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize("name", STATEMENTS)
def test_a_result_prints_the_same_after_copying_and_saving(name, trip, tmp_path: Path):
    again = shown(TRIPS[trip](result_of(name), tmp_path))
    for what, text in shown_at_first(name).items():
        assert again[what] == text, what


def numbers_in(text: str) -> Iterator[tuple[float, int, bool]]:
    """Yield each number in a text, its decimals, and True if it is a percentage."""
    for match in NUMBER.finditer(text):
        digits = match[0].replace(match["percent"] or "", "").replace(",", "").replace("−", "-")
        mantissa, _, exponent = digits.partition("e")
        decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
        yield float(digits), decimals, bool(match["percent"])


def measured_numbers(answer: Answer) -> list[float]:
    """Return numbers of effects; a sentence may round them."""
    found = values_of(answer.table().drop(columns="replicates", errors="ignore"))
    for effect in answer.effects.values():
        found.append((effect.simultaneous.high - effect.simultaneous.low) / 2)
    for leaf in answer.statement.criterion.leaves():
        found += [(leaf.high - leaf.low) / 2] if isinstance(leaf, Within) else []
    return found


def exact_numbers(answer: Answer) -> list[float]:
    """Return numbers in facts, labels and short tables; a sentence must repeat them exactly."""
    found = [float(effect.replicates) for effect in answer.effects.values()]
    for sounding in answer.soundings.values():
        table = sounding.table()
        found += values_of(table) if len(table) <= SHORT else []
    texts = [
        text
        for fact in answer.facts.values()
        for text in (fact.label, fact.measured, fact.expected)
    ]
    texts += [effect.label for effect in answer.effects.values()]
    for text in texts:
        found += [
            number / 100 if is_percent else number for number, _, is_percent in numbers_in(text)
        ]
    return found


def values_of(table: pd.DataFrame) -> list[float]:
    columns = [table[name] for name in table if pd.api.types.is_numeric_dtype(table[name])]
    return [float(value) for column in columns for value in column if math.isfinite(value)]


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_number_of_the_verdict_is_in_the_table(name):
    answer = answer_of(name)
    sentence = answer.verdict.sentence
    rounded = {
        text
        for value in measured_numbers(answer)
        for text in (*roundings(value), *roundings(100 * value))
    }
    exact = [scale * value for value in exact_numbers(answer) for scale in (1, 100)]
    missing = []
    for number, decimals, _ in numbers_in(sentence):
        tolerance = 0.5000001 * 10.0**-decimals if decimals > 0 else 1e-9
        if number not in rounded and not any(abs(value - number) <= tolerance for value in exact):
            missing.append(number)
    assert missing == [], f"{sentence}\n{answer.table().to_string()}"


def roundings(value: float) -> list[float]:
    """Return the numbers that a value may be printed as."""
    texts = [f"{value:.{digits}f}" for digits in range(8)] + [
        f"{value:.{digits}g}" for digits in range(2, 7)
    ]
    return [float(text) for text in texts]


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
    for what, text in shown_at_first(name).items():
        if "figure" in what or what == "page":
            continue
        assert not re.search(r"(?<![\w.^])[-−]0(?:\.0+)?(?![\d.])", text), what
        assert "nan" not in text.lower().replace("nanobeam", ""), what


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_interval_exceeds_the_possible_values(name):
    answer = answer_of(name)
    for effect in answer.effects.values():
        least, most = {"%": (-100, None), "% of networks": (0, 100), "points": (-100, 100)}.get(
            effect.unit, (None, None)
        )
        if "share" in effect.label and "minus" not in effect.label and effect.unit == "":
            least = 0
        if "Kendall's tau" in effect.label:
            least, most = -1, 1
        for interval in (effect.interval, effect.simultaneous):
            assert least is None or interval.low >= least, effect
            assert most is None or interval.high <= most, effect
    for sounding in answer.soundings.values():
        table = sounding.table()
        for column in table:
            if str(column).startswith("accuracy") and pd.api.types.is_numeric_dtype(table[column]):
                assert table[column].between(0, 100).all(), column
