"""One run of beam search: after every step, the best ``width`` hypotheses of each item survive.

Each row's best tokens are taken first and then ranked, so ranking handles few numbers. A step
stores one backpointer, one token and one log-probability per hypothesis; sequences are rebuilt
once, at the end.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from leadline.decoding.answers._certificate import Certificate, certify
from leadline.decoding.answers._scores import why_unbounded
from leadline.decoding.answers._settings import SearchSettings
from leadline.decoding.answers._trace import Trace
from leadline.decoding.problem._model import as_tensor
from leadline.decoding.problem._problem import Problem
from leadline.decoding.problem._reader import ROUNDING, WIDE, refuse_nan
from leadline.decoding.search._hypotheses import Numbers, Sequences
from leadline.decoding.search._search import StepwiseSearch
from leadline.decoding.search.beam._beam_settings import BeamSettings
from leadline.decoding.search.beam._ranking import RankedLists, rank_arrays, rank_lists
from leadline.decoding.search.beam._row_assignment import RowAssignment
from leadline.decoding.search.beam._trace_recorder import Recorder

MOST_FOR_LISTS = 256
"""Up to this number of candidates, :func:`rank_lists` is faster than arrays."""


class _Ranked(NamedTuple):
    """Candidates of A items, best first; arrays of shape (A, S)."""

    key: np.ndarray
    """The values that were sorted; ``-inf`` for no candidate."""
    total: np.ndarray
    """Log-probability up to and including the token."""
    token: np.ndarray
    parent: np.ndarray
    """The live hypothesis that the candidate extends."""
    is_new: np.ndarray
    """False for complete hypotheses that hold a place in the beam (``eos_mode="in_beam"``)."""


class BeamSearch(StepwiseSearch[SearchSettings]):
    """One run of beam search.

    A items are open. Item a has W places, and live hypothesis n is at ``self.places[n]`` of the
    A * W places. Hypotheses are in the order of the items, and the best of an item comes first.
    :class:`RowAssignment` knows the row of the model's batch that holds each hypothesis.

    Args:
        problem: the step function with its state and start tokens.
        settings: the settings.
        is_traced: record the search tree.
    """

    def __init__(self, problem: Problem, settings: BeamSettings, is_traced: bool = False):
        self.width = settings.width
        self.num_return = settings.num_return
        self.score = settings.score
        self.is_in_beam = settings.eos_mode == "in_beam"
        super().__init__(problem, settings, self.width if self.is_in_beam else self.num_return)
        batch = self.model.batch
        self.max_length = settings.max_length
        self.eos = np.array(settings.eos, dtype=np.int64)
        self.recorder = Recorder() if is_traced else None
        self.row_assignment = RowAssignment(batch)
        self.is_same_shape = False
        """True if each item has as many live hypotheses as before the last step."""
        self.items = np.arange(batch)
        """The open items, shape (A,)."""
        self.total = np.zeros((batch, 1))
        """Log-probabilities of live hypotheses, shape (A, W); ``-inf`` in empty places."""
        self.places: np.ndarray | None = None
        """The place of each live hypothesis; ``None`` if every place is filled."""
        self.discarded = np.full((batch, self.max_length + 1), -np.inf)
        """Bound on the score of everything that each step discarded, and of what was left open."""
        self.why_unbounded = why_unbounded(self.score, self.max_length)
        self.is_above_zero = np.zeros(batch, dtype=bool)
        """True for items with a log-probability above 0, for which no bound holds."""

    def advance(self, t: int, scores: Tensor) -> tuple[Numbers, Numbers]:
        """Rank the candidates of step t and keep the best of each item."""
        N, M = scores.shape
        shape = self.total.shape
        was_full = self.places is None
        # The best `width` may live on, all end tokens may come before them, and one more is the
        # best discarded candidate, which the bound needs.
        num_tokens = self.width + len(self.eos) + 1
        lists = None
        if N * num_tokens <= MOST_FOR_LISTS and self._is_simple(t):
            lists = self.reader.best_lists(scores, num_tokens)
        chosen = self._advance_with_lists(t, *lists) if lists is not None else None
        if chosen is None:
            if lists is not None:
                log_prob, token = (np.asarray(part) for part in lists)
            else:
                log_prob, token = self.reader.best(scores, num_tokens, *self._unread(M))
            chosen = self._advance_with_arrays(t, log_prob, token)
        self.is_same_shape = was_full and self.places is None and self.total.shape == shape
        return chosen

    def move(self, state: Any, parents: Numbers, new_tokens: Numbers) -> tuple[Tensor, Any]:
        """Move as few rows of the state as possible."""
        sources = self.row_assignment.move(list(parents), self.is_same_shape)
        if sources is not None:
            state = self.model.reorder(state, sources)
        return as_tensor(self.row_assignment.by_row(list(new_tokens)), self.model.start), state

    def sequences(self) -> Sequences:
        """Return the best complete hypotheses of each item."""
        return self.history.read(self.num_return, self.settings.eos)

    def certificate(self, score: np.ndarray) -> Certificate:
        """Compare the hypotheses with the bound on everything that was discarded."""
        if self.why_unbounded or not self.is_above_zero.any():
            return certify(score, self.discarded, self.why_unbounded)
        reason = "the step function's scores are above 0, so they are not log-probabilities"
        return certify(score, self.discarded, reason, self.is_above_zero)

    def trace(self) -> Trace | None:
        """Return the search tree, if it was recorded."""
        return self.recorder.read(self.model) if self.recorder else None

    def _unread(self, M: int) -> tuple[np.ndarray | None, int]:
        """Return the arguments by which the reader may skip tokens of wide rows.

        These are the log-probabilities so far and the number of candidates of an item that matter.
        """
        if M < WIDE or self.recorder or self.is_in_beam or self.places is not None:
            return None, 0
        total = self.row_assignment.by_row(self.total.ravel()).reshape(self.total.shape)
        return total, self._num_ranked()

    def _num_ranked(self) -> int:
        """Number of candidates of an item that matter.

        These are the best that live on, all that may end before them, and one more.
        """
        return self.width + self.total.shape[1] * len(self.eos) + 1

    # The fast path: one item, plain Python.

    def _is_simple(self, t: int) -> bool:
        """True if the fast path applies: one open item, a full beam, logits, and no trace."""
        is_alone = len(self.items) == 1 and self.places is None and self.model.are_logits
        return is_alone and not (self.recorder or self.is_in_beam or t == self.max_length)

    def _advance_with_lists(
        self, t: int, log_prob: list[list[float]], token: list[list[int]]
    ) -> tuple[list[int], list[int]] | None:
        """Advance by :func:`rank_lists`; ``None`` if only :meth:`_advance_with_arrays` applies."""
        log_prob = self.row_assignment.by_rank(log_prob)
        token = self.row_assignment.by_rank(token)
        ranked = rank_lists(self.total[0].tolist(), log_prob, token, self.width)
        if ranked is None or self._may_end(t, ranked):
            return None
        self.model.meter.ranked += ranked.num_ranked
        self._discard(t, np.array([ranked.discarded]))
        self.total = np.array([ranked.totals])
        self.history.add(ranked.parents, ranked.tokens, self.total[0])
        return ranked.parents, ranked.tokens

    def _may_end(self, t: int, ranked: RankedLists) -> bool:
        """True if a hypothesis ends at step t, or if no live hypothesis can change the result."""
        if not len(self.eos):
            return False
        if not set(ranked.tokens).isdisjoint(self.settings.eos):
            return True
        worst = self.history.score[self.items[0], self.num_return - 1]
        bound = self.score.bound(ranked.totals[0], t + 1, self.max_length)
        return not self.why_unbounded and worst >= bound

    # The general path: many items, arrays.

    def _advance_with_arrays(
        self, t: int, log_prob: np.ndarray, token: np.ndarray
    ) -> tuple[list[int], list[int]]:
        """Rank the candidates, store complete hypotheses, and keep the best live ones."""
        log_prob = self.row_assignment.by_rank(log_prob)
        token = self.row_assignment.by_rank(token)
        self._check(log_prob, t)
        ranked = self._rank(t, log_prob, token)
        is_live = None
        is_last = t == self.max_length
        if self.is_in_beam or is_last or self._has_end(ranked.token[:, : self.width]):
            is_live = self._finish(t, ranked)
        elif ranked.key.shape[1] > self.width:
            self._discard(t, ranked.total[:, self.width])
        if self.recorder:
            self.recorder.considered(
                t,
                self.items,
                ranked.is_new & (ranked.key > -np.inf),
                ranked.total,
                ranked.token,
                ranked.parent,
            )
        if is_last:
            return [], []
        parents, new_tokens = self._survive(t, ranked, is_live)
        if self.recorder:
            self.recorder.survived(parents, new_tokens)
        return parents.tolist(), new_tokens.tolist()

    def _check(self, log_prob: np.ndarray, t: int) -> None:
        """Refuse NaN and ``+inf``, and treat log-probabilities above 0."""
        best = log_prob[:, 0].tolist()
        bad = next((n for n, value in enumerate(best) if not value < math.inf), None)
        if bad is not None:
            place = bad if self.places is None else int(self.places[bad])
            item, rank = divmod(place, self.total.shape[1])
            refuse_nan(step=t, item=int(self.items[item]), hypothesis=rank)
        if not self.model.are_logits:
            self._clamp(log_prob)

    def _clamp(self, log_prob: np.ndarray) -> None:
        """Set log-probabilities above 0 to 0.

        Items in which one is above 0 by more than rounding are left as they are, and are marked.
        """
        best = log_prob[:, 0]
        if not (best > 0).any():
            return
        place = np.arange(len(log_prob)) if self.places is None else self.places
        item = self.items[place // self.total.shape[1]]
        self.is_above_zero[item[best > ROUNDING]] = True
        is_rounding = ~self.is_above_zero[item]
        log_prob[is_rounding] = np.minimum(log_prob[is_rounding], 0)

    def _rank(self, t: int, log_prob: np.ndarray, token: np.ndarray) -> _Ranked:
        """Rank the candidates of each item.

        Args:
            t: the step.
            log_prob: log-probabilities of each hypothesis' best tokens, shape (N, C).
            token: these tokens, shape (N, C).
        """
        C = log_prob.shape[1]
        total, token = self._spread(log_prob, token)
        num_complete = 0
        key = total
        if self.is_in_beam:
            # Complete hypotheses hold places, and come before the candidates.
            num_complete = self.width
            complete = self.history.score[self.items]
            key = np.concatenate([complete, self.score(total, t)], axis=1)
            total = np.concatenate([np.zeros_like(complete), total], axis=1)
            token = np.concatenate([np.zeros(complete.shape, dtype=token.dtype), token], axis=1)
        needs_all = self.recorder or self.is_in_beam
        order, key, total, token = rank_arrays(
            key, total, token, most=None if needs_all else self._num_ranked()
        )
        place = np.maximum(order - num_complete, 0)
        return _Ranked(
            key=key,
            total=total,
            token=token,
            parent=self._hypotheses(place // C),
            is_new=order >= num_complete,
        )

    def _spread(self, log_prob: np.ndarray, token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return totals (``-inf`` for empty places) and tokens of all candidates, (A, W * C)."""
        A, W = self.total.shape
        C = log_prob.shape[1]
        if self.places is not None:
            full_log_prob = np.full((A * W, C), -np.inf)
            full_token = np.zeros((A * W, C), dtype=np.int64)
            full_log_prob[self.places] = log_prob
            full_token[self.places] = token
            log_prob = full_log_prob
            token = full_token
        total = self.total[:, :, None] + log_prob.reshape(A, W, C)
        self.model.meter.ranked += total.size
        return total.reshape(A, -1), token.reshape(A, -1)

    def _hypotheses(self, place: np.ndarray) -> np.ndarray:
        """Return the live hypotheses at the given places (A, S) of each item."""
        A, W = self.total.shape
        if A > 1:
            place = place + np.arange(A)[:, None] * W
        if self.places is None:
            return place
        hypothesis = np.zeros(A * W, dtype=np.int64)
        hypothesis[self.places] = np.arange(len(self.places))
        return hypothesis[place]

    def _has_end(self, token: np.ndarray) -> bool:
        """True if one of the tokens is an end token."""
        return bool(len(self.eos) and np.isin(token, self.eos).any())

    def _discard(self, t: int, best: np.ndarray) -> None:
        """Store the bound on everything that each open item discards at step t.

        Args:
            t: the step.
            best: the largest discarded log-probability of each open item, shape (A,).
        """
        self.discarded[self.items, t - 1] = self.score.bound(best, t, self.max_length)

    def _finish(self, t: int, ranked: _Ranked) -> np.ndarray:
        """Store complete hypotheses; return a mask (A, S) of the candidates that stay live."""
        key, total, token, parent, is_new = ranked
        is_first = np.arange(key.shape[1]) < self.width
        is_candidate = is_new & (key > -np.inf)
        ends = is_candidate
        if t < self.max_length:
            ends = is_candidate & np.isin(token, self.eos)
        is_complete = ends & is_first
        is_live = is_candidate & ~ends
        is_live &= is_first if self.is_in_beam else is_live.cumsum(1) <= self.width
        is_lost = is_candidate & ~is_complete & ~is_live
        self._discard(t, np.where(is_lost, total, -np.inf).max(1))
        if self.is_in_beam:
            # A complete hypothesis that loses its place is bounded by its own score.
            displaced = np.where(~is_new & ~is_first, key, -np.inf).max(1)
            bound = np.maximum(self.discarded[self.items, t - 1], displaced)
            self.discarded[self.items, t - 1] = bound
            self.history.keep(self.items, (~is_new & is_first).sum(1))
        if is_complete.any():
            score = np.where(is_complete, self.score(total, t), -np.inf)
            first = (part[:, : self.width] for part in (score, total, parent, token))
            self.history.finish(self.items, t, *first)
        if self.recorder:
            self.recorder.finished(is_complete)
        return is_live

    def _survive(
        self, t: int, ranked: _Ranked, is_live: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keep the best live hypotheses of the items that can still change their result.

        Args:
            t: the step.
            ranked: the candidates.
            is_live: mask of the candidates that stay live; ``None`` for all.

        Returns:
            Parents and tokens of the live hypotheses.
        """
        total = ranked.total
        token = ranked.token
        parent = ranked.parent
        if is_live is not None:
            # Move the live candidates to the front, in their order; -inf marks an empty place.
            first = np.argsort(~is_live, axis=1, kind="stable")
            total = np.take_along_axis(np.where(is_live, total, -np.inf), first, 1)
            token = np.take_along_axis(token, first, 1)
            parent = np.take_along_axis(parent, first, 1)
        total, token, parent = (part[:, : self.width] for part in (total, token, parent))
        is_filled = total > -np.inf
        if self.recorder:
            self.recorder.in_beam(parent[is_filled], token[is_filled])
        if not self.why_unbounded and (len(self.eos) or self.is_in_beam):
            bound = self.score.bound(total[:, 0], t + 1, self.max_length)
            is_done = self.history.score[self.items, self.num_return - 1] >= bound
            is_done &= ~self.is_above_zero[self.items]
            self.discarded[self.items, self.max_length] = np.where(is_done, bound, -np.inf)
            is_filled[is_done] = False
        are_full = np.count_nonzero(is_filled) == is_filled.size
        if not are_full:
            is_open = is_filled[:, 0]
            self.items = self.items[is_open]
            total, token, parent, is_filled = (
                part[is_open] for part in (total, token, parent, is_filled)
            )
            are_full = bool(is_filled.all())
        if are_full:
            self.places = None
            self.total = total
            total = total.ravel()
            token = token.ravel()
            parent = parent.ravel()
        else:
            W = int(is_filled.sum(1).max())
            is_filled = is_filled[:, :W]
            self.total = total[:, :W]
            self.places = is_filled.ravel().nonzero()[0]
            total, token, parent = (part[:, :W][is_filled] for part in (total, token, parent))
        self.history.add(parent, token, total)
        return parent, token
