"""``beam.e``: counted comparisons of a search, as shares of the course's bound and of ours."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from leadline.decoding.problem import _work as work
from leadline.worksheet import STATEMENTS, Answer, Setting, measure
from leadline.worksheet._setting import Budget
from leadline.worksheet.measurements import cost


@pytest.fixture(autouse=True)
def small_sweep(monkeypatch: pytest.MonkeyPatch):
    sweep = {"lengths": (2, 4), "widths": (1, 2, 8), "vocabularies": (8, 60, 250)}
    monkeypatch.setattr(cost, "SWEEP", sweep)


def answer_to_cost(budget: Budget = "quick") -> Answer:
    result = measure(STATEMENTS["beam.e"], Setting(budget))
    assert result.answer is not None, result.failure
    return result.answer


def shares_of(answer: Answer) -> cost.Shares:
    shares = answer.soundings["shares"]
    assert isinstance(shares, cost.Shares)
    return shares


def traces_of(answer: Answer) -> list[Any]:
    return list(answer.figure().data)


def check_that_all_show_the_same(answer: Answer) -> None:
    """Compare shares in verdict, facts, table and figure with those computed from the counts."""
    counted = shares_of(answer).counted
    T, k, M = counted.T, counted.k, counted.M
    sorting = counted.candidates * np.log2(M)
    expected = (
        sorting / (T * k * M * np.log2(M)),
        counted.comparisons / (T * (k * M + cost.RANKING * k**2 * np.log2(np.maximum(k, 2)))),
        counted.comparisons / sorting,
    )
    table = shares_of(answer).table()
    drawn = traces_of(answer)
    assert len(drawn) == len(expected)
    for column, trace, values in zip(table.columns[-3:], drawn, expected, strict=True):
        np.testing.assert_allclose(table[column], values, rtol=1e-12)
        np.testing.assert_allclose(trace.y, values, rtol=1e-12)
    of_course, of_ours, of_sorting = expected
    phrases = (
        f"at most {cost.share(of_course.max())} of T k M log M",
        f"at most {cost.share(of_ours.max())} of T (k M + 4 k² log k)",
        f"fewer than sorting in {(of_sorting < 1).sum()} of {len(T)}.",
    )
    assert all(text in answer.sentence for text in phrases)
    names = [trace.name for trace in drawn]
    assert any("T k M log M" in name for name in names)
    assert any("T (k M + 4 k² log k)" in name for name in names)
    facts = answer.facts
    assert facts["within_the_course_bound"].measured.startswith(
        f"at most {cost.share(of_course.max())} of the bound"
    )
    assert facts["within_our_bound"].measured == f"at most {cost.share(of_ours.max())} of the bound"
    assert facts["fewer_than_sorting"].measured == f"in {(of_sorting < 1).sum()} of {len(T)} cases"
    assert facts["within_our_bound"].holds == bool((of_ours <= 1).all())


def test_verdict_facts_table_and_figure_show_the_same_shares():
    answer = answer_to_cost()
    check_that_all_show_the_same(answer)
    assert max(trace.y.max() for trace in traces_of(answer) if ", of T" in trace.name) <= 1


def test_all_show_the_same_shares_if_a_bound_is_exceeded(monkeypatch: pytest.MonkeyPatch):
    read = work.Meter.read

    def ranked_more(meter):
        meter.ranked *= 3
        return read(meter)

    monkeypatch.setattr(work.Meter, "read", ranked_more)
    answer = answer_to_cost()
    check_that_all_show_the_same(answer)
    assert shares_of(answer).of_our_bound.max() > 1


def test_a_share_just_above_the_bound_is_not_rounded_to_it():
    counted = shares_of(answer_to_cost()).counted
    factor = (1 + 1e-5) / cost.Shares(counted.protocol, counted).of_our_bound.max()
    beyond = cost.Shares(
        counted.protocol, replace(counted, comparisons=counted.comparisons * factor)
    )
    assert "at most 1.00001 of T (k M" in str(beyond)


WRONG = {
    "counts rows twice": (
        "called",
        lambda meter, rows, M: setattr(meter, "candidates", meter.candidates + 2 * rows * M),
    ),
    "forgets the last row": (
        "called",
        lambda meter, rows, M: setattr(meter, "candidates", meter.candidates + (rows - 1) * M),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_counter_refutes_the_statement(name, monkeypatch: pytest.MonkeyPatch):
    method, wrong = WRONG[name]
    monkeypatch.setattr(work.Meter, method, wrong)
    assert answer_to_cost().verdict.outcome == "refuted"


def test_a_search_that_ranks_too_much_exceeds_only_our_bound(
    monkeypatch: pytest.MonkeyPatch,
):
    read = work.Meter.read

    def ranked_more(meter):
        meter.ranked *= 3
        return read(meter)

    monkeypatch.setattr(work.Meter, "read", ranked_more)
    answer = answer_to_cost()
    assert answer.facts["within_the_course_bound"].holds
    assert not answer.facts["within_our_bound"].holds
    assert answer.verdict.outcome == "refuted"


def test_the_constant_of_our_bound_is_large_enough():
    for k in range(2, 400):
        ranked = k * (k + 1)
        assert ranked * np.log2(ranked) <= cost.RANKING * k**2 * np.log2(k)


def test_only_the_full_budget_reports_wall_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cost, "_wall_time", lambda: "a clock was read")
    assert "a clock was read" not in answer_to_cost().findings
    assert "a clock was read" in answer_to_cost("full").findings
