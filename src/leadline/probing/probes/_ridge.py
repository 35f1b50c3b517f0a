"""The ridge probe: a quantity instead of a class, predicted from frozen features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from leadline import checks
from leadline.checks import ShortRepr
from leadline.errors import InputError
from leadline.probing.probes._linear import check_scaling, check_strengths
from leadline.probing.probes._scaling import Scaling, exact_features
from leadline.sounding import Verdict, decimals

RIDGE_STRENGTHS = tuple(10.0**power for power in range(-4, 5))
"""Values of C (inverse regularisation) that are tried; each costs next to nothing."""


@dataclass(frozen=True, eq=False)
class RidgeProbe(ShortRepr):
    """Fitted ridge regressions, one for each subset of labelled rows, and what they are worth on the test rows."""

    r2: Float[np.ndarray, " subsets"]
    """Share of the test rows' variance that is explained, averaged over targets: at most 1, and 0 for their mean."""
    errors: Float[np.ndarray, " subsets"]
    """Mean squared error on the test rows."""
    strengths: Float[np.ndarray, " subsets"]
    """C of each, chosen inside its labels."""
    own_errors: Float[np.ndarray, "subsets strengths"]
    """Mean squared error on each labelled row by the fit to the others: what C was chosen by."""
    coefficients: Float[np.ndarray, "subsets targets d"]
    """Weights on the scaled features."""
    intercepts: Float[np.ndarray, "subsets targets"]
    scaling: Scaling

    @property
    def verdict(self) -> Verdict:
        """The mean share of the variance that is explained."""
        subsets = len(self.r2)
        return Verdict(
            f"the ridge probe explains {decimals(100 * self.r2.mean(), '.1f')} % of the variance of the test rows "
            f"(mean of {subsets} label subset{'s' * (subsets > 1)}); predicting the mean explains 0 %"
        )

    def __str__(self) -> str:
        return str(self.verdict)

    def predict(self, Z: Any) -> Float[np.ndarray, "subsets n targets"]:
        """Predicted quantities for rows of features, by each subset's fit."""
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

    Formula: minimises ``sum_i ‖W z_i + b - y_i‖² + ‖W‖² / C`` on scaled features z; the intercept b is free. C is the
    one of ``strengths`` with the smallest leave-one-out error. One decomposition ``Z = U S V^T`` of the centred
    features gives the fits and, through ``e_i / (1 - h_ii)``, the exact leave-one-out errors at every C.

    Args:
        Z_train: features of shape (n, d).
        y_train: quantities of shape (n,) or (n, targets), best of like size where there are several.
        Z_test: features of shape (m, d); they influence nothing but the score.
        y_test: quantities of shape (m,) or (m, targets).
        strengths: values of C to choose from, > 0; a single one is taken as it is.
        subsets: row numbers into ``Z_train`` of shape (subsets, b): a regression for each; by default one on all rows.
        scaling: applied to all features; by default that of all training rows.

    Raises:
        InputError: anything that is not finite or does not fit, or a target that never changes.

    >>> Z = np.arange(6.0)[:, None]
    >>> probe = ridge_probe(Z, 2 * Z[:, 0] + 1, Z, 2 * Z[:, 0] + 1)
    >>> probe.r2.round(3).tolist(), probe.predict([[10.0]]).round(1).tolist()
    ([1.0], [[[21.0]]])

    Reference: Hoerl & Kennard, *Ridge regression*, 1970; Allen, *The relationship between variable selection and data
    augmentation and a method for prediction*, 1974 (leave-one-out errors).
    """
    rows, tests = exact_features(Z_train, "Z_train"), exact_features(Z_test, "Z_test")
    quantities = check_quantities(y_train, len(rows), "y_train")
    truth = check_quantities(y_test, len(tests), "y_test")
    if rows.shape[1] != tests.shape[1] or quantities.shape[1] != truth.shape[1]:
        raise InputError(
            "training and test rows must be equally wide",
            got=f"{rows.shape[1]} and {tests.shape[1]} features, {quantities.shape[1]} and {truth.shape[1]} targets",
            cure="encode both with the same encoder",
        )
    values = np.array(check_strengths(strengths))
    index = _subsets(subsets, len(rows))
    scaling = check_scaling(scaling, rows)
    scaled = scaling(rows).astype(np.float64)
    own_errors, W, b, chosen = solve_ridge(scaled[index], quantities[index], values)
    squares = (scaling(tests).astype(np.float64) @ W.transpose(0, 2, 1) + b[:, None] - truth) ** 2
    r2 = (1 - squares.mean(axis=1) / truth.var(axis=0)).mean(axis=1)
    return RidgeProbe(r2, squares.mean(axis=(1, 2)), chosen, own_errors, W, b, scaling)


def solve_ridge(
    Z: Float[np.ndarray, "subsets b d"],
    y: Float[np.ndarray, "subsets b targets"],
    strengths: Float[np.ndarray, " C"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Leave-one-out errors (subsets, strengths), and weights, intercepts and C of the fits that they choose."""
    centre, level = Z.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    U, S, Vt = np.linalg.svd(Z - centre, full_matrices=False)
    projected = U.transpose(0, 2, 1) @ (y - level)
    penalties = 1 / strengths[:, None]
    shrunk = S[:, None] ** 2 / (S[:, None] ** 2 + penalties)
    fitted = U[:, None] @ (shrunk[..., None] * projected[:, None])
    leverage = shrunk @ (U**2).transpose(0, 2, 1) + 1 / Z.shape[1]
    own_errors = ((((y - level)[:, None] - fitted) / (1 - leverage[..., None])) ** 2).mean(
        axis=(2, 3)
    )
    chosen = strengths[own_errors.argmin(axis=1)]
    weights = projected * (S / (S**2 + 1 / chosen[:, None]))[..., None]
    W = weights.transpose(0, 2, 1) @ Vt
    return own_errors, W, level[:, 0] - (W @ centre.transpose(0, 2, 1))[..., 0], chosen


