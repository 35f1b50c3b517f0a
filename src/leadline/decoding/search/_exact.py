"""Exact search: the most likely sequence, proved.

Best-first over prefixes. Log-probabilities only fall as a prefix grows, so that a prefix bounds all that grows from it;
once a complete sequence reaches the bound of every open prefix, it is the best of all. Prefixes are expanded in batches
of one depth. What a batch holds beyond the best prefix is speculation, and is rationed: however the search goes, it
expands at most ``batch * max_length`` prefixes that turn out not to have been needed.
"""

import heapq
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline import checks
from leadline.decoding.judging._earlier_answer import NOTHING_KNOWN, Earlier
from leadline.decoding.judging._rescoring import FIRST, SAME
from leadline.decoding.models._problem import Model, Problem, Step, concat, nbytes
from leadline.decoding.search._candidates import ROUNDING, Reader, refuse_nan
from leadline.decoding.search._decoded import Decoded, changed, conclude
from leadline.decoding.search._hypotheses import stack
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
from leadline.errors import InputError


def exact_search(
    step: Step,
    state: Any,
    start: Tensor,
    *,
    max_length: int,
    eos: EndTokens = None,
    normalize: bool | None = None,
    max_calls: int | None = None,
    max_bytes: int = 2**31,
    batch: int = 64,
    score: Score = SumLogProb(),  # noqa: B008
    per_length: bool = False,
    num_return: int = 1,
    at_least: Decoded | None = None,
) -> Decoded:
    """The best complete sequences, proved to be; or, where a budget runs out, the best found and a bound.

    Args:
        step: see :data:`~leadline.decoding.models._problem.Step`.
        state: the state at the end of the prompts, B rows; objects in it need ``concat`` on their class.
        start: the last token of each prompt, shape (B,), int64.
        max_length: new tokens at most.
        eos: the end token or tokens.
        normalize: whether scores are logits; ``None`` follows ``step.normalized``.
        max_calls: budget of calls of the step function for each item.
        max_bytes: budget of memory for open prefixes, their states included.
        batch: prefixes per call.
        score: what sequences are compared by.
        per_length: the most likely sequence of every length instead, which answers every length penalty at once.
            The certificate's gap is then the most that any of them may fall short.
        num_return: sequences to return, all of them proved.
        at_least: an earlier answer to the same problem (of a beam search, say): the search starts from what it
            found, and only looks for better. One sequence by the same score need not be proved again, where its
            certificate has done so. An answer that was found with another step function or state object, or read
            from a file, is scored again first, as part of the budget, and its certificate is not used.

    Returns:
        The sequences. The certificate says ``OPTIMAL`` where the search came to its end, else ``GAP``.

    Raises:
        InputError: scores are above 0 where they should be log-probabilities, or a score without a bound, an earlier
            answer to another problem, or as :func:`~leadline.decoding.search._beam.beam_search`.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> print(decoding.exact_search(*table.problem(), max_length=2))
    exact search returns “b a” with log-probability -0.90; proved optimal

    Reference: Stahlberg and Byrne, *On NMT search errors and model errors: cat got your tongue?*, 2019.
    """
    earlier = None
    if at_least is not None:
        earlier = Earlier(
            checks.instance(at_least, "at_least", Decoded, wanted="the result of a search")
        )
    return search_from(
        Problem(step, state, start),
        earlier,
        max_length=max_length,
        eos=eos,
        normalize=normalize,
        max_calls=max_calls,
        max_bytes=max_bytes,
        batch=batch,
        score=score,
        per_length=per_length,
        num_return=num_return,
    )


