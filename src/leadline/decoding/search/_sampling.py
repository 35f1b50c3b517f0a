"""Sampling sequences: each as likely as the model says, with or without replacement."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline import checks
from leadline.decoding.models._problem import Model, Problem, Step
from leadline.decoding.search._candidates import Reader, refuse_nan
from leadline.decoding.search._decoded import Decoded, conclude
from leadline.decoding.search._hypotheses import History
from leadline.decoding.search._settings import (
    EndTokens,
    check_end_tokens,
    count,
    end_tokens,
    length,
    normalization,
)

SHARE = 1e-6
"""A share of the probability is reached where less than this is missing: the rounding of float32."""


def sample(
    step: Step,
    state: Any,
    start: Tensor,
    *,
    num: int,
    max_length: int,
    eos: EndTokens = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    replacement: bool = True,
    normalize: bool | None = None,
    seed: int = 0,
) -> Decoded:
    """Draw ``num`` sequences for each prompt.

    Without replacement, all differ: Gumbel noise is added to the log-probabilities of sequences, and the ``num``
    largest are found by a beam search over prefixes. The first ``n`` of them are a sample of size ``n``.

    Args:
        step: see :data:`~leadline.decoding.models._problem.Step`.
        state: the state at the end of the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        num: sequences to draw for each prompt.
        max_length: new tokens at most.
        eos: the end token or tokens.
        temperature: log-probabilities are divided by it before drawing, above 0.
        top_k: draw among the most likely k tokens only.
        top_p: draw among the most likely tokens that hold this share of the probability, in (0, 1].
        replacement: whether a sequence may be drawn twice.
        normalize: whether scores are logits; ``None`` follows ``step.normalized``.
        seed: item i draws from its own generator, made of ``seed`` and i: its batch mates do not matter.

    Returns:
        The sequences, in the order of their log-probabilities; without replacement, in the order of drawing, the score
        being the perturbed log-probability. ``log_prob`` is the model's own, whatever the temperature.

    Raises:
        InputError: a setting is out of range, or as :func:`~leadline.decoding.search._beam.beam_search`.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> drawn = sample(*table.problem(), num=3, max_length=2, replacement=False, seed=1)
    >>> sorted(" ".join(hypothesis.words) for hypothesis in drawn.hypotheses())
    ['a a', 'a b', 'b a']

    Reference: Kool, van Hoof and Welling, *Stochastic beams and where to find them*, 2019.
    """
    num = count(num, "num")
    max_length = length(max_length)
    cure = "greedy(...) is what a temperature of 0 would be"
    temperature = checks.number(temperature, "temperature", above=0, cure=cure)
    top_k = checks.optional_whole_number(top_k, "top_k", least=1)
    top_p = None if top_p is None else checks.number(top_p, "top_p", above=0, most=1)
    replacement = checks.flag(replacement, "replacement")
    normalize = normalization(normalize)
    seed = checks.seed(seed)
    settings = {
        "search": "sampling" if replacement else "sampling without replacement",
        "num": num,
        "max_length": max_length,
        "eos": end_tokens(eos),
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "normalize": normalize,
        "seed": seed,
    }
    model = Model(Problem(step, state, start), normalize)
    reader, draws, ends = (
        Reader(model.are_logits),
        [_Draws(seed, i) for i in range(model.batch)],
        settings["eos"],
    )
    history = History(model.batch, num)
    item, (total, chance, noisy) = np.arange(model.batch), np.zeros((3, model.batch))
    tokens, state = start, model.state
    for t in range(1, max_length + 1):
        scores, state = model(tokens, state)
        check_end_tokens(ends, scores.shape[1])
        log_prob = reader.all(scores).cpu().numpy()
        if not (log_prob < np.inf).all():
            row = int((~(log_prob < np.inf)).any(1).argmax())
            refuse_nan(
                step=t, item=int(item[row]), hypothesis=int(row - np.searchsorted(item, item[row]))
            )
        proposal = _proposal(log_prob, temperature, top_k, top_p)
        drawn = chance[:, None] + proposal  # by which the whole prefix is drawn
        if replacement:
            repeats = num if t == 1 else 1
            rows, words, score = _draw(proposal, item, draws, repeats)
        else:
            room = history.score[:, -1]
            rows, words, score = _draw_distinct(drawn, item, noisy, draws, num, room)
        grown = total[rows] + log_prob[rows, words]
        owner, is_end = item[rows], np.isin(words, ends) | (t == max_length)
        for i in np.unique(owner[is_end]):
            done = is_end & (owner == i)
            parts = (grown if replacement else score, grown, rows, words)
            history.finish(np.array([i]), t, *(part[done][None] for part in parts))
        chance = drawn[rows, words]
        rows, words, item, total, chance, noisy = (
            x[~is_end] for x in (rows, words, owner, grown, chance, score)
        )
        if not len(rows):
            break
        state = model.reorder(state, rows.tolist())
        tokens = torch.from_numpy(words).to(start.device)
        history.add(rows, words, total)
    nothing = np.full((model.batch, 1), np.inf)
    return conclude(
        model,
        history.read(num, ends),
        settings,
        discarded=nothing,
        reason="sampling does not search",
    )


class _Draws:
    """The random numbers of one item."""

    def __init__(self, seed: int, item: int):
        self.generator = np.random.default_rng([seed, item])

    def uniform(self, *shape: int) -> np.ndarray:
        return self.generator.random(shape)

    def gumbel(self, *shape: int) -> np.ndarray:
        return self.generator.gumbel(size=shape)


def _proposal(
    log_prob: np.ndarray, temperature: float, top_k: int | None, top_p: float | None
) -> np.ndarray:
    """The log-probabilities to draw from (N, M), normalised."""
    highest = np.maximum(log_prob.max(axis=1, keepdims=True), np.finfo(float).min)
    with np.errstate(over="ignore"):
        log_q = (log_prob - highest) / temperature
    if top_k is not None and top_k < log_q.shape[1]:
        order = np.argsort(-log_q, axis=1, kind="stable")
        np.put_along_axis(log_q, order[:, top_k:], -np.inf, 1)
    log_q = log_q - _log_sum_exp(log_q)
    if top_p is not None and top_p < 1:
        order = np.argsort(-log_q, axis=1, kind="stable")
        share = np.exp(np.take_along_axis(log_q, order, 1)).cumsum(axis=1)
        beyond = np.concatenate(
            [np.zeros((len(share), 1), dtype=bool), share[:, :-1] >= top_p - SHARE], axis=1
        )
        dropped = np.zeros_like(beyond)
        np.put_along_axis(dropped, order, beyond, 1)
        log_q = np.where(dropped, -np.inf, log_q)
        log_q = log_q - _log_sum_exp(log_q)
    return log_q


def _log_sum_exp(values: np.ndarray) -> np.ndarray:
    highest = np.maximum(values.max(axis=1, keepdims=True), np.finfo(float).min)
    with np.errstate(divide="ignore"):
        total = highest + np.log(np.exp(values - highest).sum(axis=1, keepdims=True))
    return np.where(total == -np.inf, 0.0, total)


def _draw(
    log_q: np.ndarray, item: np.ndarray, draws: list[_Draws], repeats: int
) -> tuple[np.ndarray, ...]:
    """Rows, tokens and zeros: each row's next token, by the inverse of its distribution function."""
    upto = np.exp(log_q).cumsum(axis=1)
    alive = np.flatnonzero(upto[:, -1] > 0)
    rows = alive.repeat(repeats)
    u = np.concatenate(
        [draws[i].uniform(int((item[rows] == i).sum())) for i in np.unique(item[rows])]
        or [np.zeros(0)]
    )
    words = (upto[rows] <= (u * upto[rows, -1])[:, None]).sum(axis=1)
    return rows, words, np.zeros(len(rows))


