"""Tests of audits and comparisons with noisy scores, and with answers to other problems."""

import copy
import functools
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from leadline import InputError, decoding
from leadline.decoding import Problem, Table

from .models import Hashed, everything, select_items


class Noisy(Hashed):
    """Scores that depend a little on the number of rows, like those of real models."""

    noise = 1e-6

    def __call__(self, tokens, state):
        scores, state = super().__call__(tokens, state)
        return scores + self.noise * (len(tokens) > 1), state


def two_words(noise: float) -> Problem:
    """A problem with the same scores at every step, a little higher in batches of several rows."""
    row = torch.tensor([-0.5, -0.93, -9.0], dtype=torch.float64)

    def step(tokens, state):
        return row + noise * (len(tokens) > 1) + 0 * state[:, :1], state

    step.normalized = True  # pyright: ignore[reportFunctionMemberAccess]
    return Problem(step, torch.zeros(1, 1, dtype=torch.float64), torch.tensor([0]))


@pytest.mark.parametrize("noise", [1e-6, -1e-6, 1e-4, -1e-4, 1e-3])
@pytest.mark.parametrize("max_length", [1, 8])
def test_an_answer_with_the_tokens_of_the_optimum_is_never_a_search_error(noise, max_length):
    """One token is the most likely at every step for any noise."""
    problem = two_words(noise)
    greedy = decoding.greedy(*problem, max_length=max_length)
    audit = decoding.audit(*problem, greedy)
    assert (
        audit.optimum.hypotheses()[0].tokens == greedy.hypotheses()[0].tokens == (0,) * max_length
    )
    assert audit.outcome == ("optimal",)
    assert "returned the most likely sequence" in str(audit)
    errors = decoding.measure_search_errors(
        *problem, max_length=max_length, widths=(1, 2, 3), max_calls=None
    )
    assert not errors.is_error.any()
    assert errors.against_greedy()[:, 1].tolist() == [1.0] * 3
    assert "every search finds" in str(decoding.compare(greedy, audit.optimum))


@pytest.mark.parametrize("noise", [1e-5, 1e-4])
def test_errors_with_noise_equal_those_of_brute_force(noise):
    """A lead above the noise is an error; the same tokens are not."""
    M, T, B = 4, 4, 8
    problem = Noisy(M, 3, scale=0.7, normalized=True).problem(batch=B)
    problem.step.noise = noise  # pyright: ignore[reportFunctionMemberAccess]
    greedy = decoding.greedy(*problem, max_length=T)
    audit = decoding.audit(*problem, greedy)
    errors = decoding.measure_search_errors(*problem, max_length=T, widths=(1, 3), max_calls=None)
    outcomes = set()
    for item in range(B):
        truth = everything(problem, item, M, T)
        best = max(truth, key=lambda tokens: truth[tokens])
        is_error = greedy.hypotheses(item)[0].tokens != best
        outcomes.add(is_error)
        assert audit.outcome[item] == ("search error" if is_error else "optimal")
        assert errors.is_error[0, item] == is_error
    assert outcomes == {True, False}


def nearly_tied(lead: float, noise: float) -> Problem:
    """Two first tokens of nearly equal probability, whose order depends on the batch size."""

    def step(tokens, state):
        row = torch.tensor([[-0.7, -0.7 - lead, -9.0]], dtype=torch.float64)
        row = row + torch.tensor([[-noise, noise, 0.0]], dtype=torch.float64) * (len(tokens) == 2)
        return row.expand(len(tokens), 3), state

    step.normalized = True  # pyright: ignore[reportFunctionMemberAccess]
    return Problem(step, torch.zeros(1, 1), torch.tensor([0]))


def test_a_tie_within_the_noise_is_reported_and_is_no_error():
    problem = nearly_tied(lead=1e-4, noise=1e-3)
    answer = decoding.greedy(*problem, max_length=2)
    audit = decoding.audit(*problem, answer)
    if audit.optimum.hypotheses()[0].tokens != answer.hypotheses()[0].tokens:
        assert audit.is_tied == (True,)
        assert audit.noise[0] == pytest.approx(2e-3, abs=1.1e-3)
        assert "ties with" in str(audit)
    assert audit.outcome == ("optimal",)
    assert not audit.lost_step.any()


