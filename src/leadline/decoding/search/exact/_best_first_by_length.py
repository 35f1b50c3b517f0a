"""Best-first search for the most likely sequence of every length of one item."""

from typing import Any

import numpy as np

from leadline.decoding.answers._decoded import Decoded
from leadline.decoding.problem._model import Model
from leadline.decoding.search._hypotheses import Entry
from leadline.decoding.search.exact._best_first import BestFirst, slightly_below
from leadline.decoding.search.exact._exact_settings import ExactSettings
from leadline.decoding.search.exact._prefixes import Complete


class BestFirstByLength(BestFirst):
    """Search for the most likely sequence of every length of one item."""

    def __init__(
        self, model: Model, item: int, settings: "ExactSettings", max_bytes: int, calls: int
    ):
        super().__init__(model, item, settings, max_bytes, calls)
        self.best_of = np.full(self.max_length + 1, -np.inf)
        """The largest log-probability that is known of each length."""

    def use_known(self) -> None:
        """Raise the floor of each length to the known hypotheses."""
        for entry in self.known:
            length = len(entry.tokens)
            least = slightly_below(entry.log_prob)
            self.best_of[length] = max(self.best_of[length], least)

    def use_certificate(self, decoded: Decoded) -> None:
        """Ignore the certificate: it says nothing about the single lengths."""

    def choose(self, ranked: list[Entry]) -> list[Entry]:
        """Return the most likely entry of every length."""
        best: dict[int, Entry] = {}
        for entry in sorted(ranked, key=lambda entry: -entry.log_prob):
            best.setdefault(len(entry.tokens), entry)
        return [entry for entry in ranked if best[len(entry.tokens)] is entry]

    def gap(self) -> float:
        """Return how much more likely a sequence can be than the best known one of its length."""
        if self.calls == self.first_call:
            return np.inf
        best_open = [self._best_open(depth) for depth in range(self.max_length)]
        # A sequence of a length can grow from the open prefixes of every smaller depth.
        upper = np.maximum.accumulate(best_open)
        is_open = upper > -np.inf
        return float((upper[is_open] - self.best_of[1:][is_open]).max(initial=0.0))

    def value(self, depth: int, log_prob: Any) -> Any:
        """Return the best log-probability of everything that grows from a prefix."""
        return log_prob

    def matters(self, depth: int, log_prob: Any) -> Any:
        """True if a prefix can grow into the most likely sequence of some length."""
        return log_prob > self.best_of[depth + 1 :].min()

    def floor(self, length: int) -> float:
        """Return the log-probability that a sequence of a length must exceed."""
        return float(self.best_of[length])

    def bound_at_end(self) -> float:
        """Return ``-inf``: every sequence that was not visited is less likely at its length."""
        return -np.inf

    def num_admitted(self) -> int:
        """Return 1: all sequences of one expanded batch have the same length."""
        return 1

    def admit(self, length: int, complete: Complete) -> None:
        """Replace the sequence of this length."""
        self.best_of[length] = complete.log_prob
        others = [sequence for sequence in self.complete if self._length(sequence) != length]
        self.complete = sorted([*others, complete], key=lambda sequence: -sequence.score)

    def _length(self, complete: Complete) -> int:
        return len(self._written_out(complete).tokens)
