"""Agreement of two orders."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Num

from leadline import checks
from leadline.errors import InputError
from leadline.statistics._checks import finite_numbers


def kendall_tau(
    x: Num[np.ndarray, "... n"],
    y: Num[np.ndarray, "... n"],
    among: Bool[np.ndarray, "n n"] | None = None,
) -> Any:
    """Return Kendall's tau-b along the last axis: the agreement of two orders, in [-1, 1].

    Formula: ``(concordant - discordant) / sqrt((pairs - ties in x)(pairs - ties in y))``, or NaN if
    one side is constant.

    Args:
        x: shape (..., n), n at least 2. Leading axes are batches, such as seeds.
        y: shape (..., n), the same shape as ``x``.
        among: symmetric mask of the pairs that count, shape (n, n), such as the pairs within a
            group; by default all pairs.

    Returns:
        One tau for each batch, which :func:`paired_interval` accepts.

    Raises:
        InputError: the shapes do not match, or a value is not finite.

    >>> float(kendall_tau(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])).round(3))
    0.667

    Reference: Kendall, *The treatment of ties in ranking problems*, 1945.
    """
    x_values = finite_numbers(x, "x")
    y_values = finite_numbers(y, "y")
    if x_values.shape != y_values.shape or x_values.ndim == 0 or x_values.shape[-1] < 2:
        raise InputError(
            "kendall_tau() needs x and y of one shape (..., n) with n of at least 2",
            got=f"x of shape {x_values.shape} and y of shape {y_values.shape}",
            cause="only one of them was filtered",
            cure="select the same entries from both",
        )
    i, j = np.nonzero(np.triu(_pairs(among, x_values.shape[-1]), k=1))
    dx = np.sign(x_values[..., i] - x_values[..., j])
    dy = np.sign(y_values[..., i] - y_values[..., j])
    with np.errstate(invalid="ignore"):
        return (dx * dy).sum(-1) / np.sqrt((dx != 0).sum(-1) * (dy != 0).sum(-1))


def _pairs(among: Any, n: int) -> np.ndarray:
    """Return a symmetric mask of the pairs that count."""
    if among is None:
        return np.ones((n, n), bool)
    pairs = checks.array(among, "among")
    if pairs.shape != (n, n) or pairs.dtype.kind != "b" or (pairs != pairs.T).any():
        raise InputError(
            "among must be a symmetric matrix of booleans of shape (n, n)",
            got=f"among of shape {pairs.shape}, dtype {pairs.dtype}, for n = {n}",
        )
    return pairs
