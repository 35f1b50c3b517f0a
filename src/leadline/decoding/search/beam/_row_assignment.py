"""Assignment of hypotheses to rows of the model's batch, so that few states have to move."""

from typing import Any, TypeVar

import numpy as np

Values = TypeVar("Values", np.ndarray, list[Any])
"""One value for each row or for each hypothesis."""


class RowAssignment:
    """The row of the model's batch that holds each hypothesis of a beam.

    A beam ranks its hypotheses at every step, so their order changes. Most hypotheses are the only
    child of their parent, though, and their state can stay in the parent's row. This class keeps
    the permutation between the order of the ranks and the order of the rows.

    Args:
        count: number of rows.

    >>> assignment = RowAssignment(3)
    >>> assignment.move([2, 0, 0], is_same_shape=True)  # row 1 has no child, row 0 has two
    [0, 0, 2]
    >>> assignment.by_row(["child of 2", "child of 0", "other child of 0"])
    ['child of 0', 'other child of 0', 'child of 2']
    """

    def __init__(self, count: int):
        self._count = count
        # Both are None while hypothesis n is in row n.
        self._row_of: list[int] | None = None
        self._hypothesis_in: list[int] | None = None

    def by_rank(self, of_rows: Values) -> Values:
        """Reorder the values of rows to the order of the hypotheses."""
        return _take(of_rows, self._row_of)

    def by_row(self, of_hypotheses: Values) -> Values:
        """Reorder the values of hypotheses to the order of the rows."""
        return _take(of_hypotheses, self._hypothesis_in)

    def move(self, parents: list[int], is_same_shape: bool) -> list[int] | None:
        """Assign a row to every new hypothesis.

        Args:
            parents: the previous hypothesis that each new one extends.
            is_same_shape: True if each item has as many hypotheses as before. The first child of
                each row then stays in its row. Otherwise hypothesis n is put into row n.

        Returns:
            The row from which each row takes its state; ``None`` if every row keeps its own.
        """
        unchanged = list(range(self._count))
        row_of = self._row_of
        sources = parents if row_of is None else [row_of[parent] for parent in parents]
        self._count = len(parents)
        self._row_of = None
        self._hypothesis_in = None
        if is_same_shape:
            child_in = _keep_first_children(sources)
            if child_in != unchanged:
                self._hypothesis_in = child_in
                self._row_of = sorted(unchanged, key=child_in.__getitem__)
                sources = [sources[child] for child in child_in]
        return None if sources == unchanged else sources


def _keep_first_children(sources: list[int]) -> list[int]:
    """Return the child that each row holds if the first child of each row stays in it.

    The other children fill the rows without a child. Each item has as many of these rows as it has
    other children, and both are in the order of the items, so every child stays with its item.
    """
    child_in = [-1] * len(sources)
    other_children: list[int] = []
    for child, row in enumerate(sources):
        if child_in[row] < 0:
            child_in[row] = child
        else:
            other_children.append(child)
    remaining = iter(other_children)
    return [next(remaining) if child < 0 else child for child in child_in]


def _take(values: Any, index: list[int] | None) -> Any:
    if index is None:
        return values
    return values[index] if isinstance(values, np.ndarray) else [values[i] for i in index]
