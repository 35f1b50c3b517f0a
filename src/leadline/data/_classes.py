"""Checks of labels, conversion of labels to class indices, and missing labels."""

from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from leadline import checks
from leadline.errors import InputError

MOST_CLASSES = 2**20
"""Upper limit of class indices, because arrays have one entry for each possible index."""


def check_labels(y: Any, n: int, name: str = "y") -> Int64[np.ndarray, " n"]:
    """Check class indices and return them as an int64 array.

    Args:
        y: array-like of shape (n,): whole numbers, 0 or larger, of at least two classes.
        n: number of rows of the features.
        name: name of the array, for messages.

    Raises:
        InputError: the labels have another length, are not whole numbers, are negative, or belong
            to a single class.

    >>> check_labels([0, 1, 1.0], 3)
    array([0, 1, 1])
    >>> check_labels([7, 7, 7], 3)
    Traceback (most recent call last):
    leadline.errors.InputError: y must hold labels of at least two classes
      got:   all 3 labels in y are 7
      cause: a part of rows that are sorted by class, or the wrong column
      cure:  shuffle the rows first, or pass no labels
    """
    name = checks.text(name, "name")
    n = checks.whole_number(n, "n", least=0)
    array = one_per_row(checks.array(y, name, wanted="a list of class indices"), n, name)
    if array.dtype == object and all(
        isinstance(label, (bool, int, float, np.number)) for label in array
    ):
        array = np.array(
            [label if abs(label) < 2**63 else np.inf for label in array], dtype=np.float64
        )
    if array.dtype.kind not in "biuf":
        strange = [
            i
            for i, label in enumerate(array)
            if not isinstance(label, (bool, int, float, np.number))
        ]
        raise InputError(
            "labels are class indices: whole numbers from 0",
            got=f"{name} of dtype {array.dtype}"
            + (f", {name}[{strange[0]}] = {checks.shown(array[strange[0]])}" if strange else ""),
            cause="class names, or missing labels",
            cure="y, class_names = leadline.data.class_indices(labels)",
        )
    array = array.astype(np.int64) if array.dtype.kind == "b" else array
    wrong = (array < 0) | (array >= MOST_CLASSES)
    if array.dtype.kind == "f":
        wrong |= ~np.isfinite(array) | (array != np.floor(array))
    if np.any(wrong):
        row = int(np.argmax(wrong))
        is_large = bool(array[row] >= MOST_CLASSES)
        raise InputError(
            f"{name} must hold class indices: whole numbers from 0 to {MOST_CLASSES - 1}"
            if is_large
            else f"{name} must hold class indices: whole numbers from 0",
            got=f"{name}[{row}] = {array[row]}; {int(np.sum(wrong))} of {len(array)} rows",
            cause="identifiers, dates or amounts instead of classes"
            if is_large
            else "a missing label, a quantity to regress on, or classes named -1 and 1",
            cure="drop unlabelled rows; turn class names into indices with "
            "leadline.data.class_indices",
        )
    _refuse_single_class(array, name)
    return array.astype(np.int64)


def class_indices(labels: Any, name: str = "labels") -> tuple[np.ndarray, tuple[str, ...]]:
    """Convert labels of any kind to class indices and class names.

    The labels can be strings, booleans or whole numbers, such as -1 and 1. Classes are sorted:
    numbers by value, strings by code point.

    Args:
        labels: array-like of shape (n,).
        name: name of the array, for messages.

    Returns:
        Indices of shape (n,), int64, and the class names in the order of their indices.

    Raises:
        InputError: a label is missing, is a fraction, or is neither a number nor a string; or all
            labels belong to a single class.

    >>> class_indices(["rope", "lead", "rope"])
    (array([1, 0, 1]), ('lead', 'rope'))
    """
    name = checks.text(name, "name")
    array = label_values(labels, name)
    listed = array.tolist()
    kinds = {type(label) for label in listed}
    missing = [i for i, label in enumerate(listed) if is_missing(label)]
    if missing:
        raise InputError(
            f"{name} must have a label for each row",
            got=f"{name}[{missing[0]}] is missing; {len(missing)} of {len(array)} rows",
            cure="drop the unlabelled rows, or pass no labels",
        )
    fractions = [
        i for i, label in enumerate(listed) if isinstance(label, float) and not label.is_integer()
    ]
    if fractions or not (kinds <= {str} or kinds <= {int, bool, float}):
        row = (
            fractions[0]
            if fractions
            else next(i for i, x in enumerate(listed) if type(x) is not str)
        )
        raise InputError(
            f"{name} must hold whole numbers or strings, of one kind",
            got=f"{name}[{row}] = {checks.shown(listed[row])}",
            cause="a quantity to regress on" if fractions else "a column of mixed kinds",
            cure="name the column that holds classes",
        )
    _refuse_single_class(array, name)
    if kinds == {str}:
        values = array.astype(str)
    elif array.dtype.kind in "iu":
        values = array
    else:  # No NumPy dtype can represent whole numbers of any size.
        values = np.array([int(label) for label in listed], dtype=object)
    names, y = np.unique(values, return_inverse=True)
    return y.astype(np.int64), tuple(str(name) for name in names)


