"""The size of images that are given as flat rows, stated by the user or detected."""

from typing import Any, Literal

import numpy as np

from leadline import checks
from leadline.errors import InputError
from leadline.representation._given_rows import GivenRows, Size

ImageSize = Literal["auto"] | int | Size | None
"""Size of images that are given as flat rows: (height, width) or one number for both, ``"auto"`` to
detect it, or ``None`` for rows that are not images."""

SMOOTH = 0.5
"""Flat rows count as images if the mean squared difference of neighbouring pixels is below this
share of that of any two pixels."""

LEAST_SIDE = 12
"""Side in pixels of the smallest square that flat rows are taken for, and of the smallest image
that is learned in patches."""

MOST_ROWS_TO_DETECT = 1000
"""Number of rows that the detection of images reads."""


def image_form(
    given: GivenRows,
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
    channels, remainder = divmod(rows.shape[1], size_setting[0] * size_setting[1])
    if remainder or channels not in (1, 3) or given.image_size not in (None, size_setting):
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
