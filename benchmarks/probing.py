"""Benchmark of many logistic fits on the digits, solved together, against scikit-learn.

scikit-learn fits them one by one. Both minimise the same objective on the same scaled rows to the
same tolerance, scikit-learn's default for the largest entry of the gradient. The time includes
fitting and predicting the test rows.
"""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.pairs import Row, paired, row
from leadline import data
from leadline.probing import Scaling, fit_logistic

LABELS = (10, 20, 50, 100, 150, 200, 300)
SUBSETS = 10
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
TOLERANCE = 1e-4


def measure(rounds: int = 3) -> list[Row]:
    """Measure the ratio of times, and the difference of the mean test accuracies."""
    digits = data.digits()
    roles = data.split_roles(digits.labels, seed=0)
    X = Scaling.fit(digits.X[roles.pretrain_train])(digits.X).astype(np.float32)
    order = data.label_subsets(digits.labels, roles.probe_pool, LABELS, num=SUBSETS, seed=0).order
    test = (X[roles.test], digits.labels[roles.test])

    def ours() -> float:
        right = [_together(X, digits.labels, order[:, :labels], *test) for labels in LABELS]
        return float(np.mean(right))

    def theirs() -> float:
        right = [
            _one_by_one(X, digits.labels, rows[:labels], *test)
            for labels in LABELS
            for rows in order
        ]
        return float(np.mean(right))

    mine, peer = paired(ours, theirs, rounds=rounds)
    points = 100 * abs(ours() - theirs())
    fits = len(LABELS) * SUBSETS * len(STRENGTHS)
    return [
        row(f"{fits} logistic fits: faster than scikit-learn", mine, peer, 8, peer_over_ours=True),
        {
            "work": f"{fits} logistic fits: difference of mean test accuracy",
            "measured": f"{points:.3f} points",
            "bar": "at most 0.5 points",
            "met": points <= 0.5,
        },
    ]


def _together(
    X: np.ndarray, y: np.ndarray, rows: np.ndarray, X_test: np.ndarray, y_test: np.ndarray
) -> np.ndarray:
    """Return the accuracies by subset and strength, shape (subsets, strengths)."""
    strengths = torch.tensor(STRENGTHS).expand(len(rows), -1)
    Z, labels = torch.from_numpy(X[rows]), torch.from_numpy(y[rows])
    fits = fit_logistic(Z, labels, strengths, num_classes=10, tolerance=TOLERANCE)
    scores = fits.logits(torch.from_numpy(X_test).expand(len(rows), -1, -1))
    return (scores.argmax(3).numpy() == y_test).mean(2)


def _one_by_one(
    X: np.ndarray, y: np.ndarray, rows: np.ndarray, X_test: np.ndarray, y_test: np.ndarray
) -> list[float]:
    return [
        float(
            (
                LogisticRegression(C=C, tol=TOLERANCE, max_iter=1000)
                .fit(X[rows], y[rows])
                .predict(X_test)
                == y_test
            ).mean()
        )
        for C in STRENGTHS
    ]
