"""Detection of labelled rows that nearly repeat, which make accuracies look too good."""

import numpy as np
from jaxtyping import Float

from leadline.randomness import numpy_generator

NEAR = 0.05
"""Largest distance of near twins, as a share of the typical distance of two rows."""

LEAST_RANK = 4.0
"""Effective number of dimensions below which rows are close to one another by chance."""

LEAST_SHARE = 0.1
"""Share of rows with a near twin from which a note is added."""

DIRECTIONS = 64
"""Number of random directions on which wide rows are projected; distances change by about 10 %."""


def near_twins(rows: Float[np.ndarray, "n d"], groups: np.ndarray) -> int:
    """Return the number of labelled rows that nearly equal another row.

    The result is 0 if there are few such rows, or if they are expected by chance. Exactly equal
    rows share a group, which stays together in every split, and count as one row.

    Args:
        rows: scaled rows.
        groups: group of each row, the same for equal rows.
    """
    first_of_group = np.unique(groups, return_index=True)[1]
    distinct = np.asarray(rows[first_of_group], np.float64)
    n, d = distinct.shape
    if n < 3:
        return 0
    if d > DIRECTIONS:
        rng = numpy_generator(0, "representation.twins")
        distinct = distinct @ rng.normal(size=(d, DIRECTIONS))
    distinct = distinct - distinct.mean(axis=0)
    variances = np.maximum(np.linalg.eigvalsh(distinct.T @ distinct / n), 0)
    total = variances.sum()
    if total == 0 or _effective_rank(variances / total) < LEAST_RANK:
        return 0
    lengths = np.square(distinct).sum(axis=1)
    squares = lengths[:, None] + lengths - 2 * distinct @ distinct.T
    np.fill_diagonal(squares, np.inf)
    is_twin = squares.min(axis=1) < NEAR**2 * 2 * total
    twins = int(is_twin.sum())
    return twins if twins >= LEAST_SHARE * n else 0


def _effective_rank(shares: np.ndarray) -> float:
    """Return the exponential of the entropy of shares that sum to 1."""
    positive = shares[shares > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))