def test_a_lead_above_the_noise_is_an_error():
    """The second token leads to an end that is better by 0.01 nats; the noise is 1e-6."""
    table = {(): [-0.6, -0.8], (0,): [-0.7, -0.7], (1,): [-0.49, -2.0]}

    def step(tokens, state):
        state = torch.cat([state[:, 1:], tokens[:, None]], dim=1)
        rows_of_table = [table[tuple(t for t in row if t != 9)] for row in state.tolist()]
        return torch.tensor(rows_of_table, dtype=torch.float64) + 1e-6 * (len(tokens) > 1), state

    step.normalized = True  # pyright: ignore[reportFunctionMemberAccess]
    problem = Problem(step, torch.full((1, 1), 9), torch.tensor([9]))
    audit = decoding.audit(*problem, decoding.greedy(*problem, max_length=2))
    assert audit.outcome == ("search error",)
    assert audit.optimum.hypotheses()[0].tokens == (1, 0)
    assert (audit.lost_step[0], audit.width[0]) == (1, 2)


A = Table(
    {(): {"a": -0.1, "b": -3.0}, ("a",): {"a": -0.1, "b": -3.0}, ("b",): {"a": -3.0, "b": -3.0}},
)
B = Table(
    {(): {"a": -3.0, "b": -0.1}, ("a",): {"a": -3.0, "b": -3.0}, ("b",): {"a": -3.0, "b": -0.1}},
)


def test_an_answer_to_another_problem_is_refused_by_its_score():
    answer = decoding.beam_search(*A.problem(), width=2, max_length=2)
    assert answer.certificate.outcome == ("OPTIMAL",)
    text = r"audit\(\) needs an answer(.|\n)*“a a” with log-probability -0.2, which is -6"
    with pytest.raises(InputError, match=text):
        decoding.audit(*B.problem(), answer)
    with pytest.raises(InputError, match=r"exact_search\(\) needs an answer(.|\n)*at_least"):
        decoding.exact_search(*B.problem(), max_length=2, at_least=answer)
    with pytest.raises(InputError, match="prompts by the same model"):
        decoding.compare(answer, decoding.beam_search(*B.problem(), width=2, max_length=2))


def test_prompts_in_another_order_are_another_problem():
    problem = Hashed(5, 2).problem(batch=2)
    swapped = select_items(problem, [1, 0])
    answer = decoding.beam_search(*problem, width=3, max_length=4)
    with pytest.raises(InputError, match="item 0"):
        decoding.audit(*swapped, answer)
    with pytest.raises(InputError, match="other start tokens"):
        decoding.compare(answer, decoding.greedy(*swapped, max_length=4))


def agreeing(better: float) -> Table:
    """Two tables with the same prefixes of "a a" and another sequence that begins with "b"."""
    return Table(
        {
            (): {"a": -0.6, "b": -0.8},
            ("a",): {"a": -0.1, "b": -2.4},
            ("b",): {"a": better, "b": -3.0},
        }
    )


def test_problems_that_agree_on_an_answer_are_distinguished():
    """The certificate of the first problem is not used for the second, where "b a" is better."""
    answer = decoding.beam_search(*agreeing(-2.0).problem(), width=2, max_length=2)
    assert answer.certificate.outcome == ("OPTIMAL",)
    audit = decoding.audit(*agreeing(-0.05).problem(), answer)
    assert audit.outcome == ("optimal",)  # -0.85 is below -0.7
    audit = decoding.audit(
        *agreeing(-0.05).problem(), decoding.greedy(*agreeing(-2.0).problem(), max_length=2)
    )
    assert audit.optimum.work.calls > 0
    near = Table(
        {
            (): {"a": -0.7, "b": -0.7},
            ("a",): {"a": -0.1, "b": -2.4},
            ("b",): {"a": -0.01, "b": -4.6},
        }
    )
    far = Table(
        {(): {"a": -0.7, "b": -0.7}, ("a",): {"a": -0.1, "b": -2.4}, ("b",): {"a": -0.8, "b": -0.6}}
    )
    answer = decoding.beam_search(*far.problem(), width=2, max_length=2)
    assert (answer.hypotheses()[0].words, answer.certificate.outcome) == (("a", "a"), ("OPTIMAL",))
    audit = decoding.audit(*near.problem(), answer)
    assert audit.outcome == ("search error",)
    assert audit.optimum.hypotheses()[0].words == ("b", "a")
    exact = decoding.exact_search(*near.problem(), max_length=2, at_least=answer)
    assert exact.hypotheses()[0].words == ("b", "a")


