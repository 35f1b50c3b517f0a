"""What a study works on: rows with labels and rows without, checked, and what was noticed on the way."""

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
    flatten_images,
    missing_labels,
    row_fingerprints,
    split_roles,
)
from leadline.errors import InputError
from leadline.probing import exact_features, features

Size = tuple[int, int]

ImageSize = Literal["auto"] | int | Size | None
"""Height and width of images that come as flat rows; or ``"auto"``: told from the rows; or ``None``: no images."""

LEAST_OF_CLASS = 3
"""Different labelled rows of each class: to fit a probe, to choose by and to report on."""

LEAST_ROWS = 20
"""Rows below which there is nothing to pretrain on."""

SMOOTH = 0.5
"""Flat rows are taken for images if neighbouring pixels differ by less than this share of what any two differ by."""

LEAST_SIDE = 12
"""Side of the smallest square that flat rows are taken for, and that is looked at patch by patch."""

UNLIKE = 10.0
"""Labelled and unlabelled rows whose spreads differ by more than this factor have not been scaled alike."""


@dataclass(frozen=True, eq=False)
class Material:
    """Rows for a study; made by :func:`gather`."""

    unlabelled: Float[np.ndarray, "n d"]
    """What is pretrained on. None of these rows is probed."""
    labelled: Float[np.ndarray, "m d"]
    """What is probed; no rows where nothing is labelled."""
    y: Int[np.ndarray, " m"]
    class_names: tuple[str, ...]
    image_size: Size | None
    channels: int
    set_aside: int
    """How many of the unlabelled rows had labels, which they gave up. They stand at the end."""
    notes: tuple[str, ...]
    y_set_aside: Int[np.ndarray, " a"]
    """Their labels: the probe that is kept in the end is fitted to these, too."""
    groups: UInt64[np.ndarray, " m"]
    """Equal for equal labelled rows, which are never dealt to different roles."""
    form: RowForm
    """The columns and the scale of the rows, which the encoder keeps."""


@dataclass(frozen=True, eq=False)
class _Given:
    """One array as the user gave it."""

    rows: np.ndarray
    image_size: Size | None
    channels: int
    notes: tuple[str, ...]


def gather(X: Any, y: Any, X_unlabelled: Any, image_size: ImageSize) -> Material:
    """Check what the user gave, and part it into rows to pretrain on and rows to probe.

    Args:
        X: rows of shape (n, d), or images of shape (n, h, w), (n, h, w, c) or (n, c, h, w): an array, a data frame, or
            a :class:`~leadline.data.Dataset`.
        y: labels of any kind, shape (n,), or ``None``; ``None``, NaN, the empty string and -1 (scikit-learn's sign)
            stand for a missing one.
        X_unlabelled: more rows, of the same form.
        image_size: see :data:`ImageSize`.

    Raises:
        InputError: anything that does not fit; see the messages.
    """
    image_size = _checked_size(image_size)
    form = _form(X, "X")
    if X_unlabelled is not None:
        form = form.merged(_form(X_unlabelled, "X_unlabelled"))
    given = _given(X, "X", form)
    notes = list(given.notes)
    values, is_labelled = _labels(y, len(given.rows))
    more = None
    if X_unlabelled is not None:
        more = _given(X_unlabelled, "X_unlabelled", form)
        if given.rows.dtype != more.rows.dtype:  # where one of them needs float64, both do
            given = _given(X, "X", form, exact=True)
            more = _given(X_unlabelled, "X_unlabelled", form, exact=True)
        _refuse_unlike(given, more)
        notes += [note for note in more.notes if note not in notes]
    unlabelled = np.concatenate([given.rows[~is_labelled], *([] if more is None else [more.rows])])
    labelled = given.rows[is_labelled]
    size, channels = _image_form(
        given, unlabelled if len(unlabelled) else labelled, image_size, notes
    )
    none = np.zeros(0, np.int64)
    if not len(labelled):
        _refuse_few(len(unlabelled))
        groups = none.astype(np.uint64)
        return Material(
            unlabelled, labelled, none, (), size, channels, 0, tuple(notes), none, groups, form
        )
    indices, names = class_indices(values, "y")
    groups = marks(labelled, given.rows)
    _refuse_rare(indices, groups, names)
    unlabelled = _without(unlabelled, labelled, given.rows, notes)
    y_set_aside = none
    if len(unlabelled) < len(labelled):
        is_kept = retained(indices, groups, 0.5)
        y_set_aside = indices[~is_kept]
        unlabelled = np.concatenate([unlabelled, labelled[~is_kept]])
        labelled, indices, groups = labelled[is_kept], indices[is_kept], groups[is_kept]
        if len(y_set_aside):
            notes.append(
                f"with fewer unlabelled rows than labelled ones, {len(y_set_aside)} rows gave up their labels to be "
                "pretrained on"
            )
    _refuse_few(len(unlabelled))
    set_aside = len(y_set_aside)
    return Material(
        unlabelled,
        labelled,
        indices,
        names,
        size,
        channels,
        set_aside,
        tuple(notes),
        y_set_aside,
        groups,
        form,
    )


