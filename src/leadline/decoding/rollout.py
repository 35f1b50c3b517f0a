"""Searches that follow one continuation at a time: greedy, and sampling."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline.decoding.candidates import Reader, refuse_nan
from leadline.decoding.decoded import Decoded, conclude
from leadline.decoding.history import History
from leadline.decoding.problem import Model, Problem, Step
from leadline.decoding.settings import EndTokens, check_counts, check_end_tokens, end_tokens


def greedy(
    step: Step,
    state: Any,
    start: Tensor,
    *,
    max_length: int,
    eos: EndTokens = None,
    normalize: bool | None = None,
) -> Decoded:
    """The most likely next token, again and again; ties go to the lower token.

    Args:
        step: see :data:`~leadline.decoding.problem.Step`.
        state: the state at the end of the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        max_length: new tokens at most.
        eos: the end token or tokens.
        normalize: whether scores are logits; ``None`` follows ``step.normalized``.

    Returns:
        One hypothesis per item, with a certificate.

    Raises:
        InputError: as :func:`~leadline.decoding.beam.beam_search`.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> print(decoding.greedy(*table.problem(), max_length=2))
    greedy search returns “a a” with log-probability -1.30; a better answer is not excluded (gap 0.5 nats)
    """
    check_counts(max_length=max_length)
    model, ends = Model(Problem(step, state, start), normalize), end_tokens(eos)
    history, reader = History(model.batch, 1), Reader(model.are_logits)
    discarded = np.full((model.batch, max_length), -np.inf)
    items, total = np.arange(model.batch), np.zeros(model.batch)
    tokens, state = start, model.state
    for t in range(1, max_length + 1):
        scores, state = model(tokens, state)
        check_end_tokens(ends, scores.shape[1])
        log_prob, candidates = reader.best(scores, 2)
        if not (log_prob < np.inf).all():
            refuse_nan(step=t, item=int(items[(~(log_prob < np.inf)).any(1).argmax()]), hypothesis=0)
        rows, first = np.arange(len(items)), log_prob.argmax(axis=1)
        words = candidates[rows, first]
        discarded[items, t - 1] = total + np.where(
            np.arange(log_prob.shape[1]) == first[:, None], -np.inf, log_prob
        ).max(1)
        total = total + log_prob[rows, first]
        lives = (total > -np.inf) & ~np.isin(words, ends) & (t < max_length)
        history.finish(items, t, *(x[:, None] for x in (np.where(lives, -np.inf, total), total, rows, words)))
        if not lives.any():
            break
        if not lives.all():
            state = model.reorder(state, torch.from_numpy(rows[lives]).to(start.device))
        history.add(rows[lives], words[lives], total[lives])
        items, total, tokens = items[lives], total[lives], torch.from_numpy(words[lives]).to(start.device)
    settings = {"search": "greedy search", "max_length": max_length, "eos": ends, "normalize": normalize}
    return conclude(model, history.read(1, ends), settings, discarded=discarded)
