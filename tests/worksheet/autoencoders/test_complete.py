"""Tests of the answers to every statement of section 1, in short measurements."""

import importlib

import numpy as np
import pytest

from leadline.data import Dataset
from leadline.errors import InputError
from leadline.worksheet import STATEMENTS, Answer, Holds, Setting, select

MEASURED = [statement for statement in select(("ae",)) if statement.measure is not None]
FLAT = [statement for statement in MEASURED if statement.id not in ("ae.e", "ae.g")]


def answer_to(statement, setting):
    module, _, name = statement.measure.partition(":")
    return getattr(importlib.import_module(module), name)(setting)


def test_section_1_has_ten_measurements():
    assert len(MEASURED) == 10


@pytest.mark.parametrize("statement", FLAT, ids=lambda statement: statement.id)
def test_rows_that_are_not_images_are_measured(statement, heaps, tmp_path):
    answer = answer_to(statement, heaps)
    named = {
        leaf.fact if isinstance(leaf, Holds) else leaf.effect
        for leaf in statement.criterion.leaves()
    }
    assert named <= {*answer.effects, *answer.facts}
    assert "three heaps" in answer.protocol.settings["data"]
    assert answer.verdict.outcome in ("supported", "refuted", "undecided")
    assert answer.figure().data
    assert len(answer.table()) == len(answer.effects) + len(answer.facts)
    answer.save(tmp_path)
    assert str(Answer.load(tmp_path)) == str(answer)


@pytest.mark.parametrize("name", ["ae.e", "ae.g"])
def test_measurements_of_images_reject_other_rows(name, heaps):
    with pytest.raises(InputError, match="three heaps") as caught:
        answer_to(STATEMENTS[name], heaps)
    assert "images" in str(caught.value)


@pytest.mark.parametrize("name", ["ae.a", "ae.d", "ae.e", "ae.j"])
def test_colour_images_that_are_not_square_are_measured(name, short):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = rng.random((60, 3, 8, 12)).astype(np.float32)
    X[y == 1, :, 2:5] *= 0.3
    stripes = Dataset(X.reshape(60, -1), y, "stripes", image_size=(8, 12), channels=3)
    assert (
        answer_to(STATEMENTS[name], Setting("quick", stripes)).protocol.settings["data"]
        == "stripes"
    )
