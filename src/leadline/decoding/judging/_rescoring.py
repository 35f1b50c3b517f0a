"""Scores of given sequences, by one teacher-forced pass; and whether an earlier answer belongs to a problem.

The same sequence scores a little differently among other rows of a batch, in another precision or on another number of
threads. Two sequences whose scores differ by little are therefore scored again side by side, and the noise is measured:
it is how far their scores have moved.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from leadline.decoding.models._problem import Model, select
from leadline.decoding.search._candidates import Reader
from leadline.decoding.search._decoded import Decoded, Hypothesis
from leadline.decoding.search._scores import Score
from leadline.errors import InputError

SAME = 1e-6
"""Relative difference of two scores below which one sequence may be taken for another: what float32 leaves open."""

CLOSE = 5e-3
"""Relative difference of two scores below which both sequences are scored again: more than any noise that was seen."""

FLOOR = 1e-4
"""Relative difference of a token's log-probability that the noise of float32 does not reach."""

ROWS = 64
"""Sequences that are scored in one batch."""

FIRST = 64
"""Hypotheses of an item that are scored again; an n-best list may be long."""


class Margin(NamedTuple):
    """How much one sequence scores more than another in the same batch, and the noise of that."""

    margin: float
    noise: float


def token_log_probs(
    model: Model, items: Sequence[int], sequences: Sequence[Sequence[int]], what: str = "a sequence"
) -> list[np.ndarray]:
    """The log-probability of each token of given sequences.

    Args:
        model: the problem.
        items: per sequence, the item that it continues.
        sequences: tokens, at least one each; those of one chunk are scored in one batch.
        what: what the sequences are, for errors.

    Raises:
        InputError: a token is not in the vocabulary.
    """
    found: list[np.ndarray] = []
    for first in range(0, len(sequences), ROWS):
        found += _in_one_batch(
            model, items[first : first + ROWS], sequences[first : first + ROWS], what
        )
    return found


def _in_one_batch(
    model: Model, items: Sequence[int], sequences: Sequence[Sequence[int]], what: str
) -> list[np.ndarray]:
    order = sorted(
        range(len(sequences)), key=lambda i: -len(sequences[i])
    )  # rows that end first come last
    device = model.start.device
    rows = torch.tensor([items[i] for i in order], device=device)
    tokens = model.start[rows]
    state = model.select(model.state, rows)
    reader = Reader(model.are_logits)
    found = [np.zeros(len(sequence)) for sequence in sequences]
    for t in range(len(sequences[order[0]])):
        alive = [i for i in order if len(sequences[i]) > t]
        if len(alive) < len(tokens):
            tokens = tokens[: len(alive)]
            state = model.select(state, torch.arange(len(alive), device=device))
        scores, state = model(tokens, state)
        log_prob = reader.all(scores).cpu().numpy()
        for row, i in enumerate(alive):
            token = sequences[i][t]
            if not 0 <= token < log_prob.shape[1]:
                raise InputError(
                    f"{what} is made of tokens of the vocabulary",
                    got=f"token {token} for item {items[i]}, vocabulary of {log_prob.shape[1]} tokens",
                )
            found[i][t] = (
                min(log_prob[row, token], 0.0) if model.are_logits else log_prob[row, token]
            )
        tokens = torch.tensor([sequences[i][t] for i in alive], device=device)
    return found


def margin(
    model: Model,
    item: int,
    better: tuple[Sequence[int], float],
    other: tuple[Sequence[int], float],
    score: Score,
) -> Margin:
    """How much a sequence scores more than another, both scored again side by side.

    Args:
        model: the problem.
        item: the item that both continue.
        better: tokens and the score that a search found.
        other: the same for the other sequence.
        score: how sequences are scored.
    """
    pair = (better, other)
    again = token_log_probs(model, [item, item], [tokens for tokens, _ in pair])
    scores = [float(score(log_prob.sum(), len(log_prob))) for log_prob in again]
    noise = max(abs(new - old) for new, (_, old) in zip(scores, pair, strict=True))
    return Margin(scores[0] - scores[1], noise)


def is_close(first: float, second: float) -> bool:
    """True if two scores may differ by noise alone."""
    return abs(first - second) <= CLOSE * (1 + min(abs(first), abs(second)))


def check_belongs(model: Model, decoded: Decoded, argument: str, function: str) -> None:
    """Refuse an answer whose log-probabilities are not those of this problem.

    Args:
        model: the problem.
        decoded: the answer.
        argument: the argument's name.
        function: the function's name.

    Raises:
        InputError: a token of an answer has another log-probability here, by more than the measured noise.
    """
    claims = _claims(decoded)
    if not claims:
        return
    items = [item for item, _, _ in claims]
    sequences = [hypothesis.tokens for _, hypothesis, _ in claims]
    here = token_log_probs(model, items, sequences, what=f"{argument}, an answer to the problem,")
    off = [_difference(claim, found) for (_, _, claim), found in zip(claims, here, strict=True)]
    suspects = [i for i, difference in enumerate(off) if not difference <= FLOOR]
    for item in sorted({items[i] for i in suspects}):
        mine = [i for i in suspects if items[i] == item]
        alone = [_in_one_batch(model, [item], [sequences[i]], argument)[0] for i in mine[:4]]
        noise = max(_difference(here[i], found) for i, found in zip(mine, alone, strict=False))
        worst = max(mine, key=lambda i: off[i] if off[i] == off[i] else np.inf)
        if not off[worst] <= 16 * noise:
            _refuse(argument, function, *claims[worst], here[worst])


def _claims(decoded: Decoded) -> list[tuple[int, Hypothesis, np.ndarray]]:
    found = []
    for item in range(len(decoded.lengths)):
        for rank, hypothesis in enumerate(decoded.hypotheses(item, FIRST)):
            found.append(
                (item, hypothesis, decoded.token_log_prob[item, rank, : len(hypothesis.tokens)])
            )
    return found


def _difference(claim: np.ndarray, found: np.ndarray) -> float:
    """The largest relative difference of two log-probabilities of a token."""
    with np.errstate(invalid="ignore"):
        return float((np.abs(claim - found) / (1 + np.abs(claim))).max())


def _refuse(
    argument: str, function: str, item: int, hypothesis: Hypothesis, claim: Any, found: np.ndarray
) -> None:
    raise InputError(
        f"{function} needs an answer to the problem that it is given ({argument})",
        got=f"item {item}: “{' '.join(hypothesis.words)}” with log-probability {claim.sum():.4g}, "
        f"which is {found.sum():.4g} here",
        cause="the answer is to other prompts, or of another model",
        cure=f"search this problem, and pass that answer to {function}",
    )


def one_item(model: Model, item: int) -> Any:
    """The state and start token of one item."""
    row = torch.tensor([item], device=model.start.device)
    return select(model.state, row), model.start[row]
