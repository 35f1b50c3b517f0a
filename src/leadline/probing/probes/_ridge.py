"""The ridge probe: linear regression of a quantity on frozen features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from leadline import checks
from leadline.data import exact_features
from leadline.errors import InputError
from leadline.probing.encoding._scaling import Scaling, check_scaling
from leadline.probing.probes._checks import FittedProbe, check_probe_features, check_strengths
from leadline.sounding import Verdict, decimals

RIDGE_STRENGTHS = tuple(10.0**power for power in range(-4, 5))
"""Values of C (inverse regularisation) to choose from; each costs next to nothing."""


@dataclass(frozen=True, eq=False)
class RidgeProbe(FittedProbe):
    """Ridge regressions, one for each subset of labelled rows, and their test scores."""

    r2: Float[np.ndarray, " subsets"]
    """Share of the test rows' variance that is explained, at most 1, averaged over targets.
    Predicting the mean of the test rows gives 0."""
    errors: Float[np.ndarray, " subsets"]
    """Mean squared error on the test rows."""
    strengths: Float[np.ndarray, " subsets"]
    """C of each fit, chosen on its labelled rows."""
    own_errors: Float[np.ndarray, "subsets strengths"]
    """Mean squared leave-one-out error on the labelled rows at each C; it chooses C."""
    coefficients: Float[np.ndarray, "subsets targets d"]
    """Weights of the scaled features."""
    intercepts: Float[np.ndarray, "subsets targets"]
    scaling: Scaling

    @property
    def verdict(self) -> Verdict:
        """The mean share of the variance that the fits explain."""
        share = decimals(100 * self.r2.mean(), ".1f")
        num_subsets = len(self.r2)
        mean_of = f" (mean of {num_subsets} label subsets)" if num_subsets > 1 else ""
        return Verdict(
            f"the ridge probe explains {share} % of the variance of the test rows{mean_of}"
        )

    def predict(self, Z: Any) -> Float[np.ndarray, "subsets n targets"]:
        """Return the quantities that each subset's fit predicts for features of shape (n, d)."""
        rows = self.scaling(Z).astype(np.float64)
        return rows @ self.coefficients.transpose(0, 2, 1) + self.intercepts[:, None]


def ridge_probe(
    Z_train: Any,
    y_train: Any,
    Z_test: Any,
    y_test: Any,
    *,
    strengths: float | Sequence[float] = RIDGE_STRENGTHS,
    subsets: Any = None,
    scaling: Scaling | None = None,
) -> RidgeProbe:
    """Fit a linear regression with L2 regularisation to labelled features and test it.

    Formula: minimises ``sum_i ‖W z_i + b - y_i‖² + ‖W‖² / C`` on scaled features z; the intercept b
    is not regularised. C is the value of ``strengths`` with the smallest leave-one-out error. One
    decomposition ``Z = U S V^T`` of the centred features gives the fits and, through
    ``e_i / (1 - h_ii)``, the exact leave-one-out errors at every C.

    Args:
        Z_train: features of shape (n, d).
        y_train: quantities of shape (n,) or (n, targets); several targets should be of similar
            size.
        Z_test: features of shape (m, d); they influence only the score.
        y_test: quantities of shape (m,) or (m, targets).
        strengths: values of C to choose from, > 0; a single value is used without a choice.
        subsets: row numbers into ``Z_train`` of shape (subsets, b), with a regression for each
            subset; by default one regression on all rows.
        scaling: scaling of all features; by default that of all training rows.

    Returns:
        The fits, one for each subset, and their scores on the test rows.

    Raises:
        InputError: the features or quantities are not finite, differ in shape, or a target is
            constant; or a setting is out of range.

    >>> Z = np.arange(6.0)[:, None]
    >>> probe = ridge_probe(Z, 2 * Z[:, 0] + 1, Z, 2 * Z[:, 0] + 1)
    >>> probe.r2.round(3).tolist(), probe.predict([[10.0]]).round(1).tolist()
    ([1.0], [[[21.0]]])

    Reference: Hoerl & Kennard, *Ridge regression*, 1970; Allen, *The relationship between variable
    selection and data augmentation and a method for prediction*, 1974 (leave-one-out errors).
    """
    rows, tests = check_probe_features(Z_train, Z_test)
    quantities = check_quantities(y_train, len(rows), "y_train")
    truth = check_quantities(y_test, len(tests), "y_test")
    if quantities.shape[1] != truth.shape[1]:
        raise InputError(
            "y_train and y_test must have the same number of targets",
            got=f"y_train has {quantities.shape[1]} targets, y_test has {truth.shape[1]}",
        )
    values = np.array(check_strengths(strengths))
    index = _check_subsets(subsets, len(rows))
    scaling = check_scaling(scaling, rows)
    scaled = scaling(rows).astype(np.float64)
    own_errors, W, b, chosen = solve_ridge(scaled[index], quantities[index], values)
    squares = (scaling(tests).astype(np.float64) @ W.transpose(0, 2, 1) + b[:, None] - truth) ** 2
    return RidgeProbe(
        r2=(1 - squares.mean(axis=1) / truth.var(axis=0)).mean(axis=1),
        errors=squares.mean(axis=(1, 2)),
        strengths=chosen,
        own_errors=own_errors,
        coefficients=W,
        intercepts=b,
        scaling=scaling,
    )


