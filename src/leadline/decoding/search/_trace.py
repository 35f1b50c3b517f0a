"""The tree that a beam search walked: every candidate that it considered, and what became of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from leadline import checks
from leadline.checks import ShortRepr
from leadline.sounding import decimals
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd


class Fate(IntEnum):
    """What became of a candidate."""

    KEPT = 0
    """It was in the beam after its step."""
    PRUNED = 1
    """It was ranked behind the beam."""
    FINISHED = 2
    """It was complete: it ended with an end token, or had ``max_length`` tokens."""
    BOUNDED = 3
    """It was in the beam when the search stopped: nothing that grows from it could beat the answer."""


@dataclass(frozen=True)
class Node:
    """One candidate of a trace."""

    tokens: tuple[int, ...]
    words: tuple[str, ...]
    """The tokens' names; their numbers, where the model has no vocabulary."""
    log_prob: float
    """Of the whole prefix, nats."""
    rank: int
    """1 is the best of what was considered at its step."""
    fate: Fate

    def __str__(self) -> str:
        return f"{' '.join(self.words)} {decimals(self.log_prob, '.2f')} ({self.fate.name.lower()}, rank {self.rank})"


@record("decoding.Trace")
@dataclass(frozen=True, eq=False)
class Trace(ShortRepr):
    """Every considered candidate, in the order of item, step and rank within a step's record; arrays of length n.

    Considered are each hypothesis' best ``width + end tokens + 1`` next tokens; all tokens, if there are no more.
    """

    item: Int[np.ndarray, " n"]
    step: Int[np.ndarray, " n"]
    """1 for the first new token."""
    parent: Int[np.ndarray, " n"]
    """Index of the prefix' node in this trace; -1 for the start."""
    token: Int[np.ndarray, " n"]
    log_prob: Float[np.ndarray, " n"]
    """Of the prefix up to and including this token, nats."""
    rank: Int[np.ndarray, " n"]
    fate: Int[np.ndarray, " n"]
    names: Mapping[int, str] = field(default_factory=dict)

    def tokens(self, node: int) -> tuple[int, ...]:
        """The tokens from the start to a node."""
        node = checks.whole_number(node, "node", least=0, most=len(self.token) - 1)
        path = []
        while node >= 0:
            path.append(int(self.token[node]))
            node = int(self.parent[node])
        return tuple(path[::-1])

    def node(self, node: int) -> Node:
        """One candidate with its words."""
        tokens = self.tokens(node)
        words = tuple(self.names.get(token, str(token)) for token in tokens)
        return Node(
            tokens,
            words,
            float(self.log_prob[node]),
            int(self.rank[node]),
            Fate(int(self.fate[node])),
        )

    def candidates(self, step: int, item: int = 0) -> tuple[Node, ...]:
        """All that was considered at a step, best first."""
        step = checks.whole_number(step, "step", least=0)
        item = checks.whole_number(item, "item", least=0)
        found = np.flatnonzero((self.step == step) & (self.item == item))
        return tuple(
            self.node(int(node)) for node in found[np.argsort(self.rank[found], kind="stable")]
        )

    def beam(self, step: int, item: int = 0) -> tuple[Node, ...]:
        """What the beam held after a step, best first; at the last step, what it returned from."""
        return tuple(node for node in self.candidates(step, item) if node.fate is not Fate.PRUNED)

    def table(self) -> "pd.DataFrame":
        """One row per candidate; ``log_prob`` in nats."""
        import pandas as pd

        nodes = [self.node(i) for i in range(len(self.item))]
        return pd.DataFrame(
            {
                "item": self.item,
                "step": self.step,
                "rank": self.rank,
                "text": [" ".join(node.words) for node in nodes],
                "log_prob": self.log_prob,
                "fate": [node.fate.name.lower() for node in nodes],
            }
        )

    def to_json(self) -> str:
        """The nodes as a JSON array, each with its parent's index."""
        columns = ("item", "step", "parent", "token", "log_prob", "rank", "fate")
        rows = zip(*(getattr(self, column).tolist() for column in columns), strict=True)
        nodes: list[dict[str, Any]] = [dict(zip(columns, row, strict=True)) for row in rows]
        for node in nodes:
            node["fate"] = Fate(node["fate"]).name.lower()
            node["text"] = self.names.get(node["token"], str(node["token"]))
        return json.dumps(nodes, allow_nan=False, ensure_ascii=False)

    def to_dot(self, item: int = 0) -> str:
        """The tree of one item in Graphviz' language; pruned candidates are dashed."""
        item = checks.whole_number(item, "item", least=0)
        lines = [
            "digraph beam {",
            '  rankdir=LR; node [shape=box, style=rounded]; start [label="start"];',
        ]
        for i in np.flatnonzero(self.item == item).tolist():
            node = self.node(i)
            word = node.words[-1].replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
            label = f'"{word}\\n{decimals(node.log_prob, ".2f")}"'
            look = ', style="rounded,dashed"' if node.fate is Fate.PRUNED else ""
            source = f"n{self.parent[i]}" if self.parent[i] >= 0 else "start"
            lines += [f"  n{i} [label={label}{look}];", f"  {source} -> n{i};"]
        return "\n".join([*lines, "}"])