def _draw_distinct(
    log_q: np.ndarray,
    item: np.ndarray,
    noisy: np.ndarray,
    draws: list[_Draws],
    num: int,
    room: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """Rows, tokens and perturbed log-probabilities of the best continuations of each item, best first.

    A child's perturbed log-probability is ``-log(exp(-G) - exp(-Z) + exp(-g))``: g is the log-probability of the whole
    prefix plus Gumbel noise, Z the largest g among its siblings and G its parent's perturbed log-probability, so that
    the largest child has its parent's.
    """
    rows, words, scores = [], [], []
    for i in np.unique(item):
        mine = np.flatnonzero(item == i)
        log_q_i = log_q[mine]
        g = log_q_i + draws[i].gumbel(*log_q_i.shape)
        parent, largest = noisy[mine][:, None], g.max(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            v = parent - g + np.log1p(-np.exp(g - largest))
            child = parent - np.maximum(v, 0) - np.log1p(np.exp(-np.abs(v)))
        child = np.where(g == -np.inf, -np.inf, child).ravel()
        best = np.argsort(-child, kind="stable")[:num]
        best = best[(child[best] > -np.inf) & (child[best] > room[i])]
        rows.append(mine[best // log_q.shape[1]])
        words.append(best % log_q.shape[1])
        scores.append(child[best])
    return np.concatenate(rows), np.concatenate(words), np.concatenate(scores)
