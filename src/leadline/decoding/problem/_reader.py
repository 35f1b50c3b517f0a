"""The best next tokens of every hypothesis: the only code that reads all ``(N, M)`` scores.

Two passes are needed: one finds the best tokens, the other sums the exponentials. Torch's general
functions are slow at both on a CPU: ``topk`` copies every score together with its index, and
``logsumexp`` makes several passes. Wide rows are therefore cut into blocks: the best ``count``
tokens lie in blocks whose maxima reach the ``count``-th largest block maximum. The results are
small NumPy arrays, because small operations are much faster in NumPy than in torch.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline.errors import InputError

BLOCK = 64
"""Scores per block, a whole number of vector registers; others are up to three times slower."""

WIDE = 4096
"""Vocabulary size from which rows are read in blocks; below it, torch's functions are faster."""

MODERATE = 60.0
"""Largest absolute score whose exponential is computed without a shift, in float32."""

ROUNDING = 1e-5
"""Largest log-probability above 0 that is attributed to rounding."""

MASKED = -5e4
"""A token whose score or log-probability is at most this value is masked, as if it were ``-inf``.

Step functions also mask with -1e9, or with the lowest number of a type: -65,504 for float16.
"""


class Reader:
    """Reads the scores of a model: the best tokens of each row, or all log-probabilities.

    The reader keeps one buffer of the size of the scores, because allocating a new one at every
    step takes longer than the arithmetic.

    Args:
        are_logits: True to subtract the logarithm of each row's sum of exponentials.

    >>> scores = torch.tensor([[0.0, 2.0, 1.0, 1.0, 1.0]])
    >>> log_prob, tokens = Reader(are_logits=False).best(scores, 3)
    >>> log_prob.tolist(), tokens.tolist()
    ([[2.0, 1.0, 1.0]], [[1, 2, 3]])
    >>> Reader(are_logits=True).all(torch.zeros(1, 4)).exp().sum().round(decimals=6).item()
    1.0
    """

    def __init__(self, are_logits: bool):
        self.are_logits = are_logits
        self._scratch = torch.empty(0)

    def best(
        self,
        scores: Float[Tensor, "N M"],
        count: int,
        totals: Float[np.ndarray, "A W"] | None = None,
        num_candidates: int = 0,
    ) -> tuple[Float[np.ndarray, "N C"], Int[np.ndarray, "N C"]]:
        """Return the ``count`` most likely tokens of each row (all if M is smaller), best first.

        Ties go to the lower token. Log-probabilities have the precision of the scores (float32 or
        float64); those of wide rows of logits have float64. A row with NaN or ``+inf`` gives NaN
        or ``+inf`` first. A score of ``-inf`` masks a token.

        Args:
            scores: shape (N, M).
            count: C, number of tokens of each row.
            totals: log-probabilities of the hypotheses so far, W rows for each of A items. If
                given, tokens that are not among the best ``num_candidates`` of their item may be
                left out (``-inf``), so less is read of wide rows.
            num_candidates: number of candidates of each item that matter; used only with
                ``totals``.

        Returns:
            Log-probabilities and tokens.
        """
        M = scores.shape[1]
        count = min(count, M)
        if M < WIDE or count > M // BLOCK // 4:
            return self._narrow(scores, count)
        blocks = _Blocks(scores.cpu())
        highest = blocks.maxima.max(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", over="ignore"):
            shift = np.zeros_like(highest)
            if self.are_logits:
                shift = self._logsumexp(scores, highest.astype(np.float64))
            top, token = blocks.best(count, shift, self.are_logits, totals, num_candidates)
        top[highest[:, 0] <= MASKED] = -np.inf
        top[top <= MASKED] = -np.inf
        return top, token

    def best_lists(
        self, scores: Float[Tensor, "N M"], count: int
    ) -> tuple[list[list[float]], list[list[int]]] | None:
        """Return the results of :meth:`best` as lists.

        ``None`` for wide rows, ties, masks and NaN, which need a second pass.
        """
        M = scores.shape[1]
        if M >= WIDE or count >= M:
            return None
        top, token = (part.tolist() for part in self._log_prob(scores).topk(count + 1, dim=1))
        is_masked = any(row[count] <= MASKED for row in top)
        if not _are_distinct(top) or is_masked or self._has_masked_row(scores, token):
            return None
        return [row[:count] for row in top], [row[:count] for row in token]

    def _narrow(self, scores: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the results of :meth:`best` for rows that are not read in blocks."""
        # One token more than needed reveals a tie at the last place.
        num_tokens = min(count + 1, scores.shape[1])
        best = self._log_prob(scores).topk(num_tokens, dim=1)
        top, token = (part.cpu().numpy() for part in best)
        if not _are_distinct(top.tolist()) or self._has_masked_row(scores, token):
            log_probs = self._all_log_probs(scores).cpu().numpy()
            candidates = _reaching(log_probs, _nth_largest(log_probs, count))
            top, token = _ranked(len(log_probs), count, *candidates)
        top = top[:, :count]
        top[top <= MASKED] = -np.inf
        return top, token[:, :count]

    def _has_masked_row(self, scores: Tensor, token: list[list[int]] | np.ndarray) -> bool:
        """True if all tokens of a row are masked.

        Their log-probabilities do not show this, because softmax ignores a common offset.
        """
        if not self.are_logits:
            return False
        values = scores.detach()
        best = [int(tokens[0]) for tokens in token]
        if not values.is_cpu:
            return bool((values[torch.arange(len(best)), best] <= MASKED).any())
        return any(values.numpy().item(row, first) <= MASKED for row, first in enumerate(best))

    def all(self, scores: Float[Tensor, "N M"]) -> Float[Tensor, "N M"]:
        """Return the log-probabilities (float64) of all tokens, in a new tensor.

        They are the same numbers as those of :meth:`best`.
        """
        return self._all_log_probs(scores).to(torch.float64)

    def _all_log_probs(self, scores: Tensor) -> Tensor:
        """Return the log-probabilities of all tokens in a new tensor, at least as precise."""
        log_prob = self._log_prob(scores)
        is_masked = log_prob <= MASKED
        if self.are_logits:
            is_masked |= (scores <= MASKED).all(dim=1, keepdim=True)
        return log_prob.masked_fill(is_masked, -torch.inf)

    def _log_prob(self, scores: Tensor) -> Tensor:
        """Return the log-probabilities of all tokens before masking.

        Narrow rows of logits that are all ``-inf`` give NaN.
        """
        if not self.are_logits:
            return scores
        if scores.shape[1] < WIDE:
            return torch.log_softmax(scores, dim=1)
        shift = self._logsumexp(scores, scores.amax(dim=1, keepdim=True).double().cpu().numpy())
        return (scores - torch.from_numpy(shift).to(scores.device)).clamp_(max=0)

    def _logsumexp(self, scores: Tensor, highest: np.ndarray) -> np.ndarray:
        """Return the logarithm of each wide row's sum of exponentials, shape (N, 1), float64.

        It does not depend on the other rows. It is 0 for rows in which all scores are ``-inf``.

        Args:
            scores: shape (N, M).
            highest: the highest score of each row, shape (N, 1).
        """
        # Moderate scores need no shift against overflow, which saves a pass. Each row decides for
        # itself, so that its result does not depend on the other rows.
        is_moderate = np.abs(highest) <= MODERATE
        if is_moderate.all():
            return np.log(_sums(torch.exp(scores, out=self._buffer(scores))))
        shift = np.where(is_moderate, 0.0, highest)
        buffer = self._buffer(scores)
        powers = torch.sub(scores, torch.from_numpy(shift).to(scores), out=buffer).exp_()
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(highest == -np.inf, 0.0, shift + np.log(_sums(powers)))

    def _buffer(self, scores: Tensor) -> Tensor:
        """Return memory of the size of the scores, the same at every call if possible."""
        scratch = self._scratch
        kind = (scores.shape, scores.dtype, scores.device)
        is_alike = (scratch.shape, scratch.dtype, scratch.device) == kind
        # Tensors made in inference mode cannot be written outside of it.
        is_writable = torch.is_inference_mode_enabled() or not scratch.is_inference()
        if not (is_alike and is_writable):
            self._scratch = torch.empty_like(scores)
        return self._scratch


def _are_distinct(top: list[list[float]]) -> bool:
    """True if no row contains a tie, NaN or ``+inf``.

    Plain Python is used on purpose: NumPy is slow at its first call after a model's call.
    """
    return all(row[0] < math.inf and len(set(row)) == len(row) for row in top)


def _sums(powers: Tensor) -> np.ndarray:
    """Return the sum of each row, shape (N, 1), float64."""
    if len(powers) > 1:
        sums = powers.sum(1, keepdim=True)
    else:
        # Torch divides a single row among threads, and would sum it in another order than the
        # same row of a larger batch. Two copies of the row avoid this.
        sums = powers.expand(2, -1).sum(1, keepdim=True)[:1]
    return sums.cpu().numpy().astype(np.float64)


def refuse_nan(*, step: int, item: int, hypothesis: int) -> None:
    """Raise the error for a score that is NaN or ``+inf``.

    Raises:
        InputError: always.
    """
    raise InputError(
        "the scores of a step function must be numbers or -inf",
        got=f"NaN or +inf at step {step}, item {item}, hypothesis {hypothesis}",
        cause="a division by zero or an overflow (float16?) inside the step function",
        cure="run the model in float32 and look at its scores for this prefix",
    )


class _Blocks:
    """Wide rows that are cut into blocks, with the maximum of each block.

    Args:
        scores: shape (N, M), on the CPU.
    """

    def __init__(self, scores: Tensor):
        self.values = scores.numpy()
        self.M = scores.shape[1]
        self.num_whole = self.M // BLOCK
        """Number of blocks that are full; a shorter one may follow."""
        end = self.num_whole * BLOCK
        maxima = scores.new_empty(len(scores), math.ceil(self.M / BLOCK))
        full_blocks = scores[:, :end].unflatten(1, (self.num_whole, BLOCK))
        torch.amax(full_blocks, 2, out=maxima[:, : self.num_whole])
        if end < self.M:
            torch.amax(scores[:, end:], 1, out=maxima[:, self.num_whole])
        self.maxima = maxima.numpy()

    def best(
        self,
        count: int,
        shift: np.ndarray,
        are_logits: bool,
        totals: np.ndarray | None,
        num_candidates: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return log-probabilities and tokens, see :meth:`Reader.best`.

        Args:
            count: number of tokens of each row.
            shift: value to subtract from the scores of each row, shape (N, 1).
            are_logits: True to clamp log-probabilities above 0, which are due to rounding.
            totals: see :meth:`Reader.best`.
            num_candidates: see :meth:`Reader.best`.
        """
        N = len(self.values)
        if totals is None:
            totals = np.zeros((N, 1))
            num_candidates = count
        offset = (totals.reshape(N, 1) - shift).astype(self.maxima.dtype)
        least = self._least(offset, totals, num_candidates)
        row, block, _ = _reaching(self.maxima, least)
        # The last block is extended to the left, so that all blocks have the same size.
        first = np.minimum(block * BLOCK, self.M - BLOCK)
        place = (row * self.M + first)[:, None] + np.arange(BLOCK)
        inside = self.values.reshape(-1).take(place)
        reached, column, score = _reaching(inside, least[row])
        token = first[reached] + column
        block = block[reached]
        row = row[reached]
        if self.num_whole * BLOCK < self.M:
            # Tokens that the extended last block shares with the block before are counted once.
            is_own = (block < self.num_whole) | (token >= self.num_whole * BLOCK)
            token = token[is_own]
            row = row[is_own]
            score = score[is_own]
        log_prob = score - shift[row, 0]
        if are_logits:
            log_prob = np.minimum(log_prob, 0, out=log_prob)
        return _ranked(N, count, row, token, log_prob)

    def _least(self, offset: np.ndarray, totals: np.ndarray, num_candidates: int) -> np.ndarray:
        """Return a score for each row below which no token can be among the best.

        Args:
            offset: value to add to the scores of each row, shape (N, 1).
            totals: log-probabilities so far, shape (A, W); only its shape is used.
            num_candidates: number of candidates of each item that matter.
        """
        A, W = totals.shape
        eps = np.finfo(self.maxima.dtype).eps
        least = _nth_largest((self.maxima + offset).reshape(A, -1), num_candidates)
        # Half of the lowest number leaves room for the subtractions below.
        least = np.maximum(least, np.finfo(least.dtype).min / 2)
        # The slack covers the rounding of sums, and of log-probabilities a little above 0.
        slack = np.repeat(2 * ROUNDING * (1 + np.abs(least)), W)
        slack = slack + 16 * eps * np.abs(offset[:, 0])
        return np.repeat(least, W) - slack - offset[:, 0]


def _ranked(
    N: int, count: int, row: np.ndarray, token: np.ndarray, log_prob: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best candidates of each row, shape (N, count); NaN comes first.

    Args:
        N: number of rows.
        count: number of candidates of each row.
        row: the row of each candidate, in rising order.
        token: the token of each candidate, in rising order within a row.
        log_prob: the log-probability of each candidate.
    """
    order = np.lexsort((np.where(np.isnan(log_prob), -np.inf, -log_prob), row))
    row = row[order]
    token = token[order]
    log_prob = log_prob[order]
    rank = np.arange(len(row)) - np.searchsorted(row, np.arange(N))[row]
    chosen = np.flatnonzero(rank < count)
    row = row[chosen]
    rank = rank[chosen]
    top = np.full((N, count), -np.inf, log_prob.dtype)
    tokens = np.zeros((N, count), dtype=np.int64)
    top[row, rank] = log_prob[chosen]
    tokens[row, rank] = token[chosen]
    return top, tokens


def _reaching(values: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, columns and values of all entries that reach their row's least, and of NaN."""
    flat = np.flatnonzero(~(values < least[:, None]))
    row = flat // values.shape[1]
    return row, flat - row * values.shape[1], values.ravel()[flat]


def _nth_largest(values: np.ndarray, n: int) -> np.ndarray:
    """Return the n-th largest value of each row; NaN counts as the largest.

    Rows with fewer finite values give the lowest finite number.
    """
    n = min(n, values.shape[1])
    if n < values.shape[1]:
        least = np.partition(values, -n, axis=1)[:, -n]
    else:
        least = values.min(axis=1)
    return np.maximum(least, np.finfo(values.dtype).min)
