"""Measurements of ``beam.a`` to ``beam.d``: the course's table, and a model of real text."""

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from leadline import decoding
from leadline.data import manual_text
from leadline.sounding import Protocol
from leadline.worksheet._answer import Answer
from leadline.worksheet._criterion import Fact
from leadline.worksheet._setting import Setting

COURSE_TABLE = decoding.Table(
    {
        (): {"neural": -0.65, "network": -0.73},
        ("neural",): {"neural": -0.80, "network": -0.60},
        ("network",): {"neural": -0.60, "network": -0.80},
        ("neural", "neural"): {"neural": -0.01, "network": -4.61},
        ("neural", "network"): {"neural": -0.80, "network": -0.60},
        ("network", "neural"): {"neural": -0.80, "network": -0.60},
        ("network", "network"): {"neural": -0.60, "network": -0.80},
    }
)
"""Log-probabilities of the next word given the previous words.

The course's text defines those after the start and after ``neural``, the first after ``network``,
and the -0.60 after two different words. We chose the others.
"""

WIDTH = 2
LENGTH = 3


@dataclass(frozen=True)
class RealText:
    """Settings of the language model of real text and of its searches."""

    types: int
    hidden: int
    epochs: int
    prompts: int
    """Maximal number of prompts; the held-out paragraphs may contain fewer."""
    max_calls: int
    """Budget of exact search for each prompt, in model calls."""
    widths: tuple[int, ...] = (1, 2, 3, 5, 10, 20)
    max_length: int = 8
    prompt_words: int = 5
    characters: int | None = None
    """Number of characters of the text; ``None`` for the whole text."""
    held_out: float = 1 / 8
    """Share of the paragraphs that is held out for prompts."""
    seed: int = 0


REAL_TEXT = {
    "quick": RealText(types=1000, hidden=128, epochs=4, prompts=200, max_calls=100),
    "full": RealText(types=3000, hidden=128, epochs=5, prompts=1000, max_calls=400),
}
"""Settings by budget."""

SETTINGS = {"vocabulary": "neural, network", "width": WIDTH, "length": LENGTH}


def first_step(setting: Setting) -> Answer:
    """``beam.a``: the beam after step 1."""
    return _beam_after(1, "beam.a", [("neural", -0.65), ("network", -0.73)])


def second_step(setting: Setting) -> Answer:
    """``beam.b``: the beam after step 2."""
    return _beam_after(2, "beam.b", [("neural network", -1.25), ("network neural", -1.33)])


def third_step(setting: Setting) -> Answer:
    """``beam.c``: the beam after step 3."""
    return _beam_after(
        3, "beam.c", [("neural network network", -1.85), ("network neural network", -1.93)]
    )


def missed_optimum(setting: Setting) -> Answer:
    """``beam.d``: the optimum by exact and exhaustive search, and the step at which it was lost."""
    problem = COURSE_TABLE.problem
    found = decoding.beam_search(*problem(), width=WIDTH, max_length=LENGTH, trace=True)
    audit = decoding.audit(*problem(), found)
    exact, brute = (
        h.hypotheses()[0]
        for h in (audit.optimum, decoding.exhaustive_search(*problem(), max_length=LENGTH))
    )
    answer = found.hypotheses()[0]
    step = int(audit.lost_step[0])
    rank = int(audit.lost_rank[0])
    width = int(audit.width[0])
    narrow, wide = (decoding.beam_search(*problem(), width=w, max_length=LENGTH) for w in (1, 3))
    size = REAL_TEXT[setting.budget]
    real, about = _real_text(size)
    return Answer(
        protocol=Protocol(
            {
                **SETTINGS,
                "real_text": {name: getattr(size, name) for name in size.__dataclass_fields__},
            },
            seeds=(size.seed,),
            fingerprints={"manual": about.sha256},
        ),
        statement_id="beam.d",
        sentence=f"the search returns `{' '.join(answer.words)}` ({answer.log_prob:z.2f}); the "
        f"most likely sequence is `{' '.join(exact.words)}` ({exact.log_prob:z.2f}), lost at step "
        f"{step} at rank {rank}; width {width} keeps it. On a language model of real text, "
        f"{_misses(real)}.",
        soundings={"audit": audit, "real_text": real},
        facts=_facts(audit, answer, exact, brute),
        findings=(
            f"Without any call of the model beyond its own, the search of width {WIDTH} reports: "
            f"{found.certificate}.",
            f"The search of width 3 reports: {wide.certificate}; greedy search returns "
            f"{narrow.hypotheses()[0]}.",
            *_on_real_text(size, real, about),
        ),
    )


