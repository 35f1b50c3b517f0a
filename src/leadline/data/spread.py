"""Mean and spread of columns, exact for constant columns and for small differences on a large offset."""

import numpy as np
from jaxtyping import Float64

ROUNDING = 1e-15
"""Share of a column's largest number below which its spread is rounding: a few units in the last place of float64."""


def means_and_spreads(X: np.ndarray) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, " d"]]:
    """Mean and standard deviation of each column, in float64; the spread of a constant column is exactly zero.

    The first row is subtracted before anything is summed. A sum of large numbers loses digits with each row: the plain
    mean of 30,000 numbers that are all 1e13 is wrong by about 0.3, and so would the spread be.

    Args:
        X: rows of shape (n, d), finite, n at least 1.

    >>> mean, spread = means_and_spreads(np.array([[1e12, 0.1], [1e12 + 1, 0.1], [1e12 + 2, 0.1]]))
    >>> (mean - [1e12, 0.1]).tolist(), spread.round(3).tolist()
    ([1.0, 0.0], [0.816, 0.0])

    Reference: Chan, Golub & LeVeque, *Algorithms for computing the sample variance*, 1983 (shifted data).
    """
    first = X[0].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = X - first
        shift = moved.mean(axis=0)
        spread = moved.std(axis=0)
    is_rounding = spread <= ROUNDING * np.abs(X).max(axis=0)
    return first + shift, np.where(is_rounding, 0.0, spread)
