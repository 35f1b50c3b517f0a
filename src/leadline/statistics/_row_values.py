"""Row values: numbers, one for each test row, whose mean over a split is the split's score."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Num
from scipy.stats import rankdata

from leadline import checks
from leadline.errors import InputError
from leadline.statistics._checks import finite_numbers

Measure = Literal["accuracy", "balanced accuracy", "AUC", "R²"]
"""Score of a model on test rows."""

Cells = Float[np.ndarray, "seeds subsets rows"]
Splits = Bool[np.ndarray, "seeds rows"]

LARGEST = 1e60
"""Largest value whose fourth power, which variances of variances contain, is finite."""


def row_values(
    y: Num[np.ndarray, " rows"],
    predictions: Num[np.ndarray, "seeds subsets rows"],
    baseline: Num[np.ndarray, "seeds subsets rows"] | None = None,
    *,
    measure: Measure = "accuracy",
) -> Float[np.ndarray, "seeds subsets rows"]:
    """Return a value for each test row, whose mean over a split is exactly the split's score.

    The score is that of ``predictions``, or its gain over ``baseline``. Pass the values to
    :func:`crossed_interval`. With s the score of a split, n its test rows, n_c those of class c,
    and K the number of classes, the value of row i is:

    - accuracy: 1 if the prediction is correct, otherwise 0;
    - balanced accuracy: ``b + n / (K n_c) (correct_i - b_c)``, with the accuracy b_c of each class
      over all seeds, and their mean b;
    - AUC: ``s + n / n_c (v_i - s)``, where v_i is the share of rows of the other class that row i
      is ordered correctly with, and ties count half (DeLong's components);
    - R²: ``s + (t_i - e_i - s t_i) / mean(t)``, with squared errors e and squared distances t from
      the mean of the test rows.

    Args:
        y: class indices or quantities, shape (rows,). AUC needs the classes 0 and 1.
        predictions: class indices, scores of class 1 (AUC) or quantities (R²), shape
            (seeds, subsets, rows), with NaN in rows that are not test rows of the seed.
        baseline: predictions of another model for the same test rows; it is subtracted.
        measure: ``"accuracy"``, ``"balanced accuracy"``, ``"AUC"`` or ``"R²"``.

    Returns:
        Values of the shape of ``predictions``, NaN off the test rows.

    Raises:
        InputError: the shapes do not match, the subsets of a seed have different test rows, or a
            test split lacks a class or has a constant y.

    >>> y = np.array([0, 0, 1, 1])
    >>> predictions = np.array([[[0, 1, 1, np.nan]]])
    >>> row_values(y, predictions)
    array([[[ 1.,  0.,  1., nan]]])
    >>> row_values(y, predictions, measure="balanced accuracy").round(2)
    array([[[1.12, 0.38, 0.75,  nan]]])

    References: DeLong, DeLong & Clarke-Pearson, *Comparing the areas under two or more correlated
    receiver operating characteristic curves*, 1988.
    """
    checks.choice(measure, "measure", tuple(_VALUES))
    truth = finite_numbers(y, "y")
    given = cells_of(predictions, "predictions")
    tested = tested_rows(given, "predictions")
    if truth.shape != given.shape[2:]:
        raise InputError(
            "row_values() needs y with one entry for each row of the predictions",
            got=f"y of shape {truth.shape} and predictions of shape {given.shape}",
        )
    _refuse_few_classes(truth, tested, measure)
    others = None
    if baseline is not None:
        others = cells_of(baseline, "baseline")
        is_same = others.shape == given.shape and bool(
            (tested_rows(others, "baseline") == tested).all()
        )
        if not is_same:
            raise InputError(
                "baseline must have the shape and the test rows of the predictions",
                got=f"baseline of shape {others.shape} and predictions of shape {given.shape}",
                cause="the two models were tested on different splits",
            )
    values = _VALUES[measure](truth, given, others, tested)
    return np.where(tested[:, None], values, np.nan)


def cells_of(values: Any, name: str) -> Cells:
    """Return an array of shape (seeds, subsets, rows) as float64; NaN marks other rows."""
    array = checks.array(values, name)
    if array.dtype.kind not in "biuf" or array.ndim != 3 or 0 in array.shape:
        raise InputError(
            f"{name} must be numbers of shape (seeds, subsets, rows)",
            got=f"{name} of shape {array.shape}, dtype {array.dtype}",
            cure="rows that are not tested are NaN; one label subset still needs its axis",
        )
    return array.astype(np.float64, copy=False)


def tested_rows(values: Cells, name: str) -> Splits:
    """Return the mask of each seed's test rows; refuse subsets that differ in their test rows."""
    is_known = ~np.isnan(values)
    tested = is_known[:, 0]
    differs = (is_known != tested[:, None]).any(axis=2)
    if differs.any():
        seed, subset = (int(i) for i in np.argwhere(differs)[0])
        raise InputError(
            "all label subsets of a seed must be tested on the same rows",
            got=f"{name}[{seed}, {subset}] has other NaN than {name}[{seed}, 0]",
            cause="a run diverged or was not measured",
        )
    counts = np.count_nonzero(tested, axis=1)
    if counts.min() < 2:
        seed = int(counts.argmin())
        raise InputError(
            "every seed needs at least 2 test rows",
            got=f"{name}[{seed}] has {counts[seed]} that are not NaN",
        )
    largest = max(float(np.nanmax(values)), -float(np.nanmin(values)))
    if largest > LARGEST:
        raise InputError(
            f"{name} must be finite, or NaN in rows that are not tested",
            got=f"values up to {largest:g} in {name}",
            cause="a run diverged",
        )
    return tested


def _accuracy(y: np.ndarray, given: Cells, others: Cells | None, tested: Splits) -> Cells:
    """Return 1 for correct predictions and 0 for others, minus those of the baseline."""
    correct = (given == y).astype(np.float64)
    if others is None:
        return correct
    return correct - (others == y)


def _balanced_accuracy(y: np.ndarray, given: Cells, others: Cells | None, tested: Splits) -> Cells:
    """Return the values of balanced accuracy."""
    correct = _accuracy(y, given, others, tested)
    classes, index = np.unique(y, return_inverse=True)
    num_rows = tested.sum(axis=1)
    of_class = tested[:, None] & (index == np.arange(len(classes))[:, None])
    sums = np.einsum("sun,scn->suc", correct, of_class.astype(np.float64))
    num_of_class = of_class.sum(axis=2)
    means = (sums / num_of_class[:, None]).mean(axis=(0, 1))
    weights = num_rows[:, None] / (len(classes) * num_of_class)
    return means.mean() + weights[:, None, index] * (correct - means[index])


def _auc(y: np.ndarray, given: Cells, others: Cells | None, tested: Splits) -> Cells:
    """Return the values of the area under the ROC curve."""
    values = np.full(given.shape, np.nan)
    for seed, rows in enumerate(tested):
        is_positive = y[rows] == 1
        components = _components(given[seed][:, rows], is_positive)
        if others is not None:
            components = components - _components(others[seed][:, rows], is_positive)
        scores = components[:, is_positive].mean(axis=1, keepdims=True)
        num_positive = is_positive.sum()
        num_same = np.where(is_positive, num_positive, len(is_positive) - num_positive)
        values[seed][:, rows] = scores + len(is_positive) / num_same * (components - scores)
    return values


def _components(scores: np.ndarray, is_positive: np.ndarray) -> np.ndarray:
    """Return the share of rows of the other class that each row is ordered correctly with."""
    ranks = rankdata(scores, axis=1)
    num_positive = is_positive.sum()
    num_negative = len(is_positive) - num_positive
    components = np.empty(scores.shape)
    negatives_below = ranks[:, is_positive] - rankdata(scores[:, is_positive], axis=1)
    components[:, is_positive] = negatives_below / num_negative
    positives_below = ranks[:, ~is_positive] - rankdata(scores[:, ~is_positive], axis=1)
    components[:, ~is_positive] = 1 - positives_below / num_positive
    return components


def _r2(y: np.ndarray, given: Cells, others: Cells | None, tested: Splits) -> Cells:
    """Return the values of the share of the variance that is explained."""
    num_rows = tested.sum(axis=1, keepdims=True)
    means = np.where(tested, y, 0).sum(axis=1, keepdims=True) / num_rows
    distances = np.where(tested, (y - means) ** 2, 0.0)[:, None]
    spread = distances.sum(axis=2, keepdims=True) / num_rows[:, None]
    before = distances if others is None else (y - others) ** 2
    gains = np.where(tested[:, None], before - (y - given) ** 2, 0.0)
    scores = gains.sum(axis=2, keepdims=True) / num_rows[:, None] / spread
    return scores + (gains - scores * distances) / spread


_VALUES: dict[Measure, Callable[[np.ndarray, Cells, Cells | None, Splits], Cells]] = {
    "accuracy": _accuracy,
    "balanced accuracy": _balanced_accuracy,
    "AUC": _auc,
    "R²": _r2,
}
"""The function that computes the values of each measure."""


def _refuse_few_classes(y: np.ndarray, tested: Splits, measure: Measure) -> None:
    """Refuse splits on which the measure is not defined."""
    if measure == "R²":
        is_constant = [bool(np.ptp(y[rows]) == 0) for rows in tested]
        if any(is_constant):
            raise InputError(
                "R² needs test rows whose y differs",
                got=f"seed {is_constant.index(True)} has test rows of one value",
            )
        return
    if measure == "accuracy":
        return
    classes = np.unique(y)
    if measure == "AUC" and classes.tolist() != [0, 1]:
        raise InputError(
            "AUC needs the classes 0 and 1",
            got=f"{len(classes)} values in y, from {classes[0]:g} to {classes[-1]:g}",
            cure='use measure="balanced accuracy" for several classes',
        )
    for label in classes:
        counts = (tested & (y == label)).sum(axis=1)
        if counts.min() == 0:
            raise InputError(
                f"{measure} needs test rows of every class in every split",
                got=f"seed {int(counts.argmin())} tests no row of class {label:g}",
                cure="use stratified splits, as data.split_roles() does",
            )
