"""Tests of audits against brute force: the step, the rank, and the limits of a budget."""

from typing import Any

import numpy as np
import pytest

from leadline import InputError, decoding

from .models import Hashed, everything, log_probs, select_items


def test_the_verdict_names_the_optimum_by_what_is_proved():
    """Without a proof the optimum is "a better one"; by another score it is "the best"."""
    problem = Hashed(4, 8, scale=0.2).problem()
    names_of_kind: dict[str, list[str]] = {}
    for score, calls in (
        (decoding.SumLogProb(), None),
        (decoding.SumLogProb(), 7),
        (decoding.GNMT(), None),
    ):
        decoded = decoding.beam_search(*problem, width=1, max_length=6, score=score)
        audit = decoding.audit(*problem, decoded, max_calls=calls)
        assert audit.outcome == ("search error",)
        figure: Any = audit.figure()
        names_of_kind[str(audit.verdict).partition("; ")[2].partition(" is")[0]] = [
            trace.name for trace in figure.data
        ]
    assert list(names_of_kind) == ["the most likely", "a better one", "the best"]
    assert [names[1] for names in names_of_kind.values()] == [
        "the most likely sequence",
        "a better sequence",
        "the best sequence",
    ]
    audit = decoding.audit(
        *problem, decoding.beam_search(*problem, width=64, max_length=6), max_calls=6
    )
    assert audit.outcome == ("unresolved",)
    drawn: Any = audit.figure()
    assert "likely" not in str(drawn.layout.title)


def test_a_lost_word_has_its_name_even_if_the_search_never_considered_it():
    worse = {f"word {i}": float(np.log(0.96 / 6)) for i in range(6)}
    after = {(word,): {f"word {i}": float(np.log(1 / 6)) for i in range(6)} for word in worse}
    table = decoding.Table({(): {**worse, "the end": float(np.log(0.04))}, **after})
    decoded = decoding.beam_search(
        *table.problem(), width=1, max_length=2, eos=table.token("the end")
    )
    audit = decoding.audit(*table.problem(), decoded)
    assert (audit.lost_step[0], audit.lost_rank[0]) == (1, 7)
    figure: Any = audit.figure()
    assert any("the end" in annotation.text for annotation in figure.layout.annotations)


def test_an_audit_refuses_samples_and_answers_with_other_settings():
    problem = Hashed(4, 8).problem(2)
    keys: dict[str, Any] = {"max_length": 3, "eos": 1}
    beam = decoding.beam_search(*problem, width=2, **keys)
    with pytest.raises(InputError, match="an answer by sampling without replacement"):
        decoding.audit(*problem, decoding.sample(*problem, num=2, replacement=False, **keys))
    with pytest.raises(
        InputError, match=r"2 prompts, max_length = 3.*instead of 3 prompts, max_length = 3"
    ):
        decoding.audit(*Hashed(4, 8).problem(3), beam)
    with pytest.raises(InputError, match=r"eos = \(1,\) instead of .*eos = \(\)"):
        decoding.exact_search(*problem, max_length=3, at_least=beam)
    with pytest.raises(InputError, match="instead of 2 prompts, max_length = 5"):
        decoding.exact_search(*problem, max_length=5, eos=1, at_least=beam)
    with pytest.raises(InputError, match=r"normalize = True, .* instead of .*normalize = False"):
        decoding.exact_search(*problem, **keys, normalize=False, at_least=beam)
    for wrong, text in (
        ([[0], [1]], "left out"),
        ([[1, 0, 1], [1]], "goes on after its end"),
        ([[0, 9, 1], [1]], "token 9"),
    ):
        with pytest.raises(InputError, match=text):
            decoding.audit(*problem, beam, reference=wrong)
    exhaustive = decoding.audit(*problem, decoding.exhaustive_search(*problem, **keys))
    assert exhaustive.outcome == ("optimal",) * 2
    masked = decoding.beam_search(*problem, width=2, **keys, processors=[decoding.forbid([2])])
    with pytest.raises(InputError, match=r"an answer under forbid(.|\n)*constrain"):
        decoding.audit(*problem, masked)
    assert (
        len(decoding.audit(*decoding.constrain(*problem, [decoding.forbid([2])]), masked).outcome)
        == 2
    )


@pytest.mark.parametrize(
    "score", [decoding.SumLogProb(), decoding.LengthNormalized(1.0), decoding.GNMT(0.5)]
)
@pytest.mark.parametrize("max_calls", [1, 3, None])
def test_an_audit_uses_the_certificate_of_the_answer(score, max_calls):
    """Bounds hold, are no looser than the beam's, and its proofs need no further call."""
    proved = 0
    for seed in range(12):
        problem = Hashed(4, seed, scale=0.5 + seed).problem()
        beam = decoding.beam_search(*problem, width=1 + seed % 6, max_length=4, eos=0, score=score)
        audit = decoding.audit(*problem, beam, max_calls=max_calls)
        best = max(float(score(p, len(x))) for x, p in everything(problem, 0, 4, 4, (0,)).items())
        optimum = audit.optimum
        assert max(optimum.score[0, 0], optimum.certificate.upper_bound[0]) >= best - 1e-9
        assert optimum.certificate.upper_bound[0] <= max(
            beam.certificate.upper_bound[0], beam.score[0, 0]
        )
        if beam.certificate.outcome == ("OPTIMAL",):
            proved += 1
            assert (audit.outcome, optimum.work.calls) == (("optimal",), 0)
        elif max_calls is None:
            assert audit.outcome == (
                "optimal" if beam.score[0, 0] >= best - 1e-9 else "search error",
            )
        # A certificate for another score proves nothing.
        alike = decoding.beam_search(
            *problem, width=6, max_length=4, eos=0, score=decoding.WordReward(0.1)
        )
        other = decoding.exact_search(*problem, max_length=4, eos=0, score=score, at_least=alike)
        assert other.score[0, 0] == pytest.approx(best, abs=1e-9)
    assert 0 < proved < 12


