"""Every search is compared with brute force, with other searches and with closed forms."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline import InputError, decoding
from leadline.decoding import GNMT, LengthNormalized, SumLogProb, WordReward

from .models import Hashed, everything, log_probs, markov, slow_beam, viterbi

SCORES = [
    SumLogProb(),
    LengthNormalized(1.0),
    LengthNormalized(-0.5),
    GNMT(0.8),
    WordReward(0.7),
    WordReward(-0.4),
]
scores = st.sampled_from(SCORES)
cases = st.fixed_dictionaries(
    {
        "M": st.integers(2, 4),
        "T": st.integers(1, 4),
        "seed": st.integers(0, 10_000),
        "eos": st.sampled_from([(), (0,), (0, 1)]),
        "levels": st.sampled_from([None, 3]),
    }
)


def best_first(log_prob_of, score):
    """Return all sequences with their scores, best first."""
    return sorted(
        ((score(log_prob, len(tokens)), tokens) for tokens, log_prob in log_prob_of.items()),
        reverse=True,
    )


@settings(max_examples=40)
@given(cases, scores, st.integers(1, 5), st.sampled_from(["pool", "in_beam"]))
def test_beam_search_equals_the_slow_reference(case, score, width, eos_mode):
    M, T, eos = case["M"], case["T"], case["eos"]
    problem = Hashed(M, case["seed"], levels=case["levels"]).problem(batch=2)
    keys: dict[str, Any] = {
        "width": width,
        "max_length": T,
        "eos": eos,
        "score": score,
        "eos_mode": eos_mode,
    }
    decoded = decoding.beam_search(*problem, **keys, num_return=width)
    for item in range(2):
        slow = slow_beam(problem, item, M, **keys)[:width]
        hypotheses = decoded.hypotheses(item)
        assert [h.tokens for h in hypotheses] == [tokens for _, tokens, _ in slow]
        assert [h.score for h in hypotheses] == pytest.approx([s for s, _, _ in slow], abs=1e-9)
        assert [h.log_prob for h in hypotheses] == pytest.approx(
            [total for _, _, total in slow], abs=1e-9
        )
    assert np.allclose(
        decoded.token_log_prob.sum(-1)[decoded.lengths > 0], decoded.log_prob[decoded.lengths > 0]
    )


@settings(max_examples=40)
@given(cases, scores, st.integers(1, 4), st.sampled_from(["pool", "in_beam"]))
def test_certificates_agree_with_brute_force(case, score, width, eos_mode):
    """A certified answer is optimal, and no optimum exceeds the bound."""
    M, T, eos = case["M"], case["T"], case["eos"]
    problem = Hashed(M, case["seed"], levels=case["levels"]).problem()
    decoded = decoding.beam_search(
        *problem,
        width=width,
        max_length=T,
        eos=eos,
        score=score,
        eos_mode=eos_mode,
        num_return=width,
    )
    certificate, truth = decoded.certificate, best_first(everything(problem, 0, M, T, eos), score)
    best = decoded.hypotheses()[0].score
    assert truth[0][0] <= max(best, certificate.upper_bound[0]) + 1e-9
    assert truth[0][0] <= best + certificate.gap[0] + 1e-9
    if certificate.outcome[0] == "OPTIMAL":
        assert best == pytest.approx(truth[0][0], abs=1e-9)
    proved = [h.score for h in decoded.hypotheses()][: certificate.proved[0]]
    assert proved == pytest.approx([s for s, _ in truth][: len(proved)], abs=1e-9)


@settings(max_examples=40)
@given(cases, scores, st.integers(1, 3), st.integers(1, 7))
def test_exact_search_equals_brute_force(case, score, num, batch):
    M, T, eos = case["M"], case["T"], case["eos"]
    problem = Hashed(M, case["seed"], levels=case["levels"]).problem()
    truth = everything(problem, 0, M, T, eos)
    decoded = decoding.exact_search(
        *problem, max_length=T, eos=eos, score=score, num_return=num, batch=batch
    )
    ranked = best_first(truth, score)[:num]
    assert [h.score for h in decoded.hypotheses()] == pytest.approx(
        [s for s, _ in ranked], abs=1e-9
    )
    assert all(truth[h.tokens] == pytest.approx(h.log_prob, abs=1e-9) for h in decoded.hypotheses())
    assert decoded.certificate.outcome == ("OPTIMAL",)
    lengths = decoding.exact_search(*problem, max_length=T, eos=eos, per_length=True, batch=batch)
    by_length = {
        len(tokens): max(v for k, v in truth.items() if len(k) == len(tokens)) for tokens in truth
    }
    assert {
        len(h.tokens): pytest.approx(h.log_prob, abs=1e-9) for h in lengths.hypotheses()
    } == by_length


@settings(max_examples=25)
@given(cases)
def test_exhaustive_search_finds_all_probability(case):
    M, T, eos = case["M"], case["T"], case["eos"]
    problem = Hashed(M, case["seed"], levels=case["levels"]).problem(batch=2)
    decoded = decoding.exhaustive_search(*problem, max_length=T, eos=eos)
    assert np.exp(decoded.log_prob).sum(1) == pytest.approx(1, abs=1e-9)
    for item in range(2):
        truth = everything(problem, item, M, T, eos)
        assert {
            h.tokens: pytest.approx(h.log_prob, abs=1e-9) for h in decoded.hypotheses(item)
        } == truth


@settings(max_examples=25)
@given(cases, scores, st.sampled_from(["pool", "in_beam"]))
def test_a_wide_beam_and_exact_search_find_the_best_of_all_sequences(case, score, eos_mode):
    M, T, eos = case["M"], case["T"], case["eos"]
    problem = Hashed(M, case["seed"]).problem()
    wide = decoding.beam_search(
        *problem, width=M ** max(1, T - 1), max_length=T, eos=eos, score=score, eos_mode=eos_mode
    )
    exact = decoding.exact_search(*problem, max_length=T, eos=eos, score=score)
    exhaustive = decoding.exhaustive_search(*problem, max_length=T, eos=eos)
    best = max(score(h.log_prob, len(h.tokens)) for h in exhaustive.hypotheses())
    assert wide.hypotheses()[0].score == pytest.approx(best, abs=1e-9)
    assert exact.hypotheses()[0].score == pytest.approx(best, abs=1e-9)


@settings(max_examples=25)
@given(cases, st.sampled_from(["pool", "in_beam"]))
def test_a_beam_of_width_one_equals_greedy_search(case, eos_mode):
    M, T, eos = case["M"], case["T"], case["eos"]
    problem = Hashed(M, case["seed"], levels=case["levels"]).problem(batch=3)
    greedy = decoding.greedy(*problem, max_length=T, eos=eos)
    beam = decoding.beam_search(*problem, width=1, max_length=T, eos=eos, eos_mode=eos_mode)
    assert np.array_equal(greedy.tokens, beam.tokens)
    assert np.array_equal(greedy.log_prob, beam.log_prob)


@pytest.mark.parametrize("end", [None, 0])
def test_exact_search_equals_viterbi_on_large_trees(end):
    """A Markov model with 20 tokens and 12 steps has 4e15 sequences, too many for brute force."""
    problem, table = markov(20, seed=3)
    truth = viterbi(table, 12, end)
    exact = decoding.exact_search(*problem, max_length=12, eos=end)
    assert exact.certificate.outcome == ("OPTIMAL",)
    assert exact.log_prob[0, 0] == pytest.approx(max(truth.values()), abs=1e-9)


def test_exact_search_per_length_equals_viterbi():
    problem, table = markov(8, seed=5)
    truth = viterbi(table, 7, end=2)
    exact = decoding.exact_search(*problem, max_length=7, eos=2, per_length=True)
    assert {len(h.tokens): h.log_prob for h in exact.hypotheses()} == pytest.approx(truth, abs=1e-9)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([4, 16, 64]), st.sampled_from([0.5, 2.0]))
def test_exact_search_expands_few_unnecessary_prefixes(seed, batch, scale):
    """It expands the prefixes above the optimum and at most ``batch * max_length`` others."""
    M, T = 4, 6
    problem = Hashed(M, seed, scale).problem()
    exact = decoding.exact_search(*problem, max_length=T, batch=batch)
    optimum = exact.log_prob[0, 0]
    exhaustive = decoding.exhaustive_search(*problem, max_length=T)
    assert optimum == pytest.approx(exhaustive.log_prob[0, 0], abs=1e-9)
    prefixes = {}
    for h, cumulative in zip(
        exhaustive.hypotheses(), exhaustive.token_log_prob[0].cumsum(-1), strict=True
    ):
        for t in range(1, T):
            prefixes[h.tokens[:t]] = cumulative[t - 1]
    above = 1 + sum(
        cumulative > optimum for cumulative in prefixes.values()
    )  # 1 is the empty prefix
    assert exact.work.rows <= above + batch * T


def test_exact_search_without_enough_budget_returns_a_valid_bound():
    problem = Hashed(4, 1, scale=0.3).problem()
    truth = decoding.exhaustive_search(*problem, max_length=6).log_prob[0, 0]
    bounds = []
    for calls in (1, 6, 8, 12, 20):
        exact = decoding.exact_search(*problem, max_length=6, batch=4, max_calls=calls)
        assert exact.work.calls <= calls
        upper = exact.certificate.upper_bound[0]
        lower = exact.log_prob[0, 0] if exact.lengths.size else -np.inf
        assert lower <= truth + 1e-9
        assert truth <= max(lower, upper) + 1e-9
        bounds.append(upper)
    assert sorted(bounds, reverse=True) == bounds
    starved = decoding.exact_search(*problem, max_length=6, batch=4, max_bytes=1)
    assert starved.certificate.outcome == ("GAP",)


def test_exact_search_per_length_without_enough_budget_returns_a_valid_gap():
    problem = Hashed(4, 1, scale=0.3).problem()
    truth: dict[int, float] = {}
    for tokens, log_prob in everything(problem, 0, 4, 5, (0,)).items():
        truth[len(tokens)] = max(log_prob, truth.get(len(tokens), -np.inf))
    proofs = set()
    for calls in (1, 3, 5, 6, 7, 8, 20, None):
        keys: dict[str, Any] = {
            "max_length": 5,
            "eos": 0,
            "per_length": True,
            "batch": 4,
            "max_calls": calls,
        }
        exact = decoding.exact_search(*problem, **keys)
        log_prob_of_length = {len(h.tokens): h.log_prob for h in exact.hypotheses()}
        short = max(
            best - log_prob_of_length.get(length, -np.inf) for length, best in truth.items()
        )
        assert short <= exact.certificate.gap[0] + 1e-9
        proofs |= set(exact.certificate.outcome)
        if exact.certificate.outcome == ("OPTIMAL",):
            assert log_prob_of_length == pytest.approx(truth, abs=1e-9)
    assert proofs == {"GAP", "OPTIMAL"}
    with pytest.raises(InputError, match="every length are compared by log-probability"):
        decoding.exact_search(*problem, max_length=5, per_length=True, score=LengthNormalized(1.0))


def test_exact_search_never_returns_less_than_an_earlier_answer():
    problem = Hashed(4, 1, scale=0.3).problem()
    beam = decoding.beam_search(*problem, width=4, max_length=6, num_return=3)
    exact = decoding.exact_search(*problem, max_length=6, at_least=beam, max_calls=1)
    assert exact.hypotheses()[0].tokens == beam.hypotheses()[0].tokens
    proved = decoding.exact_search(*problem, max_length=6, at_least=beam)
    fresh = decoding.exact_search(*problem, max_length=6)
    assert proved.log_prob[0, 0] == pytest.approx(fresh.log_prob[0, 0], abs=1e-9)
    assert proved.work.rows <= fresh.work.rows
    problem = Hashed(9, 1).problem()
    keys: dict[str, Any] = {"max_length": 6, "eos": 1, "per_length": True, "batch": 4}
    exact = decoding.exact_search(*problem, **keys)
    repeated = decoding.exact_search(*problem, **keys, at_least=exact)
    assert repeated.log_prob == pytest.approx(exact.log_prob, abs=1e-9)
    assert repeated.work.rows <= exact.work.rows
    starved = decoding.exact_search(*problem, **keys, at_least=exact, max_calls=1)
    assert {h.tokens for h in starved.hypotheses()} == {h.tokens for h in exact.hypotheses()}


def test_stopping_early_does_not_change_the_result():
    """The same score without a bound runs to the end: the same answers, and more work."""

    class Unbounded(LengthNormalized):
        bounded = False

    less = 0
    for seed in range(25):
        problem = Hashed(5, seed, scale=3.0).problem(batch=3)
        keys: dict[str, Any] = {"width": 3, "max_length": 12, "eos": 1, "num_return": 2}
        stopped = decoding.beam_search(*problem, **keys, score=LengthNormalized(0.6))
        full = decoding.beam_search(*problem, **keys, score=Unbounded(0.6))
        assert np.array_equal(stopped.tokens, full.tokens)
        assert full.certificate.outcome[0] == "NOT_APPLICABLE"
        assert "Unbounded has no bound" in full.certificate.reason
        less += stopped.work.rows < full.work.rows
    assert less > 0


def narrowed(log_prob, temperature=1.0, top_k=3, top_p=1.0):
    """Return the distribution of the next token after temperature, top_k and top_p."""
    p = np.exp(log_prob / temperature)
    order = np.argsort(-log_prob)
    p[order[top_k:]] = 0
    p /= p.sum()
    taken = 0.0
    for token in order:
        if taken >= top_p:
            p[token] = 0
        taken += p[token]
    return p / p.sum()


@pytest.mark.parametrize(
    "keys", [{}, {"top_k": 2}, {"top_p": 0.7}, {"temperature": 2.0, "top_p": 0.8}]
)
def test_samples_follow_the_distribution(keys):
    problem = Hashed(3, 4, scale=1.0).problem()
    truth = everything(problem, 0, 3, 3, (0,))
    drawn = decoding.sample(*problem, num=6000, max_length=3, eos=0, seed=3, **keys)
    assert len(drawn.hypotheses()) == 6000
    share: dict[tuple[int, ...], float] = dict.fromkeys(truth, 0.0)
    for h in drawn.hypotheses():
        share[h.tokens] += 1 / 6000
        assert h.log_prob == pytest.approx(truth[h.tokens], abs=1e-9)
    for tokens in truth:
        p = np.prod(
            [
                narrowed(log_probs(problem, 0, tokens[:t]), **keys)[token]
                for t, token in enumerate(tokens)
            ]
        )
        assert share[tokens] == pytest.approx(p, abs=5 * np.sqrt(p / 6000) + 1e-3)


def test_samples_without_replacement_differ_and_have_the_right_distribution():
    problem = Hashed(3, 4, scale=1.0).problem(batch=1)
    truth = everything(problem, 0, 3, 3, (0,))
    step, state, start = problem
    many = decoding.Problem(step, {"hash": state["hash"].repeat(3000)}, start.repeat(3000))
    drawn = decoding.sample(*many, num=4, max_length=3, eos=0, replacement=False, seed=1)
    first = dict.fromkeys(truth, 0.0)
    pairs = dict.fromkeys(itertools.permutations(truth, 2), 0.0)
    for item in range(3000):
        sequences = [h.tokens for h in drawn.hypotheses(item)]
        assert len(set(sequences)) == 4
        first[sequences[0]] += 1 / 3000
        pairs[sequences[0], sequences[1]] += 1 / 3000
    p = {tokens: float(np.exp(log_prob)) for tokens, log_prob in truth.items()}
    right = {(x, y): p[x] * p[y] / (1 - p[x]) for x, y in pairs}
    for measured, expected in ((first, p), (pairs, right)):
        for which, share in expected.items():
            assert measured[which] == pytest.approx(share, abs=5 * np.sqrt(share / 3000) + 1e-3), (
                which
            )
    sampled = decoding.sample(*problem, num=50, max_length=3, eos=0, replacement=False, seed=1)
    assert {h.tokens for h in sampled.hypotheses()} == set(truth)


def test_samples_depend_on_top_k_top_p_temperature_and_seed():
    problem = Hashed(6, 2).problem(batch=2)
    keys: dict[str, Any] = {"num": 40, "max_length": 5}
    greedy = decoding.greedy(*problem, max_length=5).tokens[:, 0]
    narrower: list[dict[str, Any]] = [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-3}]
    for narrow in narrower:
        assert np.array_equal(
            decoding.sample(*problem, **keys, **narrow, seed=1).tokens[:, 0], greedy
        )
    first, repeated, other_seed = (
        decoding.sample(*problem, **keys, seed=seed).tokens for seed in (1, 1, 2)
    )
    assert np.array_equal(first, repeated)
    assert not np.array_equal(first, other_seed)
    step, state, start = problem
    single = decoding.sample(step, {"hash": state["hash"][:1]}, start[:1], **keys, seed=1)
    assert np.array_equal(single.tokens[0], first[0])


def test_beam_search_breaks_ties_by_parent_and_then_by_token():
    def step(tokens, state):
        return torch.zeros(len(tokens), 5), state

    problem = decoding.Problem(step, torch.zeros(1, 1), torch.tensor([0]))
    decoded = decoding.beam_search(*problem, width=3, max_length=2, num_return=3)
    assert decoded.tokens[0].tolist() == [[0, 0], [0, 1], [0, 2]]
    flat = decoding.Problem(
        lambda t, s: (torch.zeros(len(t), 9000), s), torch.zeros(1, 1), torch.tensor([0])
    )
    wide = decoding.beam_search(*flat, width=4, max_length=1, num_return=4)
    assert wide.tokens[0, :, 0].tolist() == [0, 1, 2, 3]


@settings(max_examples=25)
@given(
    st.sampled_from([4096, 4099, 5000]),
    st.integers(1, 6),
    st.integers(0, 10_000),
    st.sampled_from([(), (7,), (7, 9)]),
    st.sampled_from([None, 3, 500]),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
    scores,
)
def test_skipping_tokens_of_wide_rows_does_not_change_the_result(
    M, width, seed, eos, levels, normalized, dtype, score
):
    """A trace reads the best tokens of every row; without a trace, the reader skips tokens that
    cannot be among the best of their item. The results are equal bit for bit.
    """
    problem = Hashed(M, seed, levels=levels, normalized=normalized, dtype=dtype).problem(batch=3)
    keys: dict[str, Any] = {
        "width": width,
        "max_length": 4,
        "eos": eos,
        "score": score,
        "num_return": width,
    }
    short = decoding.beam_search(*problem, **keys)
    full = decoding.beam_search(*problem, **keys, trace=True)
    for name in ("tokens", "lengths", "log_prob", "score", "token_log_prob", "finished"):
        assert np.array_equal(getattr(short, name), getattr(full, name)), name
    assert np.array_equal(short.certificate.upper_bound, full.certificate.upper_bound)
    assert short.certificate.outcome == full.certificate.outcome


@pytest.mark.parametrize("normalized", [False, True])
def test_wide_rows_may_contain_masks_but_not_nan(normalized):
    """There are fewer tokens than places; later, a single score is NaN."""
    table = torch.full((3, 5000), -torch.inf)
    table[0, [3, 4990]] = torch.tensor([-0.5, -1.0])
    table[1, [2, 4999]] = torch.tensor([-0.2, -2.0])
    table[2] = -9.0

    def step(tokens, state):
        return table[state[:, 0]], (state + 1).clamp_(max=2)

    step.normalized = normalized  # pyright: ignore[reportFunctionMemberAccess]
    problem = decoding.Problem(step, torch.zeros(2, 1, dtype=torch.int64), torch.tensor([0, 0]))
    decoded = decoding.beam_search(*problem, width=6, max_length=2, num_return=6)
    assert [h.tokens for h in decoded.hypotheses(1)] == [(3, 2), (4990, 2), (3, 4999), (4990, 4999)]
    table[2, 4444] = torch.nan
    with pytest.raises(InputError, match=r"NaN or .inf at step 3, item 0, hypothesis 0"):
        decoding.beam_search(*problem, width=2, max_length=3)
