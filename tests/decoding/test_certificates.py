"""Certificates with unusual scores, masks, unnormalised rows, n-best lists and batches."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline import InputError, decoding
from leadline.decoding import LengthNormalized, Problem, Score
from leadline.decoding.answers._scores import why_unbounded
from leadline.decoding.search._sampling import proposal

from .models import Hashed, everything


@dataclass(frozen=True)
class ByLength(Score):
    """The log-probability plus a bonus for each length."""

    bonus: tuple[float, ...]

    def __call__(self, log_prob: Any, length: Any) -> Any:
        return log_prob + np.asarray(self.bonus)[length - 1]


@dataclass(frozen=True)
class Wide(ByLength):
    """The same score with its own valid bound."""

    def bound(self, log_prob: Any, shortest: int, longest: int) -> Any:
        return log_prob + max(self.bonus[shortest - 1 : longest])


@dataclass(frozen=True)
class Mixed(Score):
    """A score whose best length depends on the log-probability."""

    def __call__(self, log_prob: Any, length: Any) -> Any:
        return log_prob / length - 0.5 * length


@dataclass(frozen=True)
class Falling(Score):
    """A score that prefers less likely sequences."""

    def __call__(self, log_prob: Any, length: Any) -> Any:
        return -log_prob * length


@settings(max_examples=40)
@given(
    bonus=st.lists(st.integers(-6, 6).map(lambda n: n / 2), min_size=4, max_size=4),
    seed=st.integers(0, 999),
    width=st.integers(1, 3),
    eos_mode=st.sampled_from(["pool", "in_beam"]),
)
def test_certificates_of_scores_of_any_shape_agree_with_brute_force(bonus, seed, width, eos_mode):
    """A certified answer is optimal; monotone scores and valid bounds are certified."""
    problem = Hashed(3, seed).problem()
    truth = everything(problem, 0, 3, 4, (0,))
    for kind in (ByLength, Wide):
        score = kind(tuple(bonus))
        best = max(float(score(log_prob, len(tokens))) for tokens, log_prob in truth.items())
        keys: dict[str, Any] = {"max_length": 4, "eos": 0, "score": score}
        decoded = decoding.beam_search(*problem, width=width, eos_mode=eos_mode, **keys)
        outcome = decoded.certificate.outcome[0]
        is_bounded = kind is Wide or sorted(bonus) in (bonus, bonus[::-1])
        assert (outcome != "NOT_APPLICABLE") == is_bounded
        if outcome == "OPTIMAL":
            assert decoded.score[0, 0] == pytest.approx(best, abs=1e-9)
        elif outcome == "NOT_APPLICABLE":
            assert "not monotone in the length" in str(decoded.certificate)
            with pytest.raises(InputError, match=r"score with a bound(.|\n)*not monotone"):
                decoding.exact_search(*problem, **keys)
        if is_bounded:
            exact = decoding.exact_search(*problem, **keys)
            assert exact.score[0, 0] == pytest.approx(best, abs=1e-9)


def test_invalid_bounds_are_detected():
    assert why_unbounded(Mixed(), 12) == "Mixed is not monotone in the length"
    assert "falls where the log-probability rises" in why_unbounded(Falling(), 3)
    assert why_unbounded(ByLength((0.0, 0.0, 0.0)), 3) == ""
    problem = Hashed(3, 1).problem()
    assert (
        decoding.beam_search(*problem, width=2, max_length=9, score=Mixed()).certificate.outcome[0]
        != "OPTIMAL"
    )


@pytest.mark.parametrize("alpha", [10**30, "1", None, float("nan"), [1.0], True])
def test_exponents_that_are_not_finite_numbers_are_refused(alpha):
    for kind in (LengthNormalized, decoding.GNMT):
        with pytest.raises(
            InputError, match=rf"alpha must be a finite number(.|\n)*{kind.__name__}\(alpha="
        ):
            kind(alpha)
    with pytest.raises(InputError, match="max_length must be a whole number from 1 to 1000000"):
        decoding.exact_search(*Hashed(3).problem(), max_length=10**30)


MASKS = {
    "-inf": -torch.inf,
    "lowest float32": torch.finfo(torch.float32).min,
    "lowest bfloat16": torch.finfo(torch.bfloat16).min,
    "-1e9": -1e9,
    "lowest float16": torch.finfo(torch.float16).min,
}


def masking(mask: float, M: int, normalized: bool, dead_end: bool, dtype: torch.dtype) -> Problem:
    """Return a problem that allows tokens 1 and 2 only; with ``dead_end``, nothing follows a 2."""
    base = torch.linspace(0, 1, M, dtype=torch.float64)

    def step(tokens, state):
        scores = base.expand(len(tokens), M).clone()
        is_allowed = torch.zeros(len(tokens), M, dtype=torch.bool)
        is_allowed[:, 1:3] = True
        if dead_end:
            is_allowed[tokens == 2] = False
        scores = scores.masked_fill(~is_allowed, -torch.inf)
        if normalized:
            scores = scores.log_softmax(1).nan_to_num(nan=-torch.inf)
        return scores.clamp(min=mask).to(dtype), state

    step.normalized = normalized  # pyright: ignore[reportFunctionMemberAccess]
    return Problem(step, torch.zeros(1, 1), torch.tensor([0]))


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("M", [5, 5000])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("dead_end", [False, True])
def test_masked_tokens_are_never_returned_for_any_mask_value(name, M, normalized, dead_end):
    dtype = torch.float16 if name == "lowest float16" else torch.float32
    problem = masking(MASKS[name], M, normalized, dead_end, dtype)
    plain = masking(-torch.inf, M, normalized, dead_end, dtype)
    searches: dict[str, Any] = {
        "beam": lambda *p: decoding.beam_search(*p, width=9, num_return=9, max_length=3),
        "in_beam": lambda *p: decoding.beam_search(
            *p, width=9, num_return=9, max_length=3, eos_mode="in_beam"
        ),
        "exact": lambda *p: decoding.exact_search(*p, num_return=9, max_length=3),
        "sample": lambda *p: decoding.sample(*p, num=9, max_length=3, replacement=False),
        "constrained": lambda *p: decoding.beam_search(
            *p, width=1, max_length=3, processors=[decoding.forbid([3])]
        ),
    }
    if M < 10:
        searches["exhaustive"] = lambda *p: decoding.exhaustive_search(*p, max_length=3)
    for search in searches.values():
        decoded, right = search(*problem), search(*plain)
        assert [h.tokens for h in decoded.hypotheses()] == [h.tokens for h in right.hypotheses()]
        assert {token for h in decoded.hypotheses() for token in h.tokens} <= {1, 2}
        assert decoded.log_prob == pytest.approx(right.log_prob, abs=1e-3)
        assert decoded.certificate.outcome == right.certificate.outcome
        if dead_end:
            assert all(2 not in h.tokens[:-1] for h in decoded.hypotheses())


def test_a_fully_masked_problem_has_no_sequence():
    lowest = torch.finfo(torch.float32).min
    for scores, normalized in (
        (torch.full((1, 4), lowest), True),
        (torch.full((1, 4), lowest), False),
    ):

        def step(tokens, state, scores=scores):
            return scores.expand(len(tokens), 4), state

        problem = Problem(step, torch.zeros(1, 1), torch.tensor([0]))
        for search in (decoding.greedy, decoding.exact_search, decoding.exhaustive_search):
            decoded = search(*problem, max_length=2, normalize=not normalized)
            assert decoded.certificate.outcome == ("NO_SEQUENCE",)
            assert not decoded.hypotheses()


def constant(row: list[float], **attributes: Any) -> Problem:
    """Return a problem with the same scores at every step."""
    table = torch.tensor([row], dtype=torch.float64)

    def step(tokens, state):
        return table.expand(len(tokens), -1), state

    for name, value in attributes.items():
        setattr(step, name, value)
    return Problem(step, torch.zeros(1, 1), torch.tensor([0]))


@pytest.mark.parametrize(("row", "total"), [([-1.0, -2.0, -3.0], "0.553"), ([-0.1, -0.2], "1.72")])
def test_a_note_reports_rows_that_are_not_distributions(row, total):
    problem = constant(row, normalized=True)
    searches: list[Any] = [decoding.greedy, decoding.exact_search, decoding.exhaustive_search]
    for search in searches:
        decoded = search(*problem, max_length=2)
        assert f"sum to {total}" in decoded.notes[0]
        assert "note: the step function's rows are not log-probabilities" in str(decoded)
    audit = decoding.audit(*problem, decoding.greedy(*problem, max_length=2))
    assert f"sum to {total}" in str(audit)
    assert f"sum to {total}" in str(
        decoding.measure_search_errors(*problem, max_length=2, widths=(1, 2))
    )
    logits = decoding.greedy(*problem, max_length=2, normalize=True)
    assert logits.notes == ()


def test_a_note_reports_a_later_row_that_is_not_a_distribution():
    def step(tokens, state):
        state = state + 1
        row = torch.tensor([[0.5, 0.5]]).log() - (state[:, :1] > 2).float()
        return row.expand(len(tokens), 2), state

    step.normalized = True  # pyright: ignore[reportFunctionMemberAccess]
    decoded = decoding.greedy(step, torch.zeros(1, 1), torch.tensor([0]), max_length=6)
    assert "sum to 0.368" in decoded.notes[0]


def test_no_note_reports_masked_rounded_or_tabulated_rows():
    """Masks lower the sum, 16-bit numbers are rounded, and rows of a table need not sum to 1."""
    half = (
        torch.randn(1, 3000, generator=torch.Generator().manual_seed(0))
        .log_softmax(1)
        .to(torch.bfloat16)
    )
    fine = [
        constant([-0.7, -torch.inf, -3.0], normalized=True),
        Problem(
            lambda tokens, state: (half.expand(len(tokens), 3000), state),
            torch.zeros(1, 1),
            torch.tensor([0]),
        ),
        decoding.constrain(*constant([0.0, 1.0, 2.0]), [decoding.forbid([2])]),
        decoding.Table({(): {"a": -0.6, "b": -3.0}}).problem(),
    ]
    for problem in fine:
        normalize = False if problem is fine[1] else None
        assert (
            decoding.beam_search(*problem, width=2, max_length=1, normalize=normalize).notes == ()
        )
    inner = decoding.constrain(
        *constant([-1.0, -2.0, -3.0], normalized=True), [decoding.min_length(2, 1)]
    )
    assert "sum to" in decoding.greedy(*inner, max_length=4, eos=1).notes[0]


def test_an_n_best_list_reports_how_many_entries_are_proved():
    """The first ``proved`` entries are the best sequences by brute force."""
    is_partly_proved = set()
    for seed in range(30):
        problem = Hashed(4, seed, scale=3.0).problem()
        decoded = decoding.beam_search(*problem, width=10, num_return=10, max_length=4)
        proved = decoded.certificate.proved[0]
        ranked = sorted(everything(problem, 0, 4, 4).values(), reverse=True)
        assert decoded.score[0, :proved] == pytest.approx(ranked[:proved])
        if decoded.certificate.outcome == ("OPTIMAL",):
            is_partly_proved.add(0 < proved < 10)
            text = (
                "proved optimal with all 10 hypotheses"
                if proved == 10
                else f"{proved} of 10 hypotheses proved"
            )
            assert text in str(decoded)
    assert True in is_partly_proved
    exact = decoding.exact_search(*Hashed(4, 1).problem(2), num_return=3, max_length=4)
    assert str(exact.certificate) == "2 of 2 answers proved optimal with all 6 hypotheses"


@pytest.mark.parametrize("eos", [None, 0])
def test_log_probabilities_above_zero_invalidate_only_their_own_item(eos):
    rise = torch.tensor([[0.0], [0.0], [3.0]], dtype=torch.float64)
    table = torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64).log()

    def step(tokens, state):
        return table.expand(len(tokens), 3) + state, state

    step.normalized = True  # pyright: ignore[reportFunctionMemberAccess]
    start = torch.tensor([0, 1, 2])
    together = decoding.beam_search(step, rise, start, width=2, max_length=3, eos=eos)
    assert together.certificate.outcome == ("OPTIMAL", "OPTIMAL", "NOT_APPLICABLE")
    assert "no certificate for 1: the step function's scores are above 0" in str(
        together.certificate
    )
    for item in range(3):
        single = decoding.beam_search(
            step, rise[[item]], start[[item]], width=2, max_length=3, eos=eos
        )
        assert single.hypotheses() == together.hypotheses(item)
        assert single.certificate.outcome[0] == together.certificate.outcome[item]
        assert single.certificate.upper_bound[0] == together.certificate.upper_bound[item]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("p", "top_p", "kept"),
    [
        ((0.4, 0.3, 0.2, 0.1), 0.7, 2),
        ((0.5, 0.25, 0.25), 0.75, 2),
        ((0.1,) * 10, 0.3, 3),
        ((0.4, 0.3, 0.3), 0.71, 3),
    ],
)
def test_top_p_drops_all_tokens_beyond_the_share(p, top_p, kept, dtype):
    log_prob = torch.tensor([p], dtype=dtype).log().double().numpy()
    assert np.isfinite(proposal(log_prob, 1.0, None, top_p)).sum() == kept
    problem = constant(list(torch.tensor(p, dtype=dtype).log().tolist()), normalized=True)
    drawn = decoding.sample(*problem, num=300, max_length=1, top_p=top_p)
    assert {h.tokens[0] for h in drawn.hypotheses()} == set(range(kept))


def test_sampling_works_at_extreme_temperatures():
    problem = constant([0.0, 1.0, 0.5])
    for temperature in (1e-320, 1e-300, 1e300):
        drawn = decoding.sample(*problem, num=20, max_length=2, temperature=temperature)
        assert len(drawn.hypotheses()) == 20