def check_quantities(y: Any, n: int, name: str) -> Float[np.ndarray, "n targets"]:
    """Quantities as a matrix of finite numbers, one row for each row of features, or a refusal."""
    given = checks.array(y, name)
    quantities = exact_features(given[:, None] if given.ndim == 1 else given, name).astype(
        np.float64
    )
    if len(quantities) != n:
        raise InputError(
            "quantities and rows must be equal in number",
            got=f"{len(quantities)} in {name} for {n} rows",
        )
    is_constant = (quantities == quantities[0]).all(axis=0)
    if is_constant.any():
        raise InputError(
            "a quantity to regress on must change from row to row",
            got=f"{name} is {quantities[0, int(is_constant.argmax())]:g} in all {n} rows",
            cause="one row only, or the wrong column was named",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        spread = quantities.var(axis=0)
    if not np.isfinite(spread).all() or not (spread > 0).all():
        raise InputError(
            f"{name} must have a finite variance above 0",
            got=f"{name} with numbers up to {np.abs(quantities).max():g}",
            cure="rescale the quantity",
        )
    return quantities


def _subsets(subsets: Any, n: int) -> np.ndarray:
    if subsets is None and n >= 2:
        return np.arange(n)[None]
    index = np.arange(n)[None] if subsets is None else checks.array(subsets, "subsets")
    is_matrix = (
        index.ndim == 2 and index.dtype.kind in "iu" and index.shape[0] > 0 and index.shape[1] > 1
    )
    if not is_matrix or index.min() < 0 or index.max() >= n:
        raise InputError(
            "subsets are row numbers of shape (subsets, labels), at least two labels each",
            got=f"subsets of shape {index.shape}, dtype {index.dtype}"
            + (
                f", up to {index.max()} with {n} rows"
                if index.size and index.dtype.kind in "iu"
                else ""
            ),
            cure="rng.permuted(np.tile(np.arange(n), (10, 1)), axis=1)[:, :b]",
        )
    return index
