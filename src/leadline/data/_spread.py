"""Mean and spread of columns, accurate for constant columns and for columns with a large offset."""

import numpy as np
from jaxtyping import Float64

ROUNDING = 1e-15
"""A spread below this share of the column's largest number is a rounding error of float64."""


def means_and_spreads(X: np.ndarray) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, " d"]]:
    """Return the mean and the standard deviation of each column in float64.

    The standard deviation of a constant column is exactly zero.

    The first row is subtracted before the rows are summed. Otherwise a sum of large numbers would
    lose digits with each row: the plain mean of 30,000 numbers that are all 1e13 is wrong by about
    0.3.

    Args:
        X: finite rows of shape (n, d), n at least 1.

    Returns:
        The means and the standard deviations, each of shape (d,).

    >>> mean, spread = means_and_spreads(np.array([[1e12, 0.1], [1e12 + 1, 0.1], [1e12 + 2, 0.1]]))
    >>> (mean - [1e12, 0.1]).tolist(), spread.round(3).tolist()
    ([1.0, 0.0], [0.816, 0.0])

    Reference: Chan, Golub & LeVeque, *Algorithms for computing the sample variance*, 1983 (shifted
    data).
    """
    first = X[0].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = X - first
        shift = moved.mean(axis=0)
        spread = moved.std(axis=0)
    is_rounding = spread <= ROUNDING * np.abs(X).max(axis=0)
    return first + shift, np.where(is_rounding, 0.0, spread)


BLUR = 1e-2
"""Rounding to float32 may move a number by this share of its column's spread without a note."""

ROUNDED = "a column was rounded to float32, which blurs it: subtract its smallest number"
"""Note on rows that lost digits during loading."""


def fitting_type(X: np.ndarray) -> type[np.floating]:
    """Return float64 for rows that float32 would blur, and float32 for all others."""
    return np.float64 if are_blurred(X) else np.float32


def are_blurred(X: np.ndarray) -> bool:
    """True if rounding to float32 moves a number by more than :data:`BLUR` of its column's spread.

    A column of timestamps is an example.

    >>> are_blurred(np.array([[1.7e9], [1.7e9 + 1]])), are_blurred(np.array([[0.1], [0.2]]))
    (True, False)
    """
    if X.ndim != 2 or X.size == 0 or X.dtype.kind not in "iuf" or np.can_cast(X.dtype, np.float32):
        return False
    step = max(1, 2**18 // len(X))
    # The rows are not checked yet and may contain infinities and NaN.
    with np.errstate(all="ignore"):
        return any(
            _has_blurred_column(X[:, start : start + step]) for start in range(0, X.shape[1], step)
        )


def _has_blurred_column(X: np.ndarray) -> bool:
    wide = X.astype(np.float64)
    moved = np.abs(wide - wide.astype(np.float32)).max(axis=0)
    spread = means_and_spreads(wide)[1]
    return bool(((spread > 0) & (moved > BLUR * spread)).any())
