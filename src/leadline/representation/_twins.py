"""Labelled rows that nearly equal another one: a split may part what belongs together, and accuracies look too good."""

import numpy as np
from jaxtyping import Float

from leadline.randomness import numpy_generator

NEAR = 0.05
"""Two rows are nearly equal if their distance is below this share of the typical distance of two rows."""

LEAST_RANK = 4.0
"""Effective number of dimensions below which rows lie close to one another by chance."""

LEAST_SHARE = 0.1
"""Share of rows with a near twin from which on it is noted."""

DIRECTIONS = 64
"""Random directions along which wide rows are compared; distances change by about a tenth."""


def near_twins(rows: Float[np.ndarray, "n d"], groups: np.ndarray) -> int:
    """The number of labelled rows that nearly equal another one; 0 where they are few, or to be expected.

    Exactly equal rows share a group, which stays together in every split, and count as one row here.

    Args:
        rows: scaled rows.
        groups: equal for equal rows.
    """
    distinct = np.asarray(rows[np.unique(groups, return_index=True)[1]], np.float64)
    n, d = distinct.shape
    if n < 3:
        return 0
    if d > DIRECTIONS:
        distinct = distinct @ numpy_generator(0, "representation.twins").normal(
            size=(d, DIRECTIONS)
        )
    distinct = distinct - distinct.mean(axis=0)
    variances = np.maximum(np.linalg.eigvalsh(distinct.T @ distinct / n), 0)
    total = variances.sum()
    if total == 0 or _effective_rank(variances / total) < LEAST_RANK:
        return 0
    lengths = np.square(distinct).sum(axis=1)
    squares = lengths[:, None] + lengths - 2 * distinct @ distinct.T
    np.fill_diagonal(squares, np.inf)
    twins = int((squares.min(axis=1) < NEAR**2 * 2 * total).sum())
    return twins if twins >= LEAST_SHARE * n else 0


def _effective_rank(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))