def test_a_model_after_further_training_is_another_problem():
    """The step function is the same object, but its weights have changed."""
    weights = torch.nn.Parameter(torch.tensor([[2.0, 0.0, 0.0]]))

    def step(tokens, state):
        return weights.expand(len(tokens), 3), state

    problem = Problem(step, torch.zeros(1, 1), torch.tensor([0]))
    answer = decoding.beam_search(*problem, width=2, max_length=3)
    with torch.no_grad():
        weights.copy_(torch.tensor([[0.0, 2.0, 0.0]]))
    with pytest.raises(InputError, match=r"audit\(\) needs an answer"):
        decoding.audit(*problem, answer)


@pytest.mark.parametrize("copy_of", [pickle.loads, copy.deepcopy, None])
def test_a_saved_answer_is_recognised(copy_of, tmp_path):
    problem = Hashed(4, 8, scale=0.2).problem(batch=2)
    answer = decoding.beam_search(*problem, width=1, max_length=4)
    if copy_of is None:
        answer.save(tmp_path)
        back = decoding.Decoded.load(tmp_path)
    else:
        back = copy_of(pickle.dumps(answer) if copy_of is pickle.loads else answer)
    direct, later = decoding.audit(*problem, answer), decoding.audit(*problem, back)
    assert direct.outcome == later.outcome
    assert np.array_equal(direct.optimum.log_prob, later.optimum.log_prob)
    assert decoding.compare(answer, back).is_best().all()
    with pytest.raises(InputError, match=r"audit\(\) needs an answer"):
        decoding.audit(*select_items(problem, [1, 0]), back)


def test_an_answer_is_unresolved_if_the_budget_is_too_small_to_recognise_it():
    answer = decoding.beam_search(*A.problem(), width=2, max_length=2)
    audit = decoding.audit(*B.problem(), answer, max_calls=1)
    assert audit.outcome == ("unresolved",)
    assert "the budget ran out before" in str(audit)


def test_answers_of_two_tables_without_a_common_token_are_not_compared():
    a = decoding.greedy(*A.problem(), max_length=2)
    b = decoding.greedy(*B.problem(), max_length=2)
    with pytest.raises(InputError, match="no first token in common"):
        decoding.compare(a, b)
    masked = decoding.constrain(*A.problem(), [decoding.forbid([0])])
    both = decoding.compare(a, decoding.greedy(*masked, max_length=2))
    assert both.scores()[:, 0] == pytest.approx([-0.2, -6.0])


def test_a_reference_and_the_answer_are_scored_in_one_batch():
    problem = two_words(1e-5)
    greedy = decoding.greedy(*problem, max_length=3)
    references: list[Any] = [[[0, 0, 0]], [[0, 0, 1]]]
    assert [
        decoding.audit(*problem, greedy, reference=sequences).blame[0] for sequences in references
    ] == [
        "none",
        "model",
    ]


A_ROW = (0.1, 3.0, -1.0)
OTHER_ROW = (9.0, 3.0, -1.0)
GLOBAL_ROW = torch.tensor(A_ROW)


def _read_global(tokens, state):
    return GLOBAL_ROW.expand(len(tokens), 3), state


