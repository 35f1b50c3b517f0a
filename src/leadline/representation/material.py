"""What a study works on: rows with labels and rows without, checked, and what was noticed on the way."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from leadline.data import check_features, class_indices, missing_labels, row_fingerprints, split_roles
from leadline.data.pixels import DIVIDED, flatten_images, scale_pixels
from leadline.errors import InputError

Size = tuple[int, int]

ImageSize = Literal["auto"] | int | Size | None
"""Height and width of images that come as flat rows; or ``"auto"``: told from the rows; or ``None``: no images."""

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
    """How many of the unlabelled rows had labels, which they gave up."""
    notes: tuple[str, ...]


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
        X: rows of shape (n, d), or images of shape (n, h, w), (n, h, w, c) or (n, c, h, w).
        y: labels of any kind, shape (n,), or ``None``; ``None``, NaN, the empty string and -1 (scikit-learn's sign)
            stand for a missing one.
        X_unlabelled: more rows, of the same form.
        image_size: see :data:`ImageSize`.

    Raises:
        InputError: anything that does not fit; see the messages.
    """
    given = _given(X, "X")
    notes = list(given.notes)
    values, is_labelled = _labels(y, len(given.rows))
    unlabelled = given.rows[~is_labelled]
    labelled = given.rows[is_labelled]
    if X_unlabelled is not None:
        more = _given(X_unlabelled, "X_unlabelled")
        _refuse_unlike(given, more)
        unlabelled = np.concatenate([unlabelled, more.rows])
        notes += [note for note in more.notes if note not in notes]
    size, channels = _image_form(given, unlabelled if len(unlabelled) else labelled, image_size, notes)
    if not len(labelled):
        _refuse_few(len(unlabelled))
        none = np.zeros(0, np.int64)
        return Material(unlabelled, labelled, none, (), size, channels, 0, tuple(notes))
    indices, names = class_indices(values, "y")
    _refuse_rare(indices, names)
    unlabelled = _without(unlabelled, labelled, notes)
    set_aside = 0
    if len(unlabelled) < len(labelled):
        roles = split_roles(indices, seed=0, fractions=(0.5, 0, 0.5, 0, 0), groups=row_fingerprints(labelled))
        set_aside = len(roles.pretrain_train)
        unlabelled = np.concatenate([unlabelled, labelled[roles.pretrain_train]])
        labelled, indices = labelled[roles.probe_pool], indices[roles.probe_pool]
        notes.append(
            f"with fewer unlabelled rows than labelled ones, {set_aside} rows gave up their labels to be pretrained on"
        )
    _refuse_few(len(unlabelled))
    return Material(unlabelled, labelled, indices, names, size, channels, set_aside, tuple(notes))


def _labels(y: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels that are there, and which rows have one."""
    if y is None:
        return np.zeros(0), np.zeros(n, bool)
    values = np.asarray(y)
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
    if there.dtype.kind == "f" and (there == np.floor(there)).all():  # NaN had turned whole numbers into floats
        there = there.astype(np.int64)
    return there, ~absent


def _given(X: Any, name: str) -> _Given:
    try:
        array = np.asarray(X)
    except (TypeError, ValueError, RuntimeError):
        array = np.asarray(check_features(X, name))  # refuses, and says what differs
    if array.ndim not in (3, 4):
        return _Given(check_features(array, name), None, 1, ())
    notes = ()
    if array.dtype.kind in "iu":
        scaled = scale_pixels(array, name)
        if scaled is not array:
            notes = (DIVIDED,)
    else:
        check_features(array.reshape(len(array), -1) if len(array) else array.reshape(0, 1), name)
        scaled, notes = _unit_interval(array, name)
    rows, size, channels = flatten_images(scaled, name)
    return _Given(check_features(rows, name), size, channels, notes)


def _unit_interval(images: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Floating-point images between 0 and 1; whole numbers up to 255 are divided, others refused."""
    low, high = float(images.min()), float(images.max())
    if low >= 0 and high <= 1:
        return images, ()
    if low >= 0 and high <= 255 and (images == np.floor(images)).all():
        return images / 255, (DIVIDED,)
    raise InputError(
        "floating-point numbers in images lie between 0 and 1",
        got=f"{name} from {low:g} to {high:g}",
        cause="images that were standardised, or of another range: which cannot be seen",
        cure=f"divide them by their range; or hand flat rows over, {name}.reshape(len({name}), -1), with image_size: "
        "these stay as they are",
    )


def _image_form(given: _Given, rows: np.ndarray, asked: ImageSize, notes: list[str]) -> tuple[Size | None, int]:
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
    size = (asked, asked) if isinstance(asked, int) else tuple(asked)
    if len(size) != 2 or not all(isinstance(side, (int, np.integer)) and side >= 1 for side in size):
        raise InputError("image_size is (height, width) or one number for both", got=f"image_size = {asked!r}")
    channels, rest = divmod(rows.shape[1], int(size[0]) * int(size[1]))
    if rest or channels not in (1, 3) or given.image_size not in (None, size):
        has = "" if given.image_size is None else f", images of {given.image_size[0]} x {given.image_size[1]} pixels"
        raise InputError(
            "an image has height x width numbers, or three times as many",
            got=f"image_size = {size} for rows of {rows.shape[1]} numbers{has}",
            cure="give the size of the images that were flattened, or leave image_size out",
        )
    return (int(size[0]), int(size[1])), channels


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


def _without(unlabelled: np.ndarray, labelled: np.ndarray, notes: list[str]) -> np.ndarray:
    """Unlabelled rows that equal no labelled one: what is probed must not have been pretrained on."""
    if not len(unlabelled):
        return unlabelled
    repeated = np.isin(row_fingerprints(unlabelled), row_fingerprints(labelled))
    if repeated.any():
        notes.append(f"{int(repeated.sum())} unlabelled rows equal labelled ones and were not pretrained on")
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


def _refuse_rare(y: np.ndarray, names: tuple[str, ...]) -> None:
    counts = np.bincount(y)
    rare = int(counts.argmin())
    if counts[rare] < 3:
        raise InputError(
            "each class needs three labelled rows: to fit a probe, to choose by and to report on",
            got=f"class {names[rare]!r} has {counts[rare]}",
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
