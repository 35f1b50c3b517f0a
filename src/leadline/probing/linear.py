"""The linear probe: how well do frozen features, a few labels and logistic regression do?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline.data import check_features
from leadline.errors import InputError
from leadline.probing.logistic import LogisticFits, PrincipalAxes, fit_logistic
from leadline.probing.representation import check_probe_data
from leadline.probing.scaling import Scaling

STRENGTHS = (0.01, 0.1, 1.0)
"""Values of C (inverse regularisation) that cross-validation chooses from.

With 10 and 100 beside them it does no better, raw or encoded, at 20 to 300 labels of digits, wines and tumours.
"""

FIXED_STRENGTH = 0.1
"""C where there are fewer than :data:`FOLDS` labels in some class, too few to choose by."""

FOLDS = 3
"""Parts of the labels that cross-validation holds out in turn."""

FOLD_TOLERANCE = 3e-3
"""How well fits are solved that serve to choose C only: looser than what is reported."""

WORKING_SET = 2**21
"""Numbers in the largest array of the solver; larger batches are solved in parts."""


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A fitted probe and its accuracy on the test rows."""

    accuracy: float
    """Share of test rows that are classified correctly, in [0, 1]."""
    strength: float
    """C that was used."""
    is_cross_validated: bool
    """Whether C was chosen inside the labels, or fixed because they were too few."""
    coefficients: Float[np.ndarray, "classes d"]
    """Weights on the scaled features."""
    intercepts: Float[np.ndarray, " classes"]
    gradient: float
    """Largest entry of the gradient at the solution: convergence, measured."""
    scaling: Scaling

    def probabilities(self, Z: Any) -> Float[np.ndarray, "n classes"]:
        """Predicted distribution over classes for rows of features."""
        scores = self.scaling(check_features(Z, "Z", dtype=np.float64)) @ self.coefficients.T + self.intercepts
        mass = np.exp(scores - scores.max(axis=1, keepdims=True))
        return mass / mass.sum(axis=1, keepdims=True)

    def predict(self, Z: Any) -> Int[np.ndarray, " n"]:
        """The most likely class of each row."""
        return self.probabilities(Z).argmax(axis=1)


def linear_probe(
    Z_train: Any,
    y_train: Any,
    Z_test: Any,
    y_test: Any,
    *,
    strengths: float | Sequence[float] = STRENGTHS,
    scaling: Scaling | None = None,
    tol: float = 1e-4,
    dtype: type[np.floating] = np.float32,
) -> LinearProbe:
    """Fit a multinomial logistic regression with L2 regularisation to labelled features and test it.

    Formula: minimises ``1/n sum_i -log softmax(W z_i + b)[y_i] + ‖W‖² / (2 C n)`` on scaled features z; C is the one
    of ``strengths`` whose held-out log-likelihood over 3 folds of the labels is best, or 0.1 where a class has fewer
    than 3. The k-th row of a class goes to fold ``k mod 3``.

    Args:
        Z_train: features of shape (n, d).
        y_train: class indices of shape (n,).
        Z_test: features of shape (m, d); they influence nothing but the accuracy.
        y_test: class indices of shape (m,).
        strengths: values of C to choose from, > 0; a single one is taken as it is.
        scaling: applied to all features; by default that of the training rows. A study passes the scaling of the
            unlabelled rows, equal for all label counts.
        tol: largest entry of the gradient at which the fit is solved.
        dtype: of the computation; ``float64`` on request.

    Raises:
        InputError: features that are not finite or of unequal width, labels of one class, a strength that is not
            positive.

    >>> Z = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    >>> probe = linear_probe(Z, [0, 0, 0, 1, 1, 1], Z, [0, 0, 0, 1, 1, 1])
    >>> probe.accuracy, probe.is_cross_validated
    (1.0, True)

    Reference: Alain & Bengio, *Understanding intermediate layers using linear classifier probes*, 2016.
    """
    Z_train, y_train, Z_test, y_test = check_probe_data(Z_train, y_train, Z_test, y_test, dtype=dtype)
    strengths = check_strengths(strengths)
    scaling = Scaling.fit(Z_train) if scaling is None else scaling
    labels = torch.from_numpy(y_train)[None]
    solution = solve_probes(torch.from_numpy(scaling(Z_train))[None], labels, int(y_train.max()) + 1, strengths, tol)
    scores = solution.fits.logits(torch.from_numpy(scaling(Z_test))[None])[0, 0]
    return LinearProbe(
        accuracy=float((scores.argmax(1).numpy() == y_test).mean()),
        strength=float(solution.strengths[0]),
        is_cross_validated=bool(solution.is_cross_validated[0]),
        coefficients=solution.fits.coefficients[0, 0].numpy(),
        intercepts=solution.fits.intercepts[0, 0].numpy(),
        gradient=float(solution.fits.gradient[0, 0]),
        scaling=scaling,
    )


