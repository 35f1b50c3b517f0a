"""Tests of search-error rates against brute force; unresolved prompts are never dropped."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from leadline import InputError, decoding
from leadline.decoding import LengthNormalized, SumLogProb, WordReward
from leadline.decoding.judging._search_errors import clopper_pearson

from .models import Hashed, everything, slow_beam

WIDTHS = (1, 2, 3, 5)
M, T, B = 4, 4, 10


@cache
def truth(eos, score):
    """Return, per width and prompt, if brute force beats the slow beam, and the best score."""
    problem = Hashed(M, 5).problem(batch=B)
    best = np.array(
        [
            max(score(p, len(t)) for t, p in everything(problem, i, M, T, eos).items())
            for i in range(B)
        ]
    )
    scores = np.array(
        [
            [
                slow_beam(
                    problem, i, M, width=w, max_length=T, eos=eos, score=score, eos_mode="pool"
                )[0][0]
                for i in range(B)
            ]
            for w in WIDTHS
        ]
    )
    return scores < best - 1e-9, scores


@pytest.mark.parametrize("score", [SumLogProb(), LengthNormalized(1.0), WordReward(0.6)])
@pytest.mark.parametrize("eos", [(), (0,)])
def test_errors_equal_those_of_brute_force(eos, score):
    problem = Hashed(M, 5).problem(batch=B)
    errors = decoding.measure_search_errors(
        *problem, max_length=T, widths=WIDTHS[::-1], eos=eos, score=score, max_calls=None
    )
    is_error, scores = truth(eos, score)
    assert 0 < is_error.sum() < is_error.size
    assert errors.widths.tolist() == list(WIDTHS)
    assert np.array_equal(errors.is_error, is_error)
    assert not errors.is_unresolved.any()
    assert errors.score == pytest.approx(scores)
    greedy = decoding.greedy(*problem, max_length=T, eos=eos)
    greedy_scores = np.array(
        [score(h.log_prob, len(h.tokens)) for i in range(B) for h in greedy.hypotheses(i)]
    )
    shares = [
        ((scores > greedy_scores + 1e-9).mean(1)),
        (abs(scores - greedy_scores) <= 1e-9).mean(1),
        (scores < greedy_scores - 1e-9).mean(1),
    ]
    assert errors.against_greedy() == pytest.approx(np.stack(shares, axis=1))


@pytest.mark.parametrize("max_calls", [1, 2, 4, 8])
def test_a_small_budget_widens_the_range_around_the_true_rate(max_calls):
    problem = Hashed(M, 5).problem(batch=B)
    errors = decoding.measure_search_errors(
        *problem, max_length=T, widths=WIDTHS, max_calls=max_calls
    )
    is_error, _ = truth((), SumLogProb())
    assert not (errors.is_error & ~is_error).any(), "an error was charged that is none"
    assert not (is_error & ~errors.is_error & ~errors.is_unresolved).any(), "an error was dropped"
    proved, possible = errors.rates()
    assert (proved <= is_error.mean(1)).all()
    assert (is_error.mean(1) <= possible).all()
    for interval, low, high in zip(errors.intervals(), proved, possible, strict=True):
        assert interval.low <= low <= high <= interval.high
    if max_calls == 1:
        assert errors.is_unresolved.any()


def test_limits_equal_those_of_clopper_and_pearson():
    for successes, trials in ((0, 10), (3, 10), (10, 10), (57, 200)):
        known = binomtest(successes, trials).proportion_ci(0.9, "exact")
        assert clopper_pearson(successes, trials, 0.9) == pytest.approx((known.low, known.high))


def test_error_rates_have_a_table_and_can_be_saved_and_loaded(tmp_path):
    errors = decoding.measure_search_errors(
        *Hashed(M, 5).problem(batch=B), max_length=T, widths=WIDTHS, max_calls=2
    )
    table = errors.table()
    assert (table.errors + table.unresolved <= B).all()
    assert table[["beats_greedy", "equals_greedy", "loses_to_greedy"]].sum(
        axis=1
    ).to_numpy() == pytest.approx(1)
    assert str(errors).startswith(f"of {B} prompts, beam search errs with width 1 on ")
    figure: Any = errors.figure()
    assert max(figure.data[0].y) == pytest.approx(100 * errors.rates()[1].max())
    errors.save(tmp_path)
    assert decoding.SearchErrors.load(tmp_path).table().equals(table)


def test_measure_search_errors_refuses_bad_settings():
    problem = Hashed(M).problem()
    with pytest.raises(InputError, match="needs a width"):
        decoding.measure_search_errors(*problem, max_length=2, widths=())
    with pytest.raises(InputError, match=r"widths\[1\] = 0"):
        decoding.measure_search_errors(*problem, max_length=2, widths=(2, 0))
    nothing = decoding.Problem(
        lambda tokens, state: (torch.full((len(tokens), 3), -torch.inf), state),
        torch.zeros(1, 1),
        problem.start,
    )
    errors = decoding.measure_search_errors(*nothing, max_length=2, widths=(1,), normalize=False)
    assert errors.rates()[1].tolist() == [0.0]
