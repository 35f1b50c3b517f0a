"""Principal components of rows, computed at the cost of the shorter side."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.sparse.linalg import svds

from leadline import checks
from leadline.data import means_and_spreads
from leadline.errors import InputError

LANCZOS_SIDE = 500
"""Length of the shorter side above which Lanczos iterations find a small number of components."""

LANCZOS_SHARE = 0.1
"""Largest number of components, as a share of the shorter side, that Lanczos iterations find."""


def principal_components(
    X: Float[np.ndarray, "n d"], num_components: int
) -> Callable[[np.ndarray], Any]:
    """Return the projection on the directions of largest variance of X, in descending order.

    If X has fewer rows than features, a thin SVD decomposes it. Lanczos iterations find a few
    components of a large matrix. No matrix of d x d numbers is created if n < d. Directions in
    which the rows do not vary give zeros.

    Args:
        X: rows of shape (n, d).
        num_components: number of directions, at most ``min(n, d)``.

    Raises:
        InputError: the number of components is below 1 or above ``min(n, d)``.

    >>> encode = principal_components(np.array([[0.0, 0.0], [0.0, 4.0], [1.0, 2.0]]), 1)
    >>> abs(encode(np.array([[0.0, 0.0]]))).item()
    2.0

    Reference: Pearson, *On lines and planes of closest fit to systems of points in space*, 1901.
    """
    num_components = check_num_components(num_components, *X.shape)
    centre = means_and_spreads(X)[0]
    axes = _principal_axes(X - centre, num_components)
    return lambda Z: ((Z - centre) @ axes).astype(Z.dtype)


def check_num_components(num_components: Any, rows: int, features: int) -> int:
    """Return a number of principal components that so many rows and features allow.

    Raises:
        InputError: the number is below 1, or above ``min(rows, features)``.
    """
    number = checks.whole_number(num_components, "num_components")
    most = min(rows, features)
    if not 1 <= number <= most:
        raise InputError(
            "principal components must be between 1 and min(rows, features) in number",
            got=f"{number} components of {features} features and {rows} rows",
            cure=f"use {most} or fewer",
        )
    return number


def _principal_axes(
    centred: Float[np.ndarray, "n d"], num_components: int
) -> Float[np.ndarray, "d components"]:
    """Return orthonormal directions of largest variance as columns.

    Columns beyond the rank of the rows are zero.
    """
    n, d = centred.shape
    shorter = min(n, d)
    is_small_part = num_components <= LANCZOS_SHARE * shorter
    axes: Any
    if shorter > LANCZOS_SIDE and is_small_part and centred.any():
        # A fixed starting vector makes results repeatable.
        start = np.random.default_rng(0).normal(size=shorter)
        _, sizes, axes = svds(centred, k=num_components, v0=start, solver="arpack")
        order = np.argsort(-sizes, kind="stable")
        sizes = sizes[order]
        axes = axes[order]
    elif n < d:
        _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    else:
        squares, columns = np.linalg.eigh(centred.T @ centred)
        sizes = np.sqrt(np.maximum(squares[::-1], 0))
        axes = columns.T[::-1]
    is_spanned = sizes[:num_components] > 1e-7 * sizes[0]
    return (axes[:num_components] * is_spanned[:, None]).T
