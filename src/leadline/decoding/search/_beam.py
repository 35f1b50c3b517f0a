"""Beam search: after every step the best ``width`` prefixes survive.

Selection runs on few numbers: each row's best tokens are taken first, then the best of those. What is kept per step is
one backpointer, one token and one log-probability per hypothesis; sequences are rebuilt once, at the end.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

from leadline import checks
from leadline.decoding.models._constraints import Processor, constrain, names_of, processor_list
from leadline.decoding.models._problem import Model, Problem, Step, as_tensor
from leadline.decoding.search._candidates import ROUNDING, WIDE, Reader, refuse_nan
from leadline.decoding.search._decoded import Decoded, conclude
from leadline.decoding.search._hypotheses import History
from leadline.decoding.search._rows import Rows
from leadline.decoding.search._scores import Score, SumLogProb, why_unbounded
from leadline.decoding.search._settings import (
    EndTokens,
    check_end_tokens,
    count,
    end_tokens,
    length,
    normalization,
    score_function,
)
from leadline.decoding.search._trace_recorder import Recorder
from leadline.errors import InputError

EosMode = Literal["pool", "in_beam"]

FEW = 256
"""Up to so many candidates are ranked as Python's numbers."""


def beam_search(
    step: Step,
    state: Any,
    start: Tensor,
    *,
    width: int,
    max_length: int,
    eos: EndTokens = None,
    score: Score = SumLogProb(),  # noqa: B008
    eos_mode: EosMode = "pool",
    num_return: int = 1,
    processors: Sequence[Processor] = (),
    normalize: bool | None = None,
    trace: bool = False,
) -> Decoded:
    """The best hypotheses that survive with ``width`` places per item, and a bound on all that did not.

    A hypothesis is complete when it ends with an end token or has ``max_length`` tokens. Candidates are ranked by their
    score at their present length; ties go to the better ranked parent, then to the lower token. A search stops early
    only where nothing that is still open could change its result.

    Args:
        step: see :data:`~leadline.decoding.models._problem.Step`.
        state: the state at the end of the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        width: k, hypotheses that survive a step, at least 1.
        max_length: new tokens at most, at least 1.
        eos: the end token or tokens.
        score: what complete hypotheses are compared by.
        eos_mode: ``"pool"``: a hypothesis that ends among the best k leaves its place to the next one;
            ``"in_beam"``: it keeps its place, and may lose it.
        num_return: R, hypotheses to return, at most ``width``.
        processors: masks over the next tokens, see :mod:`~leadline.decoding.models._constraints`. An audit of the answer takes
            the problem that :func:`~leadline.decoding.models._constraints.constrain` makes of them.
        normalize: whether scores are logits; ``None`` follows ``step.normalized``.
        trace: also return the tree of all considered candidates.

    Returns:
        The hypotheses with certificate, work and, if asked for, trace.

    Raises:
        InputError: a setting is out of range, the step function breaks its contract, or its scores are NaN.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> print(decoding.beam_search(*table.problem(), width=2, max_length=2))
    beam search returns “b a” with log-probability -0.90; proved optimal

    Reference: Lowerre, *The Harpy speech recognition system*, 1976.
    """
    width = count(width, "width")
    max_length = length(max_length)
    num_return = count(num_return, "num_return")
    score = score_function(score)
    eos_mode = eos_mode_of(eos_mode)
    trace = checks.flag(trace, "trace")
    normalize = normalization(normalize)
    ends = end_tokens(eos)
    if num_return > width:
        raise InputError(
            "num_return is at most the width", got=f"num_return = {num_return}, width = {width}"
        )
    processors = processor_list(processors)
    names = names_of(processors)
    problem = Problem(step, state, start)
    if processors:
        problem = constrain(*problem, processors, normalize)
    model = Model(problem, None if processors else normalize)
    settings = {
        "search": "beam search",
        "width": width,
        "max_length": max_length,
        "eos": ends,
        "score": score,
        "eos_mode": eos_mode,
        "num_return": num_return,
        "normalize": None if processors else normalize,  # what is masked is normalised already
        **({"processors": names} if names else {}),
    }
    return _Beam(model, settings, Recorder() if trace else None).run()