def marks(rows: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Fingerprints of rows, equal for equal rows; those of float64 rows are taken after centring by other rows.

    Rows that float32 cannot tell apart (timestamps) would otherwise pass for equal.

    >>> rows = np.array([[1.7e9], [1.7e9 + 1], [1.7e9]])
    >>> found = marks(rows, rows)
    >>> bool(found[0] == found[2]), bool(found[0] == found[1])
    (True, False)
    """
    is_exact = np.float64 in (rows.dtype, among.dtype)
    return row_fingerprints(rows - among.mean(axis=0, dtype=np.float64) if is_exact else rows)


def retained(y: Int[np.ndarray, " n"], groups: np.ndarray, share: float) -> Bool[np.ndarray, " n"]:
    """A share of labelled rows, each class in proportion; equal rows stay together.

    At least three different rows of each class are retained, so that whatever passes the first check of rare classes
    passes the later ones.

    Args:
        y: classes.
        groups: equal for equal rows.
        share: of the rows that are retained.
    """
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    class_of_row = y[first][member]
    is_kept = np.ones(len(y), bool)
    classes, sizes = np.unique(y[first], return_counts=True)
    large = classes[sizes >= 2 * LEAST_OF_CLASS]
    rows = np.flatnonzero(np.isin(class_of_row, large))
    if not len(rows):
        return is_kept
    of_rows = class_of_row[rows]
    strata = of_rows if len(np.unique(of_rows)) > 1 else len(rows)
    split = split_roles(strata, seed=0, fractions=(1 - share, 0, share, 0, 0), groups=groups[rows])
    is_kept[rows[split.pretrain_train]] = False
    for label in large:
        of_class = class_of_row == label
        if len(np.unique(groups[of_class & is_kept])) < LEAST_OF_CLASS:
            is_kept |= of_class
    return is_kept


def _labels(y: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels that are there, and which rows have one."""
    if y is None:
        return np.zeros(0), np.zeros(n, bool)
    values = checks.array(y, "y", wanted="an array of labels")
    if (
        values.dtype.kind == "U"
        and isinstance(y, (list, tuple))
        and not all(isinstance(one, str) for one in y)
    ):
        values = checks.array(
            np.array(y, dtype=object), "y"
        )  # NumPy made text of NaN and of numbers
    if values.shape != (n,):
        raise InputError(
            "labels have one entry per row of X: shape (samples,)",
            got=f"y of shape {values.shape} for {n} rows",
            cause="labels for X_unlabelled too, one-hot labels, or rows that were filtered",
            cure="leave a label out with None or NaN where a row has none",
        )
    absent = missing_labels(values)
    if absent.all():
        raise InputError(
            "some rows need a label, or y is left out",
            got=f"all {n} labels in y are missing",
            cure="label a few rows of each class, or call represent(X) to pretrain without probing",
        )
    there = values[~absent]
    there = there.astype(np.float64) if there.dtype.kind == "f" else there
    is_whole = (
        there.dtype.kind == "f"
        and (np.abs(there) < 2**53).all()
        and (there == np.floor(there)).all()
    )
    if is_whole:  # NaN had turned whole numbers into floats
        there = there.astype(np.int64)
    return there, ~absent


def _form(X: Any, name: str) -> RowForm:
    """The columns and the scale of the rows; floating-point images of whole numbers up to 255 count as pixels."""
    form = RowForm.of(X, name)
    if isinstance(X, Dataset) or form.scale != "other":
        return form
    array = checks.array(X, name)
    if array.ndim in (3, 4) and array.size and array.dtype.kind == "f":
        are_whole = (
            array.min() >= 0 and array.max() <= PIXEL and bool((array == np.floor(array)).all())
        )
        return replace(form, scale="all divided") if are_whole else form
    return form


def _given(X: Any, name: str, form: RowForm, *, exact: bool = False) -> _Given:
    """Rows in the form of the study: columns in order, pixels divided."""
    if isinstance(X, Dataset):
        return _Given(_matrix(form.apply(X, name), name, exact), X.image_size, X.channels, X.notes)
    array = checks.array(X, name)
    are_images = array.ndim in (3, 4)
    if are_images and array.dtype.kind in "iu":
        are_bytes(array, name)  # refuses other whole numbers than pixels, and names the first
    elif are_images:
        check_features(array.reshape(len(array), -1) if len(array) else array.reshape(0, 1), name)
    scaled = form.apply(X, name)
    is_divided = form.scale == "all divided" or (
        scaled.dtype.kind == "f" and array.dtype.kind in "iu"
    )
    notes = (DIVIDED,) if is_divided else ()
    if not are_images:
        return _Given(_matrix(scaled, name, exact), None, 1, notes)
    _refuse_other_range(scaled, name)
    rows, size, channels = flatten_images(scaled, name)
    return _Given(_matrix(rows, name, exact), size, channels, notes)


def _matrix(rows: np.ndarray, name: str, exact: bool) -> np.ndarray:
    """Rows in float32, or in float64 where float32 would blur them."""
    return exact_features(rows, name).astype(np.float64) if exact else features(rows, name)


def _refuse_other_range(images: np.ndarray, name: str) -> None:
    low = float(images.min()) if images.size else 0.0
    high = float(images.max()) if images.size else 0.0
    if low < 0 or high > 1:
        raise InputError(
            "floating-point numbers in images lie between 0 and 1",
            got=f"{name} from {low:g} to {high:g}",
            cause="images that were standardised, or of another range: which cannot be seen",
            cure=f"divide them by their range; or hand flat rows over, {name}.reshape(len({name}), -1), with "
            "image_size: these stay as they are",
        )


def _image_form(
    given: _Given, rows: np.ndarray, asked: Literal["auto"] | Size | None, notes: list[str]
) -> tuple[Size | None, int]:
    """Size and channels of the images, or ``None`` where rows are no images."""
    if asked is None:
        return None, 1
    if asked == "auto":
        if given.image_size is not None:
            return given.image_size, given.channels
        side = _side_of_images(rows)
        if side is None:
            return None, 1
        notes.append(
            f"rows of {side * side} numbers were taken for images of {side} x {side} pixels, as neighbours are alike; "
            "image_size=None takes them as plain rows"
        )
        return (side, side), 1
    size = asked
    channels, rest = divmod(rows.shape[1], size[0] * size[1])
    if rest or channels not in (1, 3) or given.image_size not in (None, size):
        has = (
            ""
            if given.image_size is None
            else f", images of {given.image_size[0]} x {given.image_size[1]} pixels"
        )
        raise InputError(
            "an image has height x width numbers, or three times as many",
            got=f"image_size = {size} for rows of {rows.shape[1]} numbers{has}",
            cure="give the size of the images that were flattened, or leave image_size out",
        )
    return size, channels


def _checked_size(asked: Any) -> Literal["auto"] | Size | None:
    """The image size as ``"auto"``, ``None`` or (height, width)."""
    if asked is None:
        return None
    if isinstance(asked, str) and asked == "auto":
        return "auto"
    is_single = isinstance(asked, (int, np.integer)) and not isinstance(asked, (bool, np.bool_))
    listed = (asked, asked) if is_single else asked
    try:
        sides = checks.whole_numbers(listed, "image_size", least=1, most=100_000, at_least=2)
    except InputError:
        sides = ()
    if len(sides) != 2:
        raise InputError(
            "image_size is (height, width), one number for both, 'auto' or None",
            got=f"image_size = {checks.shown(asked)}",
        )
    return sides[0], sides[1]


def _side_of_images(rows: np.ndarray) -> int | None:
    """The side of the square images that flat rows seem to be, if any: where neighbours below and beside are alike."""
    side = round(rows.shape[1] ** 0.5)
    if side < LEAST_SIDE or side * side != rows.shape[1] or len(rows) < 2:
        return None
    images = rows[:1000].reshape(-1, side, side).astype(np.float64)
    any_two = 2 * images.var()
    below, beside = (np.square(np.diff(images, axis=axis)).mean() for axis in (1, 2))
    # In a series that is cut into lines, what stands below is far away, and less alike than what stands beside.
    is_even = max(below, beside) < 4 * min(below, beside)
    return side if is_even and max(below, beside) < SMOOTH * any_two else None


def _without(
    unlabelled: np.ndarray, labelled: np.ndarray, among: np.ndarray, notes: list[str]
) -> np.ndarray:
    """Unlabelled rows that equal no labelled one: what is probed must not have been pretrained on."""
    if not len(unlabelled):
        return unlabelled
    repeated = np.isin(marks(unlabelled, among), marks(labelled, among))
    if repeated.any():
        notes.append(
            f"{int(repeated.sum())} unlabelled rows equal labelled ones and were not pretrained on"
        )
    return unlabelled[~repeated]


def _refuse_unlike(given: _Given, more: _Given) -> None:
    if given.rows.shape[1] != more.rows.shape[1] or given.image_size != more.image_size:
        shapes = [f"{name} of {one.rows.shape[1]} numbers a row" + (
            f" (images of {one.image_size[0]} x {one.image_size[1]})" if one.image_size else "")
            for name, one in (("X", given), ("X_unlabelled", more))]  # fmt: skip
        raise InputError(
            "labelled and unlabelled rows have the same form",
            got=" and ".join(shapes),
            cure="bring both into one shape",
        )
    if min(len(given.rows), len(more.rows)) < LEAST_ROWS:
        return
    spreads = [one.rows.std(axis=0, dtype=np.float64) for one in (given, more)]
    both = (spreads[0] > 0) & (spreads[1] > 0)
    ratio = float(np.median(spreads[1][both] / spreads[0][both])) if both.any() else 1.0
    if not 1 / UNLIKE <= ratio <= UNLIKE:
        raise InputError(
            "labelled and unlabelled rows have the same scale",
            got=f"columns of X_unlabelled spread {ratio:.3g} times as far as those of X",
            cause="one of them was divided by 255, or standardised",
            cure="scale both alike",
        )


def _refuse_rare(y: np.ndarray, groups: np.ndarray, names: tuple[str, ...]) -> None:
    first = np.unique(groups, return_index=True)[1]
    distinct = np.bincount(y[first], minlength=len(names))
    rare = int(distinct.argmin())
    if distinct[rare] < LEAST_OF_CLASS:
        rows = int((y == rare).sum())
        apart = f", {distinct[rare]} of them distinct" if distinct[rare] < rows else ""
        raise InputError(
            "each class needs three labelled rows: to fit a probe, to choose by and to report on",
            got=f"class {names[rare]!r} has {rows}{apart}",
            cause="a rare class, or a column of quantities or names instead of classes",
            cure="label more rows of it, or leave the class out",
        )


def _refuse_few(n: int) -> None:
    if n < LEAST_ROWS:
        raise InputError(
            f"pretraining needs at least {LEAST_ROWS} rows",
            got=f"{n} rows that are not probed",
            cause="few rows, of which half of those with labels are kept for the probe",
            cure="bring more rows; they need no labels",
        )
