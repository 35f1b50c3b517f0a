"""Writes down what a beam search considers, while it runs."""

from typing import Any

import numpy as np

from leadline.decoding.models._problem import Model
from leadline.decoding.search._trace import Fate, Trace


class Recorder:
    """Collects the nodes of a :class:`~leadline.decoding.search._trace.Trace`, step by step.

    A candidate of a step is known by the row that it continues and its token; that is what the search tells of those
    that live on.
    """

    def __init__(self):
        self._steps: list[dict[str, np.ndarray]] = []
        self._count = 0
        self._node_of_row = np.full(0, -1)
        self._node_of: dict[tuple[int, int], int] = {}
        self._finishes: np.ndarray | None = None

    def finished(self, finishes: np.ndarray) -> None:
        """Which of the candidates of this step are complete; told before they are."""
        self._finishes = finishes

    def considered(
        self, t: int, items: Any, valid: Any, total: Any, token: Any, parent: Any
    ) -> None:
        """The ranked candidates (A, S) of step t; ``parent`` is the row that each continues."""
        a, place = np.nonzero(valid)
        rows, tokens = parent[valid], token[valid]
        fate = np.full(len(a), Fate.PRUNED, dtype=np.int64)
        if self._finishes is not None:
            fate[self._finishes[valid]] = Fate.FINISHED
            self._finishes = None
        pairs = zip(rows.tolist(), tokens.tolist(), strict=True)
        self._node_of = {pair: self._count + i for i, pair in enumerate(pairs)}
        self._steps.append(
            {
                "item": items[a],
                "step": np.full(len(a), t),
                "parent": self._node_of_row[rows] if t > 1 else np.full(len(a), -1),
                "token": tokens,
                "log_prob": total[valid],
                "rank": place + 1,
                "fate": fate,
            }
        )
        self._count += len(a)

    def in_beam(self, parent: np.ndarray, token: np.ndarray) -> None:
        """The candidates that are in the beam; those that do not survive are bounded away."""
        self._set(parent, token, Fate.BOUNDED)

    def survived(self, rows: np.ndarray, tokens: np.ndarray) -> None:
        """The candidates that the next step continues, in the order of its rows."""
        self._node_of_row = self._set(rows, tokens, Fate.KEPT)

    def read(self, model: Model) -> Trace:
        """The trace so far."""
        columns = {
            name: np.concatenate([step[name] for step in self._steps]) for name in self._steps[0]
        }
        return Trace(**columns, names=model.names(np.unique(columns["token"])))

    def _set(self, rows: np.ndarray, tokens: np.ndarray, fate: Fate) -> np.ndarray:
        pairs = zip(rows.tolist(), tokens.tolist(), strict=True)
        nodes = np.array([self._node_of[pair] for pair in pairs], dtype=np.int64)
        step = self._steps[-1]
        step["fate"][nodes - (self._count - len(step["fate"]))] = fate
        return nodes
