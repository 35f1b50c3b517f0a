"""The recorder of a trace: it stores the candidates of a running beam search."""

from typing import Any

import numpy as np

from leadline.decoding.answers._trace import Fate, Trace
from leadline.decoding.problem._model import Model


class Recorder:
    """Collects the candidates of a :class:`~leadline.decoding.answers._trace.Trace`, step by step.

    A candidate of a step is identified by the live hypothesis that it extends and by its token.

    At each step, the search calls :meth:`finished` if hypotheses may be complete, then
    :meth:`considered`, and then, if the search goes on, :meth:`in_beam` and :meth:`survived`.
    """

    def __init__(self):
        self._steps: list[dict[str, np.ndarray]] = []
        self._count = 0
        # The node of each live hypothesis, and the node of each candidate of the present step.
        self._node_of_hypothesis = np.full(0, -1)
        self._node_of_candidate: dict[tuple[int, int], int] = {}
        self._is_complete: np.ndarray | None = None

    def finished(self, is_complete: np.ndarray) -> None:
        """Store a mask (A, S) of the candidates of this step that are complete."""
        self._is_complete = is_complete

    def considered(
        self, t: int, items: Any, is_candidate: Any, total: Any, token: Any, parent: Any
    ) -> None:
        """Store the ranked candidates of step t.

        Args:
            t: the step.
            items: the open items, shape (A,).
            is_candidate: False for entries that are no candidates, shape (A, S) like the following.
            total: log-probabilities.
            token: last tokens.
            parent: the live hypothesis that each candidate extends.
        """
        a, place = np.nonzero(is_candidate)
        parents = parent[is_candidate]
        tokens = token[is_candidate]
        fate = np.full(len(a), Fate.PRUNED, dtype=np.int64)
        if self._is_complete is not None:
            fate[self._is_complete[is_candidate]] = Fate.FINISHED
            self._is_complete = None
        pairs = zip(parents.tolist(), tokens.tolist(), strict=True)
        self._node_of_candidate = {pair: self._count + i for i, pair in enumerate(pairs)}
        is_first = t == 1
        self._steps.append(
            {
                "item": items[a],
                "step": np.full(len(a), t),
                "parent": np.full(len(a), -1) if is_first else self._node_of_hypothesis[parents],
                "token": tokens,
                "log_prob": total[is_candidate],
                "rank": place + 1,
                "fate": fate,
            }
        )
        self._count += len(a)

    def in_beam(self, parents: np.ndarray, tokens: np.ndarray) -> None:
        """Mark the candidates in the beam as bounded; :meth:`survived` then marks those kept."""
        self._mark(parents, tokens, Fate.BOUNDED)

    def survived(self, parents: np.ndarray, tokens: np.ndarray) -> None:
        """Mark the candidates that the next step extends as kept."""
        self._node_of_hypothesis = self._mark(parents, tokens, Fate.KEPT)

    def read(self, model: Model) -> Trace:
        """Return the trace so far."""
        columns = {
            name: np.concatenate([step[name] for step in self._steps]) for name in self._steps[0]
        }
        return Trace(**columns, names=model.names(np.unique(columns["token"])))

    def _mark(self, parents: np.ndarray, tokens: np.ndarray, fate: Fate) -> np.ndarray:
        """Set the fate of candidates of the present step, and return their nodes."""
        pairs = zip(parents.tolist(), tokens.tolist(), strict=True)
        nodes = np.array([self._node_of_candidate[pair] for pair in pairs], dtype=np.int64)
        fates = self._steps[-1]["fate"]
        first = self._count - len(fates)
        fates[nodes - first] = fate
        return nodes
