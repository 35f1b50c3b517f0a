"""Best-first search of one item: the algorithm of exact search.

Log-probabilities only fall as a prefix grows, so a prefix bounds everything that grows from it.
Once a complete sequence reaches the bound of every open prefix, it is the best of all.

Prefixes are expanded in batches of one depth. The prefixes of a batch that are worse than the best
open prefix are speculation, and speculation is rationed: a search expands at most
``batch * max_length`` prefixes that turn out to be unnecessary.
"""

import heapq
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline.decoding.answers._decoded import Decoded
from leadline.decoding.answers._rescoring import MOST_RESCORED, ROUNDING_OF_SCORES
from leadline.decoding.problem._arguments import check_end_tokens
from leadline.decoding.problem._model import Model
from leadline.decoding.problem._reader import ROUNDING, Reader, refuse_nan
from leadline.decoding.problem._state import concat
from leadline.decoding.search._hypotheses import Entry
from leadline.decoding.search.exact._exact_settings import ExactSettings
from leadline.decoding.search.exact._prefixes import Complete, OpenChildren, OpenPrefix, Prefix
from leadline.errors import InputError


class BestFirst:
    """Search for the best ``num_return`` sequences of one item by a score.

    Args:
        model: the problem.
        item: the item.
        settings: settings of exact search.
        max_bytes: budget of memory for open prefixes.
        calls: calls that have already been spent from the budget of this item.
    """

    def __init__(
        self, model: Model, item: int, settings: "ExactSettings", max_bytes: int, calls: int
    ):
        self.model = model
        self.item = item
        self.max_bytes = max_bytes
        self.max_length = settings.max_length
        self.ends = settings.eos
        self.score = settings.score
        self.batch = settings.batch
        self.num_return = settings.num_return
        self.calls = calls
        self.first_call = calls
        self.budget = np.inf if settings.max_calls is None else settings.max_calls
        self.heaps: list[list[OpenPrefix]] = [[] for _ in range(self.max_length)]
        """Open prefixes by depth."""
        self.bytes = 0
        self.reader = Reader(model.are_logits)
        self.prefixes: list[Prefix] = []
        self.complete: list[Complete] = []
        """The best complete sequences, best first."""
        self.known: list[Entry] = []
        """The hypotheses of an earlier answer."""
        self.threshold = -np.inf
        """A score that ``num_return`` known hypotheses reach."""
        self.ceiling = np.inf
        """Bound on the score of every sequence that is not known, from an earlier certificate."""
        self.speculated: list[float] = []
        """Heap of the negative bounds of prefixes that were expanded by speculation."""

    def start_from(self, decoded: Decoded, is_trusted: bool) -> None:
        """Search only for sequences that are at least as good as those of an earlier answer.

        Args:
            decoded: the earlier answer.
            is_trusted: True if its certificate is known to hold for this problem.
        """
        i = self.item
        num_hypotheses = int((decoded.lengths[i] > 0).sum())
        if not is_trusted:
            num_hypotheses = min(num_hypotheses, MOST_RESCORED)
        for r in range(num_hypotheses):
            length = int(decoded.lengths[i, r])
            cumulative = decoded.token_log_prob[i, r, :length].cumsum()
            score = float(self.score(cumulative[-1], length))
            tokens = decoded.tokens[i, r, :length].tolist()
            self.known.append(Entry(score, tokens, cumulative.tolist()))
        self.use_known()
        if is_trusted:
            self.use_certificate(decoded)

    def use_known(self) -> None:
        """Raise the threshold to the score of the known hypotheses."""
        if len(self.known) >= self.num_return:
            worst = sorted(entry.score for entry in self.known)[-self.num_return]
            self.threshold = slightly_below(worst)

    def use_certificate(self, decoded: Decoded) -> None:
        """Use the bound of an earlier certificate, if it holds for this score."""
        outcome = decoded.certificate.outcome[self.item]
        is_usable = self.num_return == 1 and outcome != "NOT_APPLICABLE"
        if is_usable and decoded.settings.bounds(self.score):
            is_proved = outcome in ("OPTIMAL", "NO_SEQUENCE")
            upper = float(decoded.certificate.upper_bound[self.item])
            self.ceiling = self._best_known() if is_proved else upper

    def run(self) -> float:
        """Search, and return a bound on the score of everything that was not visited."""
        if self._best_known() >= self.ceiling:
            return self.ceiling
        return min(self._search(), self.ceiling)

    def entries(self) -> list[Entry]:
        """Return the best sequences, including known ones that were not found again."""
        entries = [self._written_out(complete) for complete in self.complete]
        found_tokens = [entry.tokens for entry in entries]
        entries += [entry for entry in self.known if entry.tokens not in found_tokens]
        return self.choose(sorted(entries, key=lambda entry: -entry.score))

    # The decisions in which searches by score and by length differ.

    def choose(self, ranked: list[Entry]) -> list[Entry]:
        """Return the entries that are the result, from entries that are ranked by score."""
        return ranked[: self.num_return]

    def gap(self) -> float | None:
        """Return the gap, if it is not the distance between the best score and the bound."""
        return None

    def value(self, depth: int, log_prob: Any) -> Any:
        """Return the best score of everything that grows from a prefix."""
        return self.score.bound(log_prob, depth + 1, self.max_length)

    def matters(self, depth: int, log_prob: Any) -> Any:
        """True if a sequence that grows from a prefix can belong to the result."""
        return self.value(depth, log_prob) > self.floor(self.max_length)

    def floor(self, length: int) -> float:
        """Return the score that a sequence of a length must exceed to belong to the result."""
        is_full = len(self.complete) == self.num_return
        return max(self.threshold, self.complete[-1].score if is_full else -np.inf)

    def bound_at_end(self) -> float:
        """Return the bound on everything that was not visited, if no open prefix matters."""
        return self.floor(self.max_length)

    def num_admitted(self) -> int:
        """Return how many complete sequences of one expanded batch can belong to the result."""
        return self.num_return

    def admit(self, length: int, complete: Complete) -> None:
        """Add a complete sequence to those that were found."""
        ranked = sorted([*self.complete, complete], key=lambda sequence: -sequence.score)
        self.complete = ranked[: self.num_return]

    # The search.

    def _best_known(self) -> float:
        return max((entry.score for entry in self.known), default=-np.inf)

    def _search(self) -> float:
        if self.calls >= self.budget:
            return self.ceiling
        root = torch.tensor([self.item], device=self.model.start.device)
        state = self.model.select(self.model.state, root)
        self._expand(0, self.model.start[root], state, [Prefix(-1, -1, 0.0)])
        # Dive to the largest depth first: complete sequences give a lower bound, and prefixes below
        # it never need to be expanded.
        for depth in range(1, self.max_length):
            if self.calls < self.budget:
                self._expand_best(depth, (self.batch + 1) // 2)
        while (depth := self._most_promising()) is not None:
            if self.calls >= self.budget or self.bytes > self.max_bytes:
                return self._bound(depth)
            self._expand_best(depth, self.batch)
        return self.bound_at_end()

    def _written_out(self, complete: Complete) -> Entry:
        tokens = [complete.token]
        cumulative = [complete.log_prob]
        number = complete.prefix
        while number > 0:
            prefix = self.prefixes[number]
            tokens.append(prefix.token)
            cumulative.append(prefix.log_prob)
            number = prefix.parent
        return Entry(complete.score, tokens[::-1], cumulative[::-1])

    def _best_open(self, depth: int) -> float:
        """Return the log-probability of the best open prefix of a depth; ``-inf`` if none is."""
        heap = self.heaps[depth]
        return -heap[0].minus_log_prob if heap else -np.inf

    def _bound(self, depth: int) -> float:
        """Return the best score of everything that grows from the open prefixes of a depth."""
        return float(self.value(depth, self._best_open(depth)))

    def _most_promising(self) -> int | None:
        """Return the depth of the best open prefix (the deepest of equals).

        Prefixes that do not matter any more are forgotten.
        """
        best = None
        for depth, heap in enumerate(self.heaps):
            if heap and not self.matters(depth, self._best_open(depth)):
                self.bytes -= sum(entry.children.nbytes for entry in heap)
                heap.clear()
            if heap and (best is None or self._bound(depth) >= self._bound(best)):
                best = depth
        return best

    def _expand_best(self, depth: int, count: int) -> None:
        """Expand up to ``count`` of the best open prefixes of a depth in one call of the model."""
        taken = self._take(depth, count)
        if not taken:
            return
        device = self.model.start.device
        states: list[Any] = []
        tokens: list[np.ndarray] = []
        prefixes: list[Prefix] = []
        for children, places in taken:
            rows = children.row[places]
            states.append(self.model.select(children.state, torch.from_numpy(rows).to(device)))
            tokens.append(children.token[places])
            for place in places:
                parent = children.prefix[int(children.row[place])]
                log_prob = float(children.log_prob[place])
                prefixes.append(Prefix(parent, int(children.token[place]), log_prob))
        token = torch.from_numpy(np.concatenate(tokens)).to(device)
        self._expand(depth, token, concat(states), prefixes)

    def _take(self, depth: int, count: int) -> list[tuple[OpenChildren, list[int]]]:
        """Take up to ``count`` of the best open prefixes of a depth: the children and their places.

        Prefixes that are worse than the best open prefix of all depths are taken within the ration
        of speculation. The ration recovers when such a prefix turns out to be necessary.
        """
        promising = self._most_promising()
        heap = self.heaps[depth]
        if promising is None or not heap:
            return []
        upper = self._bound(promising)
        while self.speculated and -self.speculated[0] >= upper:
            heapq.heappop(self.speculated)
        taken: dict[int, tuple[OpenChildren, list[int]]] = {}
        for _ in range(count):
            if not heap or not self.matters(depth, self._best_open(depth)):
                break
            value = self._bound(depth)
            if value < upper:
                if len(self.speculated) >= self.batch * self.max_length:
                    break
                heapq.heappush(self.speculated, -value)
            _, number, place, children = heap[0]
            taken.setdefault(number, (children, []))[1].append(place)
            following = place + 1
            if following < len(children.log_prob):
                minus_log_prob = -float(children.log_prob[following])
                heapq.heapreplace(heap, OpenPrefix(minus_log_prob, number, following, children))
            else:
                heapq.heappop(heap)
                self.bytes -= children.nbytes
        return list(taken.values())

    def _expand(self, depth: int, tokens: Tensor, state: Any, prefixes: list[Prefix]) -> None:
        """Call the model for prefixes of one depth, and store their children.

        Args:
            depth: number of tokens of each prefix.
            tokens: the last token of each prefix.
            state: the state before these tokens.
            prefixes: the prefixes.
        """
        first = len(self.prefixes)
        self.prefixes += prefixes
        self.calls += 1
        scores, state = self.model(tokens, state)
        check_end_tokens(self.ends, scores.shape[1])
        length = depth + 1
        log_prob = self.reader.all(scores).cpu().numpy()
        if not (log_prob < ROUNDING).all():
            self._refuse(log_prob, length)
        parent = np.array([prefix.log_prob for prefix in prefixes])
        total = parent[:, None] + np.minimum(log_prob, 0)
        is_end = np.zeros(total.shape[1], dtype=bool)
        is_end[slice(None) if length == self.max_length else list(self.ends)] = True
        self._admit_best(length, total, is_end, first)
        if length == self.max_length:
            return
        is_open = self.matters(length, total) & (total > -np.inf) & ~is_end
        rows, new_tokens = np.nonzero(is_open)
        if not len(rows):
            return
        values = total[rows, new_tokens]
        order = np.argsort(-values, kind="stable")
        numbers = range(first, first + len(prefixes))
        children = OpenChildren(state, values[order], rows[order], new_tokens[order], numbers)
        self.bytes += children.nbytes
        heapq.heappush(
            self.heaps[length], OpenPrefix(-float(children.log_prob[0]), first, 0, children)
        )

    def _admit_best(self, length: int, total: np.ndarray, is_end: np.ndarray, first: int) -> None:
        """Admit the best complete sequences of an expanded batch.

        Args:
            length: number of tokens.
            total: log-probabilities of the children, shape (N, M).
            is_end: True for tokens that complete a sequence, shape (M,).
            first: the number of the prefix in row 0.
        """
        score = np.asarray(self.score(total, length))
        rows, new_tokens = np.nonzero(is_end & (score > self.floor(length)) & (total > -np.inf))
        best = np.argsort(-score[rows, new_tokens], kind="stable")[: self.num_admitted()]
        for row, new_token in zip(rows[best].tolist(), new_tokens[best].tolist(), strict=True):
            log_prob = float(total[row, new_token])
            self.admit(
                length, Complete(float(score[row, new_token]), first + row, new_token, log_prob)
            )

    def _refuse(self, log_prob: np.ndarray, step: int) -> None:
        """Raise the error for a log-probability that is NaN or above 0."""
        row, token = (int(index[0]) for index in np.nonzero(~(log_prob < ROUNDING)))
        if not log_prob[row, token] < np.inf:
            refuse_nan(step=step, item=self.item, hypothesis=row)
        raise InputError(
            "exact search needs log-probabilities, at most 0",
            got=f"{log_prob[row, token]:.3g} for token {token} at step {step}, item {self.item}",
            cause="the scores are logits",
            cure="pass normalize=True",
        )


def slightly_below(value: float) -> float:
    """Return a value lowered by the rounding of float32, so that it is found again."""
    return value - ROUNDING_OF_SCORES * (1 + abs(value))
