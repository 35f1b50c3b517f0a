"""The best next tokens of every hypothesis: the one place that reads all ``(N, M)`` scores.

Two readings are needed: one for the best, one for the sum of exponentials. Torch's general functions are slow at both
on a CPU: ``topk`` copies every score beside its index, ``logsumexp`` makes several passes. Wide rows are therefore cut
into blocks: the best ``count`` tokens lie in blocks whose maxima reach the ``count``-th largest block maximum. What
leaves this place is small and lives in NumPy, whose small operations cost a fraction of torch's.
"""

import math

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

MASKED = -5e4
"""A token whose score or log-probability is not above this is masked, as ``-inf`` is: step functions also mask with
-1e9, or with the lowest number of a type, which is -65,504 for float16."""


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

    def best(
        self,
        scores: Float[Tensor, "N M"],
        count: int,
        upto: Float[np.ndarray, "A W"] | None = None,
        among: int = 0,
    ) -> tuple[Float[np.ndarray, "N C"], Int[np.ndarray, "N C"]]:
        """The ``count`` most likely tokens of each row (all, if M is smaller), best first; ties go to the lower token.

        Log-probabilities are as exact as the scores (float32 or float64), of wide rows of logits float64. A row with
        NaN or ``+inf`` gives NaN or ``+inf`` first; ``-inf`` masks a token.

        Args:
            scores: shape (N, M).
            count: C, tokens to take from each row.
            upto: log-probabilities of the hypotheses so far, W rows for each of A items. If given, a token may be left
                out (``-inf``) that is not among the best ``among`` of its item: less is read of wide rows.
            among: see ``upto``.
        """
        count = min(count, scores.shape[1])
        if scores.shape[1] < WIDE or count > scores.shape[1] // BLOCK // 4:
            return self._narrow(scores, count)
        blocks = _Blocks(scores.cpu())
        highest = blocks.maxima.max(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", over="ignore"):
            shift = (
                self._logsumexp(scores, highest.astype(np.float64))
                if self.are_logits
                else np.zeros_like(highest)
            )
            top, token = blocks.best(count, shift, self.are_logits, upto, among)
        top[highest[:, 0] <= MASKED] = -np.inf
        top[top <= MASKED] = -np.inf
        return top, token

    def few(
        self, scores: Float[Tensor, "N M"], count: int
    ) -> tuple[list[list[float]], list[list[int]]] | None:
        """What :meth:`best` gives, as lists. ``None`` where that takes more than one reading: wide rows, ties, NaN."""
        if scores.shape[1] >= WIDE or count >= scores.shape[1]:
            return None
        top, token = (x.tolist() for x in self._log_prob(scores).topk(count + 1, dim=1))
        if (
            not _are_told_apart(top)
            or any(row[count] <= MASKED for row in top)
            or self._is_masked(scores, token)
        ):
            return None
        return [row[:count] for row in top], [row[:count] for row in token]

    def _narrow(self, scores: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`best`."""
        top, token = (
            x.cpu().numpy()
            for x in self._log_prob(scores).topk(min(count + 1, scores.shape[1]), dim=1)
        )
        if not _are_told_apart(top.tolist()) or self._is_masked(scores, token):
            every = self._every(scores).cpu().numpy()
            top, token = _ranked(len(every), count, *_reaching(every, _nth_largest(every, count)))
        top = top[:, :count]
        top[top <= MASKED] = -np.inf
        return top, token[:, :count]

    def _is_masked(self, scores: Tensor, token: list[list[int]] | np.ndarray) -> bool:
        """True if some row has no token that is not masked, though its logits differ by less than a mask."""
        if not self.are_logits:
            return False
        values = scores.detach()
        best = [int(tokens[0]) for tokens in token]
        if not values.is_cpu:
            return bool((values[torch.arange(len(best)), best] <= MASKED).any())
        return any(values.numpy().item(row, first) <= MASKED for row, first in enumerate(best))

    def all(self, scores: Float[Tensor, "N M"]) -> Float[Tensor, "N M"]:
        """Log-probabilities (float64) of every token: the same numbers that :meth:`best` gives for the best. The scores
        stay as they are, whatever is done to the answer."""
        return self._every(scores).to(torch.float64)

    def _every(self, scores: Tensor) -> Tensor:
        """A new tensor of the log-probabilities of every token, in the scores' own precision or a finer one."""
        log_prob = self._log_prob(scores)
        is_masked = log_prob <= MASKED
        if self.are_logits:
            is_masked |= (scores <= MASKED).all(dim=1, keepdim=True)
        return log_prob.masked_fill(is_masked, -torch.inf)

    def _log_prob(self, scores: Tensor) -> Tensor:
        """Of every token; masks are not looked at, and narrow rows of logits that are all ``-inf`` give NaN."""
        if not self.are_logits:
            return scores
        if scores.shape[1] < WIDE:
            return torch.log_softmax(scores, dim=1)
        shift = self._logsumexp(scores, scores.amax(dim=1, keepdim=True).double().cpu().numpy())
        return (scores - torch.from_numpy(shift).to(scores.device)).clamp_(max=0)

    def _logsumexp(self, scores: Tensor, highest: np.ndarray) -> np.ndarray:
        """Of each wide row, shape (N, 1), float64; does not depend on the other rows. 0 where all are ``-inf``.

        Args:
            scores: shape (N, M).
            highest: the highest of each row, shape (N, 1).
        """
        # Scores of moderate size need no shift against overflow, which saves a pass. The choice is each row's own.
        is_moderate = np.abs(highest) <= MODERATE
        if is_moderate.all():
            return np.log(_sums(torch.exp(scores, out=self._room(scores))))
        shift = np.where(is_moderate, 0.0, highest)
        powers = torch.sub(
            scores, torch.from_numpy(shift).to(scores), out=self._room(scores)
        ).exp_()
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(highest == -np.inf, 0.0, shift + np.log(_sums(powers)))

    def _room(self, scores: Tensor) -> Tensor:
        """Memory that is used again."""
        memory, is_inference = self._memory, torch.is_inference_mode_enabled()
        is_alike = (memory.shape, memory.dtype, memory.device) == (
            scores.shape,
            scores.dtype,
            scores.device,
        )
        if not is_alike or (
            memory.is_inference() and not is_inference
        ):  # what is made there is not written outside
            self._memory = torch.empty_like(scores)
        return self._memory


def _are_told_apart(top: list[list[float]]) -> bool:
    """Whether no row has NaN, ``+inf`` or a tie. What is small is looked at fastest as Python's numbers: numpy is slow
    at its first call after a model's."""
    return all(row[0] < math.inf and len(set(row)) == len(row) for row in top)


def _sums(powers: Tensor) -> np.ndarray:
    """Of each row, shape (N, 1), float64."""
    # One row alone would be cut into pieces, one for each thread, and be summed in another order than among others.
    sums = (
        powers.sum(1, keepdim=True)
        if len(powers) > 1
        else powers.expand(2, -1).sum(1, keepdim=True)[:1]
    )
    return sums.cpu().numpy().astype(np.float64)


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


class _Blocks:
    """Wide rows, cut into blocks, of which only the maxima are kept."""

    def __init__(self, scores: Tensor):
        self.values = values = scores.numpy()
        self.M, self.whole = values.shape[1], values.shape[1] // BLOCK
        whole = self.whole * BLOCK
        maxima = scores.new_empty(len(scores), -(-self.M // BLOCK))
        torch.amax(
            scores[:, :whole].unflatten(1, (self.whole, BLOCK)), 2, out=maxima[:, : self.whole]
        )
        if whole < self.M:
            torch.amax(scores[:, whole:], 1, out=maxima[:, self.whole])
        self.maxima = maxima.numpy()

    def best(
        self, count: int, shift: np.ndarray, are_logits: bool, upto: np.ndarray | None, among: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`Reader.best`."""
        N, eps = len(self.values), np.finfo(self.maxima.dtype).eps
        if upto is None:
            upto, among = np.zeros((N, 1)), count
        offset = (upto.reshape(N, 1) - shift).astype(self.maxima.dtype)
        least = _nth_largest((self.maxima + offset).reshape(len(upto), -1), among)
        least = np.maximum(
            least, np.finfo(least.dtype).min / 2
        )  # from which something can be subtracted
        # Rounding must not leave one out: neither that of sums, nor that of log-probabilities a little above 0.
        slack = np.repeat(2 * ROUNDING * (1 + np.abs(least)), upto.shape[1]) + 16 * eps * np.abs(
            offset[:, 0]
        )
        least = np.repeat(least, upto.shape[1]) - slack - offset[:, 0]
        row, block, _ = _reaching(self.maxima, least)
        first = np.minimum(block * BLOCK, self.M - BLOCK)
        inside = self.values.reshape(-1).take((row * self.M + first)[:, None] + np.arange(BLOCK))
        at, place, found = _reaching(inside, least[row])
        token, block, row = first[at] + place, block[at], row[at]
        if (
            self.whole * BLOCK < self.M
        ):  # the last block was made whole with tokens of the one before: once is enough
            once = (block < self.whole) | (token >= self.whole * BLOCK)
            token, row, found = token[once], row[once], found[once]
        log_prob = found - shift[row, 0]
        return _ranked(
            N, count, row, token, np.minimum(log_prob, 0, out=log_prob) if are_logits else log_prob
        )


def _ranked(
    N: int, count: int, row: np.ndarray, token: np.ndarray, found: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Candidates in the order of rows and tokens, as the best of each row; NaN comes first."""
    order = np.lexsort((np.where(np.isnan(found), -np.inf, -found), row))
    row, token, found = row[order], token[order], found[order]
    rank = np.arange(len(row)) - np.searchsorted(row, np.arange(N))[row]
    top, tokens = np.full((N, count), -np.inf, found.dtype), np.zeros((N, count), dtype=np.int64)
    chosen = np.flatnonzero(rank < count)
    row, rank = row[chosen], rank[chosen]
    top[row, rank], tokens[row, rank] = found[chosen], token[chosen]
    return top, tokens


def _reaching(values: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and values of all that reach their row's least; NaN does."""
    flat = np.flatnonzero(~(values < least[:, None]))
    row = flat // values.shape[1]
    return row, flat - row * values.shape[1], values.ravel()[flat]


def _nth_largest(values: np.ndarray, n: int) -> np.ndarray:
    """Of each row; the lowest number above ``-inf``, where there are fewer; NaN counts as the largest."""
    n = min(n, values.shape[1])
    least = np.partition(values, -n, axis=1)[:, -n] if n < values.shape[1] else values.min(axis=1)
    return np.maximum(least, np.finfo(values.dtype).min)
