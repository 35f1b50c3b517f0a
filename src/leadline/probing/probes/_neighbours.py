"""The nearest-neighbour probe, which classifies by distance alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from leadline import checks
from leadline.errors import InputError
from leadline.probing.encoding._scaling import Scaling, check_scaling
from leadline.probing.probes._checks import (
    FittedProbe,
    accuracy_verdict,
    check_counts,
    check_probe_data,
)
from leadline.sounding import Verdict

Metric = Literal["cosine", "euclidean"]
"""Measure of distance: the angle between centred features, or their Euclidean distance."""

NEIGHBOURS = (1, 3, 5, 10, 20)
"""Numbers of neighbours that are tried by default, up to the number of labelled rows."""

ROWS_AT_ONCE = 512
"""Number of rows whose distances to all labelled rows are held in memory together."""


@dataclass(frozen=True, eq=False)
class KNNProbe(FittedProbe):
    """Predictions for each number of neighbours and each label count."""

    neighbours: tuple[int, ...]
    """Numbers of neighbours k, ascending."""
    labels: tuple[int, ...]
    """Label counts, ascending."""
    predictions: Int[np.ndarray, "labels neighbours m"]
    """Predicted class of each test row."""
    accuracies: Float[np.ndarray, "labels neighbours"]
    """Share of test rows that are classified correctly, in [0, 1]. Report :attr:`accuracy`, which
    does not choose k on the test rows."""
    own_accuracies: Float[np.ndarray, "labels neighbours"]
    """Share of labelled rows that the other labelled rows classify correctly; it chooses k."""
    majority: float
    """Share of the most frequent test class, the accuracy of always predicting it."""

    @property
    def verdict(self) -> Verdict:
        """The accuracy with the most labels, and the share of the largest class."""
        subject = f"the {self.chosen[-1]}-nearest-neighbour probe with {self.labels[-1]} labels"
        return accuracy_verdict(subject, float(self.accuracy[-1]), self.majority)

    @property
    def chosen(self) -> tuple[int, ...]:
        """The best k on the labelled rows for each label count; the smallest of equals."""
        return tuple(self.neighbours[i] for i in self.own_accuracies.argmax(axis=1))

    @property
    def accuracy(self) -> Float[np.ndarray, " labels"]:
        """Test accuracy of the chosen k for each label count. No test row influences the choice."""
        index = self.own_accuracies.argmax(axis=1)[:, None]
        return np.take_along_axis(self.accuracies, index, axis=1)[:, 0]


def knn_probe(
    Z_train: Any,
    y_train: Any,
    Z_test: Any,
    y_test: Any,
    *,
    neighbours: int | Sequence[int] | None = None,
    labels: Sequence[int] | None = None,
    metric: Metric = "cosine",
    scaling: Scaling | None = None,
) -> KNNProbe:
    """Classify each test row by a vote of its nearest labelled rows.

    One matrix of similarities is sorted once, and serves every label count and every k. Rows at
    equal distance (to the precision of float32) keep the order of ``Z_train``. If several classes
    have the same number of votes, the class with the nearest row wins. If k exceeds a label count,
    all rows of this count vote.

    Args:
        Z_train: features of shape (n, d), in the order in which rows are labelled.
        y_train: class indices of shape (n,).
        Z_test: features of shape (m, d).
        y_test: class indices of shape (m,), all of which occur in ``y_train``.
        neighbours: numbers of neighbours to try, from 1 to n; by default 1, 3, 5, 10 and 20, as far
            as there are n rows. The labelled rows, each classified by the others, choose the best.
        labels: label counts from 2 to n; a count b uses the first b rows of ``Z_train``. By default
            n only.
        metric: ``"cosine"`` of centred features, or ``"euclidean"`` distance.
        scaling: scaling of all features; by default that of the training rows. A study passes the
            scaling of the unlabelled rows, which is the same for all label counts.

    Returns:
        Predictions and accuracies for each label count and each k.

    Raises:
        InputError: the features are not finite or differ in width; the labels are all equal; a test
            row has a class without a labelled row; or a setting is out of range.

    >>> Z = np.array([[0.0], [1.0], [5.0], [6.0]])
    >>> tests = [[2.0], [5.5]]
    >>> probe = knn_probe(Z, [0, 0, 1, 1], tests, [0, 1], neighbours=[1, 4], metric="euclidean")
    >>> probe.predictions.tolist(), probe.chosen
    ([[[0, 1], [0, 1]]], (1,))

    Reference: Cover & Hart, *Nearest neighbor pattern classification*, 1967.
    """
    checked = check_probe_data(Z_train, y_train, Z_test, y_test)
    n = len(checked.y_train)
    checks.choice(metric, "metric", get_args(Metric))
    ks = _check_neighbours(neighbours, n)
    counts = (n,)
    if labels is not None:
        counts = tuple(sorted(set(checks.whole_numbers(labels, "labels", least=2, most=n))))
    scaling = check_scaling(scaling, checked.Z_train)
    rows = scaling(checked.Z_train).astype(np.float64)
    tests = scaling(checked.Z_test).astype(np.float64)
    predictions = _predict(tests, rows, checked.y_train, ks, counts, metric)
    left_out = _predict(rows, rows, checked.y_train, ks, counts, metric, leave_one_out=True)
    own_accuracies = [
        [np.mean(row[:count] == checked.y_train[:count]) for row in by_k]
        for by_k, count in zip(left_out, counts, strict=True)
    ]
    return KNNProbe(
        neighbours=ks,
        labels=counts,
        predictions=checked.classes[predictions],
        accuracies=(predictions == checked.y_test).mean(axis=2),
        own_accuracies=np.array(own_accuracies),
        majority=checked.majority,
    )


def _check_neighbours(neighbours: Any, n: int) -> tuple[int, ...]:
    """Return numbers of neighbours in ascending order, each at most the number of labelled rows."""
    if neighbours is None:
        return tuple(k for k in NEIGHBOURS if k <= n)
    ks = check_counts(neighbours, "neighbours", least=1)
    if ks[-1] > n:
        raise InputError(
            "neighbours must be at most the number of labelled rows",
            got=f"neighbours = {checks.shown(neighbours)} for {n} rows in Z_train",
            cure=f"use {n} or fewer, or leave neighbours out",
        )
    return ks


def _predict(
    rows: Float[np.ndarray, "m d"],
    labelled: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    ks: tuple[int, ...],
    counts: tuple[int, ...],
    metric: Metric,
    leave_one_out: bool = False,
) -> Int[np.ndarray, "labels neighbours m"]:
    """Return the predicted class indices of ``rows`` for each label count and each k.

    With ``leave_one_out``, ``rows`` are the labelled rows, and no row votes on itself.
    """
    num_classes = int(y.max()) + 1
    parts = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        distances = _distances(rows[start : start + ROWS_AT_ONCE], labelled, metric)
        own_index = np.arange(start, start + len(distances))
        if leave_one_out:
            # A row sorts last among its own neighbours, and the smaller number of voters below
            # excludes it.
            distances[np.arange(len(distances)), own_index] = np.inf
        order = distances.argsort(axis=1, kind="stable")
        votes = []
        for count in counts:
            nearest = order[order < count].reshape(len(order), count)
            num_voters = count - (leave_one_out & (own_index < count)).astype(int)
            voting_ks = [np.minimum(min(k, count), num_voters) for k in ks]
            votes.append(_vote(y[nearest[:, : ks[-1]]], voting_ks, num_classes))
        parts.append(np.array(votes))
    return np.concatenate(parts, axis=2)


def _distances(
    a: Float[np.ndarray, "m d"], b: Float[np.ndarray, "n d"], metric: Metric
) -> Float[np.ndarray, "m n"]:
    """Return numbers with the order of the distances, rounded to float32 so that ties are equal."""
    if metric == "cosine":
        a = a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-300)
        b = b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-300)
        return (-(a @ b.T)).astype(np.float32)
    squares = (a**2).sum(axis=1)[:, None] - 2 * (a @ b.T) + (b**2).sum(axis=1)
    return np.maximum(squares, 0).astype(np.float32)


def _vote(
    y: Int[np.ndarray, "m k"], ks: list[np.ndarray], num_classes: int
) -> Int[np.ndarray, "ks m"]:
    """Return the class with most votes among each row's first k neighbours.

    If several classes have the same number of votes, the class of the nearest neighbour wins.
    """
    member = y[:, :, None] == np.arange(num_classes)
    votes = member.cumsum(axis=1)
    first = np.where(member.any(axis=1), member.argmax(axis=1), y.shape[1])
    row = np.arange(len(y))
    score = votes * (y.shape[1] + 1) - first[:, None]
    return np.stack([score[row, np.minimum(k, y.shape[1]) - 1].argmax(axis=1) for k in ks])
