"""The data set record, and the checks that every array must pass."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

from leadline import checks
from leadline.checks import ShortRepr
from leadline.data._classes import check_labels
from leadline.data._spread import fitting_type
from leadline.errors import InputError


@dataclass(frozen=True, eq=False)
class Dataset(ShortRepr):
    """Rows of features with optional labels. All values are checked on creation.

    >>> data = Dataset(np.eye(4), [0, 1, 0, 1], "corners", image_size=(2, 2))
    >>> len(data), data.num_classes, data.images.shape, data.X.dtype.name
    (4, 2, (4, 1, 2, 2), 'float32')
    """

    X: np.ndarray
    """Features of shape (n, d), finite, float32 or float64.

    The dtype is float64 if float32 would lose digits that matter, as in a column of timestamps. An
    image is flattened in the order (channels, H, W).
    """
    y: np.ndarray | None = None
    """Class indices of shape (n,), int64, or ``None`` if there are no labels."""
    name: str = "data"
    """Name of the data set in tables and protocols."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels, or ``None`` if the rows are not images."""
    channels: int = 1
    """Number of channels of an image: 1 for grey, 3 for red, green and blue."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, in the order of their indices."""
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    """Notes on changes to the features during loading."""
    columns: tuple[str, ...] | None = field(default=None, kw_only=True)
    """Names of the features in order, or ``None``. The default is the columns of a data frame."""
    divisor: int | None = field(default=None, kw_only=True)
    """Divisor of whole numbers during loading: 255 for pixels, 1 for unchanged numbers.

    ``None`` if the features were not whole numbers.
    """

    def __post_init__(self):
        columns = column_names(self.X) if self.columns is None else self.columns
        array = checks.array(self.X, "X")
        X = check_features(array, dtype=fitting_type(array))
        y = None if self.y is None else check_labels(self.y, len(X))
        object.__setattr__(self, "X", X)
        object.__setattr__(self, "y", y)
        object.__setattr__(self, "name", checks.text(self.name, "name"))
        object.__setattr__(
            self, "channels", checks.whole_number(self.channels, "channels", least=1)
        )
        object.__setattr__(self, "notes", _texts(self.notes, "notes"))
        object.__setattr__(
            self, "divisor", checks.optional_whole_number(self.divisor, "divisor", least=1)
        )
        object.__setattr__(
            self, "columns", None if columns is None else _column_texts(columns, X.shape[1])
        )
        if self.image_size is not None:
            object.__setattr__(
                self, "image_size", _check_image_size(self.image_size, self.channels, X.shape[1])
            )
        if self.class_names is not None:
            object.__setattr__(self, "class_names", _texts(self.class_names, "class_names"))
        if self.class_names is not None and y is not None and y.max() >= len(self.class_names):
            row = int(y.argmax())
            raise InputError(
                "class_names must name every class of y",
                got=f"y[{row}] = {y[row]} with {len(self.class_names)} class_names",
                cure="name every class",
            )

    def __len__(self) -> int:
        return len(self.X)

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 without labels."""
        if self.y is None:
            return 0
        return len(self.class_names) if self.class_names is not None else int(self.y.max()) + 1

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The class indices ``y`` of a data set with labels.

        Raises:
            InputError: the data set has no labels.
        """
        if self.y is None:
            raise InputError(
                f"{self.name} must be labelled",
                got="y = None",
                cure="pass y with the rows",
            )
        return self.y

    @property
    def images(self) -> Float[np.ndarray, "n channels H W"]:
        """The rows as images of shape (n, channels, H, W).

        Raises:
            InputError: the rows are not images.
        """
        if self.image_size is None:
            raise InputError(
                f"{self.name} holds no images", got="image_size = None", cure="use the rows, X"
            )
        return self.X.reshape(len(self.X), self.channels, *self.image_size)

    def resized(self, image_size: tuple[int, int]) -> Float32[np.ndarray, "n pixels"]:
        """Return the images at another size, flattened to rows.

        Interpolation is bilinear. If images shrink, each pixel is averaged over the area that it
        covers. An encoder of images of another size can read such rows; see
        :func:`leadline.probing.transfer_matrix`.

        Args:
            image_size: (height, width) in pixels.

        Raises:
            InputError: the rows are not images, or ``image_size`` is not two whole numbers.

        >>> from leadline import data
        >>> data.digits().resized((4, 4)).shape
        (1797, 16)
        """
        import torch

        size = checks.whole_numbers(image_size, "image_size", least=1, most=10_000, at_least=2)
        if len(size) != 2:
            raise InputError(
                "image_size must be (height, width)", got=f"image_size = {checks.shown(image_size)}"
            )
        images = torch.from_numpy(self.images)
        resized = torch.nn.functional.interpolate(
            images, size, mode="bilinear", antialias=True, align_corners=False
        )
        return resized.flatten(1).numpy()


def _column_texts(columns: Any, features: int) -> tuple[str, ...]:
    names = _texts(columns, "columns")
    if len(names) != features:
        raise InputError(
            "columns must name every feature",
            got=f"{len(names)} columns for {features} features",
        )
    return names


def column_names(X: Any) -> tuple[str, ...] | None:
    """Return the column names of a data frame as text, or ``None`` if it has no usable names.

    Whole numbers count as names, because a table has them as text after it is saved as CSV.
    """
    columns = getattr(X, "columns", None)
    if columns is None or not hasattr(X, "__array__"):
        return None
    names = tuple(columns)
    are_names = all(
        isinstance(name, (str, int, np.integer)) and not isinstance(name, bool) for name in names
    )
    return tuple(str(name) for name in names) if names and are_names else None


