"""Scores of given sequences by one teacher-forced pass, and the check of earlier answers.

One sequence scores a little differently in another batch, in another precision, or with another
number of threads. Two sequences with close scores are therefore scored again in one batch. The
noise is the change of their scores.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from leadline.decoding.answers._decoded import Decoded, Hypothesis
from leadline.decoding.answers._scores import Score
from leadline.decoding.problem._model import Model
from leadline.decoding.problem._reader import Reader
from leadline.errors import InputError

ROUNDING_OF_SCORES = 1e-6
"""Relative difference of two scores that the rounding of float32 explains."""

CLOSE_SCORES = 5e-3
"""Relative difference of two scores below which both sequences are scored again. It is more than
any noise that was observed."""

NOISE_FLOOR = 1e-4
"""Relative difference of a token's log-probability that the noise of float32 does not reach."""

SEQUENCES_PER_BATCH = 64
"""Sequences that are scored in one batch."""

MOST_RESCORED = 64
"""Hypotheses of an item that are scored again; an n-best list may be longer."""


class Margin(NamedTuple):
    """The lead of one sequence over another in the same batch, and the noise of the scores."""

    margin: float
    noise: float


def token_log_probs(
    model: Model, items: Sequence[int], sequences: Sequence[Sequence[int]], what: str = "a sequence"
) -> list[np.ndarray]:
    """Return the log-probability of each token of given sequences.

    Args:
        model: the model with its problem.
        items: for each sequence, the item that it continues.
        sequences: tokens, at least one each; up to 64 sequences are scored in one batch.
        what: the name of a sequence in errors.

    Raises:
        InputError: a token is outside the vocabulary.
    """
    log_probs: list[np.ndarray] = []
    for first in range(0, len(sequences), SEQUENCES_PER_BATCH):
        chunk = slice(first, first + SEQUENCES_PER_BATCH)
        log_probs += _in_one_batch(model, items[chunk], sequences[chunk], what)
    return log_probs


def _in_one_batch(
    model: Model, items: Sequence[int], sequences: Sequence[Sequence[int]], what: str
) -> list[np.ndarray]:
    # Longest first, so that the rows that end first are the last ones and can be cut off.
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    device = model.start.device
    rows = torch.tensor([items[i] for i in order], device=device)
    tokens = model.start[rows]
    state = model.select(model.state, rows)
    reader = Reader(model.are_logits)
    log_probs = [np.zeros(len(sequence)) for sequence in sequences]
    for t in range(len(sequences[order[0]])):
        unfinished = [i for i in order if len(sequences[i]) > t]
        if len(unfinished) < len(tokens):
            tokens = tokens[: len(unfinished)]
            state = model.select(state, torch.arange(len(unfinished), device=device))
        scores, state = model(tokens, state)
        next_log_probs = reader.all(scores).cpu().numpy()
        M = next_log_probs.shape[1]
        for row, i in enumerate(unfinished):
            token = sequences[i][t]
            if not 0 <= token < M:
                raise InputError(
                    f"{what} must hold tokens of the vocabulary",
                    got=f"token {token} for item {items[i]}, vocabulary of {M} tokens",
                )
            log_prob = next_log_probs[row, token]
            log_probs[i][t] = min(log_prob, 0.0) if model.are_logits else log_prob
        tokens = torch.tensor([sequences[i][t] for i in unfinished], device=device)
    return log_probs


def margin(
    model: Model,
    item: int,
    better: tuple[Sequence[int], float],
    other: tuple[Sequence[int], float],
    score: Score,
) -> Margin:
    """Return the lead of one sequence over another, both scored again in one batch.

    Args:
        model: the model with its problem.
        item: the item that both sequences continue.
        better: the tokens of the leading sequence, and the score that a search gave to it.
        other: the same for the other sequence.
        score: the score that compares the sequences.
    """
    pair = (better, other)
    log_probs = token_log_probs(model, [item, item], [tokens for tokens, _ in pair])
    scores = [float(score(log_prob.sum(), len(log_prob))) for log_prob in log_probs]
    noise = max(abs(new - old) for new, (_, old) in zip(scores, pair, strict=True))
    return Margin(scores[0] - scores[1], noise)


def is_close(first: float, second: float) -> bool:
    """True if noise alone may explain the difference of two scores."""
    return abs(first - second) <= CLOSE_SCORES * (1 + min(abs(first), abs(second)))


def check_belongs(model: Model, decoded: Decoded, argument: str, function: str) -> None:
    """Refuse an answer whose log-probabilities differ from those of this problem.

    Args:
        model: the model with its problem.
        decoded: the answer.
        argument: the name of the argument that holds the answer.
        function: the name of the function that the caller called.

    Raises:
        InputError: a log-probability differs by more than the measured noise.
    """
    claims = _claims(decoded)
    if not claims:
        return
    items = [claim.item for claim in claims]
    sequences = [claim.hypothesis.tokens for claim in claims]
    log_probs = token_log_probs(model, items, sequences, what=argument)
    differences = []
    for claim, log_prob in zip(claims, log_probs, strict=True):
        differences.append(_difference(claim.log_prob, log_prob))
    # A difference that is NaN is suspect, too.
    suspects = [i for i, difference in enumerate(differences) if not difference <= NOISE_FLOOR]
    for item in sorted({items[i] for i in suspects}):
        suspects_of_item = [i for i in suspects if items[i] == item]
        noises = []
        for i in suspects_of_item[:4]:
            (log_prob_alone,) = _in_one_batch(model, [item], [sequences[i]], argument)
            noises.append(_difference(log_probs[i], log_prob_alone))
        worst = max(
            suspects_of_item, key=lambda i: np.inf if np.isnan(differences[i]) else differences[i]
        )
        if not differences[worst] <= 16 * max(noises):
            raise _refusal(argument, function, claims[worst], log_probs[worst])


class _Claim(NamedTuple):
    """A hypothesis of an answer, with the log-probabilities that the answer gives to its tokens."""

    item: int
    hypothesis: Hypothesis
    log_prob: np.ndarray


def _claims(decoded: Decoded) -> list[_Claim]:
    claims = []
    for item in range(len(decoded.lengths)):
        for rank, hypothesis in enumerate(decoded.hypotheses(item, MOST_RESCORED)):
            log_prob = decoded.token_log_prob[item, rank, : len(hypothesis.tokens)]
            claims.append(_Claim(item, hypothesis, log_prob))
    return claims


def _difference(claimed: np.ndarray, computed: np.ndarray) -> float:
    """Return the largest relative difference of two log-probabilities of a token."""
    with np.errstate(invalid="ignore"):
        return float((np.abs(claimed - computed) / (1 + np.abs(claimed))).max())


def _refusal(argument: str, function: str, claim: _Claim, computed: np.ndarray) -> InputError:
    words = " ".join(claim.hypothesis.words)
    return InputError(
        f"{function} needs an answer to the given problem ({argument})",
        got=f"item {claim.item}: “{words}” with log-probability {claim.log_prob.sum():.4g}, "
        f"which is {computed.sum():.4g} here",
        cause="the answer belongs to other prompts, or to another model",
        cure=f"search this problem, and pass that answer to {function}",
    )
