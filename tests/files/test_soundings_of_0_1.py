"""Soundings that Leadline 0.1 saved load, and their tables hold the numbers that they held."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.names import OUTCOMES, public
from tests.golden.values import columns, differences

FILES = Path(__file__).parent / "0.1"
SOUNDINGS = json.loads((FILES / "numbers.json").read_text())["soundings"]


def class_of(expected: dict[str, Any]) -> Any:
    """Return the class that a sounding has now."""
    if expected["package"] == "worksheet":
        return import_module("leadline.worksheet").Answer
    return public(f"{expected['package']}.{expected['class']}")


@pytest.mark.parametrize("name", SOUNDINGS)
def test_a_sounding_of_0_1_gives_its_numbers(name):
    expected = SOUNDINGS[name]
    sounding = class_of(expected).load(FILES / "soundings" / name)
    outcome = expected["outcome"]
    assert sounding.verdict.outcome == OUTCOMES.get(outcome, outcome)
    table = columns(sounding)
    before = [[float(value) for value in column] for column in expected["table"]]
    assert (
        differences(
            {"table": np.array(before).reshape(len(before), len(table.T))}, {"table": table}
        )
        == []
    )
    assert str(sounding)
    assert sounding.drawing()["data"]


@pytest.mark.parametrize("name", [name for name in SOUNDINGS if name.startswith("answer-")])
def test_an_answer_of_0_1_holds_soundings_that_are_shown(name):
    answer = class_of(SOUNDINGS[name]).load(FILES / "soundings" / name)
    assert answer.soundings
    for part in answer.soundings.values():
        assert str(part)
        assert len(part.table())
        assert part.drawing()["data"]
