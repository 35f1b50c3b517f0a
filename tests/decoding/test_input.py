"""Problems and settings that searches accept, and the errors for those that they refuse."""

from typing import Any

import numpy as np
import pytest
import torch

from leadline import InputError, decoding
from leadline.decoding import Problem

from .models import Hashed

SETTINGS = [
    ({"width": 0}, "width must be a whole number from 1 to 1000000"),
    ({"max_length": 0}, "max_length must be a whole number from 1 to 1000000"),
    ({"num_return": 3}, "num_return must be at most the width"),
    ({"eos": 4}, "eos must belong to the vocabulary"),
    ({"eos": [-1, 2]}, "eos = -1, vocabulary of 4 tokens"),
    ({"eos_mode": "both"}, "eos_mode must be 'pool' or 'in_beam'"),
    ({"width": 2.0}, "width must be a whole number(.|\\n)*got:   width = 2.0"),
    ({"max_length": "3"}, "max_length must be a whole number.*\n  got:   max_length = '3'"),
    ({"eos": [1.5]}, r"whole numbers\n  got:   eos = \[1.5\]"),
    ({"score": "sum"}, "got:   score = 'sum'"),
]


@pytest.mark.parametrize(("bad", "text"), SETTINGS)
def test_bad_settings_are_refused_by_name(bad, text):
    keys: dict[str, Any] = {"width": 2, "max_length": 3, **bad}
    with pytest.raises(InputError, match=text):
        decoding.beam_search(*Hashed(4).problem(), **keys)


def good(tokens, state):
    """A valid step function."""
    return torch.zeros(len(tokens), 4), state


class Changing:
    """A step function whose vocabulary grows at every call."""

    def __init__(self):
        self.M = 4

    def __call__(self, tokens, state):
        self.M += 1
        return torch.zeros(len(tokens), self.M), state


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (
            (good, torch.zeros(1, 1), torch.tensor([0.0])),
            "start is a tensor of shape \\(1,\\), float32",
        ),
        ((good, torch.zeros(1, 1), torch.tensor(0)), "shape \\(B,\\), int64"),
        ((good, torch.zeros(1, 1), torch.zeros(0, dtype=torch.int64)), "B at least 1"),
        (
            (good, {"h": [torch.zeros(2, 3)]}, torch.tensor([0])),
            r"state\['h'\]\[0\] has shape \(2, 3\)",
        ),
        ((good, {"h": object()}, torch.tensor([0])), r"state\['h'\] is a object"),
        ((Changing(), torch.zeros(1, 1), torch.tensor([0])), "M = 6 at call 2, M = 5 before"),
        (
            (lambda t, s: (torch.zeros(3, 4), s), torch.zeros(1, 1), torch.tensor([0])),
            "3 rows for 1 tokens, at call 1",
        ),
        (
            (lambda t, s: (torch.zeros(1, 1, 4), s), torch.zeros(1, 1), torch.tensor([0])),
            "keep|time axis",
        ),
        (
            (lambda t, s: good(t, s)[0], torch.zeros(1, 1), torch.tensor([0])),
            r"pair.*\n.*shape \(1, 4\)",
        ),
        ((lambda t, s: None, torch.zeros(1, 1), torch.tensor([0])), "a NoneType"),
        (
            (lambda t, s: (torch.zeros(1, 0), s), torch.zeros(1, 1), torch.tensor([0])),
            "a token or more",
        ),
        (
            (lambda t, s: (torch.zeros(1, 4).long(), s), torch.zeros(1, 1), torch.tensor([0])),
            "int64",
        ),
        (
            (lambda t, s: (good(t, s)[0], s[:0]), torch.zeros(1, 1), torch.tensor([0])),
            r"state has shape \(0, 1\)",
        ),
    ],
)
def test_a_problem_that_breaks_the_contract_is_refused(problem, text):
    with pytest.raises(InputError, match=text):
        decoding.beam_search(*problem, width=2, max_length=3)


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        (torch.zeros(1, 4), "1 rows for 2 tokens, at call 2"),
        (torch.zeros(1, 4).long(), "int64"),
        (None, "a NoneType"),
    ],
)
def test_broken_contracts_are_refused_behind_processors_too(scores, text):
    problem = Problem(lambda tokens, state: (scores, state), torch.zeros(1, 1), torch.tensor([0]))
    with pytest.raises(InputError, match=text):
        decoding.beam_search(
            *problem, width=2, max_length=3, processors=[decoding.no_repeat_ngram(1)]
        )
    with pytest.raises(InputError, match=r"shape \(B,\), int64"):
        decoding.constrain(problem.step, problem.state, torch.tensor(0), [decoding.forbid([1])])