def solve_ridge(
    Z: Float[np.ndarray, "subsets b d"],
    y: Float[np.ndarray, "subsets b targets"],
    strengths: Float[np.ndarray, " C"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fit ridge regressions at every strength and keep the best of each subset.

    Returns:
        Leave-one-out errors of shape (subsets, strengths), then the weights, the intercepts and the
        C of the best fits.
    """
    centre = Z.mean(axis=1, keepdims=True)
    level = y.mean(axis=1, keepdims=True)
    U, S, Vt = np.linalg.svd(Z - centre, full_matrices=False)
    projected = U.transpose(0, 2, 1) @ (y - level)
    penalties = 1 / strengths[:, None]
    shrunk = S[:, None] ** 2 / (S[:, None] ** 2 + penalties)
    fitted = U[:, None] @ (shrunk[..., None] * projected[:, None])
    leverage = shrunk @ (U**2).transpose(0, 2, 1) + 1 / Z.shape[1]
    residuals = ((y - level)[:, None] - fitted) / (1 - leverage[..., None])
    own_errors = (residuals**2).mean(axis=(2, 3))
    chosen = strengths[own_errors.argmin(axis=1)]
    weights = projected * (S / (S**2 + 1 / chosen[:, None]))[..., None]
    W = weights.transpose(0, 2, 1) @ Vt
    intercepts = level[:, 0] - (W @ centre.transpose(0, 2, 1))[..., 0]
    return own_errors, W, intercepts, chosen


def check_quantities(y: Any, n: int, name: str) -> Float[np.ndarray, "n targets"]:
    """Return quantities as a matrix of finite numbers with one row for each row of features.

    Raises:
        InputError: the number of quantities differs from ``n``, or a column is constant or has no
            finite variance.
    """
    array = checks.array(y, name)
    matrix = array[:, None] if array.ndim == 1 else array
    quantities = exact_features(matrix, name).astype(np.float64)
    if len(quantities) != n:
        raise InputError(
            f"{name} must have one quantity for each row of features",
            got=f"{len(quantities)} in {name} for {n} rows",
        )
    is_constant = (quantities == quantities[0]).all(axis=0)
    if is_constant.any():
        raise InputError(
            f"{name} must vary: a constant quantity cannot be regressed on",
            got=f"{name} is {quantities[0, int(is_constant.argmax())]:g} in all {n} rows",
            cause="a single row, or the wrong column",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        variance = quantities.var(axis=0)
    if not np.isfinite(variance).all() or not (variance > 0).all():
        raise InputError(
            f"{name} must have a finite variance above 0",
            got=f"{name} with numbers up to {np.abs(quantities).max():g}",
            cure="rescale the quantity",
        )
    return quantities


def _check_subsets(subsets: Any, n: int) -> Int[np.ndarray, "subsets b"]:
    """Return row numbers of shape (subsets, b); by default one subset of all rows."""
    if subsets is None and n >= 2:
        return np.arange(n)[None]
    index = np.arange(n)[None] if subsets is None else checks.array(subsets, "subsets")
    has_integers = index.dtype.kind in "iu"
    is_matrix = index.ndim == 2 and has_integers and index.shape[0] > 0 and index.shape[1] > 1
    if not is_matrix or index.min() < 0 or index.max() >= n:
        largest = f", up to {index.max()} with {n} rows" if index.size and has_integers else ""
        raise InputError(
            "subsets must be row numbers of shape (subsets, labels) with at least two labels each",
            got=f"subsets of shape {index.shape}, dtype {index.dtype}{largest}",
            cure="rng.permuted(np.tile(np.arange(n), (10, 1)), axis=1)[:, :b]",
        )
    return index