def check_features(
    X: Any, name: str = "X", *, columns: Any = None, dtype: Any = np.float32, first_row: int = 0
) -> Float[np.ndarray, "n d"]:
    """Convert features to a matrix of finite numbers.

    Constant columns and repeated rows are allowed.

    Args:
        X: array-like of shape (n, d), n and d at least 1.
        name: name of the array, for messages.
        columns: names of the d columns, for messages, or ``None``.
        dtype: dtype of the result, ``float32`` or ``float64``.
        first_row: number of the first row, for messages about a part of a larger array.

    Returns:
        ``X`` itself if it is already such an array, otherwise a converted copy.

    Raises:
        InputError: ``X`` is empty, not numeric, not a matrix, or contains NaN or infinite values.
            The message names the first such entry.

    >>> check_features([[1, 2], [3, np.nan]])
    Traceback (most recent call last):
    leadline.errors.InputError: X must be finite
      got:   X[1, 1] = nan; 1 such value in 1 of 2 rows
      cause: a missing value, a division by zero or an overflow
      cure:  drop or impute these rows
    """
    name = checks.text(name, "name")
    dtype = float_type(dtype, "dtype")
    first_row = checks.whole_number(first_row, "first_row", least=0)
    array = _numbers(checks.array(X, name, wanted="an array of real numbers"), name)
    if array.ndim != 2:
        raise InputError(
            f"{name} must be a matrix of shape (n, features)",
            got=f"{name} of shape {array.shape}",
            cause="images that are not flattened"
            if array.ndim > 2
            else "a single sample, or a single feature",
            cure=f"use {name}.reshape(len({name}), -1)",
        )
    if 0 in array.shape:
        raise InputError(
            f"{name} must have at least one row and one column",
            got=f"{name} of shape {array.shape}",
            cause="a filter or a selection of columns that kept nothing",
            cure="check what was selected",
        )
    titles = None if columns is None else _check_columns(columns, array.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = array.astype(dtype, copy=False)
    finite = np.isfinite(numbers)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        titled = f" (column {titles[column]!r})" if titles is not None else ""
        bad = int((~finite).sum())
        count = int((~finite).any(axis=1).sum())
        overflows = bool(np.isfinite(array[row, column]))
        raise InputError(
            f"{name} must fit into {dtype.name}" if overflows else f"{name} must be finite",
            got=f"{name}[{first_row + row}, {column}]{titled} = {array[row, column]}; "
            f"{bad} such value{'s' * (bad > 1)} in {count} of {len(array)} rows",
            cause=None if overflows else "a missing value, a division by zero or an overflow",
            cure="rescale the column" if overflows else "drop or impute these rows",
        )
    return numbers


def float_type(value: Any, name: str) -> np.dtype:
    """Return ``value`` as the NumPy dtype float32 or float64."""
    try:
        plain = None if value is None else np.dtype(value)
    except Exception:  # NumPy raises several kinds of errors for an invalid dtype.
        plain = None
    if plain is None or plain not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise InputError(
            f"{name} must be float32 or float64", got=f"{name} = {checks.shown(value)}"
        )
    return plain


def _texts(value: Any, name: str) -> tuple[str, ...]:
    return tuple(
        checks.text(item, f"{name}[{i}]")
        for i, item in enumerate(checks.items(value, name, of="texts"))
    )


def _check_columns(columns: Any, width: int) -> tuple[Any, ...]:
    titles = checks.items(
        columns if isinstance(columns, (list, tuple)) else _listed(columns), "columns", of="names"
    )
    if len(titles) != width:
        raise InputError(
            "columns must name every column", got=f"{len(titles)} names for {width} columns"
        )
    return titles


def _listed(columns: Any) -> Any:
    # The names may be an index of pandas.
    is_index = hasattr(columns, "tolist") and getattr(columns, "ndim", 0) == 1
    return columns.tolist() if is_index else columns


def _check_image_size(value: Any, channels: int, width: int) -> tuple[int, int]:
    sides = checks.whole_numbers(value, "image_size", least=1, at_least=2)
    if len(sides) != 2:
        raise InputError(
            "image_size must be (height, width)", got=f"image_size = {checks.shown(value)}"
        )
    if channels * sides[0] * sides[1] != width:
        raise InputError(
            "image_size must match X: an image has channels x height x width features",
            got=f"image_size = ({sides[0]}, {sides[1]}) and channels = {channels} for {width} "
            "features",
            cure="give the size of the images that were flattened into X, or image_size=None",
        )
    return (sides[0], sides[1])


def _numbers(array: np.ndarray, name: str) -> np.ndarray:
    """Return the array itself, or as float64 if it is an object array of numbers."""
    if array.dtype.kind in "biuf":
        return array
    kinds = (bool, int, float, np.number)
    strange = next((i for i in np.ndindex(array.shape) if not isinstance(array[i], kinds)), None)
    if array.dtype == object and strange is None:
        try:
            return array.astype(np.float64)
        # Whole numbers beyond 1e308 and complex numbers cannot be converted.
        except (OverflowError, TypeError) as error:
            raise InputError(
                f"{name} must hold real numbers below 1e308", got=f"{name}: {error}"
            ) from None
    where = ""
    if strange is not None:
        where = f", {name}[{', '.join(map(str, strange))}] = {checks.shown(array[strange])}"
    raise InputError(
        f"{name} must hold real numbers",
        got=f"{name} of dtype {array.dtype}{where}",
        cause="a column of text, missing values, or rows that differ in length",
        cure="keep the numeric columns and convert them with .astype('float32')",
    )
