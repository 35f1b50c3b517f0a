"""Hypotheses of a search: backpointers while it runs, padded arrays at its end.

During a search, each step stores one backpointer, one token and one log-probability per live
hypothesis. :meth:`History.read` rebuilds the returned sequences from them once, at the end.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

Numbers = Int[np.ndarray, " N"] | list[int]
"""One whole number for each live hypothesis of a step."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """Returned hypotheses of B items, best first, as padded arrays.

    The fields are those of :class:`~leadline.decoding.answers._decoded.Decoded`.
    """

    tokens: Int[np.ndarray, "B R L"]
    lengths: Int[np.ndarray, "B R"]
    log_prob: Float[np.ndarray, "B R"]
    score: Float[np.ndarray, "B R"]
    token_log_prob: Float[np.ndarray, "B R L"]
    finished: Bool[np.ndarray, "B R"]


@dataclass(frozen=True)
class Entry:
    """One complete sequence of one item, written out."""

    score: float
    tokens: list[int]
    cumulative: list[float]
    """Log-probability of the prefix up to and including each token."""

    @property
    def log_prob(self) -> float:
        """Log-probability of the whole sequence."""
        return self.cumulative[-1]


class History:
    """Backpointers of live hypotheses, and the best R complete hypotheses of each item.

    Args:
        batch: B, number of items.
        num_kept: R, complete hypotheses to keep for each item.
    """

    def __init__(self, batch: int, num_kept: int):
        self._steps: list[tuple[Numbers, Numbers, np.ndarray]] = []
        self.score = np.full((batch, num_kept), -np.inf)
        """Scores of the complete hypotheses, best first; ``-inf`` in empty places."""
        self._total = self.score.copy()
        # For each complete hypothesis: its step, the row before its last token, and that token.
        self._end = np.zeros((batch, num_kept, 3), dtype=np.int64)

    def add(self, parents: Numbers, tokens: Numbers, totals: Float[np.ndarray, " N"]) -> None:
        """Store the hypotheses that the next step extends.

        Args:
            parents: the hypothesis of the previous step that each one extends.
            tokens: the last token of each.
            totals: the log-probability of each.
        """
        self._steps.append((parents, tokens, totals))

    def finish(
        self,
        items: Int[np.ndarray, " A"],
        t: int,
        score: Float[np.ndarray, "A S"],
        total: Float[np.ndarray, "A S"],
        parent: Int[np.ndarray, "A S"],
        token: Int[np.ndarray, "A S"],
    ) -> None:
        """Add hypotheses that are complete at step t, and keep the best R of each item.

        Entries with score ``-inf`` are ignored. Earlier hypotheses win ties.
        """
        end = np.stack([np.full_like(token, t), parent, token], axis=2)
        scores = np.concatenate([self.score[items], score], axis=1)
        totals = np.concatenate([self._total[items], total], axis=1)
        ends = np.concatenate([self._end[items], end], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.score.shape[1]]
        self.score[items] = np.take_along_axis(scores, order, 1)
        self._total[items] = np.take_along_axis(totals, order, 1)
        self._end[items] = np.take_along_axis(ends, order[:, :, None], 1)

    def finish_all(
        self,
        item: Int[np.ndarray, " n"],
        t: Int[np.ndarray, " n"],
        total: Float[np.ndarray, " n"],
        parent: Int[np.ndarray, " n"],
        token: Int[np.ndarray, " n"],
    ) -> None:
        """Replace the complete hypotheses by the given ones and keep them all.

        They are ranked by log-probability; the earlier one wins a tie.
        """
        order = np.lexsort((-total, item))
        item, t, total, parent, token = (x[order] for x in (item, t, total, parent, token))
        count = np.bincount(item, minlength=len(self.score))
        place = np.arange(len(item)) - (count.cumsum() - count)[item]
        self.score = np.full((len(count), count.max()), -np.inf)
        self.score[item, place] = total
        self._total = self.score.copy()
        self._end = np.zeros((*self.score.shape, 3), dtype=np.int64)
        self._end[item, place] = np.stack([t, parent, token], axis=1)

    def keep(self, items: Int[np.ndarray, " A"], count: Int[np.ndarray, " A"]) -> None:
        """Forget all but the best ``count`` complete hypotheses of each item."""
        is_kept = np.arange(self.score.shape[1]) < count[:, None]
        self.score[items] = np.where(is_kept, self.score[items], -np.inf)

    def read(self, num: int | None, eos: tuple[int, ...]) -> Sequences:
        """Rebuild the best ``num`` complete hypotheses of each item; ``None`` for all."""
        exists = self.score[:, :num] > -np.inf
        R = int(exists.sum(axis=1).max())
        exists = exists[:, :R]
        score = self.score[:, :R]
        total = self._total[:, :R]
        step, row, token = np.moveaxis(self._end[:, :R], 2, 0)
        lengths = np.where(exists, step, 0)
        nodes, token_of_node, totals = self._paths(lengths, row, exists)
        # Number of tokens that follow each position; 0 is the last token, below 0 is padding.
        L = int(lengths.max(initial=0))
        following = lengths[..., None] - np.arange(1, L + 1)
        is_inside = following > 0
        is_last = following == 0
        nodes = nodes[np.maximum(following - 1, 0), *np.indices(lengths.shape)[..., None]]
        tokens = np.where(is_inside, token_of_node[nodes], np.where(is_last, token[..., None], -1))
        cumulative = np.where(is_inside, totals[nodes], np.where(is_last, total[..., None], 0.0))
        token_log_prob = np.diff(cumulative, axis=-1, prepend=0.0)
        return Sequences(
            tokens=tokens,
            lengths=lengths,
            log_prob=np.where(exists, total, -np.inf),
            score=np.where(exists, score, -np.inf),
            token_log_prob=np.where(is_inside | is_last, token_log_prob, 0.0),
            finished=exists & (np.isin(token, eos) if eos else True),
        )

    def _paths(
        self, lengths: Int[np.ndarray, "B R"], row: Int[np.ndarray, "B R"], exists: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Follow the backpointers of complete hypotheses.

        The hypotheses of all steps are numbered in one list of nodes. The list begins with one
        node per item for the start, and each of these points to itself.

        Returns:
            The nodes of each hypothesis from the token before the last back to the start, shape
            (L, B, R); and the token and the log-probability of every node.
        """
        B = len(self.score)
        L = int(lengths.max(initial=0))
        start = (np.arange(B), np.full(B, -1), np.zeros(B))
        steps = [start, *self._steps[: max(L - 1, 0)]]
        first = np.cumsum([0, *(len(parents) for parents, _, _ in steps)])
        parents = [np.asarray(parents) for parents, _, _ in steps]
        back = np.concatenate([parents[t] + first[max(t - 1, 0)] for t in range(len(steps))])
        token_of_node = np.concatenate([tokens for _, tokens, _ in steps])
        totals = np.concatenate([totals for _, _, totals in steps])
        path = np.zeros((max(L, 1), *lengths.shape), dtype=np.int64)
        path[0] = np.where(exists, first[np.maximum(lengths - 1, 0)] + row, 0)
        for depth in range(1, L):
            path[depth] = back[path[depth - 1]]
        return path, token_of_node, totals


