"""The search tree of a beam search: every candidate that it considered, and its fate."""

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
    """The fate of a candidate."""

    KEPT = 0
    """It was in the beam after its step, and the next step extended it."""
    PRUNED = 1
    """It was ranked below the beam."""
    FINISHED = 2
    """It was complete: it ended with an end token or had ``max_length`` tokens."""
    BOUNDED = 3
    """It was in the beam when the search stopped, and could not grow into a better answer."""


@dataclass(frozen=True)
class Node:
    """One candidate of a trace."""

    tokens: tuple[int, ...]
    """The tokens from the start to this candidate."""
    words: tuple[str, ...]
    """Words of the tokens; token ids as text if the model has no vocabulary."""
    log_prob: float
    """Log-probability of all tokens, nats."""
    rank: int
    """Rank among the candidates of its step; 1 is the best."""
    fate: Fate

    def __str__(self) -> str:
        fate = f"{self.fate.name.lower()}, rank {self.rank}"
        return f"{' '.join(self.words)} {decimals(self.log_prob, '.2f')} ({fate})"


@record("decoding.Trace")
@dataclass(frozen=True, eq=False)
class Trace(ShortRepr):
    """The n candidates that a beam search considered, as arrays in the order of the steps.

    A step considers the best ``width + number of end tokens + 1`` next tokens of each hypothesis.
    """

    item: Int[np.ndarray, " n"]
    """Index of the prompt."""
    step: Int[np.ndarray, " n"]
    """The step; 1 for the first new token."""
    parent: Int[np.ndarray, " n"]
    """Index of the parent in these arrays; -1 for the start."""
    token: Int[np.ndarray, " n"]
    """The last token."""
    log_prob: Float[np.ndarray, " n"]
    """Log-probability of all tokens up to and including the last one, nats."""
    rank: Int[np.ndarray, " n"]
    """Rank among the candidates of the step and item; 1 is the best."""
    fate: Int[np.ndarray, " n"]
    """A :class:`Fate` as a number."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Words of the tokens; empty if the model has no vocabulary."""

    def tokens(self, node: int) -> tuple[int, ...]:
        """Return the tokens from the start to a candidate.

        Args:
            node: index of the candidate in the arrays.
        """
        node = checks.whole_number(node, "node", least=0, most=len(self.token) - 1)
        path = []
        while node >= 0:
            path.append(int(self.token[node]))
            node = int(self.parent[node])
        return tuple(path[::-1])

    def node(self, node: int) -> Node:
        """Return one candidate with its words.

        Args:
            node: index of the candidate in the arrays.
        """
        tokens = self.tokens(node)
        words = tuple(self.names.get(token, str(token)) for token in tokens)
        return Node(
            tokens=tokens,
            words=words,
            log_prob=float(self.log_prob[node]),
            rank=int(self.rank[node]),
            fate=Fate(int(self.fate[node])),
        )

    def candidates(self, step: int, item: int = 0) -> tuple[Node, ...]:
        """Return the candidates of a step, best first.

        Args:
            step: the step, from 1.
            item: index of the prompt.
        """
        step = checks.whole_number(step, "step", least=0)
        item = checks.whole_number(item, "item", least=0)
        nodes = np.flatnonzero((self.step == step) & (self.item == item))
        nodes = nodes[np.argsort(self.rank[nodes], kind="stable")]
        return tuple(self.node(int(node)) for node in nodes)

    def beam(self, step: int, item: int = 0) -> tuple[Node, ...]:
        """Return the candidates of a step that were not pruned, best first.

        Args:
            step: the step, from 1.
            item: index of the prompt.
        """
        return tuple(node for node in self.candidates(step, item) if node.fate is not Fate.PRUNED)

    def table(self) -> "pd.DataFrame":
        """Return one row per candidate; ``log_prob`` in nats."""
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
        """Return the candidates as a JSON array; each names the index of its parent."""
        columns = ("item", "step", "parent", "token", "log_prob", "rank", "fate")
        rows = zip(*(getattr(self, column).tolist() for column in columns), strict=True)
        nodes: list[dict[str, Any]] = [dict(zip(columns, row, strict=True)) for row in rows]
        for node in nodes:
            node["fate"] = Fate(node["fate"]).name.lower()
            node["text"] = self.names.get(node["token"], str(node["token"]))
        return json.dumps(nodes, allow_nan=False, ensure_ascii=False)

    def to_dot(self, item: int = 0) -> str:
        """Return the tree of one item in Graphviz' language; pruned candidates are dashed.

        Args:
            item: index of the prompt.
        """
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
