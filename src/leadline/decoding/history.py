"""Backpointers of what lives, and the best of what is complete; sequences are rebuilt from them once, at the end."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class History:
    """What one search remembers of its rows, and up to R complete hypotheses per item, best first.

    Args:
        batch: B, items.
        room: R, complete hypotheses to remember for each.
        device: where the search runs.
    """

    def __init__(self, batch: int, room: int, device: torch.device):
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []
        self.score = torch.full((batch, room), -torch.inf, dtype=torch.float64, device=device)
        self._total = self.score.clone()
        # step, row before its last token, last token
        self._end = torch.zeros(batch, room, 3, dtype=torch.int64, device=device)

    def add(self, rows: Int[Tensor, " N"], tokens: Int[Tensor, " N"], totals: Float[Tensor, " N"]) -> None:
        """The rows that the next step runs: where each came from, its token, its log-probability so far."""
        self._steps.append((rows, tokens, totals))

    def finish(
        self,
        items: Int[Tensor, " A"],
        t: int,
        score: Float[Tensor, "A S"],
        total: Float[Tensor, "A S"],
        parent: Int[Tensor, "A S"],
        token: Int[Tensor, "A S"],
    ) -> None:
        """Hypotheses that are complete at step t (score above ``-inf``) join the best; earlier ones win ties."""
        room = self.score.shape[1]
        end = torch.stack([torch.full_like(token, t), parent, token], dim=2)
        score, order = torch.cat([self.score[items], score], 1).sort(dim=1, descending=True, stable=True)
        order = order[:, :room]
        self.score[items] = score[:, :room]
        self._total[items] = torch.cat([self._total[items], total], 1).gather(1, order)
        self._end[items] = torch.cat([self._end[items], end], 1).gather(1, order.unsqueeze(2).expand(-1, -1, 3))

    def finish_all(
        self,
        item: Int[Tensor, " n"],
        t: Int[Tensor, " n"],
        total: Float[Tensor, " n"],
        parent: Int[Tensor, " n"],
        token: Int[Tensor, " n"],
    ) -> None:
        """All complete hypotheses at once, whatever their number, in any order; the earlier one wins ties."""
        order = np.lexsort((-total.cpu().numpy(), item.cpu().numpy()))
        item, t, total, parent, token = (x[order] for x in (item, t, total, parent, token))
        count = torch.bincount(item, minlength=len(self.score))
        place = torch.arange(len(item)) - (count.cumsum(0) - count)[item]
        self.score = self.score.new_full((len(count), int(count.max())), -torch.inf)
        self._total, self._end = self.score.clone(), self._end.new_zeros(*self.score.shape, 3)
        self.score[item, place] = self._total[item, place] = total
        self._end[item, place] = torch.stack([t, parent, token], dim=1)

    def keep(self, items: Int[Tensor, " A"], count: Int[Tensor, " A"]) -> None:
        """Forget all but the best ``count`` complete hypotheses of each item."""
        stays = torch.arange(self.score.shape[1], device=self.score.device) < count.unsqueeze(1)
        self.score[items] = torch.where(stays, self.score[items], -torch.inf)

    def read(self, num: int | None, eos: tuple[int, ...]) -> dict[str, Any]:
        """The best ``num`` of each item, rebuilt: the array fields of a :class:`~leadline.decoding.decoded.Decoded`."""
        score, total = (x[:, :num].cpu().numpy() for x in (self.score, self._total))
        there = score > -np.inf
        R = int(there.sum(axis=1).max())
        score, total, there = score[:, :R], total[:, :R], there[:, :R]
        step, row, token = (self._end[:, :R, i].cpu().numpy() for i in range(3))
        lengths = np.where(there, step, 0)
        L = int(lengths.max(initial=0))
        tokens = np.full((*lengths.shape, L), -1, dtype=np.int64)
        upto = np.zeros((*lengths.shape, L + 1))
        for t in range(L, 0, -1):
            past = lengths > t
            if past.any():
                rows, word, at = (x.cpu().numpy() for x in self._steps[t - 1])
                tokens[past, t - 1], upto[past, t] = word[row[past]], at[row[past]]
                row[past] = rows[row[past]]
            last = lengths == t
            tokens[last, t - 1], upto[last, t] = token[last], total[last]
        is_there = np.arange(L) < lengths[..., None]
        return {
            "tokens": tokens,
            "lengths": lengths,
            "log_prob": np.where(there, total, -np.inf),
            "score": score,
            "token_log_prob": np.where(is_there, np.diff(upto, axis=-1), 0.0),
            "finished": there & (np.isin(token, eos) if eos else True),
        }


def stack(sequences: list[list[tuple[float, list[int], list[float]]]], eos: tuple[int, ...]) -> dict[str, Any]:
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
            found["lengths"][i, r], found["log_prob"][i, r], found["score"][i, r] = len(tokens), upto[-1], score
            found["finished"][i, r] = tokens[-1] in eos if eos else True
    return found
