"""The linear probe: logistic regression on frozen features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from leadline import checks
from leadline.errors import InputError
from leadline.probing.encoding._scaling import Scaling, check_scaling
from leadline.probing.probes._checks import (
    FittedProbe,
    accuracy_verdict,
    check_probe_data,
    check_strengths,
)
from leadline.probing.probes._folds import FOLDS, folds, have_every_fold
from leadline.probing.probes._logistic import LogisticFits, PrincipalAxes, fit_logistic
from leadline.sounding import Verdict

STRENGTHS = (0.01, 0.1, 1.0)
"""Values of C (inverse regularisation) that cross-validation chooses from.

The additional values 10 and 100 gain nothing on raw or encoded features, at 20 to 300 labels of
digits, wines and tumours.
"""

FIXED_STRENGTH = 0.1
"""C if some class has fewer than :data:`FOLDS` labels, which are too few for a choice."""

Criterion = Literal["likelihood", "accuracy"]
"""Criterion for C: the likelihood of held-out labels, or the share that is predicted correctly."""

FOLD_TOLERANCES: dict[Criterion, float] = {"likelihood": 3e-3, "accuracy": 3e-4}
"""Tolerance of fits that only serve to choose C.

An accuracy jumps when the prediction of a row changes, so that it needs more precise fits than a
likelihood.
"""

WORKING_SET = 2**21
"""Numbers in the largest array of the solver; larger batches are solved in parts."""


@dataclass(frozen=True)
class LogisticSettings:
    """Settings of logistic probes that choose their strength of regularisation.

    Raises:
        InputError: a setting is out of range.

    >>> LogisticSettings(strengths=[1.0, 0.1]).strengths
    (0.1, 1.0)
    """

    strengths: Any = STRENGTHS
    """Values of C to choose from, > 0, ascending; a single value is used without a choice."""
    criterion: Criterion = "likelihood"
    """Criterion of the choice. Equal accuracies are decided by the likelihood."""
    tolerance: float = 1e-4
    """Largest entry of the gradient at which a fit is solved, > 0."""

    def __post_init__(self):
        criterion = checks.choice(self.criterion, "criterion", get_args(Criterion))
        cure = "1e-4, the default, is small enough for accuracies"
        tolerance = checks.number(self.tolerance, "tolerance", above=0, cure=cure)
        object.__setattr__(self, "strengths", check_strengths(self.strengths))
        object.__setattr__(self, "criterion", criterion)
        object.__setattr__(self, "tolerance", tolerance)


@dataclass(frozen=True, eq=False)
class LinearProbe(FittedProbe):
    """A fitted linear probe and its accuracy on the test rows."""

    accuracy: float
    """Share of test rows that are classified correctly, in [0, 1]."""
    majority: float
    """Share of the most frequent test class, the accuracy of always predicting it."""
    strength: float
    """The value of C that was used."""
    is_cross_validated: bool
    """True if C was chosen by cross-validation; False if a single C was given, or if it was fixed
    because a class has too few labels."""
    classes: Int[np.ndarray, " classes"]
    """The labels of the classes, ascending."""
    coefficients: Float[np.ndarray, "classes d"]
    """Weights of the scaled features, a row for each of ``classes``."""
    intercepts: Float[np.ndarray, " classes"]
    gradient: float
    """Largest entry of the gradient at the solution, which measures convergence."""
    scaling: Scaling

    @property
    def verdict(self) -> Verdict:
        """The accuracy and the share of the largest class."""
        return accuracy_verdict("the linear probe", self.accuracy, self.majority)

    def probabilities(self, Z: Any) -> Float[np.ndarray, "n classes"]:
        """Return the predicted distribution over :attr:`classes` for features of shape (n, d)."""
        scores = self.scaling(Z).astype(np.float64) @ self.coefficients.T + self.intercepts
        mass = np.exp(scores - scores.max(axis=1, keepdims=True))
        return mass / mass.sum(axis=1, keepdims=True)

    def predict(self, Z: Any) -> Int[np.ndarray, " n"]:
        """Return the most likely class of each row of features."""
        return self.classes[self.probabilities(Z).argmax(axis=1)]


def linear_probe(
    Z_train: Any,
    y_train: Any,
    Z_test: Any,
    y_test: Any,
    *,
    strengths: float | Sequence[float] = STRENGTHS,
    criterion: Criterion = "likelihood",
    scaling: Scaling | None = None,
    tolerance: float = 1e-4,
    dtype: type[np.floating] = np.float32,
) -> LinearProbe:
    """Fit a multinomial logistic regression with L2 regularisation to labelled features; test it.

    Formula: minimises ``1/n sum_i -log softmax(W z_i + b)[y_i] + ‖W‖² / (2 C n)`` on scaled
    features z, with C / 2 in place of C if there are two classes. The fit equals scikit-learn's
    ``LogisticRegression(C=C)`` on these features. C is the value of ``strengths`` that predicts
    held-out labels best over 3 folds, or 0.1 if a class has fewer than 3 labels. The k-th row of a
    class belongs to fold ``k mod 3``.

    Args:
        Z_train: features of shape (n, d).
        y_train: class indices of shape (n,): whole numbers from 0, with or without gaps.
        Z_test: features of shape (m, d); they influence only the accuracy.
        y_test: class indices of shape (m,), all of which occur in ``y_train``.
        strengths: values of C to choose from, > 0; a single value is used without a choice.
        criterion: ``"likelihood"`` of the held-out labels, or ``"accuracy"``, where the likelihood
            decides between equals.
        scaling: scaling of all features; by default that of the training rows. A study passes the
            scaling of the unlabelled rows, which is the same for all label counts.
        tolerance: largest entry of the gradient at which the fit is solved.
        dtype: ``numpy.float32`` or ``numpy.float64``, the number type of the computation.

    Returns:
        The fitted probe and its accuracy on the test rows.

    Raises:
        InputError: the features are not finite or differ in width; the labels are not class
            indices or are all equal; a test row has a class without a labelled row; or a setting
            is out of range.

    >>> Z = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    >>> probe = linear_probe(Z, [0, 0, 0, 1, 1, 1], Z, [0, 0, 0, 1, 1, 1])
    >>> probe.accuracy, probe.is_cross_validated
    (1.0, True)

    See also:
        :func:`label_efficiency`, which fits this probe to many encoders, label counts and seeds.

    Reference: Alain & Bengio, *Understanding intermediate layers using linear classifier probes*,
    2016.
    """
    checked = check_probe_data(Z_train, y_train, Z_test, y_test)
    settings = LogisticSettings(strengths, criterion, tolerance)
    number_type = check_number_type(dtype)
    scaling = check_scaling(scaling, checked.Z_train)
    rows = torch.from_numpy(scaling(checked.Z_train).astype(number_type))
    tests = torch.from_numpy(scaling(checked.Z_test).astype(number_type))
    labels = torch.from_numpy(checked.y_train)
    solution = fit_probes(rows[None], labels[None], len(checked.classes), settings)
    predicted = solution.fits.logits(tests[None])[0, 0].argmax(1).numpy()
    # The solver rounds C to its number type; report the exact value.
    exact_strengths = (*settings.strengths, FIXED_STRENGTH)
    strength = min(exact_strengths, key=lambda C: abs(C - float(solution.strengths[0])))
    return LinearProbe(
        accuracy=float((predicted == checked.y_test).mean()),
        majority=checked.majority,
        strength=strength,
        is_cross_validated=bool(solution.is_cross_validated[0]),
        classes=checked.classes,
        coefficients=solution.fits.coefficients[0, 0].numpy(),
        intercepts=solution.fits.intercepts[0, 0].numpy(),
        gradient=float(solution.fits.gradient[0, 0]),
        scaling=scaling,
    )


@dataclass(frozen=True, eq=False)
class ProbeFits:
    """Logistic probes of a batch of problems, each fitted with the strength chosen for it."""

    fits: LogisticFits
    """One fit for each problem."""
    strengths: Float[Tensor, " batch"]
    """The chosen value of C."""
    is_cross_validated: Bool[Tensor, " batch"]
    """True if C was chosen by cross-validation."""


def fit_probes(
    Z: Float[Tensor, "batch rows d"],
    y: Int[Tensor, "batch rows"],
    num_classes: int,
    settings: LogisticSettings | None = None,
) -> ProbeFits:
    """Choose the strength of each problem from its own labels and fit it, all problems together.

    Args:
        Z: scaled features.
        y: class of each row, in [0, num_classes).
        num_classes: number of classes. A problem never predicts a class that it has no row of.
        settings: strengths, criterion and tolerance; by default those of :func:`linear_probe`.
    """
    settings = LogisticSettings() if settings is None else settings
    numbers_per_problem = max((FOLDS + 1) * num_classes, Z.shape[2] // 4) * Z.shape[1]
    part = max(1, WORKING_SET // numbers_per_problem)
    solutions = [
        _fit_part(Z[i : i + part], y[i : i + part], num_classes, settings)
        for i in range(0, len(Z), part)
    ]
    fits = [solution.fits for solution in solutions]
    return ProbeFits(
        LogisticFits(
            torch.cat([fit.coefficients for fit in fits]),
            torch.cat([fit.intercepts for fit in fits]),
            torch.cat([fit.gradient for fit in fits]),
        ),
        torch.cat([solution.strengths for solution in solutions]),
        torch.cat([solution.is_cross_validated for solution in solutions]),
    )


def check_number_type(dtype: Any) -> type[np.floating]:
    """Return ``float32`` or ``float64``; refuse any other type."""
    try:
        plain = None if dtype is None else np.dtype(dtype)
    except (TypeError, ValueError):
        plain = None
    if plain is None or plain not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise InputError(
            "dtype must be numpy.float32 or numpy.float64", got=f"dtype = {checks.shown(dtype)}"
        )
    return plain.type


def _fit_part(Z: Tensor, y: Tensor, num_classes: int, settings: LogisticSettings) -> ProbeFits:
    """Fit as many problems as the working set holds."""
    strengths = settings.strengths
    if len(strengths) > 1:
        is_chosen = have_every_fold(y, num_classes)
        C = Z.new_full((len(Z),), FIXED_STRENGTH)
    else:
        is_chosen = torch.zeros(len(y), dtype=torch.bool)
        C = Z.new_full((len(Z),), strengths[0])
    axes = PrincipalAxes.of(Z)
    start = None
    if is_chosen.all():
        start, index = _cross_validate(Z, axes, y, num_classes, settings)
        C = Z.new_tensor(strengths)[index]
    elif is_chosen.any():
        _, index = _cross_validate(
            Z[is_chosen], axes[is_chosen], y[is_chosen], num_classes, settings
        )
        C[is_chosen] = Z.new_tensor(strengths)[index]
    fits = fit_logistic(
        Z,
        y,
        C.unsqueeze(1),
        num_classes=num_classes,
        start=start,
        axes=axes,
        tolerance=settings.tolerance,
    )
    return ProbeFits(fits, C, is_chosen)


def _cross_validate(
    Z: Tensor, axes: PrincipalAxes, y: Tensor, num_classes: int, settings: LogisticSettings
) -> tuple[LogisticFits, Int[Tensor, " batch"]]:
    """Return fits to all rows at the best strength of each problem, and the index of the strength.

    If several strengths have the same accuracy, the likelihood decides.
    """
    fold = folds(y, num_classes)
    held_out = torch.stack([fold == k for k in range(FOLDS)], dim=1)
    # The last fit of each problem uses all rows.
    weights = torch.cat([~held_out, torch.ones_like(held_out[:, :1])], dim=1).to(Z.dtype)
    losses: list[Tensor] = []
    num_correct: list[Tensor] = []
    path: list[LogisticFits] = []
    fits = None
    for strength in settings.strengths:
        fits = fit_logistic(
            Z,
            y,
            Z.new_full((len(Z), FOLDS + 1), strength),
            num_classes=num_classes,
            weights=weights,
            start=fits,
            axes=axes,
            tolerance=FOLD_TOLERANCES[settings.criterion],
        )
        scores = fits.logits(Z)[:, :FOLDS]
        classes = y[:, None, :, None].expand(-1, FOLDS, -1, 1)
        true_scores = scores.gather(3, classes).squeeze(3)
        losses.append(((scores.logsumexp(3) - true_scores) * held_out).sum((1, 2)))
        num_correct.append(((scores.argmax(3) == y[:, None]) * held_out).sum((1, 2)))
        path.append(fits)
    loss = torch.stack(losses)
    if settings.criterion == "accuracy":
        correct = torch.stack(num_correct)
        loss = torch.where(correct == correct.amax(0), loss, torch.inf)
    index = loss.argmin(0)
    return _pick(path, index), index


def _pick(path: list[LogisticFits], index: Tensor) -> LogisticFits:
    """Return, for each problem, the fit to all rows at its index along the path of strengths."""
    problem = torch.arange(len(index))

    def picked(name: str) -> Tensor:
        return torch.stack([getattr(fits, name)[:, -1:] for fits in path])[index, problem]

    return LogisticFits(picked("coefficients"), picked("intercepts"), picked("gradient"))