def search_from(
    problem: Problem,
    earlier: Earlier | None,
    *,
    max_length: int,
    eos: EndTokens,
    normalize: bool | None,
    max_calls: int | None,
    score: Score = SumLogProb(),  # noqa: B008
    max_bytes: int = 2**31,
    batch: int = 64,
    per_length: bool = False,
    num_return: int = 1,
) -> Decoded:
    """See :func:`exact_search`."""
    max_length = length(max_length)
    max_calls = checks.optional_whole_number(max_calls, "max_calls", least=1)
    max_bytes = checks.whole_number(max_bytes, "max_bytes", least=1)
    batch = count(batch, "batch")
    num_return = count(num_return, "num_return")
    per_length = checks.flag(per_length, "per_length")
    normalize = normalization(normalize)
    score = score_function(score)
    reason = why_unbounded(score, max_length)
    if reason:
        raise InputError(
            "exact search needs a score with a bound", got=f"score = {score}", cause=reason
        )
    if per_length and score != SumLogProb():
        raise InputError(
            "the most likely sequences of every length are compared by log-probability",
            got=f"per_length = True, score = {score}",
            cure="leave the score out, and apply it to what is returned",
        )
    ends = end_tokens(eos)
    model = Model(problem, normalize)
    settings = {
        "search": "exact search",
        "max_length": max_length,
        "eos": ends,
        "score": score,
        "per_length": per_length,
        "num_return": max_length if per_length else num_return,
        "normalize": normalize,
        "max_calls": max_calls,
        "batch": batch,
    }
    known = earlier.known(model, settings) if earlier is not None else NOTHING_KNOWN
    sequences, bounds, gaps = [], [], []
    for item in range(model.batch):
        search = _BestFirst(model, item, settings, max_bytes, known.calls)
        if known.decoded is not None:
            search.start_from(known.decoded, known.is_trusted)
        bounds.append(search.run())
        gaps.append(search.gap_by_length())
        sequences.append(search.sequences())
    decoded = conclude(model, stack(sequences, ends), settings, discarded=np.array(bounds)[:, None])
    if not per_length:
        return decoded
    proofs = zip(gaps, decoded.certificate.outcome, strict=True)
    outcome = tuple("GAP" if gap > 0 else proof for gap, proof in proofs)
    return changed(
        decoded, certificate=replace(decoded.certificate, outcome=outcome, gap=np.array(gaps))
    )


@dataclass(frozen=True, eq=False)
class _Brood:
    """The open children of one expanded batch, best first. They share the batch's state, which is never changed."""

    state: Any
    log_prob: np.ndarray
    row: np.ndarray
    token: np.ndarray
    prefix: range
    """Per row: the number of the prefix that was expanded."""

    @property
    def nbytes(self) -> int:
        return nbytes(self.state) + self.log_prob.nbytes + self.row.nbytes + self.token.nbytes


