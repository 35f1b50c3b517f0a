"""The nearest-neighbour probe: what a representation knows by distance alone, with nothing to fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from leadline import checks
from leadline.checks import ShortRepr
from leadline.probing.probes._linear import accuracy_verdict, check_scaling
from leadline.probing.probes._representation import check_probe_data
from leadline.probing.probes._scaling import Scaling
from leadline.sounding import Verdict

Metric = Literal["cosine", "euclidean"]
"""Whether the angle between centred features counts, or their distance."""

ROWS_AT_ONCE = 512
"""Rows that are compared with all labelled rows at once."""


@dataclass(frozen=True, eq=False)
class KNNProbe(ShortRepr):
    """Predictions by every number of neighbours at every label count, from one order of the labelled rows."""

    neighbours: tuple[int, ...]
    """Numbers of neighbours k, ascending."""
    budgets: tuple[int, ...]
    """Label counts, ascending."""
    predictions: Int[np.ndarray, "budgets neighbours m"]
    """Predicted class of each test row."""
    accuracies: Float[np.ndarray, "budgets neighbours"]
    """Share of test rows that are classified correctly, in [0, 1]. To report one of them, see :attr:`accuracy`."""
    own_accuracies: Float[np.ndarray, "budgets neighbours"]
    """Share of labelled rows that the other labelled rows classify correctly: what k is chosen by."""
    majority: float
    """Share of the most frequent class among the test rows: the accuracy of always predicting it."""

    @property
    def verdict(self) -> Verdict:
        """The accuracy at the most labels, at the chosen k, and the share of the largest class."""
        who = f"the {self.chosen[-1]}-nearest-neighbour probe with {self.budgets[-1]} labels"
        return accuracy_verdict(who, float(self.accuracy[-1]), self.majority)

    def __str__(self) -> str:
        return str(self.verdict)

    @property
    def chosen(self) -> tuple[int, ...]:
        """For each label count the k that does best on the labelled rows, the smallest of equals."""
        return tuple(self.neighbours[i] for i in self.own_accuracies.argmax(axis=1))

    @property
    def accuracy(self) -> Float[np.ndarray, " budgets"]:
        """Test accuracy at the chosen k, by label count: no test row had a say in the choice."""
        return np.take_along_axis(
            self.accuracies, self.own_accuracies.argmax(axis=1)[:, None], axis=1
        )[:, 0]


def knn_probe(
    Z_train: Any,
    y_train: Any,
    Z_test: Any,
    y_test: Any,
    *,
    neighbours: int | Sequence[int] = (1, 3, 5, 10, 20),
    budgets: Sequence[int] | None = None,
    metric: Metric = "cosine",
    scaling: Scaling | None = None,
) -> KNNProbe:
    """Classify each test row by a vote of its nearest labelled rows.

    One matrix of similarities is sorted once; every label count and every k reads its answer from that order. Rows
    that are equally near (to the precision of float32) come in the order of ``Z_train``. Of classes with equally many
    votes the one with the nearest row wins. Where k exceeds the labels, all of them vote.

    Args:
        Z_train: features of shape (n, d), in the order in which rows are labelled.
        y_train: class indices of shape (n,).
        Z_test: features of shape (m, d).
        y_test: class indices of shape (m,), of classes that ``y_train`` holds.
        neighbours: numbers of neighbours to try, at least 1. Which is best is told by the labelled rows, each
            classified by the others.
        budgets: label counts from 2 to n: the first b rows of ``Z_train`` are the subset of b; by default n alone.
        metric: ``"cosine"`` of centred features, or ``"euclidean"`` distance.
        scaling: applied to all features; by default that of the training rows. A study passes the scaling of the
            unlabelled rows, equal for all label counts.

    Raises:
        InputError: features that are not finite or of unequal width, labels of one class, test labels of a class
            without a labelled row, a k below 1.

    >>> Z = np.array([[0.0], [1.0], [5.0], [6.0]])
    >>> probe = knn_probe(Z, [0, 0, 1, 1], [[2.0], [5.5]], [0, 1], neighbours=[1, 9], metric="euclidean")
    >>> probe.predictions.tolist(), probe.chosen
    ([[[0, 1], [0, 1]]], (1,))

    Reference: Cover & Hart, *Nearest neighbor pattern classification*, 1967.
    """
    given = check_probe_data(Z_train, y_train, Z_test, y_test)
    n = len(given.y_train)
    metric = (
        "cosine" if checks.choice(metric, "metric", get_args(Metric)) == "cosine" else "euclidean"
    )
    is_single = (
        isinstance(neighbours, (int, np.integer)) or getattr(neighbours, "shape", None) == ()
    )
    numbers = (neighbours,) if is_single else neighbours
    ks = tuple(sorted(set(checks.whole_numbers(numbers, "neighbours", least=1))))
    sizes = (
        (n,)
        if budgets is None
        else tuple(sorted(set(checks.whole_numbers(budgets, "budgets", least=2, most=n))))
    )
    scaling = check_scaling(scaling, given.Z_train)
    rows = scaling(given.Z_train).astype(np.float64)
    tests = scaling(given.Z_test).astype(np.float64)
    predictions = _predict(tests, rows, given.y_train, ks, sizes, metric)
    own = _predict(rows, rows, given.y_train, ks, sizes, metric, leave_one_out=True)
    right = [
        [np.mean(row[:size] == given.y_train[:size]) for row in by_k]
        for by_k, size in zip(own, sizes, strict=True)
    ]
    accuracies = (predictions == given.y_test).mean(axis=2)
    return KNNProbe(
        ks, sizes, given.classes[predictions], accuracies, np.array(right), given.majority
    )


def _predict(
    rows: Float[np.ndarray, "m d"],
    labelled: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    ks: tuple[int, ...],
    sizes: tuple[int, ...],
    metric: Metric,
    leave_one_out: bool = False,
) -> Int[np.ndarray, "budgets neighbours m"]:
    """Predicted classes of ``rows``; with ``leave_one_out`` they are the labelled rows, and none votes on itself."""
    parts = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        distances = _distances(rows[start : start + ROWS_AT_ONCE], labelled, metric)
        itself = np.arange(start, start + len(distances))
        if leave_one_out:
            distances[np.arange(len(distances)), itself] = (
                np.inf
            )  # last, and then left out of the vote
        order = distances.argsort(axis=1, kind="stable")
        parts.append([])
        for size in sizes:
            nearest = order[order < size].reshape(len(order), size)
            voters = size - (leave_one_out & (itself < size)).astype(int)
            parts[-1].append(
                _vote(
                    y[nearest[:, : ks[-1]]],
                    [np.minimum(min(k, size), voters) for k in ks],
                    int(y.max()) + 1,
                )
            )
    return np.concatenate([np.array(part) for part in parts], axis=2)


def _distances(
    a: Float[np.ndarray, "m d"], b: Float[np.ndarray, "n d"], metric: Metric
) -> np.ndarray:
    """Distances up to what does not change their order, shape (m, n); in float32, so that equals are equal."""
    if metric == "cosine":
        a, b = (Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-300) for Z in (a, b))
        return (-(a @ b.T)).astype(np.float32)
    squares = (a**2).sum(axis=1)[:, None] - 2 * (a @ b.T) + (b**2).sum(axis=1)
    return np.maximum(squares, 0).astype(np.float32)


def _vote(y: Int[np.ndarray, "m k"], ks: list[np.ndarray], classes: int) -> Int[np.ndarray, "ks m"]:
    """The class with most votes among each row's first k neighbours; of equals, the one that votes first."""
    member = y[:, :, None] == np.arange(classes)
    votes = member.cumsum(axis=1)
    first = np.where(member.any(axis=1), member.argmax(axis=1), y.shape[1])
    row = np.arange(len(y))
    score = votes * (y.shape[1] + 1) - first[:, None]
    return np.stack([score[row, np.minimum(k, y.shape[1]) - 1].argmax(axis=1) for k in ks])