def test_an_item_is_unresolved_when_the_budget_runs_out():
    problem = Hashed(4, 8, scale=0.2).problem(2)
    decoded = decoding.beam_search(*problem, width=1, max_length=6)
    short = decoding.audit(*problem, decoded, max_calls=2)
    assert set(short.outcome) <= {"unresolved", "search error"}
    assert short.traces == (None, None), "a search was run again beyond the budget"
    full = decoding.audit(*problem, decoded)
    best = decoding.exhaustive_search(*problem, max_length=6)
    for item, outcome in enumerate(full.outcome):
        error = best.log_prob[item, 0] > decoded.log_prob[item, 0] + 1e-9
        assert outcome == ("search error" if error else "optimal")
        if error:
            optimum = best.hypotheses(item)[0].tokens
            assert full.optimum.hypotheses(item)[0].tokens == optimum
            repeated = decoding.beam_search(
                *select_items(problem, [item]), width=1, max_length=6, trace=True
            )
            step = int(full.lost_step[item])
            assert repeated.hypotheses()[0].tokens[: step - 1] == optimum[: step - 1]
            assert repeated.hypotheses()[0].tokens[:step] != optimum[:step]
            if full.width[item]:
                wide = decoding.beam_search(
                    *select_items(problem, [item]), width=int(full.width[item]), max_length=6
                )
                assert wide.hypotheses()[0].tokens == optimum
    assert "2 prompts" in str(full)
    assert full.figure(1).to_dict()["layout"]["shapes"]


def test_a_complete_sequence_can_lose_its_place_in_the_beam():
    """It ends at step 1. At step 2 another hypothesis has two better children, which end badly."""
    many = {chr(97 + i): -np.log(20) for i in range(20)}
    rows = {
        (): {"a": -0.1, ".": -2.4},
        ("a",): {"b": -0.7, "c": -0.7},
        ("a", "b"): many,
        ("a", "c"): many,
    }
    table = decoding.Table(rows)
    decoded = decoding.beam_search(
        *table.problem(), width=2, max_length=3, eos=table.token("."), eos_mode="in_beam"
    )
    audit = decoding.audit(*table.problem(), decoded)
    assert str(audit).endswith("the most likely is “.”, lost at step 2 at rank 3; width 3 keeps it")
    figures: list[Any] = [audit.at(step).figure() for step in (1, 2)]
    marked = [[a.text for a in figure.layout.annotations if "lost" in a.text] for figure in figures]
    assert marked == [[], ["lost at step 2"]]


@pytest.mark.parametrize(("eos", "eos_mode"), [((), "pool"), ((0, 3), "pool"), ((0, 3), "in_beam")])
def test_the_rank_of_a_lost_sequence_counts_all_candidates(eos, eos_mode):
    """Brute force confirms ranks beyond the recorded candidates, and ranks of the first step."""
    problem = Hashed(30, 7, scale=0.5).problem(batch=12)
    keys: dict[str, Any] = {"width": 2, "max_length": 2, "eos": eos, "eos_mode": eos_mode}
    audit = decoding.audit(*problem, decoding.beam_search(*problem, **keys), max_width=1)
    ranks: dict[int, list[int]] = {1: [], 2: []}
    for item in np.flatnonzero(audit.lost_step).tolist():
        step, target = int(audit.lost_step[item]), audit.optimum.hypotheses(item)[0].tokens
        first = log_probs(problem, item, ())
        totals: dict[tuple[int, ...], float] = {(token,): first[token] for token in range(30)}
        if step == 2:
            best = sorted(
                (t for t in totals if t[0] not in eos or eos_mode == "in_beam"),
                key=lambda t: -totals[t],
            )
            kept = [t for t in best[:2] if t[0] not in eos]
            ended = [totals[t] for t in best[:2] if t[0] in eos]
            totals = {
                (*t, w): totals[t] + p
                for t in kept
                for w, p in enumerate(log_probs(problem, item, t))
            }
            totals |= {(-1, i): value for i, value in enumerate(ended)}
        rank = sorted(totals, key=lambda t: -totals[t]).index(target[:step]) + 1
        assert audit.lost_rank[item] == rank
        ranks[step].append(rank)
    assert max(ranks[1]) > 3 + len(eos)


@pytest.mark.parametrize("max_calls", [1, 6, 12, 18, 60])
def test_the_budget_limits_all_calls_of_an_audit(max_calls):
    """Exact search uses the budget, and the explanation uses as many calls again."""
    problem = Hashed(4, 8, scale=0.2).problem()
    decoded = decoding.beam_search(*problem, width=1, max_length=6)
    step, state, start = problem
    calls = []

    def counted(tokens, state):
        calls.append(len(tokens))
        return step(tokens, state)

    audit = decoding.audit(counted, state, start, decoded, max_calls=max_calls)
    assert audit.optimum.work.calls <= max_calls
    assert len(calls) <= 2 * max_calls
    assert (audit.traces[0] is None) == (max_calls < 6)
