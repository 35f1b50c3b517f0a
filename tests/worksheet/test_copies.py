"""A criterion, a statement and a result stay equal after copying, pickling and saving."""

import copy
import pickle
from typing import Any

import pytest

from leadline import InputError, storage
from leadline.worksheet import (
    NEVER,
    STATEMENTS,
    Above,
    AllOf,
    AnyOf,
    Below,
    Criterion,
    Fact,
    Holds,
    Result,
    Within,
)

EFFECT_PARTS = (Above("a"), Above("a", -1.5), Below("b", 2), Within("c", -0.05, 0.05))
PARTS = (
    *EFFECT_PARTS,
    Holds("fact"),
    AllOf(Above("a"), Holds("fact")),
    AnyOf(Above("a"), Below("b")),
    AllOf(AnyOf(Above("a"), Below("b")), Holds("fact")),
    AnyOf(AllOf(Above("a"), Below("b")), Within("c", 0, 1)),
    AllOf(AnyOf(Above("a"))),
)
WRONG: Any = "gain"
RULES_AGAINST = (
    None,
    NEVER,
    AnyOf(),
    Below("a", -1),
    AllOf(Below("a"), Below("b")),
    Holds("other"),
)


def stored(value):
    arrays: dict = {}
    return storage.unpack(storage.pack(value, arrays), arrays)


COPIES = {
    "copy": copy.copy,
    "deep copy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "disk": stored,
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("part", PARTS, ids=str)
def test_copies_of_every_part_have_the_same_text(name, part):
    again = COPIES[name](part)
    assert again == part
    assert str(again) == str(part)
    assert repr(again) == repr(part)
    assert hash(again) == hash(part)


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("met", ["supported", "refuted"])
@pytest.mark.parametrize("against", RULES_AGAINST, ids=str)
@pytest.mark.parametrize("rule", PARTS, ids=str)
def test_copies_of_every_criterion_have_the_same_text(name, met, against, rule):
    criterion = Criterion(rule, met, against)
    again = COPIES[name](criterion)
    assert again == criterion
    assert str(again) == str(criterion)
    assert not str(again).endswith("if ")
    assert "if ;" not in str(again)


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_every_statement_have_the_same_text(name):
    for statement in STATEMENTS.values():
        again = COPIES[name](statement)
        assert again == statement
        assert str(again.criterion) == str(statement.criterion)


def test_any_copy_of_never_prints_undecided_otherwise():
    for copied in (AnyOf(), *(make(NEVER) for make in COPIES.values())):
        assert copied == NEVER
        assert (
            str(Criterion(Above("gain"), "refuted", copied))
            == "refuted if gain > 0; undecided otherwise"
        )


def test_a_pickled_result_prints_its_criterion():
    statement = STATEMENTS["ae.b"]
    result = pickle.loads(pickle.dumps(Result(statement, failure="a crash")))
    assert str(result.statement.criterion) == str(statement.criterion)
    assert str(statement.criterion).endswith("; undecided otherwise")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: AllOf(WRONG), "parts\\[0\\] must be a part of a criterion"),
        (lambda: AnyOf(Above("a"), parts=(Above("b"),)), "not both"),
        (lambda: Criterion(AllOf(), "supported"), "rule must name an effect or a fact"),
        (lambda: Criterion(NEVER, "refuted"), "rule must name an effect or a fact"),
        (lambda: Criterion(Above("a"), "undecided"), "met must be"),
        (lambda: Above("gain", float("nan")), "threshold must be a finite number"),
        (lambda: Within("gain", 1, 0), "low must be at most high"),
        (lambda: Above(""), "effect must be text"),
        (lambda: Fact("a fact", WRONG, "1", "1"), "holds must be True or False"),
    ],
)
def test_invalid_criteria_are_rejected(make, text):
    with pytest.raises(InputError, match=text):
        make()


@pytest.mark.parametrize("part", [*EFFECT_PARTS, Holds("fact")], ids=str)
def test_the_error_names_an_effect_or_fact_that_was_not_measured(part):
    with pytest.raises(InputError, match=r"must hold '.*', which the criterion names"):
        part.judge({}, {})
