"""The states that a tensor was computed from, found by a walk through its autograd graph.

The walk stops at the nearest states. It tells states that are read one by one from states that are read together,
through a tensor that joins several of them, such as ``torch.stack(states)``: a loop reads its last state, and a layer
above reads the joined states of the layer below.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

BUFFERS = ("CopySlices", "IndexPut", "IndexCopy", "SelectScatter", "SliceScatter", "Scatter")
"""How the names of autograd's nodes begin that write a tensor into a buffer, which may hold states already."""

JOINS = ("Stack", "Cat", *BUFFERS)
"""How the names of autograd's nodes begin that join several tensors into one."""

Edge = tuple[Any, int]
"""A node of the graph and the number of its output."""

Place = tuple[Hashable, int]
"""A loop, and the index of one of its states."""


@dataclass
class Reads:
    """The states of one loop that a tensor was computed from."""

    alone: set[int] = field(default_factory=set)
    """Read by themselves."""
    joined: set[int] = field(default_factory=set)
    """Read through a tensor that joins several states of this loop."""

    def add(self, other: "Reads") -> None:
        """Add what another tensor has read."""
        self.alone |= other.alone
        self.joined |= other.joined


Found = dict[Any, Reads]
"""What was read, by loop."""


class Ancestry:
    """Remembers where states stand in the graph, and finds those that a tensor was computed from."""

    def __init__(self):
        self._states: dict[Edge, Place] = {}
        self._joins: dict[Any, Found] = {}
        self._without_states: set[Any] = set()
        self._is_join: dict[type, bool] = {}

    def remember(self, edge: Edge, loop: Hashable, index: int) -> None:
        """A state stands at this edge. The first state that is remembered there stays."""
        self._states.setdefault(edge, (loop, index))

    def reads(self, edges: Iterable[Edge]) -> Found:
        """The nearest states behind the edges, by loop."""
        edges = list(edges)
        found, open_joins, seen = self._walk(edges)
        if open_joins:
            self._resolve(open_joins)
            found, _, seen = self._walk(edges)
        if not found:  # for example an embedding of the whole input, which every step reads
            self._without_states |= seen
        return found

    def _walk(self, edges: Iterable[Edge]) -> tuple[Found, list[Any], set[Any]]:
        """What was found, the joins that are not resolved yet, and the nodes that were visited."""
        found: Found = {}
        open_joins: list[Any] = []
        seen: set[Any] = set()
        to_visit = list(edges)
        while to_visit:
            edge = to_visit.pop()
            place = self._states.get(edge)
            if place is not None:
                loop, index = place
                found.setdefault(loop, Reads()).alone.add(index)
                continue
            node = edge[0]
            if node is None or node in seen or node in self._without_states:
                continue
            seen.add(node)
            if not self._joins_tensors(node):
                to_visit += node.next_functions
            elif node in self._joins:
                _merge(found, self._joins[node])
            else:
                open_joins.append(node)
        return found, open_joins, seen

    def _resolve(self, joins: list[Any]) -> None:
        """Find what was read through each join, those behind it first."""
        to_do = list(joins)
        while to_do:
            node = to_do[-1]
            parts: list[Found] = []
            behind: list[Any] = []
            if node not in self._joins:
                for edge in node.next_functions:
                    part, open_joins, _ = self._walk([edge])
                    parts.append(part)
                    behind += open_joins
            if behind:
                to_do += behind
                continue
            if node not in self._joins:
                self._joins[node] = _joined(
                    parts, is_buffer=type(node).__name__.startswith(BUFFERS)
                )
            to_do.pop()

    def _joins_tensors(self, node: Any) -> bool:
        kind = type(node)
        known = self._is_join.get(kind)
        if known is None:
            known = self._is_join[kind] = kind.__name__.startswith(JOINS)
        return known


def _merge(found: Found, more: Mapping[Any, Reads]) -> None:
    for loop, reads in more.items():
        found.setdefault(loop, Reads()).add(reads)


def _joined(parts: Iterable[Found], is_buffer: bool) -> Found:
    """The reads of a tensor that joins others: a loop whose states come from several of them is read together."""
    found: Found = {}
    sources: dict[Any, int] = {}
    for part in parts:
        _merge(found, part)
        for loop, reads in part.items():
            is_source = bool(reads.alone) or (is_buffer and bool(reads.joined))
            sources[loop] = sources.get(loop, 0) + is_source
    for loop, reads in found.items():
        if sources[loop] > 1 and len(reads.alone | reads.joined) > 1:
            reads.joined |= reads.alone
            reads.alone = set()
    return found
