"""The linear probe: how well do frozen features, a few labels and logistic regression do?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline import checks
from leadline.checks import ShortRepr
from leadline.errors import InputError
from leadline.probing.probes._logistic import LogisticFits, PrincipalAxes, solve_logistic
from leadline.probing.probes._representation import check_probe_data
from leadline.probing.probes._scaling import Scaling
from leadline.sounding import Verdict, decimals

STRENGTHS = (0.01, 0.1, 1.0)
"""Values of C (inverse regularisation) that cross-validation chooses from.

With 10 and 100 beside them it does no better, raw or encoded, at 20 to 300 labels of digits, wines and tumours.
"""

FIXED_STRENGTH = 0.1
"""C where there are fewer than :data:`FOLDS` labels in some class, too few to choose by."""

FOLDS = 3
"""Parts of the labels that cross-validation holds out in turn."""

Criterion = Literal["likelihood", "accuracy"]
"""How C is chosen: by the likelihood of held-out labels, or by the share of them that is right."""

FOLD_TOLERANCES: dict[Criterion, float] = {"likelihood": 3e-3, "accuracy": 3e-4}
"""How well fits are solved that serve to choose C only. An accuracy jumps where a row changes sides, so that it needs
better solutions than a likelihood."""

WORKING_SET = 2**21
"""Numbers in the largest array of the solver; larger batches are solved in parts."""


@dataclass(frozen=True, eq=False)
class LinearProbe(ShortRepr):
    """A fitted probe and its accuracy on the test rows."""

    accuracy: float
    """Share of test rows that are classified correctly, in [0, 1]."""
    majority: float
    """Share of the most frequent class among the test rows: the accuracy of always predicting it."""
    strength: float
    """C that was used."""
    is_cross_validated: bool
    """True if C was chosen inside the labels; False if it was given, or fixed because the labels were too few."""
    classes: Int[np.ndarray, " classes"]
    """The labels of the classes, ascending."""
    coefficients: Float[np.ndarray, "classes d"]
    """Weights on the scaled features, a row for each of ``classes``."""
    intercepts: Float[np.ndarray, " classes"]
    gradient: float
    """Largest entry of the gradient at the solution: convergence, measured."""
    scaling: Scaling

    @property
    def verdict(self) -> Verdict:
        """The accuracy and the share of the largest class."""
        return accuracy_verdict("the linear probe", self.accuracy, self.majority)

    def probabilities(self, Z: Any) -> Float[np.ndarray, "n classes"]:
        """Predicted distribution over :attr:`classes` for rows of features."""
        scores = self.scaling(Z).astype(np.float64) @ self.coefficients.T + self.intercepts
        mass = np.exp(scores - scores.max(axis=1, keepdims=True))
        return mass / mass.sum(axis=1, keepdims=True)

    def predict(self, Z: Any) -> Int[np.ndarray, " n"]:
        """The most likely class of each row."""
        return self.classes[self.probabilities(Z).argmax(axis=1)]

    def __str__(self) -> str:
        return str(self.verdict)


def accuracy_verdict(who: str, accuracy: float, majority: float) -> Verdict:
    """An accuracy beside the share of the largest class.

    >>> print(accuracy_verdict("the linear probe", 0.99, 0.985))
    the linear probe is right on 99.0 % of the test rows; always predicting the largest class, on 98.5 %
    """
    return Verdict(
        f"{who} is right on {decimals(100 * accuracy, '.1f')} % of the test rows; "
        f"always predicting the largest class, on {decimals(100 * majority, '.1f')} %"
    )


def linear_probe(
    Z_train: Any,
    y_train: Any,
    Z_test: Any,
    y_test: Any,
    *,
    strengths: float | Sequence[float] = STRENGTHS,
    criterion: Criterion = "likelihood",
    scaling: Scaling | None = None,
    tol: float = 1e-4,
    dtype: type[np.floating] = np.float32,
) -> LinearProbe:
    """Fit a multinomial logistic regression with L2 regularisation to labelled features and test it.

    Formula: minimises ``1/n sum_i -log softmax(W z_i + b)[y_i] + ‖W‖² / (2 C n)`` on scaled features z, with C / 2 in
    place of C where there are two classes. It equals scikit-learn's ``LogisticRegression(C=C)`` on these features. C is
    the one of ``strengths`` that does best on held-out labels over 3 folds, or 0.1 where a class has fewer than 3
    labels. The k-th row of a class goes to fold ``k mod 3``.

    Args:
        Z_train: features of shape (n, d).
        y_train: class indices of shape (n,): whole numbers from 0, with or without gaps.
        Z_test: features of shape (m, d); they influence nothing but the accuracy.
        y_test: class indices of shape (m,), of classes that ``y_train`` holds.
        strengths: values of C to choose from, > 0; a single one is taken as it is.
        criterion: what "best" means: ``"likelihood"``, or ``"accuracy"`` with the likelihood among equals.
        scaling: applied to all features; by default that of the training rows. A study passes the scaling of the
            unlabelled rows, equal for all label counts.
        tol: largest entry of the gradient at which the fit is solved.
        dtype: of the computation; ``float64`` on request.

    Raises:
        InputError: features that are not finite or of unequal width, labels of one class, test labels that are no
            class indices or of a class without a labelled row, a strength that is not positive.

    >>> Z = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    >>> probe = linear_probe(Z, [0, 0, 0, 1, 1, 1], Z, [0, 0, 0, 1, 1, 1])
    >>> probe.accuracy, probe.is_cross_validated
    (1.0, True)

    Reference: Alain & Bengio, *Understanding intermediate layers using linear classifier probes*, 2016.
    """
    given = check_probe_data(Z_train, y_train, Z_test, y_test)
    strengths = check_strengths(strengths)
    criterion = check_criterion(criterion)
    tol = checks.number(tol, "tol", above=0, cure="1e-4, the default, is enough for accuracies")
    number_type = check_number_type(dtype)
    scaling = check_scaling(scaling, given.Z_train)
    rows = torch.from_numpy(scaling(given.Z_train).astype(number_type))
    tests = torch.from_numpy(scaling(given.Z_test).astype(number_type))
    labels = torch.from_numpy(given.y_train)
    solution = solve_probes(rows[None], labels[None], len(given.classes), strengths, tol, criterion)
    predicted = solution.fits.logits(tests[None])[0, 0].argmax(1).numpy()
    return LinearProbe(
        accuracy=float((predicted == given.y_test).mean()),
        majority=given.majority,
        strength=min(
            (*strengths, FIXED_STRENGTH), key=lambda C: abs(C - float(solution.strengths[0]))
        ),
        is_cross_validated=bool(solution.is_cross_validated[0]),
        classes=given.classes,
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
    Z: Float[Tensor, "batch rows d"],
    y: Int[Tensor, "batch rows"],
    classes: int,
    strengths: Sequence[float],
    tol: float,
    criterion: Criterion = "likelihood",
) -> Solution:
    """Choose the strength of each problem inside its own labels, and fit it; all problems together.

    Args:
        Z: scaled features.
        y: class indices.
        classes: number of classes; one that is absent from a problem is never predicted by it.
        strengths: values of C, ascending.
        tol: largest entry of the gradient at which a fit is solved.
        criterion: how a strength is chosen.
    """
    part = max(1, WORKING_SET // (max((FOLDS + 1) * classes, Z.shape[2] // 4) * Z.shape[1]))
    solved = [
        _solve(Z[i : i + part], y[i : i + part], classes, strengths, tol, criterion)
        for i in range(0, len(Z), part)
    ]
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
    """Different strengths in ascending order, or a refusal."""
    is_single = (
        isinstance(strengths, (int, float, np.number)) or getattr(strengths, "shape", None) == ()
    )
    listed = (
        (strengths,) if is_single else checks.items(strengths, "strengths", least=1, of="numbers")
    )
    cure = "strengths of regularisation C are positive; small means strongly regularised; try 0.1"
    return tuple(
        sorted(
            {
                checks.number(value, f"strengths[{i}]", above=0, cure=cure)
                for i, value in enumerate(listed)
            }
        )
    )


def check_criterion(criterion: Any) -> Criterion:
    """``"likelihood"`` or ``"accuracy"``, or a refusal."""
    plain = checks.choice(criterion, "criterion", get_args(Criterion))
    return "accuracy" if plain == "accuracy" else "likelihood"


def check_scaling(scaling: Any, rows: np.ndarray) -> Scaling:
    """The scaling that was given, or that of the rows."""
    if scaling is None:
        return Scaling.fit(rows)
    return checks.instance(scaling, "scaling", Scaling, cure="Scaling.fit(rows)")


def check_number_type(dtype: Any) -> type[np.floating]:
    """``float32`` or ``float64``, or a refusal."""
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError):
        found = None
    if dtype is None or found is None or found not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise InputError(
            "dtype must be numpy.float32 or numpy.float64", got=f"dtype = {checks.shown(dtype)}"
        )
    return found.type


def _solve(
    Z: Tensor, y: Tensor, classes: int, strengths: Sequence[float], tol: float, criterion: Criterion
) -> Solution:
    enough = (
        _can_be_folded(y, classes) if len(strengths) > 1 else torch.zeros(len(y), dtype=torch.bool)
    )
    start, axes = None, PrincipalAxes.of(Z)
    chosen = Z.new_full((len(Z),), FIXED_STRENGTH if len(strengths) > 1 else strengths[0])
    if enough.all():
        start, index = _cross_validate(Z, axes, y, classes, strengths, criterion)
        chosen = Z.new_tensor(strengths)[index]
    elif enough.any():
        _, index = _cross_validate(
            Z[enough], axes[enough], y[enough], classes, strengths, criterion
        )
        chosen[enough] = Z.new_tensor(strengths)[index]
    fits = solve_logistic(
        Z, y, chosen.unsqueeze(1), classes=classes, start=start, axes=axes, tol=tol
    )
    return Solution(fits, chosen, enough)


def _cross_validate(
    Z: Tensor,
    axes: PrincipalAxes,
    y: Tensor,
    classes: int,
    strengths: Sequence[float],
    criterion: Criterion,
) -> tuple[LogisticFits, Int[Tensor, " batch"]]:
    """Index of the strength that does best on held-out rows, and the fits to all rows at that strength.

    By accuracy, the best likelihood decides among strengths with equally many right.
    """
    fold = _rank_in_class(y, classes) % FOLDS
    held_out = torch.stack([fold == k for k in range(FOLDS)], dim=1)
    weights = torch.cat([~held_out, torch.ones_like(held_out[:, :1])], dim=1).to(Z.dtype)
    losses: list[Tensor] = []
    rights: list[Tensor] = []
    paths: list[LogisticFits] = []
    fits = None
    for strength in strengths:
        C = Z.new_full((len(Z), FOLDS + 1), strength)
        options = {
            "classes": classes,
            "weights": weights,
            "axes": axes,
            "tol": FOLD_TOLERANCES[criterion],
        }
        fits = solve_logistic(Z, y, C, start=fits, **options)
        scores = fits.logits(Z)[:, :FOLDS]
        of_truth = scores.gather(3, y[:, None, :, None].expand(-1, FOLDS, -1, 1)).squeeze(3)
        losses.append(((scores.logsumexp(3) - of_truth) * held_out).sum((1, 2)))
        rights.append(((scores.argmax(3) == y[:, None]) * held_out).sum((1, 2)))
        paths.append(fits)
    loss = torch.stack(losses)
    if criterion == "accuracy":
        right = torch.stack(rights)
        loss = torch.where(right == right.amax(0), loss, torch.inf)
    index = loss.argmin(0)
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
    """True for problems in which each class that occurs has a label for every fold."""
    counts = (y.unsqueeze(2) == torch.arange(classes)).sum(1)
    return ((counts == 0) | (counts >= FOLDS)).all(1)
