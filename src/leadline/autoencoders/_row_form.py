"""The form of the rows of pretraining: the order of their columns and the scale of their numbers.

The form is determined once, from the rows of pretraining, and saved with the encoder. Later rows
are converted to this form. Their own range never decides the scale: a dark image is divided by 255
if the images of pretraining were, alone or next to others.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from leadline import checks
from leadline.data import Dataset, column_names
from leadline.errors import InputError
from leadline.storage import record

Scale = Literal["divided", "all divided", "unit", "binary", "whole", "other"]
"""The numbers of pretraining, which decide the conversion of later rows.

- ``"divided"``: pixels, divided by 255. Whole numbers are divided; floating-point numbers are
  already divided.
- ``"all divided"``: pixels, stored as floating-point numbers from 0 to 255. All numbers are
  divided.
- ``"unit"``: floating-point numbers from 0 to 1. Pixels are divided; other whole numbers are not
  changed.
- ``"binary"``: only 0 and 1. Numbers are not changed; pixels above 1 are refused.
- ``"whole"``: whole numbers in a table. Numbers are not changed.
- ``"other"``: floating-point numbers of another or an unknown range. Pixels are refused, because
  their scale is unknown.

Pixels are whole numbers in an array that is shaped like images, and all numbers of dtype uint8.
"""

PIXEL = 255
"""The largest 8-bit pixel, by which pixels are divided."""

BRIGHTEST = 4.0
"""Maximum of divided pixels. They lie between 0 and 1; noise may raise them up to this number."""

FAMILY = ("divided", "unit", "binary")
"""Compatible scales: numbers lie between 0 and 1 after pixels are divided."""

_BLOCK = 2**21
"""Numbers of a memory map that are read at once."""


@record("autoencoders.RowForm")
@dataclass(frozen=True)
class RowForm:
    """The columns and the scale of the rows of pretraining.

    >>> form = RowForm.of(np.array([[0, 51, 255]], np.uint8))
    >>> form.divisor, form.apply(np.array([[0, 1, 0]], np.uint8)).round(4).tolist()
    (255, [[0.0, 0.0038999998942017555, 0.0]])
    """

    columns: tuple[str, ...] | None = None
    """The names of the columns in the order of pretraining; ``None`` if they had no names."""
    scale: Scale = "other"
    """The numbers of pretraining."""

    def __post_init__(self):
        checks.choice(
            self.scale, "scale", ("divided", "all divided", "unit", "binary", "whole", "other")
        )
        if self.columns is not None:
            names = checks.items(self.columns, "columns", least=1, of="names")
            texts = tuple(checks.text(name, f"columns[{i}]") for i, name in enumerate(names))
            object.__setattr__(self, "columns", texts)

    @classmethod
    def of(cls, X: Any, name: str = "X") -> "RowForm":
        """Return the form of rows for pretraining.

        Args:
            X: An array, a tensor, a data frame or a ``Dataset``.
            name: The argument's name in messages.
        """
        columns = names_of(X)
        if isinstance(X, Dataset):
            if X.divisor == PIXEL:
                return cls(columns, "divided")
            return cls(columns, _scale(X.X, is_whole=X.divisor is not None, are_pixels=False))
        array = X if isinstance(X, np.memmap) else checks.array(X, name)
        is_whole = array.dtype.kind in "iu"
        return cls(columns, _scale(array, is_whole, are_pixels(array)))

    @property
    def divisor(self) -> int:
        """The divisor of pixels: 255, or 1 if they are not changed."""
        return PIXEL if self.scale in ("divided", "all divided", "unit") else 1

    def merged(self, other: "RowForm") -> "RowForm":
        """Return the common form of two parts, such as labelled and unlabelled rows."""
        is_family = self.scale in FAMILY and other.scale in FAMILY
        if is_family and other.scale == "divided":
            return replace(self, scale="divided")
        return self

    def apply(self, X: Any, name: str = "X") -> np.ndarray:
        """Return rows with the columns and the scale of pretraining, in their own shape.

        Args:
            X: An array, a tensor, a data frame or a ``Dataset``.
            name: The argument's name in messages.

        Raises:
            InputError: The rows have other columns or another scale.
        """
        if isinstance(X, Dataset):
            return self._ordered(self._rescaled(X, name), X.columns, name)
        array = checks.array(X, name)
        if array.dtype.kind in "iu":
            array = self._whole(array, are_pixels(array), name)
        elif array.dtype.kind == "f" and array.size:
            array = self._floats(array, name)
        return self._ordered(array, names_of(X), name)

    def _rescaled(self, X: Dataset, name: str) -> np.ndarray:
        """Return the rows of a data set, whose reader may have divided them."""
        if X.divisor is None:
            return self._floats(X.X, name)
        if X.divisor == 1:
            return self._whole(X.X, X.image_size is not None, name)
        if self.scale in ("divided", "all divided", "unit"):
            return X.X
        return self._whole(np.rint(X.X * X.divisor), True, name)

    def _whole(self, array: np.ndarray, are_pixels: bool, name: str) -> np.ndarray:
        """Return whole numbers in the scale of pretraining."""
        is_divided = self.scale in ("divided", "all divided")
        if not array.size or not (is_divided or are_pixels):
            return array
        high = array.max()
        is_binary = self.scale == "binary" and high <= 1
        is_zero = high == 0 and array.min() == 0
        if self.scale == "whole" or is_binary or is_zero:
            return array
        if self.divisor == PIXEL:
            _check_pixels(array, name)
            return array.astype(np.float32) / PIXEL
        if self.scale == "binary":
            raise InputError(
                f"{name} must hold zeros and ones, as the rows of pretraining did",
                got=f"whole numbers up to {high} in {name}",
                cause="pixels from 0 to 255",
                cure=f"convert them to 0 and 1, as in ({name} > 127).astype('float32')",
            )
        raise InputError(
            f"{name} must not hold pixels: pretraining used numbers of another range",
            got=f"whole numbers up to {high} in {name}",
            cause="pixels from a file, while pretraining used scaled pixels",
            cure="pass floating-point numbers in the scale of pretraining",
        )

    def _floats(self, array: np.ndarray, name: str) -> np.ndarray:
        """Return floating-point numbers in the scale of pretraining."""
        if self.scale == "all divided":
            return array.astype(np.float32) / PIXEL
        if self.scale == "divided" and array.size:
            high = array.max()
            if high > BRIGHTEST or (high > 1 and bool((array == np.floor(array)).all())):
                raise InputError(
                    f"{name} must hold pixels between 0 and 1: pretraining divided pixels by 255",
                    got=f"numbers up to {high:g} in {name}",
                    cause="pixels from 0 to 255 that were converted to floating-point numbers",
                    cure=f"pass whole numbers, or {name} / 255",
                )
        return array

    def _ordered(self, array: np.ndarray, columns: tuple[str, ...] | None, name: str) -> np.ndarray:
        """Return rows with their columns in the order of pretraining."""
        if self.columns is None or columns is None or columns == self.columns or array.ndim != 2:
            return array
        # pandas numbers columns without names.
        is_numbered = columns == tuple(str(i) for i in range(len(columns)))
        if is_numbered and set(columns).isdisjoint(self.columns):
            return array
        if sorted(columns) != sorted(self.columns) or len(set(columns)) < len(columns):
            raise InputError(
                f"{name} must have the columns of pretraining",
                got=f"{name} {self._difference(columns)}",
                cause="a table with other columns, or columns that were renamed",
                cure=f"select the columns of pretraining: {_listed(list(self.columns))}",
            )
        return array[:, [columns.index(column) for column in self.columns]]

    def _difference(self, columns: tuple[str, ...]) -> str:
        """Describe the difference between columns and those of pretraining."""
        expected = self.columns or ()
        missing = [column for column in expected if column not in columns]
        unknown = [column for column in columns if column not in expected]
        parts = []
        if missing:
            parts.append(f"without {_listed(missing)}")
        if unknown:
            parts.append(f"with {_listed(unknown)}")
        return " and ".join(parts) or "with a repeated column name"


def names_of(X: Any) -> tuple[str, ...] | None:
    """Return the names of the columns of a data set or a data frame; ``None`` without names."""
    return X.columns if isinstance(X, Dataset) else column_names(X)


def are_pixels(array: np.ndarray) -> bool:
    """True for whole numbers in the shape of images, and for all numbers of dtype uint8."""
    return array.dtype == np.uint8 or (array.ndim > 2 and array.dtype.kind in "iu")


def _scale(array: np.ndarray, is_whole: bool, are_pixels: bool) -> Scale:
    """Return the scale of the rows of pretraining."""
    low = np.inf
    high = -np.inf
    is_binary = array.size > 0
    for part in _parts(array):
        low = min(low, part.min())
        high = max(high, part.max())
        is_binary = is_binary and bool(((part == 0) | (part == 1)).all())
    if is_binary:
        return "binary"
    if is_whole:
        return "divided" if are_pixels else "whole"
    return "unit" if low >= 0 and high <= 1 else "other"


def _parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows in blocks, so that a memory map is never loaded as a whole."""
    if array.dtype.kind not in "biuf" or not array.size or array.ndim == 0:
        return
    step = max(1, _BLOCK * len(array) // array.size)
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _check_pixels(array: np.ndarray, name: str) -> None:
    """Refuse whole numbers in images outside 0 to 255."""
    low = array.min()
    high = array.max()
    if low < 0 or high > PIXEL:
        raise InputError(
            f"{name} must lie between 0 and 255 if it holds images of whole numbers",
            got=f"{name} from {low:g} to {high:g}",
            cause="images of 16 bits, or standardised images",
            cure="divide them by their largest value and pass floating-point numbers",
        )


def _listed(names: list[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
