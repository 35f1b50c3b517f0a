"""The rule that chooses a kind, and the rows that it uses."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from leadline import data
from leadline.data import split_roles
from leadline.representation._choice import DRAWS, HELD_OUT, choose, held_out_accuracy

DIGITS = data.digits()


class Codes:
    """A representation that is given by a function."""

    def __init__(self, encode):
        self.encode = encode


def test_within_one_standard_error_the_preferred_kind_is_chosen():
    noise = np.array([0.03, -0.03, 0.01, -0.01] * 5)
    error = noise.std(ddof=1) * (1 / 20 + HELD_OUT / (1 - HELD_OUT)) ** 0.5
    kinds = ("vanilla", "denoising", "masked")
    for gap, expected in ((0.9 * error, "denoising"), (1.1 * error, "vanilla")):
        accuracy = np.stack([0.9 + noise, np.full(20, 0.9 - gap), np.full(20, 0.5)])
        assert choose(kinds, accuracy) == expected
        assert choose(kinds[::-1], accuracy[::-1]) == expected
    assert choose(("vanilla", "masked"), np.full((2, 20), 0.9)) == "masked"


def test_test_rows_do_not_influence_the_choice():
    X, y = DIGITS.X[:200].copy(), DIGITS.labels[:200].copy()
    roles = [split_roles(y, seed=seed, fractions=(0, 0, 0.6, 0.15, 0.25)) for seed in range(2)]
    encoders = {"vanilla": [Codes(lambda X: X)] * 2, "masked": [Codes(lambda X: X[:, :8])] * 2}
    strengths = np.full((2, 2), 0.1)
    clean = held_out_accuracy(encoders, X, y, DIGITS.X[500:600], roles, strengths)
    assert clean.shape == (2, 2, DRAWS)
    assert (clean[0] > clean[1]).all()
    oracle = cross_val_score(LogisticRegression(C=0.1), X / X.std(axis=0).mean(), y, cv=4).mean()
    assert clean[0].mean() == pytest.approx(oracle, abs=0.05)
    shared = np.intersect1d(roles[0].test, roles[1].test)
    assert len(shared)
    X[shared] = 1e3
    y[shared] = 0
    poisoned = held_out_accuracy(encoders, X, y, DIGITS.X[500:600], roles, strengths)
    np.testing.assert_array_equal(poisoned, clean)