def _facts(
    audit: decoding.SearchAudit,
    answer: decoding.Hypothesis,
    exact: decoding.Hypothesis,
    brute: decoding.Hypothesis,
) -> dict[str, Fact]:
    """Return what the audit must find.

    Args:
        audit: the audit of the beam search.
        answer: the answer of the beam search.
        exact: the optimum by exact search.
        brute: the optimum by exhaustive search.
    """
    step = int(audit.lost_step[0])
    rank = int(audit.lost_rank[0])
    width = int(audit.width[0])
    lost = " ".join(exact.words[:step])
    same = "the same" if exact.tokens == brute.tokens else f"but exhaustive search finds {brute}"
    return {
        "optimum": Fact(
            "the most likely sequence starts with `neural neural` and scores -1.46",
            exact.words[:2] == ("neural", "neural")
            and exact.tokens == brute.tokens
            and round(exact.log_prob, 2) == round(brute.log_prob, 2) == -1.46,
            f"`{' '.join(exact.words)}` {exact.log_prob:z.2f} by exact search; {same} by "
            "exhaustive search",
            "`neural neural` … -1.46 by both searches",
        ),
        "missed": Fact(
            "beam search does not return it",
            answer.tokens != exact.tokens and answer.log_prob < exact.log_prob,
            f"`{' '.join(answer.words)}` {answer.log_prob:z.2f}",
            "another sequence, of lower log-probability",
        ),
        "lost_at": Fact(
            "it was lost at step 2, at rank 3",
            (step, rank) == (2, 3),
            f"its prefix `{lost}` left the beam at step {step}, at rank {rank}",
            "step 2, rank 3",
        ),
        "width_that_keeps_it": Fact(
            "the smallest width that returns it is 3", width == 3, f"width {width}", "width 3"
        ),
    }


@dataclass(frozen=True)
class _About:
    """Quality of the language model."""

    perplexity: decoding.Perplexities
    sha256: str
    end: int


@cache
def _real_text(size: RealText) -> tuple[decoding.SearchErrors, _About]:
    """Train on most paragraphs of the manual, and decode continuations of the others.

    Duplicate paragraphs are removed, so that no paragraph is on both sides. A run of one repeated
    character, such as a rule of a table, is shortened to a single character.
    """
    manual = manual_text()
    text = re.sub(r"([^\w\s])(?:\s*\1)+", r"\1", manual.text[: size.characters])
    paragraphs = list(
        dict.fromkeys(" ".join(_words(p)) for p in re.split(r"\n\s*\n", text) if _words(p))
    )
    order = np.random.default_rng(size.seed).permutation(len(paragraphs))
    held = round(size.held_out * len(paragraphs))
    lm = decoding.RecurrentLM(
        vocabulary_size=size.types, hidden_size=size.hidden, epochs=size.epochs, seed=size.seed
    )
    lm.fit("\n\n".join(paragraphs[i] for i in sorted(order[held:])))
    words = [paragraphs[i].split() for i in order[:held]]
    first = dict.fromkeys(
        " ".join(w[: size.prompt_words]) for w in words if len(w) >= 2 * size.prompt_words
    )
    prompts = list(first)[: size.prompts]
    errors = decoding.measure_search_errors(
        *lm.problem(prompts),
        widths=size.widths,
        max_length=size.max_length,
        eos=lm.end,
        max_calls=size.max_calls,
    )
    assert lm.perplexity is not None
    return errors, _About(lm.perplexity, manual.sha256, lm.end)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def _misses(errors: decoding.SearchErrors) -> str:
    low, high = errors.rates()
    return (
        f"width {errors.widths[0]} misses the most likely sequence for {_share(low[0], high[0])} "
        f"of {len(errors.best)} prompts, and width {errors.widths[-1]} for "
        f"{_share(low[-1], high[-1])}"
    )


