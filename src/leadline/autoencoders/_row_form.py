"""The form of the rows that an encoder was pretrained on: the order of their columns, and the scale of their numbers.

The form is learned once, from the rows of pretraining, and kept with the encoder. Rows that are encoded later are
brought into this form. Their own range never decides the scale: a dark image is divided by 255 because the images of
pretraining were, whether it comes alone or with others.
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
"""The numbers that pretraining saw, and so what happens to whole numbers from now on.

- ``"divided"``: pixels, divided by 255. Whole numbers are divided; floating-point numbers were divided already.
- ``"all divided"``: pixels, stored as floating-point numbers from 0 to 255. All numbers are divided.
- ``"unit"``: floating-point numbers from 0 to 1. Pixels are divided; other whole numbers are taken as they are.
- ``"binary"``: only 0 and 1. Numbers are taken as they are; pixels above 1 are refused.
- ``"whole"``: whole numbers in a table. Numbers are taken as they are.
- ``"other"``: floating-point numbers of another range, or not known. Pixels are refused: their scale is not known.

Pixels are whole numbers in an array that is shaped like images, and all numbers of dtype uint8.
"""

PIXEL = 255
"""The largest pixel in 8 bits: what pixels are divided by."""

BRIGHTEST = 4.0
"""Pixels that were divided by 255 lie between 0 and 1; noise may raise them, but not beyond this number."""

FAMILY = ("divided", "unit", "binary")
"""Scales that agree with one another: numbers from 0 to 1 once pixels are divided."""

_BLOCK = 2**21
"""Numbers of a memory map that are looked at together."""


@record("autoencoders.RowForm")
@dataclass(frozen=True)
class RowForm:
    """The columns and the scale of the rows that an encoder was pretrained on.

    >>> form = RowForm.of(np.array([[0, 51, 255]], np.uint8))
    >>> form.divisor, form.apply(np.array([[0, 1, 0]], np.uint8)).round(4).tolist()
    (255, [[0.0, 0.0038999998942017555, 0.0]])
    """

    columns: tuple[str, ...] | None = None
    """The names of the columns in the order of pretraining; ``None`` where they had none."""
    scale: Scale = "other"

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
        """The form of the rows that pretraining gets: an array, a tensor, a data frame or a ``Dataset``."""
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
        """The number that pixels are divided by: 255, or 1 where they are taken as they are."""
        return PIXEL if self.scale in ("divided", "all divided", "unit") else 1

    def merged(self, other: "RowForm") -> "RowForm":
        """The form of rows that come in two parts, such as labelled and unlabelled ones."""
        is_family = self.scale in FAMILY and other.scale in FAMILY
        return replace(self, scale="divided") if is_family and other.scale == "divided" else self

    def apply(self, X: Any, name: str = "X") -> np.ndarray:
        """Rows with their columns in order and their numbers in the scale of pretraining; their shape is kept.

        Raises:
            InputError: names of other columns, or numbers whose scale is not the one of pretraining.
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
        """The rows of a data set, whose reader may have divided them."""
        if X.divisor is None:
            return self._floats(X.X, name)
        if X.divisor == 1:
            return self._whole(X.X, X.image_size is not None, name)
        if self.scale in ("divided", "all divided", "unit"):
            return X.X
        return self._whole(np.rint(X.X * X.divisor), True, name)

    def _whole(self, array: np.ndarray, are_pixels: bool, name: str) -> np.ndarray:
        is_divided = self.scale in ("divided", "all divided")
        if not array.size or not (is_divided or are_pixels):
            return array
        high = array.max()
        if (
            self.scale == "whole"
            or (self.scale == "binary" and high <= 1)
            or (high == 0 and array.min() == 0)
        ):
            return array
        if self.divisor == PIXEL:
            _check_pixels(array, name)
            return array.astype(np.float32) / PIXEL
        if self.scale == "binary":
            raise InputError(
                "the encoder was pretrained on zeros and ones",
                got=f"whole numbers up to {high} in {name}",
                cause="pixels from 0 to 255, where pretraining saw 0 and 1",
                cure=f"bring them to 0 and 1, as in ({name} > 127).astype('float32')",
            )
        raise InputError(
            "the scale of pixels must be known: pretraining saw floating-point numbers of another range",
            got=f"whole numbers up to {high} in {name}",
            cause="pixels as they are in a file, where pretraining saw scaled ones",
            cure="hand floating-point numbers over, scaled as the rows of pretraining were",
        )

    def _floats(self, array: np.ndarray, name: str) -> np.ndarray:
        if self.scale == "all divided":
            return array.astype(np.float32) / PIXEL
        if self.scale == "divided" and array.size:
            high = array.max()
            if high > BRIGHTEST or (high > 1 and bool((array == np.floor(array)).all())):
                raise InputError(
                    "floating-point pixels lie between 0 and 1, as pretraining divided its pixels by 255",
                    got=f"numbers up to {high:g} in {name}",
                    cause="pixels from 0 to 255 that were converted to floating-point numbers",
                    cure=f"hand whole numbers over, or {name} / 255",
                )
        return array

    def _ordered(self, array: np.ndarray, columns: tuple[str, ...] | None, name: str) -> np.ndarray:
        if self.columns is None or columns is None or columns == self.columns or array.ndim != 2:
            return array
        are_counted = columns == tuple(str(i) for i in range(len(columns)))
        if are_counted and set(columns).isdisjoint(
            self.columns
        ):  # pandas' names for columns without names
            return array
        if sorted(columns) != sorted(self.columns) or len(set(columns)) < len(columns):
            missing = [column for column in self.columns if column not in columns]
            unknown = [column for column in columns if column not in self.columns]
            parts = [
                f"without {_listed(missing)}" if missing else "",
                f"with {_listed(unknown)}" if unknown else "",
            ]
            raise InputError(
                "rows must have the columns that the encoder was pretrained on",
                got=f"{name} {' and '.join(part for part in parts if part) or 'with a name that stands twice'}",
                cause="a table with other columns, or columns that were renamed",
                cure=f"select the columns of pretraining: {_listed(list(self.columns))}",
            )
        return array[:, [columns.index(column) for column in self.columns]]


def names_of(X: Any) -> tuple[str, ...] | None:
    """The names of the columns of a data set or a data frame; ``None`` where there are none."""
    return X.columns if isinstance(X, Dataset) else column_names(X)


def are_pixels(array: np.ndarray) -> bool:
    """True for whole numbers in the shape of images, and for all numbers of dtype uint8."""
    return array.dtype == np.uint8 or (array.ndim > 2 and array.dtype.kind in "iu")


def _scale(array: np.ndarray, is_whole: bool, are_pixels: bool) -> Scale:
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
    """Rows in blocks, so that a memory map is never held as a whole."""
    if array.dtype.kind not in "biuf" or not array.size or array.ndim == 0:
        return
    step = max(1, _BLOCK * len(array) // array.size)
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _check_pixels(array: np.ndarray, name: str) -> None:
    low = array.min()
    high = array.max()
    if low < 0 or high > PIXEL:
        raise InputError(
            "whole numbers in images lie between 0 and 255",
            got=f"{name} from {low:g} to {high:g}",
            cause="images of 16 bits, or images that were standardised",
            cure="divide them by their largest value and hand floating-point numbers over",
        )


def _listed(names: list[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