class _Scaled:
    """A step function whose attribute scales the scores."""

    def __init__(self):
        self.scale = 1.0

    def scores(self, tokens, state):
        return (self.scale * torch.tensor(A_ROW)).expand(len(tokens), 3), state


class _Buffered(torch.nn.Module):
    """A module that holds its scores in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("row", torch.tensor(A_ROW))

    def forward(self, tokens, state):
        return self.get_buffer("row").expand(len(tokens), 3), state


def _with_array():
    row = np.array(A_ROW)

    def change():
        row[:] = OTHER_ROW

    return lambda tokens, state: (torch.tensor(row).repeat(len(tokens), 1), state), change


def _with_nested_list():
    values = {"rows": [list(A_ROW)]}

    def change():
        values["rows"][0] = list(OTHER_ROW)

    return lambda tokens, state: (
        torch.tensor(values["rows"]).repeat(len(tokens), 1),
        state,
    ), change


def _with_data():
    row = torch.nn.Parameter(torch.tensor(A_ROW))

    def change():
        row.data.copy_(torch.tensor(OTHER_ROW))

    return lambda tokens, state: (row.expand(len(tokens), 3), state), change


def _with_global():
    GLOBAL_ROW.copy_(torch.tensor(A_ROW))
    return _read_global, lambda: GLOBAL_ROW.copy_(torch.tensor(OTHER_ROW))


def _with_attribute():
    owner = _Scaled()
    return owner.scores, lambda: setattr(owner, "scale", -1.0)


def _with_buffer():
    module = _Buffered()
    return module, lambda: module.get_buffer("row").copy_(torch.tensor(OTHER_ROW))


def _with_partial():
    values = {"row": torch.tensor(A_ROW)}

    def step(values, tokens, state):
        return values["row"].expand(len(tokens), 3), state

    return functools.partial(step, values), lambda: values.update(row=torch.tensor(OTHER_ROW))


def _with_processor():
    banned: list[int] = []

    def mask(log_probs, prefix):
        log_probs[:, banned] = -torch.inf
        return log_probs

    def step(tokens, state):
        return torch.tensor(A_ROW).expand(len(tokens), 3), state

    return decoding.constrain(step, None, torch.tensor([0]), [mask]), lambda: banned.append(1)


HOLDERS = (
    _with_array,
    _with_nested_list,
    _with_data,
    _with_global,
    _with_attribute,
    _with_buffer,
    _with_partial,
    _with_processor,
)


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_step_function_that_reads_other_numbers_is_another_problem(holder):
    """A certificate is used again only if the numbers are unchanged."""
    step, change = holder()
    problem = step if isinstance(step, Problem) else Problem(step, None, torch.tensor([0]))
    answer = decoding.beam_search(*problem, width=2, max_length=2)
    assert answer.certificate.outcome == ("OPTIMAL",)
    assert decoding.audit(*problem, answer).optimum.work.calls == 0
    change()
    with pytest.raises(InputError, match=r"audit\(\) needs an answer"):
        decoding.audit(*problem, answer)


def test_the_verdict_does_not_call_a_tolerance_noise():
    """Greedy search finds -1.3, the optimum is -0.9, and 0.3 allows 0.3 * (1 + 1.3) = 0.69."""
    table = Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    greedy = decoding.greedy(*table.problem(), max_length=2)
    audit = decoding.audit(*table.problem(), greedy, tolerance=0.3)
    assert audit.outcome == ("optimal",)
    assert (
        "which is 0.4 behind “b a”, within the tolerance of 0.69; no sequence is better by more"
        in str(audit)
    )
    assert "the most likely is “b a”" in str(
        decoding.audit(*table.problem(), greedy, tolerance=0.1)
    )


def test_the_verdict_states_that_a_search_returned_nothing():
    """Greedy search chooses the more probable word, which no word can follow."""
    table = Table({(): {"a": -0.1, "b": -2.3}, ("a",): {}, ("b",): {"b": -0.2}})
    audit = decoding.audit(*table.problem(), decoding.greedy(*table.problem(), max_length=2))
    assert str(audit).startswith("greedy search returned nothing; the most likely is “b b”")
