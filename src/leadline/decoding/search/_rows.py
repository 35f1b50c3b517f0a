"""Where a model has the hypotheses of a beam: each stays in its row while it lives, so that few states are moved."""

from typing import Any, TypeVar

import numpy as np

Each = TypeVar("Each", np.ndarray, list[Any])
"""Something for each row or hypothesis."""


class Rows:
    """Which row of the model holds which hypothesis.

    A step's survivors are ranked anew, but most are the only child of their parent: their state is where it must be.

    >>> rows = Rows()
    >>> rows.move([2, 0, 0], before=3, stay=True)  # row 1 has no child, row 0 has two
    [0, 0, 2]
    >>> rows.by_row(["child of 2", "child of 0", "other child of 0"])
    ['child of 0', 'other child of 0', 'child of 2']
    """

    def __init__(self):
        self._row: list[int] | None = (
            None  # the row of each hypothesis; None: hypothesis n is in row n
        )
        self._held: list[int] | None = None  # its inverse: the hypothesis in each row

    def by_rank(self, of_rows: Each) -> Each:
        """What the model's rows have, in the order of the hypotheses."""
        return _take(of_rows, self._row)

    def by_row(self, of_hypotheses: Each) -> Each:
        """What the hypotheses have, in the order of the model's rows."""
        return _take(of_hypotheses, self._held)

    def move(self, parents: list[int], before: int, stay: bool) -> list[int] | None:
        """Give every new hypothesis a row.

        Args:
            parents: the hypothesis that each continues.
            before: how many there were.
            stay: each item has as many as before: the first child of each row stays in it. Otherwise they are put
                into rows in their order.

        Returns:
            The row from which each row takes its state; ``None`` if that is its own everywhere.
        """
        sources = parents if self._row is None else [self._row[parent] for parent in parents]
        self._row = self._held = None
        if stay:
            held = [-1] * before
            further: list[int] = []
            for child, row in enumerate(sources):
                if held[row] < 0:
                    held[row] = child
                else:
                    further.append(child)
            # Each item has as many dead rows as further children, and both are in the order of items.
            rest = iter(further)
            held = [next(rest) if child < 0 else child for child in held]
            if held != list(range(before)):
                self._held = held
                self._row = sorted(range(before), key=held.__getitem__)
                sources = [sources[child] for child in held]
        return None if sources == list(range(before)) else sources


def _take(each: Any, index: list[int] | None) -> Any:
    if index is None:
        return each
    return each[index] if isinstance(each, np.ndarray) else [each[i] for i in index]