def stack(items: list[list[Entry]], eos: tuple[int, ...]) -> Sequences:
    """Pad sequences that are written out.

    Args:
        items: the sequences of each item, best first.
        eos: end tokens.

    >>> stack([[Entry(-1.5, [3, 4], [-0.5, -1.5])]], eos=()).token_log_prob.tolist()
    [[[-0.5, -1.0]]]
    """
    shape = (len(items), max(map(len, items)))
    L = max((len(entry.tokens) for entries in items for entry in entries), default=0)
    padded = Sequences(
        tokens=np.full((*shape, L), -1, dtype=np.int64),
        lengths=np.zeros(shape, dtype=np.int64),
        log_prob=np.full(shape, -np.inf),
        score=np.full(shape, -np.inf),
        token_log_prob=np.zeros((*shape, L)),
        finished=np.zeros(shape, dtype=bool),
    )
    for i, entries in enumerate(items):
        for r, entry in enumerate(entries):
            length = len(entry.tokens)
            padded.tokens[i, r, :length] = entry.tokens
            padded.token_log_prob[i, r, :length] = np.diff(entry.cumulative, prepend=0.0)
            padded.lengths[i, r] = length
            padded.log_prob[i, r] = entry.log_prob
            padded.score[i, r] = entry.score
            padded.finished[i, r] = entry.tokens[-1] in eos if eos else True
    return padded
