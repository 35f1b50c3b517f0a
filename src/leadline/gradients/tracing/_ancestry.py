"""The states that a tensor was computed from, found by a walk through its autograd graph.

The walk stops at the nearest states. It distinguishes states that are read alone from states that
are read jointly, through a tensor such as ``torch.stack(states)``: a loop reads its last state, and
a layer above reads the joined states of the layer below.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from leadline.torch_internals import joins_tensors, writes_buffer

Edge = tuple[Any, int]
"""A node of the graph and the number of its output."""

Place = tuple[Hashable, int]
"""A loop, and the index of one of its states."""


@dataclass
class Reads:
    """The states of one loop that a tensor was computed from."""

    alone: set[int] = field(default_factory=set)
    """Indices of states that were read alone."""
    joined: set[int] = field(default_factory=set)
    """Indices of states that were read through a tensor that joins several states."""

    def add(self, other: "Reads") -> None:
        """Add the states that another tensor has read."""
        self.alone |= other.alone
        self.joined |= other.joined


ReadsByLoop = dict[Any, Reads]
"""The states that were read, by loop."""


class Ancestry:
    """The places of states in the autograd graph, and the search for the states of a tensor."""

    def __init__(self):
        self._states: dict[Edge, Place] = {}
        self._joins: dict[Any, ReadsByLoop] = {}
        self._without_states: set[Any] = set()
        self._is_join: dict[type, bool] = {}

    def remember(self, edge: Edge, loop: Hashable, index: int) -> None:
        """Note that a state is at this edge; the first state at an edge is kept."""
        self._states.setdefault(edge, (loop, index))

    def reads(self, edges: Iterable[Edge]) -> ReadsByLoop:
        """Return the nearest states from which the edges were computed, by loop."""
        edges = list(edges)
        reads, open_joins, visited = self._walk(edges)
        if open_joins:
            self._resolve(open_joins)
            reads, _, visited = self._walk(edges)
        # Every step may read the same tensor without states, such as an embedding of the whole
        # input, so its nodes are skipped from now on.
        if not reads:
            self._without_states |= visited
        return reads

    def _walk(self, edges: Iterable[Edge]) -> tuple[ReadsByLoop, list[Any], set[Any]]:
        """Return the nearest states, the unresolved joins, and the visited nodes."""
        reads: ReadsByLoop = {}
        open_joins: list[Any] = []
        visited: set[Any] = set()
        to_visit = list(edges)
        while to_visit:
            edge = to_visit.pop()
            place = self._states.get(edge)
            if place is not None:
                loop, index = place
                reads.setdefault(loop, Reads()).alone.add(index)
                continue
            node = edge[0]
            if node is None or node in visited or node in self._without_states:
                continue
            visited.add(node)
            if not self._joins_tensors(node):
                to_visit += node.next_functions
            elif node in self._joins:
                _merge(reads, self._joins[node])
            else:
                open_joins.append(node)
        return reads, open_joins, visited

    def _resolve(self, joins: list[Any]) -> None:
        """Find the states that were read through each join, beginning with the earliest joins."""
        unresolved = list(joins)
        while unresolved:
            node = unresolved[-1]
            parts: list[ReadsByLoop] = []
            earlier_joins: list[Any] = []
            if node not in self._joins:
                for edge in node.next_functions:
                    part, open_joins, _ = self._walk([edge])
                    parts.append(part)
                    earlier_joins += open_joins
            if earlier_joins:
                unresolved += earlier_joins
                continue
            if node not in self._joins:
                self._joins[node] = _joined(parts, is_buffer=writes_buffer(type(node)))
            unresolved.pop()

    def _joins_tensors(self, node: Any) -> bool:
        """True if a node joins several tensors; the answer is kept for each class of nodes."""
        kind = type(node)
        if kind not in self._is_join:
            self._is_join[kind] = joins_tensors(kind)
        return self._is_join[kind]


def _merge(together: ReadsByLoop, part: Mapping[Any, Reads]) -> None:
    """Add the reads of a part to the reads of a whole tensor, in place."""
    for loop, reads in part.items():
        together.setdefault(loop, Reads()).add(reads)


def _joined(parts: Iterable[ReadsByLoop], is_buffer: bool) -> ReadsByLoop:
    """Return the reads of a joining tensor; states from several parts are read jointly."""
    together: ReadsByLoop = {}
    sources: dict[Any, int] = {}
    for part in parts:
        _merge(together, part)
        for loop, reads in part.items():
            is_source = bool(reads.alone) or (is_buffer and bool(reads.joined))
            sources[loop] = sources.get(loop, 0) + is_source
    for loop, reads in together.items():
        if sources[loop] > 1 and len(reads.alone | reads.joined) > 1:
            reads.joined |= reads.alone
            reads.alone = set()
    return together