def _on_real_text(size: RealText, errors: decoding.SearchErrors, about: _About) -> tuple[str, ...]:
    p = about.perplexity
    n = len(errors.best)
    by_width = "; ".join(
        f"{width}: {_share(low, high)} [{interval.low:z.0%}, {interval.high:z.0%}]"
        for width, low, high, interval in zip(
            errors.widths, *errors.rates(), errors.intervals(), strict=True
        )
    )
    against = "; ".join(
        f"{width}: {beats:z.0%}, {equals:z.0%}, {loses:z.0%}"
        for width, (beats, equals, loses) in zip(
            errors.widths, errors.against_greedy(), strict=True
        )
    )
    left = int((~errors.proved).sum())
    optimum = errors.optimum
    ends = (optimum.lengths[:, 0] == 1) & (optimum.tokens[:, 0, 0] == about.end)
    return (
        f"Real text: a GRU with {size.hidden} hidden units on Python's manual (held-out perplexity "
        f"{p.model:z.0f}; counting pairs of words {p.bigram:z.0f}, counting words "
        f"{p.unigram:z.0f}) continues {n} beginnings of paragraphs that it never saw, by at most "
        f"{size.max_length} words or to the paragraph's end.",
        f"Search errors by width, from proved to possible ones: {by_width} (Clopper-Pearson "
        f"intervals, 95 %, over prompts of one trained model). The budget left {left} of {n} "
        "prompts unresolved; none is dropped.",
        "Against greedy search, the share of prompts where the beam beats, equals and loses: "
        f"{against}.",
        f"For {ends.mean():z.0%} of the prompts the most likely continuation is the paragraph's "
        "end at once: fewer search errors are not better text.",
    )


def _share(low: float, high: float) -> str:
    return f"{low:z.1%}" if low == high else f"{low:z.1%} to {high:z.1%}"


def _beam_after(step: int, statement_id: str, expected: list[tuple[str, float]]) -> Answer:
    search = decoding.beam_search(
        *COURSE_TABLE.problem(), width=WIDTH, max_length=LENGTH, trace=True
    )
    assert search.trace is not None
    # This search ends at ``step``; the traced search above continues to its full length.
    upto = decoding.beam_search(
        *COURSE_TABLE.problem(), width=WIDTH, max_length=step, num_return=WIDTH, trace=True
    )
    held = [(" ".join(node.words), round(node.log_prob, 9)) for node in search.trace.beam(step)]
    pruned = [node for node in search.trace.candidates(step) if node.fate is decoding.Fate.PRUNED]
    return Answer(
        protocol=Protocol(SETTINGS),
        statement_id=statement_id,
        sentence=f"after step {step} the beam holds {_listed(held)}.",
        soundings={"search": upto},
        facts={
            f"beam_after_step_{step}": Fact(
                f"the beam after step {step}, best first",
                held == expected,
                _listed(held),
                _listed(expected),
            )
        },
        findings=tuple(
            f"Pruned at this step, at rank {node.rank}: `{' '.join(node.words)}` "
            f"({node.log_prob:z.2f})."
            for node in pruned
        ),
    )


def _listed(beam: list[tuple[str, float]]) -> str:
    return " and ".join(f"`{words}` ({log_prob:z.2f})" for words, log_prob in beam)
