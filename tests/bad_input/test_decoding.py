"""Tests of bad input to ``leadline.decoding``: every parameter, and likely mistakes of users."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import transformers

from leadline import InputError, decoding
from leadline.decoding import Table
from tests.bad_input.harness import Call, Room, call

TABLE = Table(
    {(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1, "b": -2.4}}
)
TEXT = "a b a b a b\n\nb a b a b a\n\n" * 4


def problem() -> decoding.Problem:
    return TABLE.problem()


@cache
def beam() -> decoding.Decoded:
    return decoding.beam_search(*problem(), width=2, max_length=2, trace=True)


@cache
def audited() -> decoding.SearchAudit:
    return decoding.audit(*problem(), decoding.greedy(*problem(), max_length=2))


@cache
def measured() -> decoding.SearchErrors:
    return decoding.measure_search_errors(*problem(), max_length=2, widths=(1, 2))


@cache
def counted() -> decoding.Complexity:
    return decoding.measure_complexity((2, 3), (1, 2), (20, 40))


@cache
def fitted() -> decoding.RecurrentLM:
    return decoding.RecurrentLM(vocabulary_size=5, hidden_size=4, epochs=1).fit(TEXT)


@cache
def gpt2() -> Any:
    with torch.random.fork_rng():
        config = transformers.GPT2Config(
            vocab_size=9, n_positions=16, n_embd=8, n_layer=1, n_head=2
        )
        return transformers.GPT2LMHeadModel(config).eval()


def lm_settings() -> dict[str, Any]:
    return {"vocabulary_size": 5, "hidden_size": 4, "epochs": 1}


CALLS: dict[str, Callable[[], Call]] = {
    "Decoded.hypotheses": lambda: call(beam().hypotheses, 0, 1),
    "Decoded.drawing": lambda: call(beam().drawing, 0),
    "Comparison.drawing": lambda: call(decoding.compare(beam()).drawing, 0),
    "Complexity.exponents": lambda: call(counted().exponents, "rows", 0.9),
    "GNMT": lambda: call(decoding.GNMT, 0.6),
    "GNMT.bound": lambda: call(decoding.GNMT(0.6).bound, -1.0, 1, 4),
    "LengthNormalized": lambda: call(decoding.LengthNormalized, 1.0),
    "LengthNormalized.bound": lambda: call(decoding.LengthNormalized(1.0).bound, -1.0, 1, 4),
    "SumLogProb.bound": lambda: call(decoding.SumLogProb().bound, -1.0, 1, 4),
    "WordReward": lambda: call(decoding.WordReward, 0.5),
    "WordReward.bound": lambda: call(decoding.WordReward(0.5).bound, -1.0, 1, 4),
    "Score.bound": lambda: call(decoding.GNMT(0.6).bound, -1.0, 1, 4),
    "Problem": lambda: call(
        lambda step, state, start: decoding.greedy(step, state, start, max_length=1), *problem()
    ),
    "RecurrentLM": lambda: call(decoding.RecurrentLM, **lm_settings()),
    "RecurrentLM.fit": lambda: call(decoding.RecurrentLM(**lm_settings()).fit, TEXT),
    "RecurrentLM.problem": lambda: call(fitted().problem, ["a"]),
    "RecurrentLM.unknown": lambda: call(fitted().unknown, "a c"),
    "RecurrentLM.save": lambda: call(lambda folder: fitted().save(folder), FOLDER()),
    "RecurrentLM.load": lambda: call(lambda folder: _save_and_load(folder), FOLDER()),
    "SearchAudit.at": lambda: call(audited().at, 1, 0),
    "SearchAudit.drawing": lambda: call(audited().drawing, 0, 1),
    "SearchAudit.describe_optimum": lambda: call(audited().describe_optimum, 0),
    "SearchErrors.intervals": lambda: call(measured().intervals, 0.9),
    "Shared": lambda: call(decoding.Shared, 1),
    "Table": lambda: call(Table, {(): {"a": -0.5}}),
    "Table.problem": lambda: call(TABLE.problem, 2),
    "Table.token": lambda: call(TABLE.token, "a"),
    "Trace.tokens": lambda: call(trace().tokens, 1),
    "Trace.node": lambda: call(trace().node, 1),
    "Trace.candidates": lambda: call(trace().candidates, 1, 0),
    "Trace.beam": lambda: call(trace().beam, 1, 0),
    "Trace.to_dot": lambda: call(trace().to_dot, 0),
    "allow": lambda: call(lambda rule: _masked(decoding.allow(rule)), lambda prefix: [0]),
    "audit": lambda: call(
        decoding.audit,
        *problem(),
        decoding.greedy(*problem(), max_length=2),
        max_calls=50,
        max_width=3,
        tolerance=1e-6,
        reference=[[1, 0]],
    ),
    "beam_search": lambda: call(
        decoding.beam_search,
        *problem(),
        width=2,
        max_length=2,
        eos=1,
        score=decoding.SumLogProb(),
        eos_mode="pool",
        num_return=1,
        processors=[],
        normalize=False,
        trace=False,
    ),
    "compare": lambda: call(decoding.compare, beam()),
    "constrain": lambda: call(
        _constrained, *problem(), processors=[decoding.forbid([1])], normalize=False
    ),
    "exact_search": lambda: call(
        decoding.exact_search,
        *problem(),
        max_length=2,
        eos=1,
        normalize=False,
        max_calls=9,
        max_bytes=10**6,
        batch=4,
        score=decoding.SumLogProb(),
        per_length=False,
        num_return=1,
        at_least=None,
    ),
    "exhaustive_search": lambda: call(
        decoding.exhaustive_search, *problem(), max_length=2, eos=1, normalize=False, limit=100
    ),
    "forbid": lambda: call(lambda tokens: _masked(decoding.forbid(tokens)), [1]),
    "force_prefix": lambda: call(lambda tokens: _masked(decoding.force_prefix(tokens)), [1]),
    "greedy": lambda: call(decoding.greedy, *problem(), max_length=2, eos=1, normalize=False),
    "huggingface": lambda: call(
        decoding.huggingface, gpt2(), torch.tensor([[1, 2, 3]]), torch.ones(1, 3, dtype=torch.int64)
    ),
    "measure_complexity": lambda: call(
        decoding.measure_complexity, (2, 3), (1, 2), (20, 40), timed=False, seed=1
    ),
    "measure_search_errors": lambda: call(
        decoding.measure_search_errors,
        *problem(),
        max_length=2,
        widths=(1, 2),
        eos=1,
        score=decoding.SumLogProb(),
        eos_mode="pool",
        normalize=False,
        max_calls=20,
    ),
    "min_length": lambda: call(lambda length, eos: _masked(decoding.min_length(length, eos)), 2, 1),
    "no_repeat_ngram": lambda: call(lambda n: _masked(decoding.no_repeat_ngram(n)), 1),
    "sample": lambda: call(
        decoding.sample,
        *problem(),
        num=2,
        max_length=2,
        eos=1,
        temperature=1.0,
        top_k=2,
        top_p=0.9,
        replacement=True,
        normalize=False,
        seed=1,
    ),
}

SOUNDINGS: dict[str, Callable[[], Any]] = {
    "Comparison": lambda: decoding.compare(beam()),
    "Complexity": counted,
    "Decoded": beam,
    "SearchAudit": audited,
    "SearchErrors": measured,
    "Walk": lambda: audited().at(1),
}


def _saved(sounding: Any) -> Any:
    sounding.save(FOLDER())
    return FOLDER()


for _name, _make in SOUNDINGS.items():
    CALLS[f"{_name}.save"] = lambda make=_make: call(make().save, FOLDER())
    CALLS[f"{_name}.load"] = lambda make=_make: call(type(make()).load, _saved(make()))
    CALLS.setdefault(f"{_name}.table", lambda make=_make: call(make().table))
    CALLS.setdefault(f"{_name}.figure", lambda make=_make: call(make().figure))

RESULTS = frozenset({"Comparison", "Complexity", "Decoded", "Score", "SearchAudit", "SearchErrors"})
REACHED = frozenset(
    {"Certificate", "Fate", "Hypothesis", "Node", "Perplexities", "Trace", "Walk", "Work"}
)

ROOM = Room(decoding, CALLS, results=RESULTS, reached=REACHED)


def trace() -> decoding.Trace:
    found = beam().trace
    assert found is not None
    return found


def _masked(processor: Any) -> Any:
    """Create a processor and call it, because some errors appear at the first call."""
    return decoding.greedy(*problem(), max_length=2) if processor is None else _search(processor)


def _search(processor: Any) -> Any:
    return decoding.beam_search(*problem(), width=2, max_length=2, processors=[processor])


def _constrained(step: Any, state: Any, start: Any, processors: Any, normalize: Any) -> Any:
    return decoding.greedy(
        *decoding.constrain(step, state, start, processors, normalize), max_length=1
    )


def _save_and_load(folder: Any) -> Any:
    fitted().save(folder)
    return decoding.RecurrentLM.load(folder)


FOLDER: Any = None


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        __import__(__name__, fromlist=["FOLDER"]), "FOLDER", lambda: tmp_path / "model"
    )


def test_every_public_name_has_a_good_call():
    assert ROOM.without_a_call() == []


@pytest.mark.parametrize("name", CALLS)
def test_a_good_call_succeeds_with_numbers_of_any_kind(name):
    ROOM.check_good(name)


@pytest.mark.parametrize(("name", "parameter"), ROOM.cases())
def test_bad_values_are_refused_kindly(name, parameter):
    ROOM.check_bad(name, parameter)


def generated() -> Any:
    """Return the output of ``generate``, which users may pass in place of a search's result."""
    ids = torch.tensor([[1, 2]])
    return gpt2().generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=1,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        return_dict_in_generate=True,
    )


