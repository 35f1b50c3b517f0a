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


BLUR = 1e-2
"""Share of a column's spread by which rounding to float32 may move its numbers unnoticed."""

ROUNDED = "a column was rounded to float32, which blurs it: subtract its smallest number"
"""The note about rows that lost digits when they were read."""


def fitting_type(X: np.ndarray) -> type[np.floating]:
    """float64 for rows that float32 would blur, float32 for all others."""
    return np.float64 if are_blurred(X) else np.float32


def are_blurred(X: np.ndarray) -> bool:
    """True if rounding to float32 moves a number by more than :data:`BLUR` of the spread of its column: a timestamp.

    >>> are_blurred(np.array([[1.7e9], [1.7e9 + 1]])), are_blurred(np.array([[0.1], [0.2]]))
    (True, False)
    """
    if X.ndim != 2 or X.size == 0 or X.dtype.kind not in "iuf" or np.can_cast(X.dtype, np.float32):
        return False
    step = max(1, 2**18 // len(X))
    with np.errstate(
        all="ignore"
    ):  # the rows are not checked yet: they may hold infinities and NaN of any kind
        return any(
            _has_blurred_column(X[:, start : start + step]) for start in range(0, X.shape[1], step)
        )


def _has_blurred_column(X: np.ndarray) -> bool:
    wide = X.astype(np.float64)
    moved = np.abs(wide - wide.astype(np.float32)).max(axis=0)
    spread = means_and_spreads(wide)[1]
    return bool(((spread > 0) & (moved > BLUR * spread)).any())