def eos_mode_of(value: Any) -> EosMode:
    """``"pool"`` or ``"in_beam"``."""
    if not isinstance(value, str) or value not in ("pool", "in_beam"):
        raise InputError("eos_mode is 'pool' or 'in_beam'", got=f"eos_mode = {checks.shown(value)}")
    return "pool" if value == "pool" else "in_beam"


class _Beam:
    """One run. A items are still open; item a has W places, and hypothesis n is at ``self.place[n]`` of A * W.

    Hypotheses are in the order of items, and the best of an item first; :class:`Rows` knows where the model has them.
    """

    def __init__(self, model: Model, settings: dict[str, Any], recorder: Recorder | None):
        self.model, self.settings, self.recorder = model, settings, recorder
        self.k, self.T, self.R = settings["width"], settings["max_length"], settings["num_return"]
        self.score: Score = settings["score"]
        self.in_beam = settings["eos_mode"] == "in_beam"
        self.eos = np.array(settings["eos"], dtype=np.int64)
        self.items = np.arange(model.batch)
        self.total = np.zeros((model.batch, 1))
        self.place: np.ndarray | None = None  # None: every place is filled
        self.rows = Rows()
        self.history = History(model.batch, self.k if self.in_beam else self.R)
        self.discarded = np.full((model.batch, self.T + 1), -np.inf)
        self.why_unbounded = why_unbounded(self.score, self.T)
        self.is_bounded = not self.why_unbounded
        self.rises = np.zeros(model.batch, dtype=bool)
        """Per item: a score above 0 was seen, so that nothing is known of what was discarded."""

    def run(self) -> Decoded:
        with self.model.without_gradients():
            self._search()
        return self._result()

    def _search(self) -> None:
        tokens, state, reader = self.model.start, self.model.state, Reader(self.model.are_logits)
        # Of each hypothesis: the best that may live on, all that may end, and one more for the bound.
        C = self.k + len(self.eos) + 1
        for t in range(1, self.T + 1):
            scores, state = self.model(tokens, state)
            before, M = scores.shape
            check_end_tokens(self.settings["eos"], M)
            full = self.total.shape if self.place is None else None
            few = reader.few(scores, C) if before * C <= FEW and self._is_simple(t) else None
            found = few or reader.best(scores, C, *self._needed(M))
            del scores  # their memory is still in the cache: the next step's may take it
            parents, words = (few and self._advance_simply(t, *few)) or self._advance(
                t, *map(np.asarray, found)
            )
            if not parents:
                break
            # Items that were and are full, and as many: the same items, each with as many hypotheses.
            sources = self.rows.move(
                parents, before, stay=self.place is None and self.total.shape == full
            )
            if sources is not None:
                state = self.model.reorder(state, sources)
            tokens = as_tensor(self.rows.by_row(words), self.model.start)

    def _needed(self, M: int) -> tuple[np.ndarray | None, int]:
        """What the reader may leave out: log-probabilities so far, and how many candidates of an item matter."""
        if M < WIDE or self.recorder or self.in_beam or self.place is not None:
            return None, 0
        return self.rows.by_row(self.total.ravel()).reshape(self.total.shape), self._ranked()

    def _ranked(self) -> int:
        """The best that live on, all that may end before them, and one more."""
        return self.k + self.total.shape[1] * len(self.eos) + 1

    def _check(self, log_prob: np.ndarray, t: int) -> None:
        bad = next(
            (n for n, best in enumerate(log_prob[:, 0].tolist()) if not best < math.inf), None
        )
        if bad is not None:
            place = bad if self.place is None else int(self.place[bad])
            item, rank = divmod(place, self.total.shape[1])
            refuse_nan(step=t, item=int(self.items[item]), hypothesis=rank)
        if not self.model.are_logits:
            self._clamp(log_prob)

    def _clamp(self, log_prob: np.ndarray) -> None:
        """Log-probabilities above 0 are 0, but for items whose scores rise by more than rounding."""
        is_above = log_prob[:, 0] > 0
        if not is_above.any():
            return
        place = np.arange(len(log_prob)) if self.place is None else self.place
        item = self.items[place // self.total.shape[1]]
        self.rises[item[log_prob[:, 0] > ROUNDING]] = True
        is_rounding = ~self.rises[item]
        log_prob[is_rounding] = np.minimum(log_prob[is_rounding], 0)

    def _spread(self, log_prob: np.ndarray, token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Candidates as (A, W * C): totals and tokens, ``-inf`` in empty places."""
        (A, W), C = self.total.shape, log_prob.shape[1]
        if self.place is not None:
            filled, full, words = (
                self.place,
                np.full((A * W, C), -np.inf),
                np.zeros((A * W, C), dtype=np.int64),
            )
            full[filled], words[filled] = log_prob, token
            log_prob, token = full, words
        total = self.total[:, :, None] + log_prob.reshape(A, W, C)
        self.model.meter.ranked += total.size
        return total.reshape(A, -1), token.reshape(A, -1)

    def _is_simple(self, t: int) -> bool:
        """Whether :meth:`_advance_simply` may be asked: one item is open, its places are filled, its scores are logits,
        which cannot rise, and nobody watches."""
        is_alone = len(self.items) == 1 and self.place is None and self.model.are_logits
        return is_alone and not (self.recorder or self.in_beam or t == self.T)

    def _advance_simply(
        self, t: int, log_prob: list[list[float]], token: list[list[int]]
    ) -> tuple[list[int], list[int]] | None:
        """What :meth:`_advance` does, where nothing ends and every place is filled again; else ``None``. Python's
        numbers are quicker than arrays as small as that."""
        log_prob, token = self.rows.by_rank(log_prob), self.rows.by_rank(token)
        totals = [
            upto + one
            for upto, row in zip(self.total.ravel().tolist(), log_prob, strict=True)
            for one in row
        ]
        order = sorted(
            range(len(totals)), key=totals.__getitem__, reverse=True
        )  # which leaves ties in their order
        if len(order) <= self.k or totals[order[self.k]] == -math.inf:
            return None
        ranked = [divmod(i, len(log_prob[0])) for i in order[: self.k]]
        parents, tokens = (
            [parent for parent, _ in ranked],
            [token[parent][rank] for parent, rank in ranked],
        )
        if len(self.eos) and self._may_end(t, totals[order[0]], tokens):
            return None
        self.model.meter.ranked += len(totals)
        self.discarded[self.items[0], t - 1] = self.score.bound(totals[order[self.k]], t, self.T)
        self.total = np.array([[totals[i] for i in order[: self.k]]])
        self.history.add(parents, tokens, self.total[0])
        return parents, tokens

    def _advance(
        self, t: int, log_prob: np.ndarray, token: np.ndarray
    ) -> tuple[list[int], list[int]]:
        """Rank the candidates; settle what is complete, lives on or is lost; parents and tokens of what to run next."""
        log_prob, token = self.rows.by_rank(log_prob), self.rows.by_rank(token)
        self._check(log_prob, t)
        total, token = self._spread(log_prob, token)
        C = log_prob.shape[1]
        carried, key = 0, total
        if self.in_beam:
            carried = self.k
            key = np.concatenate([self.history.score[self.items], self.score(total, t)], axis=1)
            total, token = (
                np.concatenate([np.zeros((len(x), carried), x.dtype), x], axis=1)
                for x in (total, token)
            )
        order = (-key).argsort(axis=1, kind="stable")
        if not (self.recorder or self.in_beam):
            order = order[:, : self._ranked()]
        flat = order if len(key) == 1 else order + np.arange(len(key))[:, None] * key.shape[1]
        token, total = token.ravel()[flat], total.ravel()[flat]
        key = key.ravel()[flat] if self.in_beam else total
        parent = self._hypotheses((np.maximum(order - carried, 0) if carried else order) // C)
        lives = None
        if (
            self.in_beam
            or t == self.T
            or (len(self.eos) and np.isin(token[:, : self.k], self.eos).any())
        ):
            lives = self._settle(t, key, total, token, parent, order >= carried)
        elif key.shape[1] > self.k:
            self._discard(t, total[:, self.k])
        if self.recorder:
            self.recorder.considered(
                t, self.items, (order >= carried) & (key > -np.inf), total, token, parent
            )
        if t == self.T:
            return [], []
        parents, words = self._survivors(t, total, token, parent, lives)
        if self.recorder:
            self.recorder.survived(parents, words)
        return parents.tolist(), words.tolist()

    def _may_end(self, t: int, best: float, tokens: list[int]) -> bool:
        """Whether the item that is open has a hypothesis that ends here, or none that can still change its result."""
        if not set(tokens).isdisjoint(self.settings["eos"]):
            return True
        worst = self.history.score[
            self.items[0], self.R - 1
        ]  # of what is returned, if nothing better comes
        return self.is_bounded and worst >= self.score.bound(best, t + 1, self.T)

    def _discard(self, t: int, best: np.ndarray) -> None:
        """Note the best log-probability that each open item discards at step t."""
        self.discarded[self.items, t - 1] = self.score.bound(best, t, self.T)

    def _hypotheses(self, place: np.ndarray) -> np.ndarray:
        """The hypothesis at each place (A, S) of the last step."""
        A, W = self.total.shape
        if A > 1:
            place = place + np.arange(A)[:, None] * W
        if self.place is None:
            return place
        hypothesis = np.zeros(A * W, dtype=np.int64)
        hypothesis[self.place] = np.arange(len(self.place))
        return hypothesis[place]

    def _settle(
        self, t: int, key: Any, total: Any, token: Any, parent: Any, is_new: np.ndarray
    ) -> np.ndarray:
        """Put complete hypotheses away; a mask of the ranked candidates that live on."""
        valid = is_new & (key > -np.inf)
        among = np.arange(key.shape[1]) < self.k
        ends = valid if t == self.T else valid & np.isin(token, self.eos)
        finishes, lives = ends & among, valid & ~ends
        lives &= among if self.in_beam else lives.cumsum(1) <= self.k
        lost = np.where(valid & ~finishes & ~lives, total, -np.inf).max(1)
        self._discard(t, lost)
        if self.in_beam:  # a complete hypothesis that loses its place counts by its own score
            displaced = np.where(~is_new & ~among, key, -np.inf).max(1)
            self.discarded[self.items, t - 1] = np.maximum(
                self.discarded[self.items, t - 1], displaced
            )
            self.history.keep(self.items, (~is_new & among).sum(1))
        if finishes.any():
            score = np.where(finishes, self.score(total, t), -np.inf)
            self.history.finish(
                self.items, t, *(x[:, : self.k] for x in (score, total, parent, token))
            )
        if self.recorder:
            self.recorder.finished(finishes)
        return lives

    def _survivors(
        self,
        t: int,
        total: np.ndarray,
        token: np.ndarray,
        parent: np.ndarray,
        lives: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Move on to the hypotheses that live on, in the items that are not done."""
        if lives is not None:
            total = np.where(lives, total, -np.inf)
            # The living first, in their order; what follows them is an empty place.
            first = np.argsort(~lives, axis=1, kind="stable")
            total, token, parent = (np.take_along_axis(x, first, 1) for x in (total, token, parent))
        total, token, parent = (x[:, : self.k] for x in (total, token, parent))
        if self.recorder:
            self.recorder.in_beam(parent[total > -np.inf], token[total > -np.inf])
        filled = total > -np.inf
        if self.is_bounded and (len(self.eos) or self.in_beam):
            bound = self.score.bound(total[:, 0], t + 1, self.T)
            done = (self.history.score[self.items, self.R - 1] >= bound) & ~self.rises[self.items]
            self.discarded[self.items, self.T] = np.where(done, bound, -np.inf)
            filled[done] = False  # so that what is done goes with what has no hypothesis left
        are_full = np.count_nonzero(filled) == filled.size
        if not are_full:
            goes_on = filled[:, 0]
            self.items = self.items[goes_on]
            total, token, parent, filled = (x[goes_on] for x in (total, token, parent, filled))
            are_full = bool(filled.all())
        if are_full:
            self.place, self.total = None, total
            total, token, parent = total.ravel(), token.ravel(), parent.ravel()
        else:
            W = int(filled.sum(1).max())
            self.total, filled = total[:, :W], filled[:, :W]
            self.place = filled.ravel().nonzero()[0]
            total, token, parent = (x[:, :W][filled] for x in (total, token, parent))
        self.history.add(parent, token, total)
        return parent, token

    def _result(self) -> Decoded:
        reason = self.why_unbounded
        unknown = None
        if not reason and self.rises.any():
            reason = "the step function's scores are above 0, so they are not log-probabilities"
            unknown = self.rises
        trace = self.recorder.read(self.model) if self.recorder else None
        found = self.history.read(self.R, self.settings["eos"])
        return conclude(
            self.model,
            found,
            self.settings,
            discarded=self.discarded,
            reason=reason,
            unknown=unknown,
            trace=trace,
        )
