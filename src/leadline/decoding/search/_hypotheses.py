"""Backpointers of what lives, and the best of what is complete; sequences are rebuilt from them once, at the end."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

Numbers = Int[np.ndarray, " N"] | list[int]
"""A number for each of a step's rows."""


class History:
    """What one search remembers of its rows, and up to R complete hypotheses per item, best first.

    Args:
        batch: B, items.
        room: R, complete hypotheses to remember for each.
    """

    def __init__(self, batch: int, room: int):
        self._steps: list[tuple[Numbers, Numbers, np.ndarray]] = []
        self.score = np.full((batch, room), -np.inf)
        self._total = self.score.copy()
        # step, row before its last token, last token
        self._end = np.zeros((batch, room, 3), dtype=np.int64)

    def add(self, rows: Numbers, tokens: Numbers, totals: Float[np.ndarray, " N"]) -> None:
        """The rows that the next step runs: where each came from, its token, its log-probability so far."""
        self._steps.append((rows, tokens, totals))

    def finish(
        self,
        items: Int[np.ndarray, " A"],
        t: int,
        score: Float[np.ndarray, "A S"],
        total: Float[np.ndarray, "A S"],
        parent: Int[np.ndarray, "A S"],
        token: Int[np.ndarray, "A S"],
    ) -> None:
        """Hypotheses that are complete at step t (score above ``-inf``) join the best; earlier ones win ties."""
        score = np.concatenate([self.score[items], score], axis=1)
        order = np.argsort(-score, axis=1, kind="stable")[:, : self.score.shape[1]]
        end = np.concatenate(
            [self._end[items], np.stack([np.full_like(token, t), parent, token], axis=2)], axis=1
        )
        self.score[items] = np.take_along_axis(score, order, 1)
        self._total[items] = np.take_along_axis(
            np.concatenate([self._total[items], total], axis=1), order, 1
        )
        self._end[items] = np.take_along_axis(end, order[:, :, None], 1)

    def finish_all(
        self,
        item: Int[np.ndarray, " n"],
        t: Int[np.ndarray, " n"],
        total: Float[np.ndarray, " n"],
        parent: Int[np.ndarray, " n"],
        token: Int[np.ndarray, " n"],
    ) -> None:
        """All complete hypotheses at once, whatever their number, in any order; the earlier one wins ties."""
        order = np.lexsort((-total, item))
        item, t, total, parent, token = (x[order] for x in (item, t, total, parent, token))
        count = np.bincount(item, minlength=len(self.score))
        place = np.arange(len(item)) - (count.cumsum() - count)[item]
        self.score = np.full((len(count), count.max()), -np.inf)
        self._total, self._end = self.score.copy(), np.zeros((*self.score.shape, 3), dtype=np.int64)
        self.score[item, place] = self._total[item, place] = total
        self._end[item, place] = np.stack([t, parent, token], axis=1)

    def keep(self, items: Int[np.ndarray, " A"], count: Int[np.ndarray, " A"]) -> None:
        """Forget all but the best ``count`` complete hypotheses of each item."""
        stays = np.arange(self.score.shape[1]) < count[:, None]
        self.score[items] = np.where(stays, self.score[items], -np.inf)

    def read(self, num: int | None, eos: tuple[int, ...]) -> dict[str, Any]:
        """The best ``num`` of each item, rebuilt: the array fields of a :class:`~leadline.decoding.search._decoded.Decoded`."""
        there = self.score[:, :num] > -np.inf
        R = int(there.sum(axis=1).max())
        score, total, end, there = (
            self.score[:, :R],
            self._total[:, :R],
            self._end[:, :R],
            there[:, :R],
        )
        step, row, token = end[:, :, 0], end[:, :, 1], end[:, :, 2]
        lengths = np.where(there, step, 0)
        L = int(lengths.max(initial=0))
        # The rows of all steps in one list, after those of the start, which lead to themselves.
        B = len(self.score)
        steps = [(np.arange(B), np.full(B, -1), np.zeros(B)), *self._steps[: max(L - 1, 0)]]
        first = np.cumsum([0, *(len(rows) for rows, _, _ in steps)])
        back = np.concatenate(
            [np.asarray(rows) + first[max(t - 1, 0)] for t, (rows, _, _) in enumerate(steps)]
        )
        words, totals = (np.concatenate([step[part] for step in steps]) for part in (1, 2))
        path = np.zeros(
            (max(L, 1), *lengths.shape), dtype=np.int64
        )  # from the token before the last to the start
        path[0] = np.where(there, first[np.maximum(lengths - 1, 0)] + row, 0)
        for depth in range(1, L):
            path[depth] = back[path[depth - 1]]
        from_last = lengths[..., None] - np.arange(
            1, L + 1
        )  # of each position; below 0 beyond the end
        nodes = path[np.maximum(from_last - 1, 0), *np.indices(lengths.shape)[..., None]]
        tokens = np.where(
            from_last > 0, words[nodes], np.where(from_last == 0, token[..., None], -1)
        )
        upto = np.where(
            from_last > 0, totals[nodes], np.where(from_last == 0, total[..., None], 0.0)
        )
        is_there = np.arange(L) < lengths[..., None]
        return {
            "tokens": tokens,
            "lengths": lengths,
            "log_prob": np.where(there, total, -np.inf),
            "score": np.where(there, score, -np.inf),
            "token_log_prob": np.where(is_there, np.diff(upto, axis=-1, prepend=0.0), 0.0),
            "finished": there & (np.isin(token, eos) if eos else True),
        }


def stack(
    sequences: list[list[tuple[float, list[int], list[float]]]], eos: tuple[int, ...]
) -> dict[str, Any]:
    """The same fields from sequences that are written out: per item, score, tokens and log-probabilities so far.

    >>> stack([[(-1.5, [3, 4], [-0.5, -1.5])]], eos=())["token_log_prob"].tolist()
    [[[-0.5, -1.0]]]
    """
    shape = (len(sequences), max(map(len, sequences)))
    L = max((len(tokens) for item in sequences for _, tokens, _ in item), default=0)
    found = {
        "tokens": np.full((*shape, L), -1, dtype=np.int64),
        "lengths": np.zeros(shape, dtype=np.int64),
        "log_prob": np.full(shape, -np.inf),
        "score": np.full(shape, -np.inf),
        "token_log_prob": np.zeros((*shape, L)),
        "finished": np.zeros(shape, dtype=bool),
    }
    for i, item in enumerate(sequences):
        for r, (score, tokens, upto) in enumerate(item):
            found["tokens"][i, r, : len(tokens)] = tokens
            found["token_log_prob"][i, r, : len(tokens)] = np.diff(upto, prepend=0.0)
            found["lengths"][i, r], found["log_prob"][i, r], found["score"][i, r] = (
                len(tokens),
                upto[-1],
                score,
            )
            found["finished"][i, r] = tokens[-1] in eos if eos else True
    return found
