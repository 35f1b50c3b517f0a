"""Rows of a study as one matrix: images are flattened, and pixels are divided."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leadline import checks
from leadline.autoencoders import PIXEL, RowForm
from leadline.data import (
    DIVIDED,
    Dataset,
    are_bytes,
    check_features,
    compact_features,
    exact_features,
    flatten_images,
    refuse_other_range,
)
from leadline.errors import InputError

Size = tuple[int, int]
"""Height and width of an image in pixels."""

LEAST_ROWS = 20
"""Smallest number of rows for pretraining, and for a comparison of scales."""

UNLIKE = 10.0
"""Largest ratio of the spreads of unlabelled and labelled rows that are on one scale."""


@dataclass(frozen=True, eq=False)
class GivenRows:
    """One array of rows, flattened and scaled."""

    rows: np.ndarray
    image_size: Size | None
    channels: int
    notes: tuple[str, ...]


def row_form(X: Any, name: str) -> RowForm:
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


def read_rows(X: Any, name: str, form: RowForm, *, exact: bool = False) -> GivenRows:
    """Return rows in the form of the study, with columns in order and pixels divided."""
    if isinstance(X, Dataset):
        rows = _matrix(form.apply(X, name), name, exact)
        return GivenRows(rows, X.image_size, X.channels, X.notes)
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
        return GivenRows(_matrix(scaled, name, exact), None, 1, notes)
    refuse_other_range(scaled, name)
    rows, size, channels = flatten_images(scaled, name)
    return GivenRows(_matrix(rows, name, exact), size, channels, notes)


def _matrix(rows: np.ndarray, name: str, exact: bool) -> np.ndarray:
    """Return rows in float64 if ``exact``; otherwise in float32 unless it would blur them."""
    if exact:
        return exact_features(rows, name).astype(np.float64)
    return compact_features(rows, name)


def refuse_unlike(given: GivenRows, more: GivenRows) -> None:
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


def _described(given: GivenRows) -> str:
    """Return the form of rows in words."""
    images = ""
    if given.image_size is not None:
        images = f" (images of {given.image_size[0]} x {given.image_size[1]})"
    return f"{given.rows.shape[1]} numbers a row{images}"
