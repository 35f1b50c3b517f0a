"""The material of a study: checked rows with and without labels, and notes about them."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from leadline import checks
from leadline.autoencoders import PIXEL, RowForm
from leadline.data import (
    DIVIDED,
    Dataset,
    are_bytes,
    check_features,
    class_indices,
    compact_features,
    exact_features,
    flatten_images,
    missing_labels,
    row_fingerprints,
    split_roles,
)
from leadline.errors import InputError

Size = tuple[int, int]
"""Height and width of an image in pixels."""

ImageSize = Literal["auto"] | int | Size | None
"""Size of images that are given as flat rows: (height, width) or one number for both, ``"auto"`` to
detect it, or ``None`` for rows that are not images."""

LEAST_OF_CLASS = 3
"""Smallest number of different labelled rows of a class: one each to fit, to choose and to test."""

LEAST_ROWS = 20
"""Smallest number of rows for pretraining."""

SMOOTH = 0.5
"""Flat rows count as images if the mean squared difference of neighbouring pixels is below this
share of that of any two pixels."""

LEAST_SIDE = 12
"""Side in pixels of the smallest square that flat rows are taken for, and of the smallest image
that is learned in patches."""

UNLIKE = 10.0
"""Largest ratio of the spreads of unlabelled and labelled rows that are on one scale."""

MOST_ROWS_TO_DETECT = 1000
"""Number of rows that the detection of images reads."""


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


@dataclass(frozen=True, eq=False)
class _Rows:
    """One array of rows, flattened and scaled."""

    rows: np.ndarray
    image_size: Size | None
    channels: int
    notes: tuple[str, ...]


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
    form = _row_form(X, "X")
    if X_unlabelled is not None:
        form = form.merged(_row_form(X_unlabelled, "X_unlabelled"))
    given = _read_rows(X, "X", form)
    notes = list(given.notes)
    values, is_labelled = _read_labels(y, len(given.rows))
    unlabelled = given.rows[~is_labelled]
    if X_unlabelled is not None:
        more = _read_rows(X_unlabelled, "X_unlabelled", form)
        if given.rows.dtype != more.rows.dtype:
            # If one array needs float64, both are read in float64.
            given = _read_rows(X, "X", form, exact=True)
            more = _read_rows(X_unlabelled, "X_unlabelled", form, exact=True)
        _refuse_unlike(given, more)
        notes += [note for note in more.notes if note not in notes]
        unlabelled = np.concatenate([given.rows[~is_labelled], more.rows])
    labelled = given.rows[is_labelled]
    shown_rows = unlabelled if len(unlabelled) else labelled
    size, channels = _image_form(given, shown_rows, size_setting, notes)
    no_labels = np.zeros(0, np.int64)
    if not len(labelled):
        _refuse_few(len(unlabelled))
        return Material(
            unlabelled=unlabelled,
            labelled=labelled,
            y=no_labels,
            class_names=(),
            image_size=size,
            channels=channels,
            set_aside=0,
            notes=tuple(notes),
            y_set_aside=no_labels,
            groups=no_labels.astype(np.uint64),
            form=form,
        )
    indices, names = class_indices(values, "y")
    groups = exact_fingerprints(labelled, given.rows)
    _refuse_rare(indices, groups, names)
    unlabelled = _without_labelled(unlabelled, labelled, given.rows, notes)
    y_set_aside = no_labels
    if len(unlabelled) < len(labelled):
        is_kept = retained(indices, groups, 0.5)
        y_set_aside = indices[~is_kept]
        unlabelled = np.concatenate([unlabelled, labelled[~is_kept]])
        labelled = labelled[is_kept]
        indices = indices[is_kept]
        groups = groups[is_kept]
        if len(y_set_aside):
            notes.append(
                f"there are fewer unlabelled than labelled rows, so {len(y_set_aside)} rows lost "
                "their labels and were used for pretraining"
            )
    _refuse_few(len(unlabelled))
    return Material(
        unlabelled=unlabelled,
        labelled=labelled,
        y=indices,
        class_names=names,
        image_size=size,
        channels=channels,
        set_aside=len(y_set_aside),
        notes=tuple(notes),
        y_set_aside=y_set_aside,
        groups=groups,
        form=form,
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


def _row_form(X: Any, name: str) -> RowForm:
    """Return columns and scale; floating-point images of whole numbers up to 255 are pixels."""
    form = RowForm.of(X, name)
    if isinstance(X, Dataset) or form.scale != "other":
        return form
    array = checks.array(X, name)
    if array.ndim in (3, 4) and array.size and array.dtype.kind == "f":
        is_in_range = array.min() >= 0 and array.max() <= PIXEL
        if is_in_range and bool((array == np.floor(array)).all()):
            return replace(form, scale="all divided")
    return form


def _read_rows(X: Any, name: str, form: RowForm, *, exact: bool = False) -> _Rows:
    """Return rows in the form of the study, with columns in order and pixels divided."""
    if isinstance(X, Dataset):
        rows = _matrix(form.apply(X, name), name, exact)
        return _Rows(rows, X.image_size, X.channels, X.notes)
    array = checks.array(X, name)
    has_images = array.ndim in (3, 4)
    if has_images and array.dtype.kind in "iu":
        # This call refuses whole numbers that are not pixels, and names the first.
        are_bytes(array, name)
    elif has_images:
        check_features(array.reshape(len(array), -1) if len(array) else array.reshape(0, 1), name)
    scaled = form.apply(X, name)
    became_float = scaled.dtype.kind == "f" and array.dtype.kind in "iu"
    notes = (DIVIDED,) if form.scale == "all divided" or became_float else ()
    if not has_images:
        return _Rows(_matrix(scaled, name, exact), None, 1, notes)
    _refuse_other_range(scaled, name)
    rows, size, channels = flatten_images(scaled, name)
    return _Rows(_matrix(rows, name, exact), size, channels, notes)


def _matrix(rows: np.ndarray, name: str, exact: bool) -> np.ndarray:
    """Return rows in float64 if ``exact``; otherwise in float32 unless it would blur them."""
    if exact:
        return exact_features(rows, name).astype(np.float64)
    return compact_features(rows, name)


def _refuse_other_range(images: np.ndarray, name: str) -> None:
    """Refuse floating-point images with values outside [0, 1]."""
    if not images.size:
        return
    low = float(images.min())
    high = float(images.max())
    if low < 0 or high > 1:
        raise InputError(
            f"{name} must lie between 0 and 1 if it holds floating-point images",
            got=f"{name} from {low:g} to {high:g}",
            cause="images that were standardised, or have another range",
            cure=f"divide them by their range; or pass flat rows, {name}.reshape(len({name}), -1), "
            "with image_size, which keeps their values",
        )


def _image_form(
    given: _Rows,
    rows: np.ndarray,
    size_setting: Literal["auto"] | Size | None,
    notes: list[str],
) -> tuple[Size | None, int]:
    """Return size and channels of the images, or ``None`` and 1 if the rows are not images."""
    if size_setting is None:
        return None, 1
    if size_setting == "auto":
        if given.image_size is not None:
            return given.image_size, given.channels
        side = _side_of_images(rows)
        if side is None:
            return None, 1
        notes.append(
            f"rows of {side * side} numbers were taken for images of {side} x {side} pixels, "
            "because neighbouring numbers are similar; image_size=None treats them as plain rows"
        )
        return (side, side), 1
    channels, rest = divmod(rows.shape[1], size_setting[0] * size_setting[1])
    if rest or channels not in (1, 3) or given.image_size not in (None, size_setting):
        images = ""
        if given.image_size is not None:
            images = f", images of {given.image_size[0]} x {given.image_size[1]} pixels"
        raise InputError(
            "image_size must match the rows: an image has height x width numbers, or three times "
            "as many",
            got=f"image_size = {size_setting} for rows of {rows.shape[1]} numbers{images}",
            cure="give the size of the images that were flattened, or leave image_size out",
        )
    return size_setting, channels


def check_image_size(image_size: Any) -> Literal["auto"] | Size | None:
    """Return an image size as ``"auto"``, ``None`` or (height, width)."""
    if image_size is None:
        return None
    if isinstance(image_size, str) and image_size == "auto":
        return "auto"
    is_whole = isinstance(image_size, (int, np.integer))
    is_single = is_whole and not isinstance(image_size, (bool, np.bool_))
    listed = (image_size, image_size) if is_single else image_size
    try:
        sides = checks.whole_numbers(listed, "image_size", least=1, most=100_000, at_least=2)
    except InputError:
        sides = ()
    if len(sides) != 2:
        raise InputError(
            "image_size must be (height, width), one number for both, 'auto' or None",
            got=f"image_size = {checks.shown(image_size)}",
        )
    return sides[0], sides[1]


def _side_of_images(rows: np.ndarray) -> int | None:
    """Return the side of square images if neighbouring numbers of flat rows are similar."""
    side = round(rows.shape[1] ** 0.5)
    if side < LEAST_SIDE or side * side != rows.shape[1] or len(rows) < 2:
        return None
    images = rows[:MOST_ROWS_TO_DETECT].reshape(-1, side, side).astype(np.float64)
    any_two = 2 * images.var()
    vertical = np.square(np.diff(images, axis=1)).mean()
    horizontal = np.square(np.diff(images, axis=2)).mean()
    larger = max(vertical, horizontal)
    smaller = min(vertical, horizontal)
    # In a series that is cut into lines, the vertical neighbour is far away and less similar.
    is_even = larger < 4 * smaller
    return side if is_even and larger < SMOOTH * any_two else None


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


def _refuse_unlike(given: _Rows, more: _Rows) -> None:
    """Refuse unlabelled rows with another shape or another scale than the labelled rows."""
    if given.rows.shape[1] != more.rows.shape[1] or given.image_size != more.image_size:
        raise InputError(
            "X and X_unlabelled must have rows of the same form",
            got=f"X of {_described(given)} and X_unlabelled of {_described(more)}",
            cure="bring both into one shape",
        )
    if min(len(given.rows), len(more.rows)) < LEAST_ROWS:
        return
    given_spread = given.rows.std(axis=0, dtype=np.float64)
    more_spread = more.rows.std(axis=0, dtype=np.float64)
    varies = (given_spread > 0) & (more_spread > 0)
    ratio = 1.0
    if varies.any():
        ratio = float(np.median(more_spread[varies] / given_spread[varies]))
    if not 1 / UNLIKE <= ratio <= UNLIKE:
        raise InputError(
            "X and X_unlabelled must have the same scale",
            got=f"columns of X_unlabelled spread {ratio:.3g} times as far as those of X",
            cause="one of them was divided by 255, or standardised",
            cure="scale both in the same way",
        )


def _described(given: _Rows) -> str:
    """Return the form of rows in words."""
    images = ""
    if given.image_size is not None:
        images = f" (images of {given.image_size[0]} x {given.image_size[1]})"
    return f"{given.rows.shape[1]} numbers a row{images}"


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
