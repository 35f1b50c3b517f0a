"""The contract of searches: batches, ties, masks, NaN, work, state and traces."""

import json
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leadline import InputError, decoding
from leadline.decoding import Problem, Shared
from leadline.decoding.problem._reader import WIDE, Reader
from leadline.decoding.search.beam import _run as run

from .models import Hashed, select_items

SEARCHES: dict[str, Any] = {
    "greedy": decoding.greedy,
    "pool": lambda *problem, **keys: decoding.beam_search(*problem, width=3, num_return=2, **keys),
    "in_beam": lambda *problem, **keys: decoding.beam_search(
        *problem, width=3, eos_mode="in_beam", **keys
    ),
    "exhaustive": decoding.exhaustive_search,
    "exact": decoding.exact_search,
}


def scores(values, **attributes):
    """Return a problem with the same scores at every step."""
    table = torch.as_tensor(values)

    def step(tokens, state):
        return table.expand(len(tokens), -1), state

    for name, value in attributes.items():
        setattr(step, name, value)
    return Problem(step, torch.zeros(1, 1), torch.tensor([0]))


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("eos", [None, 1])
def test_the_other_items_of_a_batch_do_not_change_an_answer(name, eos):
    """Answers are equal bit for bit alone, in a batch, in a permuted batch, and if others finish
    early.
    """
    search = SEARCHES[name]
    problem = Hashed(4, 5, scale=3.0, dtype=torch.float32).problem(batch=6)
    together = search(*problem, max_length=5, eos=eos)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = search(*select_items(problem, order), max_length=5, eos=eos)
    if eos is not None and name != "exhaustive":
        assert len(set(together.lengths[:, 0].tolist())) > 1
    for place, item in enumerate(order.tolist()):
        single = search(*select_items(problem, [item]), max_length=5, eos=eos)
        assert together.hypotheses(item) == permuted.hypotheses(place) == single.hypotheses(0)
        assert together.certificate.outcome[item] == single.certificate.outcome[0]


@given(
    M=st.sampled_from([4, 9, 20, 40]),
    seed=st.integers(0, 999),
    width=st.integers(1, 5),
    max_length=st.integers(5, 8),
    eos=st.sampled_from([None, 1, (0, 3)]),
    levels=st.sampled_from([None, 99]),
    num_return=st.integers(1, 2),
    score=st.sampled_from(
        [decoding.SumLogProb(), decoding.LengthNormalized(1.0), decoding.WordReward(0.5)]
    ),
)
def test_both_ranking_paths_of_beam_search_agree(
    M, seed, width, max_length, eos, levels, num_return, score
):
    """Plain Python and arrays give equal results bit for bit, with equal counts and bounds."""
    settings = {"width": width, "max_length": max_length, "eos": eos, "score": score}
    settings["num_return"] = min(num_return, width)
    problem = Hashed(M, seed, scale=4.0, levels=levels, dtype=torch.float32).problem()
    with_lists = decoding.beam_search(*problem, **settings)
    with patch.object(run, "MOST_FOR_LISTS", 0):
        with_arrays = decoding.beam_search(*problem, **settings)
    for name in ("tokens", "lengths", "log_prob", "score", "token_log_prob", "finished"):
        assert np.array_equal(getattr(with_lists, name), getattr(with_arrays, name)), name
    assert np.array_equal(with_lists.certificate.upper_bound, with_arrays.certificate.upper_bound)
    assert with_lists.certificate.step == with_arrays.certificate.step
    assert with_lists.work == with_arrays.work


def test_matrix_products_give_the_same_answers_in_any_batch():
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(16, 16, generator=generator, dtype=torch.float64) / 3
    E, U = (torch.randn(2000, 16, generator=generator, dtype=torch.float64) for _ in range(2))

    def step(tokens, h):
        h = torch.tanh(h @ W + E[tokens])
        return h @ U.T, h

    start = torch.arange(7)
    together = decoding.beam_search(
        step, torch.zeros(7, 16).double(), start, width=4, max_length=8, eos=3
    )
    for item in range(7):
        single = decoding.beam_search(
            step, torch.zeros(1, 16).double(), start[[item]], width=4, max_length=8, eos=3
        )
        assert single.hypotheses()[0].tokens == together.hypotheses(item)[0].tokens
        assert single.log_prob[0] == pytest.approx(together.log_prob[item], abs=1e-10)


