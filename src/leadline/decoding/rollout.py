"""Searches that follow one continuation at a time: greedy, and sampling."""

from typing import Any

import torch
from torch import Tensor

from leadline.decoding.candidates import best_tokens, refuse_nan
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
    history = History(model.batch, 1, start.device)
    discarded = torch.full((model.batch, max_length + 1), -torch.inf, dtype=torch.float64, device=start.device)
    items, total = torch.arange(model.batch, device=start.device), start.new_zeros(model.batch, dtype=torch.float64)
    tokens, state = start, model.state
    for t in range(1, max_length + 1):
        scores, state = model(tokens, state)
        check_end_tokens(ends, scores.shape[1])
        log_prob, candidates = best_tokens(scores, 2, model.are_logits)
        if not (log_prob < torch.inf).all():
            refuse_nan(step=t, item=int(items[(~(log_prob < torch.inf)).any(1)][0]), hypothesis=0)
        log_prob, order = log_prob.sort(dim=1, descending=True, stable=True)
        tokens = candidates.gather(1, order[:, :1]).squeeze(1)
        if log_prob.shape[1] > 1:
            discarded[items, t - 1] = total + log_prob[:, 1]
        total = total + log_prob[:, 0]
        alive = total > -torch.inf
        complete = torch.full_like(alive, t == max_length)
        for end in ends:
            complete |= tokens == end
        history.finish(
            items,
            t,
            torch.where(complete & alive, total, -torch.inf).unsqueeze(1),
            *(x.unsqueeze(1) for x in (total, torch.arange(len(tokens), device=start.device), tokens)),
        )
        rows = (alive & ~complete).nonzero().squeeze(1)
        if not len(rows):
            break
        if len(rows) < len(tokens):
            items, total, tokens, state = items[rows], total[rows], tokens[rows], model.select(state, rows)
        history.add(rows, tokens, total)
    settings = {"search": "greedy search", "max_length": max_length, "eos": ends, "normalize": normalize}
    return conclude(model, history.read(1, ends), settings, discarded=discarded)
