"""How representations are put on one footing before a probe sees them."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from leadline import checks
from leadline.data import check_features, means_and_spreads
from leadline.errors import InputError

BLUR = 1e-4
"""Rows stay in float64 if rounding to float32 moves a number by more than this share of its column's spread."""

DISTANT = 300.0
"""Rows stay in float64 if the mean of a column is more than this many spreads from zero: encoders of such rows subtract
it in float64, and know the rows that they have seen by what is left."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """Each feature is centred, and all are divided by one number: the root of their mean variance.

    One number and not one per feature, so that no direction of a representation is favoured: a rotated or a rescaled
    representation is probed alike, and a pixel that hardly ever varies is not blown up to the size of the others
    (which would cost raw digits six points at one label per class). Columns in units of their own (a table's) should be
    standardised in ``X``, before any encoder.

    Features are centred in float64, so that a large offset (a timestamp) costs no precision.

    >>> scaling = Scaling.fit([[0.0, 0.0], [2.0, 4.0]])
    >>> scaling.centre.tolist(), round(scaling.scale, 3)
    ([1.0, 2.0], 1.581)
    """

    centre: Float[np.ndarray, " d"]
    """Mean of each feature."""
    scale: float
    """Root of the mean variance of the features; 1 where nothing varies."""

    def __post_init__(self):
        centre = check_features(
            checks.array(self.centre, "centre")[None], "centre", dtype=np.float64
        )[0]
        object.__setattr__(self, "centre", centre)
        object.__setattr__(self, "scale", checks.number(self.scale, "scale", above=0))

    @classmethod
    def fit(cls, Z: Any) -> Self:
        """The scaling of rows of shape (n, d): pretraining rows, which need no labels.

        Raises:
            InputError: features that are not finite, or so large that their variance is not.
        """
        numbers = check_features(checks.array(Z, "Z"), "Z", dtype=np.float64)
        centre, spreads = means_and_spreads(numbers)
        with np.errstate(over="ignore", invalid="ignore"):
            scale = float(np.sqrt(np.square(spreads).mean()))
        if not np.isfinite(scale):
            raise InputError(
                "Z must have a finite variance",
                got=f"numbers up to {np.abs(numbers).max():g}",
                cure="rescale the rows",
            )
        return cls(centre, scale if scale > 0 else 1.0)

    def __call__(self, Z: Any) -> Float[np.ndarray, "n d"]:
        """Scaled rows, in the number type of ``Z``.

        Raises:
            InputError: rows of another width, or features that are not finite.
        """
        rows = exact_features(Z, "Z")
        if rows.shape[1] != len(self.centre):
            raise InputError(
                "Z must have the features that the scaling was fitted on",
                got=f"Z has {rows.shape[1]} features, the scaling {len(self.centre)}",
                cure="encode both with the same encoder",
            )
        return ((rows - self.centre) / self.scale).astype(rows.dtype)


def exact_features(X: Any, name: str) -> Float[np.ndarray, "n d"]:
    """Features as a matrix of finite numbers: float32 if they were given in a type that float32 holds, else float64.

    Raises:
        InputError: not a matrix of finite numbers.

    >>> exact_features([[1700000001, 2]], "X").tolist(), exact_features(np.zeros((1, 2), np.uint8), "X").dtype.name
    ([[1700000001.0, 2.0]], 'float32')
    """
    array = checks.array(X, name)
    is_small = array.dtype.kind in "biuf" and np.can_cast(array.dtype, np.float32)
    return check_features(array, name, dtype=np.float32 if is_small else np.float64)


def features(X: Any, name: str = "X") -> Float[np.ndarray, "n d"]:
    """Features as a matrix of finite numbers: float32, unless that would blur a column; then float64.

    A column is blurred if rounding moves one of its numbers by more than :data:`BLUR` of the column's spread, or if its
    mean is :data:`DISTANT` spreads from zero: a timestamp in seconds, or rows with a large offset. The spread of a
    constant column counts as 1, by which encoders divide it.

    Raises:
        InputError: not a matrix of finite numbers, or numbers too large for float32 and for a finite variance.

    >>> features([[1.0], [2.0]]).dtype.name, features([[1.7e9], [1.7e9 + 1]]).dtype.name
    ('float32', 'float64')
    """
    exact = exact_features(X, name)
    if exact.dtype == np.float32:
        return exact
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = exact.astype(np.float32)
        moved = np.abs(exact - rounded).max(axis=0)
    mean, spread = means_and_spreads(exact)
    if not np.isfinite(spread).all():
        return check_features(exact, name)
    spread = np.where(spread > 0, spread, 1.0)
    needs_digits = (moved > BLUR * spread) | (np.abs(mean) > DISTANT * spread)
    return exact if needs_digits.any() or not np.isfinite(rounded).all() else rounded