@dataclass(frozen=True, eq=False)
class Solution:
    """Probes of a batch of problems: one fit each, at the strength that was chosen for it."""

    fits: LogisticFits
    strengths: Float[Tensor, " batch"]
    is_cross_validated: Tensor


def solve_probes(
    Z: Float[Tensor, "batch rows d"], y: Int[Tensor, "batch rows"], classes: int, strengths: Sequence[float], tol: float
) -> Solution:
    """Choose the strength of each problem inside its own labels, and fit it; all problems together.

    Args:
        Z: scaled features.
        y: class indices.
        classes: number of classes; one that is absent from a problem is never predicted by it.
        strengths: values of C, ascending.
        tol: largest entry of the gradient at which a fit is solved.
    """
    part = max(1, WORKING_SET // ((FOLDS + 1) * classes * Z.shape[1]))
    solved = [_solve(Z[i : i + part], y[i : i + part], classes, strengths, tol) for i in range(0, len(Z), part)]
    fits = [solution.fits for solution in solved]
    return Solution(
        LogisticFits(
            torch.cat([fit.coefficients for fit in fits]),
            torch.cat([fit.intercepts for fit in fits]),
            torch.cat([fit.gradient for fit in fits]),
        ),
        torch.cat([solution.strengths for solution in solved]),
        torch.cat([solution.is_cross_validated for solution in solved]),
    )


def check_strengths(strengths: Any) -> tuple[float, ...]:
    """Strengths in ascending order, or a refusal."""
    values = [strengths] if isinstance(strengths, (int, float)) else list(strengths)
    wrong = [value for value in values if not 0 < value < float("inf")]
    if wrong or not values:
        raise InputError(
            "a strength of regularisation C must be positive and finite",
            got=f"strengths = {values}",
            cure="small means strongly regularised; try 0.1",
        )
    return tuple(sorted(float(value) for value in values))


def _solve(Z: Tensor, y: Tensor, classes: int, strengths: Sequence[float], tol: float) -> Solution:
    enough = _can_be_folded(y, classes) if len(strengths) > 1 else torch.zeros(len(y), dtype=torch.bool)
    start, axes = None, PrincipalAxes.of(Z)
    chosen = Z.new_full((len(Z),), FIXED_STRENGTH if len(strengths) > 1 else strengths[0])
    if enough.all():
        start, index = _cross_validate(Z, axes, y, classes, strengths)
        chosen = Z.new_tensor(strengths)[index]
    elif enough.any():
        _, index = _cross_validate(Z[enough], axes[enough], y[enough], classes, strengths)
        chosen[enough] = Z.new_tensor(strengths)[index]
    fits = fit_logistic(Z, y, chosen.unsqueeze(1), classes=classes, start=start, axes=axes, tol=tol)
    return Solution(fits, chosen, enough)


def _cross_validate(
    Z: Tensor, axes: PrincipalAxes, y: Tensor, classes: int, strengths: Sequence[float]
) -> tuple[LogisticFits, Int[Tensor, " batch"]]:
    """Index of the strength with the best held-out log-likelihood, and the fits to all rows at that strength."""
    fold = _rank_in_class(y, classes) % FOLDS
    held_out = torch.stack([fold == k for k in range(FOLDS)], dim=1)
    weights = torch.cat([~held_out, torch.ones_like(held_out[:, :1])], dim=1).to(Z.dtype)
    losses, paths, fits = [], [], None
    for strength in strengths:
        C = Z.new_full((len(Z), FOLDS + 1), strength)
        options = {"classes": classes, "weights": weights, "axes": axes, "tol": FOLD_TOLERANCE}
        fits = fit_logistic(Z, y, C, start=fits, **options)
        scores = fits.logits(Z)[:, :FOLDS]
        right = scores.gather(3, y[:, None, :, None].expand(-1, FOLDS, -1, 1)).squeeze(3)
        losses.append(((scores.logsumexp(3) - right) * held_out).sum((1, 2)))
        paths.append(fits)
    index = torch.stack(losses).argmin(0)
    return _pick(paths, index), index


def _pick(paths: list[LogisticFits], index: Tensor) -> LogisticFits:
    """For each problem the last fit (all rows) along the path at its index."""
    problem = torch.arange(len(index))
    return LogisticFits(
        *(
            torch.stack([getattr(fits, name)[:, -1:] for fits in paths])[index, problem]
            for name in ("coefficients", "intercepts", "gradient")
        )
    )


def _rank_in_class(y: Tensor, classes: int) -> Tensor:
    """For each row how many rows of its class come before it."""
    member = y.unsqueeze(2) == torch.arange(classes)
    return (member.cumsum(1) - 1).gather(2, y.unsqueeze(2)).squeeze(2)


def _can_be_folded(y: Tensor, classes: int) -> Tensor:
    """Whether each class that a problem holds has a label for every fold."""
    counts = (y.unsqueeze(2) == torch.arange(classes)).sum(1)
    return ((counts == 0) | (counts >= FOLDS)).all(1)
