"""The mean of the row values of a split is the split's score, as scikit-learn computes it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score, roc_auc_score

from leadline.errors import InputError
from leadline.statistics import row_values
from leadline.statistics._row_values import Measure

SEEDS, SUBSETS, ROWS = 4, 3, 40


def study(seed: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return class indices, tested rows that contain every class, and random class indices."""
    draw = np.random.default_rng(seed)
    y = draw.permutation(np.arange(ROWS) % classes)
    tested = draw.random((SEEDS, ROWS)) < draw.uniform(0.3, 0.8)
    for rows in tested:
        rows[[int(np.flatnonzero(y == label)[0]) for label in range(classes)]] = True
    guesses = np.where(draw.random((2, SEEDS, SUBSETS, ROWS)) < 0.6, y, 0)
    return y, tested, guesses


def masked(values: np.ndarray, tested: np.ndarray) -> np.ndarray:
    return np.where(tested[:, None], values, np.nan)


def scores(score, y: np.ndarray, given: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Return the score of every split, one at a time."""
    return np.array(
        [
            [score(y[rows], one[rows]) for one in of_seed]
            for rows, of_seed in zip(tested, given, strict=True)
        ]
    )


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_accuracy_and_balanced_accuracy_equal_scikit_learn(seed, classes):
    y, tested, guesses = study(seed, classes)
    own, other = (masked(guess, tested) for guess in guesses)
    measures: dict[Measure, Callable[..., float]] = {
        "accuracy": accuracy_score,
        "balanced accuracy": balanced_accuracy_score,
    }
    for measure, score in measures.items():
        alone = row_values(y, own, measure=measure)
        gain = row_values(y, own, other, measure=measure)
        expected = [scores(score, y, guess, tested) for guess in guesses]
        assert np.isnan(gain).tolist() == np.isnan(own).tolist()
        assert np.nanmean(alone, axis=2) == pytest.approx(expected[0], abs=1e-12)
        assert np.nanmean(gain, axis=2) == pytest.approx(expected[0] - expected[1], abs=1e-12)


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from([1, 20]))
def test_auc_equals_scikit_learn_with_ties(seed, decimals):
    y, tested, _ = study(seed, 2)
    draw = np.random.default_rng(seed)
    given = (draw.standard_normal((2, SEEDS, SUBSETS, ROWS)) + y).round(decimals)
    own, other = (masked(score, tested) for score in given)
    expected = [scores(roc_auc_score, y, score, tested) for score in given]
    alone = row_values(y, own, measure="AUC")
    gain = row_values(y, own, other, measure="AUC")
    assert np.nanmean(alone, axis=2) == pytest.approx(expected[0], abs=1e-12)
    assert np.nanmean(gain, axis=2) == pytest.approx(expected[0] - expected[1], abs=1e-12)


@settings(max_examples=12)
@given(st.integers(0, 10**6))
def test_r2_equals_scikit_learn(seed):
    _, tested, _ = study(seed, 2)
    draw = np.random.default_rng(seed)
    y = draw.standard_normal(ROWS)
    given = draw.standard_normal((2, SEEDS, SUBSETS, ROWS)) + y
    own, other = (masked(score, tested) for score in given)
    expected = [scores(r2_score, y, score, tested) for score in given]
    alone = row_values(y, own, measure="R²")
    gain = row_values(y, own, other, measure="R²")
    assert np.nanmean(alone, axis=2) == pytest.approx(expected[0], abs=1e-10)
    assert np.nanmean(gain, axis=2) == pytest.approx(expected[0] - expected[1], abs=1e-10)


def test_auc_components_are_shares_of_correctly_ordered_pairs():
    y = np.array([0, 1, 0, 1, 1])
    scores = np.array([[[0.1, 0.4, 0.4, 0.9, 0.3]]])
    values = row_values(y, scores, measure="AUC")[0, 0]
    components = [1.0, 0.75, 0.5, 1.0, 0.5]
    auc = 4.5 / 6
    sizes = [2, 3, 2, 3, 3]
    expected = [auc + 5 / size * (v - auc) for size, v in zip(sizes, components, strict=True)]
    assert values == pytest.approx(expected)


ONES = np.ones((2, 1, 3))
UNKNOWN: Any = "F1"

BAD = [
    (lambda: row_values(np.arange(4), ONES), r"y of shape \(4,\) and predictions of shape"),
    (lambda: row_values(np.arange(3), ONES[0]), r"shape \(seeds, subsets, rows\)"),
    (lambda: row_values(np.arange(3), ONES, ONES[:1]), "baseline must have the shape"),
    (lambda: row_values(np.arange(3), ONES, measure=UNKNOWN), "measure must be"),
    (lambda: row_values(np.arange(3), ONES, measure="AUC"), "AUC needs the classes 0 and 1"),
    (lambda: row_values(np.ones(3), ONES, measure="R²"), "R² needs test rows whose y differs"),
    (
        lambda: row_values(
            np.array([0, 1, 1]), np.array([[[np.nan, 1, 1]]]), measure="balanced accuracy"
        ),
        "seed 0 tests no row of class 0",
    ),
    (
        lambda: row_values(np.arange(3), np.array([[[0, 1, np.nan], [0, 1, 2]]])),
        r"predictions\[0, 1\] has other NaN than predictions\[0, 0\]",
    ),
    (lambda: row_values(np.arange(3), np.array([[[0, np.nan, np.nan]]])), "at least 2 test rows"),
    (lambda: row_values(np.arange(3), np.array([[[0, np.inf, 1]]])), "predictions must be finite"),
]


@pytest.mark.parametrize(("make", "text"), BAD)
def test_invalid_predictions_raise_an_error(make, text, as_users_run):
    with pytest.raises(InputError, match=text):
        make()
