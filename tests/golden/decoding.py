"""Results of ``leadline.decoding``: searches, scores, constraints, judgements and models."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline import decoding
from tests.golden.names import IS_0_1, call, field, public
from tests.golden.values import columns

END = 0
TEXT = "the cat sat on the mat .\n\nthe dog sat on the log .\n\na cat and a dog sat .\n\n" * 6

SCORES: dict[str, Any] = {
    "sum": decoding.SumLogProb(),
    "length": decoding.LengthNormalized(0.7),
    "gnmt": decoding.GNMT(0.6),
    "reward": decoding.WordReward(0.4),
}


def markov(num_tokens: int = 6, batch: int = 3, seed: int = 0) -> Any:
    """A step function that knows the last two tokens, with normalised scores in float64."""
    draw = np.random.default_rng(seed)
    table = torch.from_numpy(2.0 * draw.normal(size=(num_tokens, num_tokens, num_tokens)))
    table = table.log_softmax(-1)

    def step(tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return table[state, tokens], tokens

    start = torch.arange(1, batch + 1)
    return decoding.Problem(step, torch.zeros(batch, dtype=torch.int64), start)


def essence(decoded: Any) -> dict[str, Any]:
    """Return what a search found: tokens, scores and work, and the hypotheses of the first item."""
    names = ("tokens", "lengths", "log_prob", "score", "token_log_prob", "finished", "work")
    found = {name: field(decoded, name) for name in names}
    found["hypotheses"] = [list(hypothesis.tokens) for hypothesis in decoded.hypotheses(0)[:4]]
    return {**found, "table": columns(decoded)}


def searches() -> dict[str, Any]:
    """Run every search."""
    problem = markov()
    found: dict[str, Any] = {}
    length: dict[str, Any] = {"max_length": 5, "eos": END}
    for name, score in SCORES.items():
        for mode in ("pool", "in_beam"):
            answer = call(
                "decoding.beam_search", *problem, width=3, **length,
                score=score, eos_mode=mode, num_return=3, normalize=False,
            )  # fmt: skip
            found[f"beam {name} {mode}"] = essence(answer)
        best = call("decoding.exact_search", *problem, **length, score=score, normalize=False)
        found[f"exact {name}"] = {**essence(best), "certificate": best.certificate}
    traced = call("decoding.beam_search", *problem, width=2, **length, trace=True)
    found["trace"] = trace_numbers(traced)
    found["greedy"] = essence(call("decoding.greedy", *problem, **length))
    found["exhaustive"] = essence(
        call("decoding.exhaustive_search", *problem, max_length=2, eos=END)
    )
    per_length = call("decoding.exact_search", *problem, **length, per_length=True)
    found["exact per length"] = {**essence(per_length), "certificate": per_length.certificate}
    stopped = call("decoding.exact_search", *problem, **length, max_calls=2, batch=2)
    found["exact stopped"] = {**essence(stopped), "certificate": stopped.certificate}
    many = call("decoding.exact_search", *problem, **length, num_return=4)
    found["exact many"] = essence(many)
    return found


def trace_numbers(decoded: Any) -> Any:
    """Return the nodes of a recorded search."""
    trace = field(decoded, "trace")
    names = ("item", "step", "parent", "token", "log_prob", "rank", "fate")
    return {name: field(trace, name) for name in names}


def samples() -> dict[str, Any]:
    """Draw samples with and without replacement."""
    problem = markov(seed=1)
    settings: dict[str, Any] = {"num": 4, "max_length": 4, "eos": END, "seed": 3}
    return {
        "plain": essence(call("decoding.sample", *problem, **settings)),
        "cold": essence(call("decoding.sample", *problem, **settings, temperature=0.5, top_k=3)),
        "nucleus": essence(call("decoding.sample", *problem, **settings, top_p=0.8)),
        "without": essence(call("decoding.sample", *problem, **settings, replacement=False)),
    }


def constraints() -> dict[str, Any]:
    """Search under each constraint."""
    problem = markov(seed=2)
    rules: dict[str, Any] = {
        "allow": public("decoding.allow")(lambda prefix: [0, 1, 2, len(prefix) + 1]),
        "forbid": public("decoding.forbid")([2, 3]),
        "force_prefix": public("decoding.force_prefix")([4, 1]),
        "min_length": public("decoding.min_length")(3, END),
        "no_repeat_ngram": public("decoding.no_repeat_ngram")(2),
    }
    found: dict[str, Any] = {}
    for name, rule in rules.items():
        for renormalised in (False, True):
            inside = call("decoding.constrain", *problem, [rule], normalize=renormalised)
            answer = call(
                "decoding.beam_search", *inside, width=3, max_length=4, eos=END, num_return=2
            )
            found[f"{name} {renormalised}"] = essence(answer)
        best = call(
            "decoding.exact_search",
            *call("decoding.constrain", *problem, [rule]),
            max_length=4,
            eos=END,
        )
        found[f"{name} exact"] = essence(best)
    return found


def judgements() -> dict[str, Any]:
    """Audit, compare, and count search errors and work."""
    found: dict[str, Any] = {}
    problem = markov(num_tokens=8, batch=4, seed=3)
    length: dict[str, Any] = {"max_length": 6, "eos": END}
    narrow = call("decoding.greedy", *problem, **length)
    wide = call("decoding.beam_search", *problem, width=4, **length)
    audit = call("decoding.audit", *problem, narrow, reference=[[1, 2, 0]] * 4)
    names = ("outcome", "lost_step", "lost_rank", "width", "blame")
    found["audit"] = {name: field(audit, name) for name in names}
    found["audit optimum"] = essence(audit.optimum)
    found["audit table"] = columns(audit)
    unresolved = call("decoding.audit", *problem, narrow, max_calls=1)
    found["unresolved"] = {name: field(unresolved, name) for name in names}
    comparison = call("decoding.compare", narrow, wide)
    found["comparison"] = columns(comparison)
    errors = call("decoding.search_errors", *problem, widths=(1, 2, 4), **length)
    found["search errors"] = {
        name: field(errors, name) for name in ("widths", "score", "greedy", "best", "proved")
    }
    work = call("decoding.complexity", (2, 3), (1, 2), (8, 12))
    parts = ("T", "k", "M", "rows", "candidates", "handed_out")
    found["complexity"] = {name: field(work, name) for name in parts}
    return found


def models() -> dict[str, Any]:
    """Search a table, a recurrent language model and a tiny Hugging Face model."""
    found: dict[str, Any] = {}
    shares = {
        (): {"a": 0.6, "b": 0.4},
        ("a",): {"a": 0.3, "b": 0.3, "end": 0.4},
        ("b",): {"a": 0.9, "end": 0.1},
    }
    logs = {
        prefix: {word: math.log(share) for word, share in row.items()}
        for prefix, row in shares.items()
    }
    table = decoding.Table(logs)
    settings: dict[str, Any] = {"max_length": 2, "eos": table.token("end")}
    found["table"] = essence(call("decoding.beam_search", *table.problem(), width=2, **settings))
    found["table exact"] = essence(call("decoding.exact_search", *table.problem(), **settings))
    for cell in ("gru", "lstm"):
        if IS_0_1:
            sizes = {"types": 14, "hidden": 4, "streams": 4}
        else:
            sizes = {"vocabulary_size": 14, "hidden_size": 4, "batch_size": 4}
        model = call("decoding.RecurrentLM", **sizes, epochs=1, cell=cell, seed=1)
        model = model.fit(TEXT)
        prompts = model.problem(["the cat", "a"])
        found[f"{cell} perplexity"] = model.perplexity
        found[f"{cell} vocabulary"] = list(model.vocabulary)
        answer = call("decoding.beam_search", *prompts, width=2, max_length=4, eos=model.end)
        found[f"{cell} beam"] = essence(answer)
    found["hugging face"] = hugging_face()
    return found


def hugging_face() -> dict[str, Any]:
    """Search a tiny GPT-2 with random weights, with prompts of two lengths."""
    import transformers

    config = transformers.GPT2Config(
        vocab_size=20,
        n_positions=16,
        n_embd=8,
        n_layer=2,
        n_head=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        model = transformers.GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    ids = torch.tensor([[0, 0, 5, 6], [8, 9, 11, 12]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    problem = call("decoding.huggingface", model, ids, mask)
    beam = call("decoding.beam_search", *problem, width=3, max_length=4, eos=1)
    best = call("decoding.exact_search", *problem, max_length=3, eos=1, max_calls=50)
    return {"beam": essence(beam), "exact": essence(best)}


CASES = (searches, samples, constraints, judgements, models)