@given(
    st.integers(1, 4),
    st.sampled_from([2, 5, 1023, 1024, 1100, 4099]),
    st.integers(1, 9),
    st.integers(0, 99),
    st.sampled_from([3, 50, 10**9]),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([1.0, 500.0]),
)
def test_the_reader_equals_log_softmax_and_sort(N, M, count, seed, levels, dtype, scale):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(N, M, generator=generator, dtype=torch.float64) * levels).floor() / levels
    x = (scale * x).to(dtype)
    x[torch.rand(N, M, generator=generator) < 0.2] = -torch.inf
    log_prob, tokens = Reader(are_logits=True).best(x, count)
    exact = torch.log_softmax(x.double(), 1)
    order = (torch.log_softmax(x, 1) if M < WIDE else exact).argsort(
        dim=1, descending=True, stable=True
    )[:, :count]
    values, order = exact.gather(1, order).numpy(), order.numpy()
    is_there = np.isfinite(values)
    assert np.array_equal(tokens[is_there], order[is_there])
    assert np.allclose(
        log_prob[is_there], values[is_there], atol=2e-5 if dtype == torch.float32 else 1e-10
    )
    assert (log_prob[~is_there] == -np.inf).all()
    log_probs = Reader(are_logits=True).all(x).numpy()
    assert np.array_equal(np.take_along_axis(log_probs, tokens, 1)[is_there], log_prob[is_there])
    for n in range(N):
        assert np.array_equal(Reader(are_logits=True).best(x[n : n + 1], count)[0][0], log_prob[n])


def test_a_search_does_not_change_the_state_of_a_problem():
    """A step may change its state in place; the problem can still be searched again."""

    def step(tokens, state):
        state["sum"] += tokens.unsqueeze(1)
        return -((torch.arange(5) - state["sum"]) ** 2).double() / 9, state

    problem = Problem(step, {"sum": torch.zeros(2, 1, dtype=torch.int64)}, torch.tensor([1, 2]))
    for name, search in SEARCHES.items():
        first, repeated = search(*problem, max_length=3), search(*problem, max_length=3)
        assert np.array_equal(first.tokens, repeated.tokens), name
    assert problem.state["sum"].tolist() == [[0], [0]]


def test_a_search_does_not_change_what_a_step_function_keeps():
    """The step function keeps its scores, makes them in inference mode, changes its tokens in
    place, or has a method named inference.
    """
    weights = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    kept = torch.log_softmax(weights, 1)
    modes = set()

    class Keeps(torch.nn.Module):
        normalized = True

        def inference(self):
            raise AssertionError

        def forward(self, tokens, state):
            modes.add(torch.is_inference_mode_enabled())
            tokens.fill_(0)
            return kept[:1].expand(len(tokens), 3), state

    class InItsOwnMode(Keeps):
        def forward(self, tokens, state):
            with torch.inference_mode():
                return (kept.detach() * torch.tensor([[1.0, 2.0, 3.0]])).repeat(
                    len(tokens), 1
                ), state

    in_place = [lambda log_probs, prefix: log_probs.index_fill_(1, torch.tensor([2]), -torch.inf)]
    masks = {"width": 2, "processors": in_place}
    for name, search in {
        **SEARCHES,
        "masks": lambda *p, **k: decoding.beam_search(*p, **masks, **k),
    }.items():
        decoded = search(Keeps(), None, torch.tensor([2]), max_length=2)
        assert decoded.log_prob[0, 0] == pytest.approx(2 * np.log(1 / 3)), name
        assert kept.detach() == pytest.approx(np.log(1 / 3)), name
        decoded = search(InItsOwnMode(), None, torch.tensor([2]), max_length=2)
        assert decoded.log_prob[0, 0] == pytest.approx(2 * np.log(1 / 3)), name
    (-kept[0, 1]).backward()
    assert modes == {False}


def test_tokens_that_a_step_function_changes_in_place_are_returned_unchanged():
    """Each token is almost certainly followed by the next one; a processor that sees another prefix
    masks everything.
    """

    def spoils(tokens, state):
        scores = 99 * torch.eye(3)[(tokens + 1) % 3]
        tokens.fill_(0)
        return scores, state

    def knows(log_probs, prefix):
        return (
            log_probs
            if prefix[0].tolist() == [1, 2, 0][: prefix.shape[1]]
            else log_probs.fill_(-torch.inf)
        )

    def masked(*problem, **keys):
        return decoding.beam_search(*problem, width=1, processors=[knows], **keys)

    def sampled(*problem, **keys):
        return decoding.sample(*problem, num=1, **keys)

    start = torch.tensor([0])
    for name, search in {**SEARCHES, "masked": masked, "sampled": sampled}.items():
        assert search(spoils, None, start, max_length=3).tokens[0, 0].tolist() == [1, 2, 0], name
    assert start.tolist() == [0]