class _BestFirst:
    """The search of one item. ``open[d]`` is a heap of broods of depth d by their best child that is still open."""

    def __init__(
        self, model: Model, item: int, settings: dict[str, Any], max_bytes: int, spent: int
    ):
        self.model, self.item, self.max_bytes = model, item, max_bytes
        self.T, self.ends, self.score = settings["max_length"], settings["eos"], settings["score"]
        self.batch, self.R, self.per_length = (
            settings["batch"],
            settings["num_return"],
            settings["per_length"],
        )
        self.calls = self.first_call = spent
        self.budget = np.inf if settings["max_calls"] is None else settings["max_calls"]
        self.open: list[list[tuple[float, int, int, _Brood]]] = [[] for _ in range(self.T)]
        self.bytes = 0
        self.reader = Reader(model.are_logits)
        self.prefixes: list[
            tuple[int, int, float]
        ] = []  # of what was expanded: parent, last token, log_prob
        self.found: list[
            tuple[float, int, int, float]
        ] = []  # score, prefix before the last token, that token, log_prob
        self.by_length = np.full(self.T + 1, -np.inf)
        self.known: list[tuple[float, list[int], list[float]]] = []
        self.threshold = -np.inf
        self.ceiling = np.inf
        """Which nothing exceeds but what is known, by the certificate of an earlier search."""
        self.speculated: list[float] = []

    def start_from(self, decoded: Decoded, is_trusted: bool) -> None:
        """Look only for what is at least as good as an earlier answer.

        Args:
            decoded: the earlier answer.
            is_trusted: True if its certificate is known to hold for this very problem.
        """
        i = self.item
        given = int((decoded.lengths[i] > 0).sum())
        for r in range(given if is_trusted else min(given, FIRST)):
            n = int(decoded.lengths[i, r])
            log_prob = decoded.token_log_prob[i, r, :n].cumsum()
            score = float(self.score(log_prob[-1], n))
            self.known.append((score, decoded.tokens[i, r, :n].tolist(), log_prob.tolist()))
            if self.per_length:
                least = log_prob[-1] - SAME * (1 + abs(log_prob[-1]))
                self.by_length[n] = max(self.by_length[n], least)
        if len(self.known) >= self.R and not self.per_length:
            worst = sorted(score for score, _, _ in self.known)[-self.R]
            self.threshold = worst - SAME * (1 + abs(worst))
        proof, settings = decoded.certificate, decoded.protocol.settings
        is_alike = settings.get("score", SumLogProb()) == self.score and not settings.get(
            "per_length"
        )
        is_there = proof.outcome[i] != "NOT_APPLICABLE"
        if is_trusted and is_alike and self.R == 1 and not self.per_length and is_there:
            is_proved = proof.outcome[i] in ("OPTIMAL", "NO_SEQUENCE")
            self.ceiling = self._best_known() if is_proved else float(proof.upper_bound[i])

    def _best_known(self) -> float:
        return max((score for score, _, _ in self.known), default=-np.inf)

    def run(self) -> float:
        """Search; returns a bound on everything that was not looked at."""
        return (
            self.ceiling if self._best_known() >= self.ceiling else min(self._run(), self.ceiling)
        )

    def _run(self) -> float:
        if self.calls >= self.budget:
            return self.ceiling
        root = torch.tensor([self.item], device=self.model.start.device)
        self._expand(
            0, self.model.start[root], self.model.select(self.model.state, root), [(-1, -1, 0.0)]
        )
        for depth in range(
            1, self.T
        ):  # one dive first: it gives a lower bound, and so a measure of what can matter
            if self.calls < self.budget:
                self._expand_best(depth, (self.batch + 1) // 2)
        while (depth := self._most_promising()) is not None:
            if self.calls >= self.budget or self.bytes > self.max_bytes:
                return self._bound(depth)
            self._expand_best(depth, self.batch)
        return -np.inf if self.per_length else self._worst()

    def sequences(self) -> list[tuple[float, list[int], list[float]]]:
        """What was found, best first, with what was known before and not found again."""
        found = []
        for score, prefix, token, log_prob in self.found:
            tokens, upto = [token], [log_prob]
            while prefix > 0:
                prefix, token, log_prob = self.prefixes[prefix]
                tokens.append(token)
                upto.append(log_prob)
            found.append((score, tokens[::-1], upto[::-1]))
        known = [
            entry for entry in self.known if entry[1] not in [tokens for _, tokens, _ in found]
        ]
        ranked = sorted(found + known, key=lambda entry: -entry[0])
        if self.per_length:
            best: dict[int, tuple[float, list[int], list[float]]] = {}
            for entry in sorted(ranked, key=lambda entry: -entry[2][-1]):
                best.setdefault(len(entry[1]), entry)
            ranked = [entry for entry in ranked if best[len(entry[1])] is entry]
        return ranked[: self.R]

    def gap_by_length(self) -> float:
        """How much more likely a sequence of some length may be than the one that is known of that length."""
        best_open = np.maximum.accumulate([-heap[0][0] if heap else -np.inf for heap in self.open])
        if self.calls == self.first_call:
            return np.inf
        is_open = best_open > -np.inf
        return float((best_open[is_open] - self.by_length[1:][is_open]).max(initial=0.0))

    def _worst(self) -> float:
        """The score that must be exceeded to matter."""
        return max(self.threshold, self.found[-1][0] if len(self.found) == self.R else -np.inf)

    def _value(self, depth: int, log_prob: Any) -> Any:
        """The best score that can grow from a prefix."""
        return log_prob if self.per_length else self.score.bound(log_prob, depth + 1, self.T)

    def _matters(self, depth: int, log_prob: Any) -> Any:
        if self.per_length:
            return log_prob > self.by_length[depth + 1 :].min()
        return self.score.bound(log_prob, depth + 1, self.T) > self._worst()

    def _bound(self, depth: int) -> float:
        return float(self._value(depth, -self.open[depth][0][0]))

    def _most_promising(self) -> int | None:
        """The depth of the best open prefix (the deepest of equals); forgets prefixes that cannot matter any more."""
        best = None
        for depth, heap in enumerate(self.open):
            if heap and not self._matters(depth, -heap[0][0]):
                self.bytes -= sum(brood.nbytes for *_, brood in heap)
                heap.clear()
            if heap and (best is None or self._bound(depth) >= self._bound(best)):
                best = depth
        return best

    def _expand_best(self, depth: int, count: int) -> None:
        """Expand up to ``count`` of the best prefixes of a depth in one call; see the module's text for the ration."""
        heap, promising = self.open[depth], self._most_promising()
        if promising is None or not heap:
            return
        upper = self._bound(promising)
        while self.speculated and -self.speculated[0] >= upper:
            heapq.heappop(self.speculated)
        taken: dict[int, tuple[_Brood, list[int]]] = {}
        for _ in range(count):
            if not heap or not self._matters(depth, -heap[0][0]):
                break
            value = self._bound(depth)
            if value < upper:
                if len(self.speculated) >= self.batch * self.T:
                    break
                heapq.heappush(self.speculated, -value)
            _, number, place, brood = heap[0]
            taken.setdefault(number, (brood, []))[1].append(place)
            if place + 1 < len(brood.log_prob):
                heapq.heapreplace(
                    heap, (-float(brood.log_prob[place + 1]), number, place + 1, brood)
                )
            else:
                heapq.heappop(heap)
                self.bytes -= brood.nbytes
        if not taken:
            return
        states, tokens, prefixes = [], [], []
        for brood, places in taken.values():
            rows = brood.row[places]
            states.append(
                self.model.select(brood.state, torch.from_numpy(rows).to(self.model.start.device))
            )
            tokens.append(brood.token[places])
            columns = (rows.tolist(), brood.token[places].tolist(), brood.log_prob[places].tolist())
            prefixes += [
                (brood.prefix[row], token, log_prob)
                for row, token, log_prob in zip(*columns, strict=True)
            ]
        token = torch.from_numpy(np.concatenate(tokens)).to(self.model.start.device)
        self._expand(depth, token, concat(states), prefixes)

    def _expand(
        self, depth: int, tokens: Tensor, state: Any, prefixes: list[tuple[int, int, float]]
    ) -> None:
        first = len(self.prefixes)
        self.prefixes += prefixes
        self.calls += 1
        scores, state = self.model(tokens, state)
        check_end_tokens(self.ends, scores.shape[1])
        log_prob = self.reader.all(scores).cpu().numpy()
        if not (log_prob < ROUNDING).all():
            self._refuse(log_prob, depth + 1)
        total = np.array([upto for *_, upto in prefixes])[:, None] + np.minimum(log_prob, 0)
        length = depth + 1
        complete = np.zeros(total.shape[1], dtype=bool)
        complete[slice(None) if length == self.T else list(self.ends)] = True
        self._admit(length, total, complete, first)
        if length == self.T:
            return
        open_ = self._matters(length, total) & (total > -np.inf) & ~complete
        rows, words = np.nonzero(open_)
        if not len(rows):
            return
        values = total[rows, words]
        order = np.argsort(-values, kind="stable")
        brood = _Brood(
            state, values[order], rows[order], words[order], range(first, first + len(prefixes))
        )
        self.bytes += brood.nbytes
        heapq.heappush(self.open[length], (-float(brood.log_prob[0]), first, 0, brood))

    def _admit(self, length: int, total: np.ndarray, complete: np.ndarray, first: int) -> None:
        """Complete sequences join the best that were found."""
        score = np.asarray(self.score(total, length))
        floor = self.by_length[length] if self.per_length else self._worst()
        rows, words = np.nonzero(complete & (score > floor) & (total > -np.inf))
        keep = 1 if self.per_length else self.R
        for i in np.argsort(-score[rows, words], kind="stable")[:keep]:
            row, word = int(rows[i]), int(words[i])
            entry = (float(score[row, word]), first + row, word, float(total[row, word]))
            if self.per_length:
                self.by_length[length] = entry[3]
                self.found = [one for one in self.found if self._length(one) != length]
            self.found = sorted([*self.found, entry], key=lambda one: -one[0])[: self.R]

    def _length(self, entry: tuple[float, int, int, float]) -> int:
        prefix, length = entry[1], 1
        while prefix > 0:
            prefix, length = self.prefixes[prefix][0], length + 1
        return length

    def _refuse(self, log_prob: np.ndarray, step: int) -> None:
        row, token = (int(i[0]) for i in np.nonzero(~(log_prob < ROUNDING)))
        if not log_prob[row, token] < np.inf:
            refuse_nan(step=step, item=self.item, hypothesis=row)
        raise InputError(
            "exact search needs log-probabilities, at most 0",
            got=f"{log_prob[row, token]:.3g} for token {token} at step {step}, item {self.item}",
            cause="the scores are logits",
            cure="pass normalize=True",
        )