def missing_labels(values: Any) -> Bool[np.ndarray, " n"]:
    """Return a boolean array that is true for missing labels.

    Missing labels are ``None``, NaN, masked cells, and the empty string. The number -1 is missing,
    too, if the labels are not all -1 and 1.

    >>> missing_labels(np.array([3, -1, 4])).tolist()
    [False, True, False]
    >>> missing_labels(np.array(["rope", ""])).tolist()
    [False, True]
    """
    listed = label_values(values, "values").tolist()
    absent = np.array([is_missing(value) or value == "" for value in listed], dtype=bool)
    rest = {value for value, missing in zip(listed, absent, strict=True) if not missing}
    if -1 in rest and not rest <= {-1, 1}:
        absent |= np.array([value == -1 and not isinstance(value, str) for value in listed])
    return absent


def label_values(labels: Any, name: str) -> np.ndarray:
    """Convert labels to an array of shape (n,) of plain numbers, text and missing values.

    The type of each item of a list is kept. NumPy would turn ``["lead", nan]`` into text, so that
    the missing label would become a class named ``"nan"``.

    Raises:
        InputError: the labels are not one-dimensional, or are neither numbers nor text.
    """
    if isinstance(labels, (list, tuple)) and not any(_is_nested(label) for label in labels):
        array = np.fromiter((_plain(label) for label in labels), dtype=object, count=len(labels))
    else:
        array = checks.array(labels, name, wanted="a list of labels")
    array = one_per_row(array, len(array) if array.ndim else 0, name)
    if array.dtype == object:
        plain = [_plain(label) for label in array]
        strange = [
            i
            for i, label in enumerate(plain)
            if not isinstance(label, (str, Real)) and not is_missing(label)
        ]
        array = np.fromiter(plain, dtype=object, count=len(plain))
    else:
        strange = [0] if array.dtype.kind not in "biufU" and len(array) else []
    if strange:
        raise InputError(
            f"{name} must hold whole numbers or strings, of one kind",
            got=f"{name}[{strange[0]}] = {checks.shown(array[strange[0]])}",
            cause="dates, bytes or objects instead of class names",
            cure="turn them into text with str()",
        )
    return array


def _is_nested(label: Any) -> bool:
    is_list = isinstance(label, (list, tuple))
    return is_list or getattr(label, "ndim", 0) > 0


def _plain(label: Any) -> Any:
    """Return a number or text as a plain Python value, and a masked cell as ``None``."""
    if label is np.ma.masked:
        return None
    if isinstance(label, (np.generic, np.ndarray)):
        return label.item()
    if type(label).__module__.partition(".")[0] == "torch" and getattr(label, "shape", None) == ():
        return checks.array(label, "labels").item()
    return label


def is_missing(label: Any) -> bool:
    """True for ``None``, NaN and pandas' NA."""
    if label is None:
        return True
    try:
        return bool(label != label)
    except TypeError:  # Comparing pandas' NA with itself gives NA, which has no truth value.
        return True
    except Exception:  # The value is an array, or an object whose comparison fails.
        return False


def one_per_row(array: np.ndarray, n: int, name: str) -> np.ndarray:
    """Return the labels if they have shape (n,), and raise an error otherwise."""
    if array.ndim != 1:
        raise InputError(
            f"{name} must have one label for each row: shape (n,)",
            got=f"{name} of shape {array.shape}",
            cause="one-hot labels, or a column that kept its second axis",
            cure=f"use {name}.argmax(axis=1) for one-hot labels, {name}.ravel() for a column",
        )
    if len(array) != n:
        raise InputError(
            f"{name} must have one label for each row",
            got=f"{len(array)} labels in {name} for {n} rows",
            cause="rows or labels that were filtered without the other",
            cure="select the same rows from both",
        )
    return array


def _refuse_single_class(array: np.ndarray, name: str) -> None:
    if len(array) == 0 or (array == array[0]).all():
        value = array.tolist()[0] if len(array) else None
        raise InputError(
            f"{name} must hold labels of at least two classes",
            got=f"all {len(array)} labels in {name} are {checks.shown(value)}"
            if len(array)
            else f"{name} is empty",
            cause="a part of rows that are sorted by class, or the wrong column",
            cure="shuffle the rows first, or pass no labels",
        )
