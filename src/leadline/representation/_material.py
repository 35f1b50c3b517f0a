"""The material of a study: checked rows with and without labels, and notes about them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from leadline import checks
from leadline.autoencoders import RowForm
from leadline.data import class_indices, missing_labels, row_fingerprints, split_roles
from leadline.errors import InputError
from leadline.representation._given_rows import (
    LEAST_ROWS,
    Size,
    read_rows,
    refuse_unlike,
    row_form,
)
from leadline.representation._image_size import ImageSize, check_image_size, image_form

LEAST_OF_CLASS = 3
"""Smallest number of different labelled rows of a class: one each to fit, to choose and to test."""


@dataclass(frozen=True, eq=False)
class Material:
    """Rows for a study, created by :func:`gather`."""

    unlabelled: Float[np.ndarray, "n d"]
    """Rows for pretraining; none of them is probed."""
    labelled: Float[np.ndarray, "m d"]
    """Rows for probing; empty without labels."""
    y: Int[np.ndarray, " m"]
    """Class index of each labelled row."""
    class_names: tuple[str, ...]
    """The names of the classes, in the order of their indices."""
    image_size: Size | None
    """Height and width of the images, or ``None`` if the rows are not images."""
    channels: int
    """Number of channels of the images."""
    set_aside: int
    """Number of rows that lost their labels for pretraining; they are the last of
    :attr:`unlabelled`."""
    notes: tuple[str, ...]
    """Observations about the rows, and what was done about them."""
    y_set_aside: Int[np.ndarray, " a"]
    """Class index of each row that lost its label; the kept probe is fitted to these labels too."""
    groups: UInt64[np.ndarray, " m"]
    """Group of each labelled row, the same for equal rows, which never have different roles."""
    form: RowForm
    """Columns and scale of the rows, which the encoder keeps."""
    num_given: int
    """Number of rows of ``X`` and ``X_unlabelled``."""


def gather(X: Any, y: Any, X_unlabelled: Any, image_size: ImageSize) -> Material:
    """Check rows and labels, and split them into rows for pretraining and rows for probing.

    Args:
        X: rows of shape (n, d), or images of shape (n, h, w), (n, h, w, c) or (n, c, h, w): an
            array, a data frame, or a :class:`~leadline.data.Dataset`.
        y: labels of any kind, shape (n,), or ``None``. ``None``, NaN, the empty string and -1
            (scikit-learn's convention) mark a missing label.
        X_unlabelled: more rows in the same form, or ``None``.
        image_size: size of images that are given as flat rows, see :func:`represent`.

    Returns:
        The rows for pretraining and for probing.

    Raises:
        InputError: rows are not finite, shapes or scales do not match, labels are invalid, or there
            are too few rows.

    >>> from leadline import data
    >>> digits = data.digits()
    >>> material = gather(digits.X[:100], digits.y[:100], digits.X[100:400], None)
    >>> len(material.labelled), len(material.unlabelled)
    (100, 300)
    """
    size_setting = check_image_size(image_size)
    form = row_form(X, "X")
    if X_unlabelled is not None:
        form = form.merged(row_form(X_unlabelled, "X_unlabelled"))
    given = read_rows(X, "X", form)
    notes = list(given.notes)
    values, is_labelled = _read_labels(y, len(given.rows))
    unlabelled = given.rows[~is_labelled]
    num_given = len(given.rows)
    if X_unlabelled is not None:
        more = read_rows(X_unlabelled, "X_unlabelled", form)
        if given.rows.dtype != more.rows.dtype:
            # If one array needs float64, both are read in float64.
            given = read_rows(X, "X", form, exact=True)
            more = read_rows(X_unlabelled, "X_unlabelled", form, exact=True)
        refuse_unlike(given, more)
        num_given += len(more.rows)
        notes += [note for note in more.notes if note not in notes]
        unlabelled = np.concatenate([given.rows[~is_labelled], more.rows])
    labelled = given.rows[is_labelled]
    examined = unlabelled if len(unlabelled) else labelled
    size, channels = image_form(given, examined, size_setting, notes)
    no_labels = np.zeros(0, np.int64)
    material = Material(
        unlabelled=unlabelled,
        labelled=labelled[:0],
        y=no_labels,
        class_names=(),
        image_size=size,
        channels=channels,
        set_aside=0,
        notes=tuple(notes),
        y_set_aside=no_labels,
        groups=no_labels.astype(np.uint64),
        form=form,
        num_given=num_given,
    )
    if len(labelled):
        material = _with_labels(material, labelled, values, given.rows)
    _refuse_few(len(material.unlabelled))
    return material


def _with_labels(
    material: Material, rows: np.ndarray, values: np.ndarray, reference: np.ndarray
) -> Material:
    """Return the material with labelled rows.

    Unlabelled rows that equal labelled rows are left out. If fewer unlabelled than labelled rows
    are left, half of the labelled rows lose their labels.

    Args:
        material: rows without labels.
        rows: the labelled rows.
        values: label of each labelled row.
        reference: rows whose mean centres rows in float64; see :func:`exact_fingerprints`.
    """
    y, names = class_indices(values, "y")
    groups = exact_fingerprints(rows, reference)
    _refuse_rare(y, groups, names)
    notes = list(material.notes)
    unlabelled = _without_labelled(material.unlabelled, rows, reference, notes)
    labelled = replace(
        material,
        unlabelled=unlabelled,
        labelled=rows,
        y=y,
        class_names=names,
        notes=tuple(notes),
        groups=groups,
    )
    return _half_set_aside(labelled) if len(unlabelled) < len(y) else labelled


def _half_set_aside(material: Material) -> Material:
    """Return the material after half of the labelled rows have lost their labels."""
    is_kept = retained(material.y, material.groups, 0.5)
    y_set_aside = material.y[~is_kept]
    notes = material.notes
    if len(y_set_aside):
        notes = (
            *notes,
            f"there are fewer unlabelled than labelled rows, so {len(y_set_aside)} rows lost "
            "their labels and were used for pretraining",
        )
    return replace(
        material,
        unlabelled=np.concatenate([material.unlabelled, material.labelled[~is_kept]]),
        labelled=material.labelled[is_kept],
        y=material.y[is_kept],
        groups=material.groups[is_kept],
        set_aside=len(y_set_aside),
        y_set_aside=y_set_aside,
        notes=notes,
    )


def exact_fingerprints(rows: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return fingerprints of rows, equal for equal rows.

    Rows in float64 are first centred by the mean of the reference rows. Otherwise rows that float32
    cannot separate, such as timestamps, would have equal fingerprints.

    >>> rows = np.array([[1.7e9], [1.7e9 + 1], [1.7e9]])
    >>> fingerprints = exact_fingerprints(rows, rows)
    >>> bool(fingerprints[0] == fingerprints[2]), bool(fingerprints[0] == fingerprints[1])
    (True, False)
    """
    is_exact = np.float64 in (rows.dtype, reference.dtype)
    if is_exact:
        return row_fingerprints(rows - reference.mean(axis=0, dtype=np.float64))
    return row_fingerprints(rows)


def retained(y: Int[np.ndarray, " n"], groups: np.ndarray, share: float) -> Bool[np.ndarray, " n"]:
    """Return a mask of a share of the labelled rows, with each class in proportion.

    Equal rows stay together. At least three different rows of each class are retained, so that a
    class that passes the first check of rare classes also passes later checks.

    Args:
        y: class of each row.
        groups: group of each row, the same for equal rows.
        share: share of the rows that are retained.
    """
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    class_of_row = y[first][member]
    is_kept = np.ones(len(y), bool)
    classes, sizes = np.unique(y[first], return_counts=True)
    large_classes = classes[sizes >= 2 * LEAST_OF_CLASS]
    rows = np.flatnonzero(np.isin(class_of_row, large_classes))
    if not len(rows):
        return is_kept
    split_classes = class_of_row[rows]
    strata = split_classes if len(np.unique(split_classes)) > 1 else len(rows)
    fractions = (1 - share, 0, share, 0, 0)
    split = split_roles(strata, seed=0, fractions=fractions, groups=groups[rows])
    is_kept[rows[split.pretrain_train]] = False
    for label in large_classes:
        is_member = class_of_row == label
        if len(np.unique(groups[is_member & is_kept])) < LEAST_OF_CLASS:
            is_kept |= is_member
    return is_kept


def _read_labels(y: Any, n: int) -> tuple[np.ndarray, Bool[np.ndarray, " n"]]:
    """Return the labels that are present, and a mask of the rows that have one."""
    if y is None:
        return np.zeros(0), np.zeros(n, bool)
    values = checks.array(y, "y", wanted="an array of labels")
    is_list = isinstance(y, (list, tuple))
    if values.dtype.kind == "U" and is_list and not all(isinstance(label, str) for label in y):
        # NumPy turned NaN and numbers into text.
        values = checks.array(np.array(y, dtype=object), "y")
    if values.shape != (n,):
        raise InputError(
            "y must have one label for each row of X: shape (n,)",
            got=f"y of shape {values.shape} for {n} rows",
            cause="labels for X_unlabelled too, one-hot labels, or rows that were filtered",
            cure="use None or NaN as the label of a row without one",
        )
    is_missing = missing_labels(values)
    if is_missing.all():
        raise InputError(
            "y must contain a label, or be left out",
            got=f"all {n} labels in y are missing",
            cure="label a few rows of each class, or call represent(X) to pretrain without probing",
        )
    present = values[~is_missing]
    if present.dtype.kind == "f":
        present = present.astype(np.float64)
        is_whole = (np.abs(present) < 2**53).all() and (present == np.floor(present)).all()
        if is_whole:
            # NaN among whole numbers had turned them into floats.
            present = present.astype(np.int64)
    return present, ~is_missing


def _without_labelled(
    unlabelled: np.ndarray, labelled: np.ndarray, reference: np.ndarray, notes: list[str]
) -> np.ndarray:
    """Return the unlabelled rows that equal no labelled row: probed rows are not pretrained on."""
    if not len(unlabelled):
        return unlabelled
    is_repeated = np.isin(
        exact_fingerprints(unlabelled, reference), exact_fingerprints(labelled, reference)
    )
    if is_repeated.any():
        notes.append(
            f"{int(is_repeated.sum())} unlabelled rows equal labelled rows and were not used for "
            "pretraining"
        )
    return unlabelled[~is_repeated]


def _refuse_rare(y: np.ndarray, groups: np.ndarray, names: tuple[str, ...]) -> None:
    """Refuse a class with fewer than three different labelled rows."""
    first_of_group = np.unique(groups, return_index=True)[1]
    num_distinct = np.bincount(y[first_of_group], minlength=len(names))
    rarest = int(num_distinct.argmin())
    if num_distinct[rarest] < LEAST_OF_CLASS:
        num_rows = int((y == rarest).sum())
        distinct = ""
        if num_distinct[rarest] < num_rows:
            distinct = f", {num_distinct[rarest]} of them distinct"
        raise InputError(
            "y must label three rows of each class: to fit a probe, to choose and to test",
            got=f"class {names[rarest]!r} has {num_rows}{distinct}",
            cause="a rare class, or a column of quantities or names instead of classes",
            cure="label more rows of it, or leave the class out",
        )


def _refuse_few(n: int) -> None:
    """Refuse too few rows for pretraining."""
    if n < LEAST_ROWS:
        raise InputError(
            f"represent() needs at least {LEAST_ROWS} rows for pretraining",
            got=f"{n} rows that are not probed",
            cause="a small data set, in which half of the labelled rows are kept for the probe",
            cure="add rows; they need no labels",
        )