def greedy() -> decoding.Decoded:
    return decoding.greedy(*problem(), max_length=2)


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "audit of nothing": (
        lambda: decoding.audit(*problem(), None),  # pyright: ignore
        r"audit\(\) needs a problem and the result",
    ),
    "audit with swapped arguments": (
        lambda: decoding.audit(greedy(), *problem()),  # pyright: ignore
        "the result of a search as the step function",
    ),
    "audit of generate": (lambda: decoding.audit(*problem(), generated()), "output of generate"),
    "audit of an audit": (lambda: decoding.audit(*problem(), audited()), "the result of a search"),  # pyright: ignore
    "words as a reference": (
        lambda: decoding.audit(*problem(), greedy(), reference=[["a", "b"]]),  # pyright: ignore
        r"reference\[0\]\[0\] must be a whole number(.|\n)*'a'",
    ),
    "tokens as a reference": (
        lambda: decoding.audit(*problem(), greedy(), reference=[0, 1]),  # pyright: ignore
        "2 sequences for 1 items|must be a list",
    ),
    "a negative tolerance": (
        lambda: decoding.audit(*problem(), greedy(), tolerance=-1),
        "tolerance must be a finite number at least 0",
    ),
    "a problem not taken apart": (
        lambda: decoding.greedy(problem(), None, None, max_length=1),  # pyright: ignore
        "start must hold the last token",
    ),
    "alpha in words": (lambda: decoding.LengthNormalized("1"), "alpha must be a finite number"),  # pyright: ignore
    "a level in percent": (
        lambda: measured().intervals(95),
        "level must be a finite number above 0 and below 1",
    ),
    "no processors": (
        lambda: decoding.beam_search(*problem(), width=1, max_length=1, processors=None),  # pyright: ignore
        "processors must be a sequence of functions",
    ),
    "one token to forbid": (lambda: decoding.forbid(0), "tokens must be a list of whole numbers"),  # pyright: ignore
    "a mask to forbid": (
        lambda: decoding.forbid(torch.tensor([True, False])),  # pyright: ignore
        "lists the tokens of a mask",
    ),
    "a rule that returns nothing": (
        lambda: _search(decoding.allow(lambda prefix: None)),  # pyright: ignore
        r"the result of allow\(\)'s rule must be a list",
    ),
    "a rule that returns a mask": (
        lambda: _search(decoding.allow(lambda prefix: torch.tensor([True, False]))),  # pyright: ignore
        "lists the tokens of a mask",
    ),
    "a rule that returns a list of flags": (
        lambda: _search(decoding.allow(lambda prefix: [True, False])),
        "lists the tokens of a mask",
    ),
    "one width": (
        lambda: decoding.measure_search_errors(*problem(), max_length=2, widths=3),  # pyright: ignore
        r"widths must be a list(.|\n)*write \[...\] around it",
    ),
    "an item that is not there": (
        lambda: greedy().hypotheses(5),
        "item must be a whole number from 0 to 0",
    ),
    "a negative item": (lambda: greedy().hypotheses(-1), "item must be a whole number"),
    "no seed": (
        lambda: decoding.sample(*problem(), num=1, max_length=1, seed=None),  # pyright: ignore
        "seed must be a whole number",
    ),
    "a negative seed": (
        lambda: decoding.sample(*problem(), num=1, max_length=1, seed=-1),
        "seed must be a whole",
    ),
    "a processor of one argument": (
        lambda: _search(lambda log_probs: log_probs),  # pyright: ignore
        r"processors\[0\] = a function, which takes other arguments",
    ),
    "a start token that a table does not know": (
        lambda: decoding.greedy(*problem()._replace(start=torch.tensor([77])), max_length=1),
        "token 77",
    ),
    "a negative start token of a table": (
        lambda: decoding.greedy(*problem()._replace(start=torch.tensor([-1])), max_length=1),
        "token -1",
    ),
    "a state that a table does not have": (
        lambda: decoding.greedy(*problem()._replace(state=torch.tensor([99])), max_length=1),
        "the same problem as Table",
    ),
    "sparse scores": (
        lambda: decoding.greedy(
            lambda tokens, state: (torch.ones(len(tokens), 3).to_sparse(), state),
            {},
            torch.tensor([0]),
            max_length=1,
        ),
        "scores of layout torch.sparse_coo",
    ),
    "scores without numbers": (
        lambda: decoding.greedy(
            lambda tokens, state: (torch.ones(len(tokens), 3, device="meta"), state),
            {},
            torch.tensor([0]),
            max_length=1,
        ),
        "scores on the meta device",
    ),
    "a processor of transformers": (
        lambda: _search(transformers.MinLengthLogitsProcessor(3, 1)),
        "a MinLengthLogitsProcessor of transformers(.|\\n)*opposite order",
    ),
    "processors of transformers": (
        lambda: decoding.beam_search(
            *problem(), width=1, max_length=1, processors=transformers.LogitsProcessorList()
        ),
        "a LogitsProcessorList of transformers",
    ),
    "an unknown setting of a language model": (
        lambda: decoding.RecurrentLM(layers=2),
        "num_layers",
    ),
    "a learning rate of 0": (
        lambda: decoding.RecurrentLM(learning_rate=0),
        "learning_rate must be a finite number",
    ),
    "exponents of what was not measured": (lambda: counted().exponents("seconds"), "timed=True"),
    "a comparison of audits": (
        lambda: decoding.compare(audited()),  # pyright: ignore
        r"searches\[0\] must be the result",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_likely_mistakes_are_refused(name):
    run, text = MISTAKES[name]
    with pytest.raises(InputError, match=text):
        run()


def test_fit_accepts_the_text_of_the_manual():
    from leadline.data._text import Text

    text = Text(TEXT, "letters", "0")
    lm = decoding.RecurrentLM(**lm_settings()).fit(text)
    assert lm.perplexity == fitted().perplexity
