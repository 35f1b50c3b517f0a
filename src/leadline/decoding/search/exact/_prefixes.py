"""Prefixes of a best-first search: expanded prefixes, complete sequences, and open prefixes.

Expanded prefixes are numbered in the order of their expansion. A prefix points to its parent by the
number, so that its tokens can be written out.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from leadline.decoding.problem._state import nbytes


class Prefix(NamedTuple):
    """An expanded prefix."""

    parent: int
    """Number of the prefix without its last token; -1 for the start."""
    token: int
    log_prob: float


class Complete(NamedTuple):
    """A complete sequence that this search found."""

    score: float
    prefix: int
    """Number of the prefix without the last token."""
    token: int
    log_prob: float


@dataclass(frozen=True, eq=False)
class OpenChildren:
    """The open children of one expanded batch, best first. They share the batch's state."""

    state: Any
    """The state of the batch; it is never changed."""
    log_prob: np.ndarray
    row: np.ndarray
    """The parent's row in the batch."""
    token: np.ndarray
    prefix: range
    """The number of the expanded prefix in each row."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory, including the state."""
        return nbytes(self.state) + self.log_prob.nbytes + self.row.nbytes + self.token.nbytes


class OpenPrefix(NamedTuple):
    """An entry of a heap of open prefixes: an open child of a batch, and all its open children."""

    minus_log_prob: float
    number: int
    """Unique, so that heaps never compare the children."""
    place: int
    """Place of the child among the children; those after it are open, too."""
    children: OpenChildren