def test_a_constrained_problem_works_in_inference_mode_and_outside():
    table = scores(torch.linspace(0, 1, 5000))
    problem = decoding.constrain(*table, [decoding.forbid([4999])])
    with torch.inference_mode():
        first = decoding.greedy(*problem, max_length=2)
    assert (
        first.tokens.tolist()
        == decoding.greedy(*problem, max_length=2).tokens.tolist()
        == [[[4998, 4998]]]
    )


def test_the_lowest_number_masks_a_token_if_another_row_has_ties():
    lowest = torch.finfo(torch.float32).min
    rows = torch.tensor([[0.0, lowest, 1.0], [0.0, 0.0, 1.0]])

    def step(tokens, state):
        return rows[tokens], state

    together = decoding.beam_search(
        step, None, torch.tensor([0, 1]), width=3, max_length=1, num_return=3
    )
    assert together.tokens[:, :, 0].tolist() == [[2, 0, -1], [2, 0, 1]]


def test_states_may_be_nested_and_contain_shared_leaves():
    encoder = Shared(torch.arange(3.0))

    def step(tokens, state):
        assert state["encoder"] is encoder
        (h, c), last = state["cell"], tokens.unsqueeze(1).double()
        h = (h * 3 + last).remainder(7)
        return (h * torch.arange(4)).remainder(5), {"encoder": encoder, "cell": (h, c + 1)}

    state = {"encoder": encoder, "cell": (torch.zeros(2, 1).double(), torch.zeros(2, 3))}
    problem = Problem(step, state, torch.tensor([0, 1]))
    wide = decoding.beam_search(*problem, width=16, max_length=3)
    exact = decoding.exact_search(*problem, max_length=3)
    assert np.allclose(wide.log_prob, exact.log_prob)


def test_a_search_returns_no_padding_hypotheses():
    problem = scores([0.0, -0.5, -torch.inf])
    decoded = decoding.beam_search(*problem, width=50, max_length=2, num_return=50)
    assert len(decoded.hypotheses()) == 4
    assert decoded.tokens.shape == (1, 4, 2)
    assert np.isfinite(decoded.log_prob).all()
    assert np.exp(decoded.log_prob).sum() == pytest.approx(1)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_row_without_any_token_ends_only_its_item(name):
    def step(tokens, state):
        table = torch.tensor([[0.0, -1.0, -0.5], [-torch.inf] * 3, [-1.0, 0.0, -1.0]])
        return table[tokens], state

    problem = Problem(step, torch.zeros(2, 1), torch.tensor([1, 0]))
    decoded = SEARCHES[name](*problem, max_length=2)
    assert decoded.hypotheses(0) == ()
    assert decoded.hypotheses(1)
    assert 1 not in [h.tokens[0] for h in decoded.hypotheses(1)]
    dead = decoding.beam_search(*scores([-torch.inf] * 3), width=2, max_length=2)
    assert "no sequence" in str(dead)
    assert dead.certificate.outcome == ("NO_SEQUENCE",)
    assert str(dead.certificate) == "proved that there is no sequence"
    assert decoded.certificate.outcome == ("NO_SEQUENCE", decoded.certificate.outcome[1])
    audit = decoding.audit(*scores([-torch.inf] * 3), dead)
    assert audit.outcome == ("optimal",)
    assert "no sequence has a probability above zero" in str(audit)
    audit.figure()
    assert dead.table().empty


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_is_an_error_that_names_step_item_and_hypothesis(name, bad):
    def step(tokens, state):
        state = state + tokens.unsqueeze(1)
        values = torch.zeros(len(tokens), 3)
        values[state[:, 0] >= 1, 2] = bad
        return values, state

    problem = Problem(step, torch.zeros(2, 1), torch.tensor([0, 0]))
    with pytest.raises(InputError, match=r"at step 2, item 0, hypothesis 1"):
        decoding.beam_search(*problem, width=3, max_length=4)
    with pytest.raises(InputError, match=r"at step 2, item 1, hypothesis 1"):
        decoding.exhaustive_search(
            step, torch.tensor([[-2.0], [0.0]]), torch.tensor([0, 0]), max_length=2
        )
    problem = Problem(step, torch.tensor([[0.0], [1.0]]), torch.tensor([0, 0]))
    with pytest.raises(InputError, match=r"NaN or \+inf at step 1, item 1, hypothesis"):
        SEARCHES[name](*problem, max_length=1)


