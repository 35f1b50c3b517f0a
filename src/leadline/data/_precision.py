"""Rows of numbers as a matrix, in float32 unless that would lose digits that matter."""

from typing import Any

import numpy as np
from jaxtyping import Float

from leadline import checks
from leadline.data._dataset import check_features
from leadline.data._spread import means_and_spreads

BLUR = 1e-4
"""Rows stay in float64 if rounding to float32 moves a number by more than this share of its
column's spread."""

DISTANT = 300.0
"""Rows stay in float64 if a column's mean is more than this many spreads from zero.

Encoders subtract the mean of such rows in float64. They recognise known rows by the difference.
"""


def exact_features(X: Any, name: str) -> Float[np.ndarray, "n d"]:
    """Return a matrix of finite numbers without rounding any of them.

    The result is float32 if float32 holds every value of the given type, and float64 otherwise.

    Raises:
        InputError: ``X`` is not a matrix of finite numbers.

    >>> exact_features([[1700000001, 2]], "X").tolist()
    [[1700000001.0, 2.0]]
    >>> exact_features(np.zeros((1, 2), np.uint8), "X").dtype.name
    'float32'
    """
    array = checks.array(X, name)
    is_small = array.dtype.kind in "biuf" and np.can_cast(array.dtype, np.float32)
    return check_features(array, name, dtype=np.float32 if is_small else np.float64)


def compact_features(X: Any, name: str = "X") -> Float[np.ndarray, "n d"]:
    """Return a matrix of finite numbers in float32, or in float64 if float32 would blur a column.

    A column is blurred if rounding moves one of its numbers by more than :data:`BLUR` of the
    column's spread, or if its mean is more than :data:`DISTANT` spreads from zero. Examples are
    timestamps in seconds and numbers with a large offset. The spread of a constant column counts as
    1, because encoders divide it by 1.

    Raises:
        InputError: ``X`` is not a matrix of finite numbers, or its numbers are too large for
            float32 and for a finite variance.

    >>> compact_features([[1.0], [2.0]]).dtype.name
    'float32'
    >>> compact_features([[1.7e9], [1.7e9 + 1]]).dtype.name
    'float64'
    """
    exact = exact_features(X, name)
    if exact.dtype == np.float32:
        return exact
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = exact.astype(np.float32)
        shift = np.abs(exact - rounded).max(axis=0)
    mean, spread = means_and_spreads(exact)
    if not np.isfinite(spread).all():
        return check_features(exact, name)
    spread = np.where(spread > 0, spread, 1.0)
    is_blurred = (shift > BLUR * spread) | (np.abs(mean) > DISTANT * spread)
    if is_blurred.any() or not np.isfinite(rounded).all():
        return exact
    return rounded