class Named:
    """A state of words, with ``select()`` in place of tensors."""

    def __init__(self, words):
        self.words = words

    def select(self, index):
        return Named([self.words[i] for i in index.tolist()])


class Joined(Named):
    """The same with ``concat()``, which exact search needs."""

    def select(self, index):
        return Joined(super().select(index).words)

    @classmethod
    def concat(cls, states):
        return cls([word for state in states for word in state.words])


@pytest.mark.parametrize("kind", [Named, Joined])
def test_an_object_with_select_is_a_valid_state(kind):
    def step(tokens, state):
        words = [(*word, token) for word, token in zip(state.words, tokens.tolist(), strict=True)]
        return torch.tensor(
            [[hash((*word, i)) % 101 / 99 for i in range(4)] for word in words]
        ), kind(words)

    problem = Problem(step, kind([(), ()]), torch.tensor([1, 2]))
    exhaustive = decoding.exhaustive_search(*problem, max_length=4)
    wide = decoding.beam_search(*problem, width=64, max_length=4)
    assert wide.log_prob[:, 0] == pytest.approx(exhaustive.log_prob[:, 0], abs=1e-6)
    if kind is Joined:
        exact = decoding.exact_search(*problem, max_length=4, batch=2)
        assert exact.log_prob[:, 0] == pytest.approx(exhaustive.log_prob[:, 0], abs=1e-6)
    else:
        with pytest.raises(
            InputError,
            match=r"Named, which has no concat\n.*concat\(states\) in addition to select\(index\)",
        ):
            decoding.exact_search(*problem, max_length=4, batch=2)


def test_end_tokens_may_be_numbers_arrays_or_sets_and_scores_may_require_gradients():
    table = torch.nn.Parameter(torch.arange(4.0)[None])
    problem = Problem(lambda tokens, state: (table, state), torch.zeros(1, 1), torch.tensor([0]))
    for eos in (np.int64(3), torch.tensor(3), [torch.tensor(3)], np.array([3]), {3}):
        decoded = decoding.beam_search(*problem, width=1, max_length=2, eos=eos)  # pyright: ignore[reportArgumentType]
        assert decoded.hypotheses()[0].tokens == (3,)


def test_bad_limits_temperatures_scores_and_tables_are_refused():
    with pytest.raises(InputError, match="at most limit = 1000"):
        decoding.exhaustive_search(*Hashed(10).problem(), max_length=4, limit=1000)
    for temperature in (0.0, np.inf, np.nan):
        with pytest.raises(InputError, match=f"temperature = {temperature}"):
            decoding.sample(*Hashed(10).problem(), num=1, max_length=4, temperature=temperature)
    for make in (decoding.LengthNormalized, decoding.GNMT, decoding.WordReward):
        with pytest.raises(InputError, match=rf"a finite number.*\n.*{make.__name__}\(\w+=nan\)"):
            make(np.nan)
    with pytest.raises(InputError, match="alpha=1000"):
        decoding.LengthNormalized(1000.0)
    with pytest.raises(InputError, match="1 empty rows"):
        decoding.Table({(): {}})
    with pytest.raises(InputError, match="must be a log-probability: at most 0"):
        decoding.Table({(): {"a": 0.5}})
    with pytest.raises(InputError, match="row for the start"):
        decoding.Table({("a",): {"a": -0.5}})
    table = decoding.Table({(): {"a": -0.1}})
    with pytest.raises(InputError, match=r"'b', not in \('a',\)"):
        table.token("b")
    with pytest.raises(InputError, match=r"no row for \('a',\)"):
        decoding.greedy(*table.problem(), max_length=2)