def test_an_end_token_alone_has_length_one():
    decoded = decoding.beam_search(*scores([2.0, 0.0]), width=2, max_length=3, eos=0)
    assert decoded.hypotheses()[0].tokens == (0,)
    assert decoded.lengths[0, 0] == 1
    assert decoded.finished[0, 0]
    score = decoding.LengthNormalized(1.0)
    normal = decoding.beam_search(*scores([2.0, 0.0]), width=2, max_length=3, eos=0, score=score)
    assert normal.score[0, 0] == normal.log_prob[0, 0]


def test_a_hypothesis_cut_off_at_max_length_is_not_finished():
    decoded = decoding.beam_search(*scores([-5.0, 0.0]), width=1, max_length=3, eos=0)
    assert decoded.hypotheses()[0].tokens == (1, 1, 1)
    assert not decoded.finished[0, 0]


def test_float16_scores_are_summed_in_float64():
    half = decoding.beam_search(
        *Hashed(9, 3, dtype=torch.float16).problem(2), width=3, max_length=20
    )
    assert half.log_prob.dtype == np.float64
    step, state, start = Hashed(9, 3, dtype=torch.float16).problem(2)

    def double(tokens, state):
        values, state = step(tokens, state)
        return values.double(), state

    full = decoding.beam_search(double, state, start, width=3, max_length=20)
    assert np.array_equal(half.tokens, full.tokens)
    assert half.log_prob == pytest.approx(full.log_prob, abs=1e-4)


def test_equal_log_probabilities_per_token_tie_at_all_lengths():
    """With alpha 1, equal log-probabilities per token make all lengths tie (transformers issue
    26624).
    """
    problem = scores(torch.full((50_000,), 0.0))
    score = decoding.LengthNormalized(1.0)
    decoded = decoding.beam_search(
        *problem, width=2, max_length=4, eos=0, score=score, num_return=2
    )
    assert decoded.score[0] == pytest.approx(-np.log(50_000), abs=1e-6)
    assert decoded.hypotheses()[0].tokens == (0,)


def test_beam_search_solves_the_chain_of_allennlp():
    """The example of AllenNLP's tests: 0 starts, 5 ends, and each other token leads to the next."""
    table = torch.full((6, 6), -torch.inf)
    table[0, 1:5] = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    for token in range(1, 5):
        table[token, token + 1] = 0.0
    table[5, 5] = 0.0

    def step(tokens, state):
        return table[tokens], state

    decoded = decoding.beam_search(
        step,
        torch.zeros(1, 1),
        torch.tensor([0]),
        width=3,
        max_length=10,
        eos=5,
        normalize=False,
        eos_mode="in_beam",
        num_return=3,
    )
    assert [h.tokens for h in decoded.hypotheses()] == [(1, 2, 3, 4, 5), (2, 3, 4, 5), (3, 4, 5)]
    assert decoded.log_prob[0] == pytest.approx(np.log([0.4, 0.3, 0.2]))


def test_log_probabilities_above_zero_are_searched_but_not_certified():
    problem = scores([1.0, 0.5], normalized=True)
    decoded = decoding.beam_search(*problem, width=1, max_length=3)
    assert decoded.log_prob[0, 0] == 3.0
    assert decoded.certificate.outcome == ("NOT_APPLICABLE",)
    assert "above 0" in str(decoded.certificate)
    greedy = decoding.greedy(*problem, max_length=3)
    assert greedy.log_prob[0, 0] == 3.0
    assert greedy.certificate.outcome == ("NOT_APPLICABLE",)
    with pytest.raises(InputError, match="pass normalize=True"):
        decoding.exact_search(*problem, max_length=3)


