"""The best next tokens of every hypothesis: the one place that reads all ``(N, M)`` scores.

Two readings are needed: one for the best, one for the sum of exponentials. Torch's general functions are slow at both
on a CPU: ``topk`` copies every score beside its index, ``logsumexp`` makes several passes. Wide rows are therefore cut
into blocks: the best ``count`` tokens lie in blocks whose maxima reach the ``count``-th largest block maximum. What
leaves this place is small and lives in NumPy, whose small operations cost a fraction of torch's.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline.errors import InputError

BLOCK = 64
"""A whole number of vector registers: others are up to three times slower."""

WIDE = 4096
"""From this vocabulary on, rows are read in blocks; below, torch's own functions are faster."""

MODERATE = 60.0
"""Scores up to this size can be exponentiated as they are, in float32."""

ROUNDING = 1e-5
"""How far above 0 a log-probability may be by rounding."""


class Reader:
    """Reads scores, and keeps the memory for it: fresh memory of that size costs more than the arithmetic.

    Args:
        are_logits: subtract each row's ``logsumexp``.

    >>> scores = torch.tensor([[0.0, 2.0, 1.0, 1.0, 1.0]])
    >>> log_prob, tokens = Reader(are_logits=False).best(scores, 3)
    >>> log_prob.tolist(), tokens.tolist()
    ([[2.0, 1.0, 1.0]], [[1, 2, 3]])
    >>> Reader(are_logits=True).all(torch.zeros(1, 4)).exp().sum().round(decimals=6).item()
    1.0
    """

    def __init__(self, are_logits: bool):
        self.are_logits = are_logits
        self._memory = torch.empty(0)

    def best(self, scores: Float[Tensor, "N M"], count: int) -> tuple[Float[np.ndarray, "N C"], Int[np.ndarray, "N C"]]:
        """The ``count`` most likely tokens of each row (all, if M is smaller), best first; ties go to the lower token.

        Ranking happens on the raw scores; log-probabilities are formed for the chosen alone, in float64. A row with NaN
        or ``+inf`` gives NaN or ``+inf`` first; ``-inf`` masks a token.
        """
        top, tokens = _top(scores.cpu(), min(count, scores.shape[1]))
        log_prob = top.astype(np.float64)
        if not self.are_logits:
            return log_prob, tokens
        with np.errstate(invalid="ignore"):
            return np.minimum(log_prob - self._logsumexp(scores, log_prob[:, :1], tokens[:, 0]), 0), tokens

    def all(self, scores: Float[Tensor, "N M"]) -> Float[Tensor, "N M"]:
        """Log-probabilities (float64) of every token: the same numbers that :meth:`best` gives for the best."""
        log_prob = scores.double()
        if not self.are_logits:
            return log_prob
        highest, token = scores.max(dim=1, keepdim=True)
        with np.errstate(invalid="ignore"):
            shift = self._logsumexp(scores, highest.double().cpu().numpy(), token[:, 0].cpu().numpy())
        return (log_prob - torch.from_numpy(shift).to(scores.device)).clamp_(max=0)

    def _logsumexp(self, scores: Tensor, highest: np.ndarray, token: np.ndarray) -> np.ndarray:
        """Of each row, shape (N, 1), float64; does not depend on the other rows. 0 where all are ``-inf``.

        Args:
            scores: shape (N, M).
            highest: the highest of each row, shape (N, 1).
            token: where it is, shape (N,).
        """
        if scores.shape[1] < WIDE:
            # The log-probability of the best token tells it, and log_softmax is torch's fastest function of this kind.
            best = torch.log_softmax(scores, dim=1).cpu().numpy()[np.arange(len(token)), token]
            return np.where(highest == -np.inf, 0.0, highest - best[:, None].astype(np.float64))
        # Scores of moderate size need no shift against overflow, which saves a pass. The choice is each row's own.
        with np.errstate(invalid="ignore"):
            shift = np.where(np.abs(highest) <= MODERATE, 0.0, highest)
        powers = self._powers(scores, shift)
        # One row alone would be cut into pieces, one for each thread, and be summed in another order than among others.
        sums = powers.expand(max(2, len(powers)), -1).sum(dim=1, keepdim=True)[: len(powers)]
        total = sums.cpu().numpy().astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(highest == -np.inf, 0.0, shift + np.log(total))

    def _powers(self, scores: Tensor, shift: np.ndarray) -> Tensor:
        """``exp(scores - shift)`` in memory that is used again."""
        if self._memory.numel() < scores.numel() or self._memory.dtype != scores.dtype:
            self._memory = torch.empty_like(scores).flatten()
        room = self._memory[: scores.numel()].view(scores.shape)
        if shift.any():
            return torch.sub(scores, torch.from_numpy(shift).to(scores), out=room).exp_()
        return torch.exp(scores, out=room)


