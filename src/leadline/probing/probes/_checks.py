"""Checks and texts that all probes share."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from leadline import checks
from leadline.checks import ShortRepr
from leadline.data import check_labels, exact_features
from leadline.errors import InputError
from leadline.sounding import Verdict, decimals


class FittedProbe(ShortRepr, ABC):
    """Base class of fitted probes, whose text is their verdict."""

    @property
    @abstractmethod
    def verdict(self) -> Verdict:
        """One sentence with the score on the test rows."""

    def __str__(self) -> str:
        return str(self.verdict)


def accuracy_verdict(subject: str, accuracy: float, majority: float) -> Verdict:
    """Return a verdict with an accuracy and the share of the largest class.

    Args:
        subject: the classifier, as the subject of the sentence.
        accuracy: share of test rows that are classified correctly, in [0, 1].
        majority: share of the most frequent class among the test rows, in [0, 1].

    >>> verdict = accuracy_verdict("the probe", 0.99, 0.5)
    >>> verdict.sentence.split("; ")[0]
    'the probe classifies 99.0 % of the test rows correctly'
    >>> verdict.sentence.split("; ")[1]
    'always predicting the largest class reaches 50.0 %'
    """
    return Verdict(
        f"{subject} classifies {decimals(100 * accuracy, '.1f')} % of the test rows correctly; "
        f"always predicting the largest class reaches {decimals(100 * majority, '.1f')} %"
    )


class ProbeData(NamedTuple):
    """Checked labelled features and test features."""

    Z_train: Float[np.ndarray, "n d"]
    y_train: Int[np.ndarray, " n"]
    """Indices into :attr:`classes`."""
    Z_test: Float[np.ndarray, "m d"]
    y_test: Int[np.ndarray, " m"]
    """Indices into :attr:`classes`."""
    classes: Int[np.ndarray, " classes"]
    """The labels of the classes, ascending."""

    @property
    def majority(self) -> float:
        """Share of the most frequent class among the test rows."""
        return majority_share(self.y_test)


def check_probe_data(Z_train: Any, y_train: Any, Z_test: Any, y_test: Any) -> ProbeData:
    """Check labelled features and test features of a classifier.

    Raises:
        InputError: the features are not finite or differ in width; the labels are not class
            indices, differ in number from the rows, or are all equal; or a test row has a class
            that no labelled row has.
    """
    rows, tests = check_probe_features(Z_train, Z_test)
    labels = check_labels(checks.array(y_train, "y_train"), len(rows), "y_train")
    truth = check_test_labels(y_test, len(tests), labels)
    classes, places = np.unique(labels, return_inverse=True)
    return ProbeData(rows, places, tests, np.searchsorted(classes, truth), classes)


def check_probe_features(Z_train: Any, Z_test: Any) -> tuple[np.ndarray, np.ndarray]:
    """Check features of labelled rows and of test rows, which must have the same width."""
    rows = exact_features(Z_train, "Z_train")
    tests = exact_features(Z_test, "Z_test")
    if rows.shape[1] != tests.shape[1]:
        raise InputError(
            "Z_train and Z_test must have the same number of features",
            got=f"Z_train has {rows.shape[1]} features, Z_test has {tests.shape[1]}",
            cure="encode both with the same encoder",
        )
    return rows, tests


def check_test_labels(y_test: Any, n: int, y_train: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Check labels of test rows; unlike the labelled rows, they may all have the same class.

    Raises:
        InputError: the number of labels differs from ``n``, the labels are not class indices, or a
            label occurs in no labelled row.
    """
    array = checks.array(y_test, "y_test")
    is_list_of_numbers = array.shape == (n,) and array.dtype.kind in "biuf" and n > 0
    is_one_class = is_list_of_numbers and bool((array == array[0]).all())
    if is_one_class and 0 <= array[0] < 2**63 and array[0] == np.floor(array[0]):
        labels = array.astype(np.int64)
    else:
        labels = check_labels(array, n, "y_test")
    is_unknown = ~np.isin(labels, y_train)
    if is_unknown.any():
        row = int(np.argmax(is_unknown))
        raise InputError(
            "y_test may only contain classes of y_train: a probe never predicts other classes",
            got=f"y_test[{row}] = {labels[row]}; {int(is_unknown.sum())} of {n} rows",
            cause="another numbering of the classes, or a class without a labelled row",
            cure="label a row of each class, or leave these rows out of the test",
        )
    return labels


def check_strengths(strengths: Any) -> tuple[float, ...]:
    """Return the distinct strengths of regularisation C in ascending order, each above 0."""
    cure = "strengths of regularisation C are positive; small means strongly regularised; try 0.1"
    if is_single_number(strengths):
        values = (strengths,)
    else:
        values = checks.items(strengths, "strengths", least=1, of="numbers")
    numbers = {
        checks.number(value, f"strengths[{i}]", above=0, cure=cure)
        for i, value in enumerate(values)
    }
    return tuple(sorted(numbers))


def check_counts(counts: Any, name: str, *, least: int, most: int | None = None) -> tuple[int, ...]:
    """Return the distinct whole numbers in ascending order; a single number counts as a list."""
    values: Iterable[Any] = (counts,) if is_single_number(counts) else counts
    return tuple(sorted(set(checks.whole_numbers(values, name, least=least, most=most))))


def is_single_number(value: Any) -> bool:
    """True if a value is one number, not a list of numbers."""
    return isinstance(value, (int, float, np.number)) or getattr(value, "shape", None) == ()


def majority_share(y: Int[np.ndarray, " n"]) -> float:
    """Return the share of the most frequent class, the accuracy of always predicting it.

    >>> majority_share(np.array([0, 1, 1, 1]))
    0.75
    """
    return float(np.unique(y, return_counts=True)[1].max() / len(y))
