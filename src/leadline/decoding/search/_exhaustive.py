"""Every sequence there is: the oracle of all other searches, where the tree is small enough."""

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
    end_tokens,
    length,
    normalization,
)
from leadline.errors import InputError


def exhaustive_search(
    step: Step,
    state: Any,
    start: Tensor,
    *,
    max_length: int,
    eos: EndTokens = None,
    normalize: bool | None = None,
    limit: int = 1_000_000,
) -> Decoded:
    """All complete sequences with a probability above zero, most likely first; their probabilities sum to 1.

    Args:
        step: see :data:`~leadline.decoding.models._problem.Step`.
        state: the state at the end of the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        max_length: new tokens at most.
        eos: the end token or tokens.
        normalize: whether scores are logits; ``None`` follows ``step.normalized``.
        limit: sequences per call at most.

    Raises:
        InputError: there are more sequences than ``limit``, or as :func:`~leadline.decoding.search._beam.beam_search`.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> [str(hypothesis) for hypothesis in decoding.exhaustive_search(*table.problem(), max_length=2).hypotheses()]
    ['b a -0.90', 'a a -1.30', 'a b -1.30']
    """
    max_length = length(max_length)
    limit = checks.whole_number(limit, "limit", least=1)
    normalize = normalization(normalize)
    model, ends = Model(Problem(step, state, start), normalize), end_tokens(eos)
    items, total = np.arange(model.batch), np.zeros(model.batch)
    history, tokens, state, complete = History(model.batch, 0), start, model.state, []
    for t in range(1, max_length + 1):
        scores, state = model(tokens, state)
        check_end_tokens(ends, scores.shape[1])
        if t == 1:
            _check_limit(model.batch, scores.shape[1], len(ends), max_length, limit)
        log_prob = Reader(model.are_logits).all(scores).cpu().numpy()
        if not (log_prob < np.inf).all():
            row = int((~(log_prob < np.inf)).any(1).argmax())
            refuse_nan(
                step=t,
                item=int(items[row]),
                hypothesis=int(row - np.searchsorted(items, items[row])),
            )
        grown = total[:, None] + log_prob
        rows, words = np.nonzero(grown > -np.inf)
        total = grown[rows, words]
        is_end = np.isin(words, ends) | (t == max_length)
        complete.append(
            [x[is_end] for x in (items[rows], np.full_like(rows, t), total, rows, words)]
        )
        rows, words, total = rows[~is_end], words[~is_end], total[~is_end]
        if not len(rows):
            break
        items, state = items[rows], model.select(state, torch.from_numpy(rows).to(start.device))
        history.add(rows, words, total)
        tokens = torch.from_numpy(words).to(start.device)
    history.finish_all(*(np.concatenate(parts) for parts in zip(*complete, strict=True)))
    settings = {
        "search": "exhaustive search",
        "max_length": max_length,
        "eos": ends,
        "normalize": normalize,
    }
    nothing = np.full((model.batch, 1), -np.inf)
    return conclude(model, history.read(None, ends), settings, discarded=nothing)


def _check_limit(batch: int, M: int, ends: int, max_length: int, limit: int) -> None:
    sequences = M
    for _ in range(max_length - 1):
        if sequences > limit:
            break
        sequences = ends + (M - ends) * sequences
    if batch * sequences > limit:
        raise InputError(
            f"exhaustive search visits at most limit = {limit} sequences",
            got=f"at least {batch} x {sequences} sequences of up to {max_length} of {M} tokens",
            cure="use exact_search, which proves the optimum without visiting them all",
        )