def refuse_nan(*, step: int, item: int, hypothesis: int) -> None:
    """Raise the error for a score that is NaN (or ``+inf``, which is as bad).

    Raises:
        InputError: always.
    """
    raise InputError(
        "scores are numbers or -inf",
        got=f"NaN or +inf at step {step}, item {item}, hypothesis {hypothesis}",
        cause="a division by zero or an overflow (float16?) inside the step function",
        cure="run the model in float32 and look at its scores for this prefix",
    )


def _top(scores: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The best of each row (N, C), best first, lower token first among equals; ``-inf`` where there are fewer."""
    values = scores.numpy()
    N, M = values.shape
    if M < WIDE or count > M // BLOCK // 4:
        top, token = (x.numpy() for x in scores.topk(min(count + 1, M), dim=1))
        if not (top[:, 1:] == top[:, :-1]).any():
            return top[:, :count], token[:, :count]
        row, token, found = _reaching(values, _nth_largest(values, count))
    else:
        blocks = M // BLOCK
        highest = scores[:, : blocks * BLOCK].unflatten(1, (blocks, BLOCK)).amax(dim=2).numpy()
        if blocks * BLOCK < M:  # the last block is not whole
            highest = np.concatenate([highest, values[:, blocks * BLOCK :].max(axis=1, keepdims=True)], axis=1)
        least = _nth_largest(highest, count)
        in_row, block, _ = _reaching(highest, least)
        first = np.minimum(block * BLOCK, M - BLOCK)
        inside = values.reshape(-1).take((in_row * M + first)[:, None] + np.arange(BLOCK))
        at, place, found = _reaching(inside, least[in_row])
        row, token = in_row[at], first[at] + place
        if blocks * BLOCK < M:  # the last block was made whole with tokens of the one before, which come twice
            once = (block[at] < blocks) | (token >= blocks * BLOCK)
            row, token, found = row[once], token[once], found[once]
    order = np.lexsort((token, -found, row))
    row, token, found = row[order], token[order], found[order]
    rank = np.arange(len(row)) - np.searchsorted(row, np.arange(N))[row]
    top, tokens = np.full((N, count), -np.inf, values.dtype), np.zeros((N, count), dtype=np.int64)
    chosen = rank < count
    top[row[chosen], rank[chosen]], tokens[row[chosen], rank[chosen]] = found[chosen], token[chosen]
    return top, tokens


def _nth_largest(values: np.ndarray, n: int) -> np.ndarray:
    """Of each row; the lowest number above ``-inf``, where there are fewer; NaN counts as the largest."""
    n = min(n, values.shape[1])
    least = np.partition(values, -n, axis=1)[:, -n] if n < values.shape[1] else values.min(axis=1)
    return np.maximum(least, np.finfo(values.dtype).min)


def _reaching(values: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and values of all that reach their row's least; NaN does."""
    flat = np.flatnonzero(~(values < least[:, None]))
    row, column = np.divmod(flat, values.shape[1])
    return row, column, values.ravel()[flat]