def test_work_counts_calls_rows_and_candidates():
    problem = Hashed(7, 1).problem(2)
    work = decoding.beam_search(*problem, width=3, max_length=5).work
    assert (work.calls, work.rows, work.candidates) == (5, 2 + 4 * 6, 7 * 26)
    assert decoding.greedy(*problem, max_length=5).work.state_bytes == 0
    step, state, start = scores(torch.arange(3.0))
    same = decoding.beam_search(step, state, start, width=1, max_length=9)
    assert same.work.state_bytes == 0


def test_a_wide_trace_is_exported_and_drawn():
    decoded = decoding.beam_search(
        *Hashed(30, 2).problem(2), width=8, max_length=14, eos=3, trace=True
    )
    trace = decoded.trace
    assert trace is not None
    nodes = json.loads(trace.to_json())
    assert len(nodes) == len(trace.table())
    assert {node["fate"] for node in nodes} >= {"kept", "pruned"}
    for node in nodes:
        if node["parent"] >= 0:
            assert nodes[node["parent"]]["fate"] == "kept"
            assert nodes[node["parent"]]["step"] == node["step"] - 1
            assert nodes[node["parent"]]["item"] == node["item"]
    assert trace.to_dot(1).count("->") == sum(node["item"] == 1 for node in nodes)
    layout: Any = decoded.figure(1).to_dict()["layout"]
    assert sum(shape["type"] == "rect" for shape in layout["shapes"]) < 100
    assert any("more" in annotation["text"] for annotation in layout["annotations"])
    assert sum(annotation["text"].startswith("step ") for annotation in layout["annotations"]) <= 8
    plain: Any = decoding.greedy(*Hashed(30, 2).problem(), max_length=4).figure()
    assert len(plain.data) == 1


def test_a_long_trace_is_drawn_around_the_lost_step():
    """Without a lost step, the last steps are drawn. The columns name the steps left out."""
    problem = Hashed(4, 8, scale=0.2).problem()

    def texts(figure):
        return [annotation["text"] for annotation in figure.to_dict()["layout"]["annotations"]]

    drawn = texts(decoding.beam_search(*problem, width=2, max_length=40, trace=True).figure())
    assert [text for text in drawn if text.startswith("step ")] == [
        f"step {t}" for t in range(34, 41)
    ]
    assert any("33 steps before" in text for text in drawn)
    problem = Hashed(4, 0, scale=2.0).problem()
    decoded = decoding.beam_search(*problem, width=1, max_length=10)
    audit = decoding.audit(*problem, decoded)
    lost = int(audit.lost_step[0])
    drawn = texts(audit.figure())
    assert 1 <= lost <= 5
    assert "lost here" in drawn
    assert any(text.startswith(f"step {lost}") for text in drawn)
    assert any(text.endswith("steps after") for text in drawn)


def test_a_trace_marks_hypotheses_that_cannot_become_the_best():
    """One sequence ends at once with most of the probability; no live hypothesis can beat it."""
    decoded = decoding.beam_search(
        *scores([5.0, 0.0, -1.0]), width=2, max_length=6, eos=0, trace=True
    )
    assert decoded.work.calls == 1
    assert decoded.trace is not None
    fates = {node.tokens: node.fate.name for node in decoded.trace.candidates(1)}
    assert fates == {(0,): "FINISHED", (1,): "BOUNDED", (2,): "BOUNDED"}
    assert decoded.certificate.outcome == ("OPTIMAL",)


def test_names_of_tokens_are_escaped_in_drawings():
    problem = scores([2.0, 0.0])
    problem.step.vocabulary = ("<b>&", "</s>")  # pyright: ignore[reportFunctionMemberAccess]
    traced = decoding.beam_search(*problem, width=1, max_length=1, trace=True).trace
    assert traced is not None
    dot = replace(traced, names={0: 'a"b\\n\t', 1: "c"}).to_dot()
    assert r'[label="a\"b\\n' + "\t" + r'\n-0.13"]' in dot
    for trace in (False, True):
        figure: Any = decoding.beam_search(*problem, width=1, max_length=2, trace=trace).figure()
        drawn = figure.to_json()
        assert "&lt;b>&amp;" in drawn.replace("\\u003c", "<").replace("\\u003e", ">").replace(
            "\\u0026", "&"
        )
    plain: Any = decoding.beam_search(*problem, width=1, max_length=2).figure()
    assert plain.data[0].name == "1: &lt;b>&amp; &lt;b>&amp;"
    assert list(plain.data[0].text) == ["&lt;b>&amp;"] * 2
