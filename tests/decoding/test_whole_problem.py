"""Functions take the three parts of a problem, or the whole problem."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from leadline import decoding
from leadline.errors import InputError

TABLE = decoding.Table(
    {(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1, "b": -2.4}}
)
PROBLEM = TABLE.problem()
ANSWER = decoding.greedy(*PROBLEM, max_length=2)

CALLS: dict[str, Callable[..., Any]] = {
    "beam_search": lambda *problem: decoding.beam_search(*problem, width=2, max_length=2),
    "greedy": lambda *problem: decoding.greedy(*problem, max_length=2),
    "sample": lambda *problem: decoding.sample(*problem, num=3, max_length=2, seed=0),
    "exact_search": lambda *problem: decoding.exact_search(*problem, max_length=2),
    "exhaustive_search": lambda *problem: decoding.exhaustive_search(*problem, max_length=2),
    "audit": lambda *problem: decoding.audit(*problem, ANSWER),  # pyright: ignore
    "measure_search_errors": lambda *problem: decoding.measure_search_errors(
        *problem, widths=[1, 2], max_length=2
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_whole_problem_gives_the_result_of_its_parts(name):
    whole = CALLS[name](PROBLEM)
    parts = CALLS[name](*PROBLEM)
    assert str(whole) == str(parts)
    assert whole.table().equals(parts.table())


def test_constrain_takes_a_whole_problem():
    processors = [decoding.forbid([TABLE.token("b")])]
    for problem in (
        decoding.constrain(PROBLEM, processors),
        decoding.constrain(PROBLEM, processors=processors),
        decoding.constrain(*PROBLEM, processors),
    ):
        answer = decoding.exact_search(problem, max_length=2)
        np.testing.assert_array_equal(answer.tokens[0, 0], [0, 0])


def test_audit_takes_the_answer_by_name():
    assert str(decoding.audit(PROBLEM, decoded=ANSWER)) == str(decoding.audit(*PROBLEM, ANSWER))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: decoding.beam_search(PROBLEM.step, width=1, max_length=2), "start must hold"),
        (lambda: decoding.audit(PROBLEM), "audit\\(\\) needs a problem and the result"),
        (lambda: decoding.constrain(PROBLEM), "processors must be a sequence of functions"),
    ],
)
def test_missing_parts_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
