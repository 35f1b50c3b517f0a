"""One record for all data, and the checks that every array passes before any work starts."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from leadline.errors import InputError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows of features, with labels where there are any. Checked when it is made.

    >>> data = Dataset(np.eye(4), [0, 1, 0, 1], "corners", image_size=(2, 2))
    >>> len(data), data.num_classes, data.images.shape, data.X.dtype.name
    (4, 2, (4, 1, 2, 2), 'float32')
    """

    X: np.ndarray
    """Features of shape (n, d), float32, finite. An image is flattened in the order (channels, H, W)."""
    y: np.ndarray | None = None
    """Class indices of shape (n,), int64, or ``None`` where nothing is labelled."""
    name: str = "data"
    """What the data are called in tables and protocols."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels, or ``None`` where a row is no image."""
    channels: int = 1
    """Channels of an image: 1 for grey, 3 for red, green and blue."""
    class_names: tuple[str, ...] | None = None
    """The name of each class index, in order."""
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    """What was done to the features when they were read, if anything."""
    columns: tuple[str, ...] | None = field(default=None, kw_only=True)
    """The names of the features in their order, or ``None`` where they have none. A data frame brings its own."""
    divisor: int | None = field(default=None, kw_only=True)
    """The number that whole numbers were divided by when they were read: 255 for pixels, 1 where they were left as they
    are; ``None`` where the features were not whole numbers."""

    def __post_init__(self):
        if self.columns is None:
            object.__setattr__(self, "columns", column_names(self.X))
        object.__setattr__(self, "X", check_features(self.X))
        if self.columns is not None and len(self.columns) != self.X.shape[1]:
            raise InputError(
                "every feature needs a name where features have names",
                got=f"{len(self.columns)} columns for {self.X.shape[1]} features",
            )
        if self.y is not None:
            object.__setattr__(self, "y", check_labels(self.y, len(self.X)))
        if self.image_size is not None and self.channels * self.image_size[0] * self.image_size[1] != self.X.shape[1]:
            height, width = self.image_size
            raise InputError(
                "an image has channels x height x width features",
                got=f"image_size = ({height}, {width}) and channels = {self.channels} for {self.X.shape[1]} features",
                cure="give the size of the images that were flattened into X, or image_size=None",
            )
        if self.class_names is not None and self.y is not None and self.y.max() >= len(self.class_names):
            row = int(self.y.argmax())
            raise InputError(
                "every class index needs a name",
                got=f"y[{row}] = {self.y[row]} with {len(self.class_names)} class_names",
                cure="name every class, or make labels and names together with leadline.data.class_indices",
            )

    def __len__(self) -> int:
        return len(self.X)

    @property
    def num_classes(self) -> int:
        """How many classes there are; 0 without labels."""
        if self.y is None:
            return 0
        return len(self.class_names) if self.class_names is not None else int(self.y.max()) + 1

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The class indices ``y``, where they are needed.

        Raises:
            InputError: nothing is labelled.
        """
        if self.y is None:
            raise InputError(f"{self.name} must be labelled", got="y = None", cure="hand labels over with the rows")
        return self.y

    @property
    def images(self) -> Float[np.ndarray, "n channels H W"]:
        """The rows as images.

        Raises:
            InputError: the rows are no images.
        """
        if self.image_size is None:
            raise InputError(f"{self.name} holds no images", got="image_size = None", cure="use the rows, X")
        return self.X.reshape(len(self.X), self.channels, *self.image_size)


def column_names(X: Any) -> tuple[str, ...] | None:
    """The names of a table's columns, if it is a data frame whose columns are all named by text; else ``None``."""
    columns = getattr(X, "columns", None)
    if columns is None or not hasattr(X, "__array__"):
        return None
    names = tuple(columns)
    return names if names and all(isinstance(name, str) for name in names) else None


def check_features(
    X: Any, name: str = "X", *, columns: Any = None, dtype: type[np.floating] = np.float32, first_row: int = 0
) -> Float[np.ndarray, "n d"]:
    """Features as a matrix of finite numbers, or a refusal that says which entry is at fault.

    Constant columns are fine, and so are rows that repeat.

    Args:
        X: array-like of shape (n, d), n and d at least 1.
        name: what messages call the array.
        columns: sequence of the names of the d columns, for messages, or ``None``.
        dtype: of the result; ``float64`` on request.
        first_row: number of the first row, for messages about a part of a whole.

    Returns:
        ``X`` itself where it is already such an array, else a converted copy.

    Raises:
        InputError: not numbers, an object array, not a matrix, empty, or NaN or infinite somewhere.

    >>> check_features([[1, 2], [3, np.nan]])
    Traceback (most recent call last):
    leadline.errors.InputError: features must be finite
      got:   X[1, 1] = nan; 1 such value in 1 of 2 rows
      cause: a missing value, a division by zero or an overflow
      cure:  drop or impute these rows before handing them over
    """
    array = _as_array(X, name)
    _refuse_non_numbers(array, name)
    if array.ndim != 2:
        raise InputError(
            "features are a matrix of shape (samples, features)",
            got=f"{name} of shape {array.shape}",
            cause="images that are not flattened" if array.ndim > 2 else "a single sample, or a single feature",
            cure=f"use {name}.reshape(len({name}), -1)",
        )
    if 0 in array.shape:
        raise InputError(
            "features need at least one row and one column",
            got=f"{name} of shape {array.shape}",
            cause="a filter or a selection of columns that kept nothing",
            cure="check what was selected",
        )
    with np.errstate(over="ignore"):
        numbers = array.astype(dtype, copy=False)
    finite = np.isfinite(numbers)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        titled = f" (column {columns[column]!r})" if columns is not None else ""
        bad, count = int((~finite).sum()), int((~finite).any(axis=1).sum())
        overflows = bool(np.isfinite(array[row, column]))
        raise InputError(
            f"features must fit into {np.dtype(dtype).name}" if overflows else "features must be finite",
            got=f"{name}[{first_row + row}, {column}]{titled} = {array[row, column]}; "
            f"{bad} such value{'s' * (bad > 1)} in {count} of {len(array)} rows",
            cause=None if overflows else "a missing value, a division by zero or an overflow",
            cure="rescale the column" if overflows else "drop or impute these rows before handing them over",
        )
    return numbers


def check_labels(y: Any, n: int, name: str = "y") -> Int64[np.ndarray, " n"]:
    """Labels as class indices, or a refusal that says which label is at fault.

    Args:
        y: array-like of shape (n,): whole numbers, 0 or larger, of at least two classes.
        n: how many rows the features have.
        name: what messages call the array.

    Raises:
        InputError: another length, not whole numbers, negative, or a single class.

    >>> check_labels([0, 1, 1.0], 3)
    array([0, 1, 1])
    >>> check_labels([7, 7, 7], 3)
    Traceback (most recent call last):
    leadline.errors.InputError: labels need at least two classes
      got:   all 3 labels in y are 7
      cause: rows that are sorted by class were cut, or the wrong column was named
      cure:  shuffle before cutting, or leave the labels out to work without them
    """
    array = _one_per_row(_as_array(y, name), n, name)
    if array.dtype.kind not in "biuf":
        raise InputError(
            "labels are class indices: whole numbers from 0",
            got=f"{name} of dtype {array.dtype}" + (f", {name}[0] = {array[0]!r}" if array.size else ""),
            cause="class names",
            cure="y, class_names = leadline.data.class_indices(labels)",
        )
    array = array.astype(np.int64) if array.dtype.kind == "b" else array
    wrong = (array < 0) | (array >= 2**63)
    if array.dtype.kind == "f":
        wrong |= ~np.isfinite(array) | (array != np.floor(array))
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise InputError(
            "labels are class indices: whole numbers from 0",
            got=f"{name}[{row}] = {array[row]}; {int(np.sum(wrong))} such of {len(array)}",
            cause="a missing label, a quantity to regress on, or classes named -1 and 1",
            cure="drop unlabelled rows; turn class names into indices with leadline.data.class_indices",
        )
    _refuse_single_class(array, name)
    return array.astype(np.int64)


def class_indices(labels: Any, name: str = "labels") -> tuple[np.ndarray, tuple[str, ...]]:
    """Class indices and class names from labels of any kind: strings, -1 and 1, booleans, whole numbers.

    Classes are numbered in sorted order: numbers by value, strings by code point.

    Args:
        labels: array-like of shape (n,).
        name: what messages call the array.

    Returns:
        Indices of shape (n,), int64, and the class names in their order.

    Raises:
        InputError: a label is missing, a fraction, or neither number nor string; or there is a single class.

    >>> class_indices(["rope", "lead", "rope"])
    (array([1, 0, 1]), ('lead', 'rope'))
    """
    array = _as_array(labels, name)
    array = _one_per_row(array, len(array) if array.ndim else 0, name)
    listed = [label.item() if isinstance(label, np.generic) else label for label in array.tolist()]
    kinds = {type(label) for label in listed}
    missing = [i for i, label in enumerate(listed) if _is_missing(label)]
    if missing:
        raise InputError(
            "every row needs its label",
            got=f"{name}[{missing[0]}] is missing; {len(missing)} such of {len(array)}",
            cure="drop the unlabelled rows, or leave the labels out to work without them",
        )
    fractions = [i for i, label in enumerate(listed) if isinstance(label, float) and not label.is_integer()]
    if fractions or not (kinds <= {str} or kinds <= {int, bool, float}):
        row = fractions[0] if fractions else next(i for i, x in enumerate(listed) if type(x) is not str)
        raise InputError(
            "labels are whole numbers or strings, of one kind",
            got=f"{name}[{row}] = {listed[row]!r}",
            cause="a quantity to regress on" if fractions else "a column of mixed kinds",
            cure="name the column that holds classes",
        )
    _refuse_single_class(array, name)
    if kinds == {str}:
        values = array.astype(str)
    elif array.dtype.kind in "iu":
        values = array
    else:  # whole numbers of any size, which no dtype of NumPy holds
        values = np.array([int(label) for label in listed], dtype=object)
    names, y = np.unique(values, return_inverse=True)
    return y.astype(np.int64), tuple(str(name) for name in names)


def missing_labels(values: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Which labels are missing: ``None``, NaN, the empty string, and -1 among other whole numbers than 1.

    >>> missing_labels(np.array([3, -1, 4])).tolist(), missing_labels(np.array(["rope", ""])).tolist()
    ([False, True, False], [False, True])
    """
    listed = values.tolist()
    absent = np.array([_is_missing(value) or value == "" for value in listed], dtype=bool)
    rest = {value for value, missing in zip(listed, absent, strict=True) if not missing}
    if -1 in rest and not rest <= {-1, 1}:
        absent |= np.array([value == -1 and not isinstance(value, str) for value in listed])
    return absent


def _is_missing(label: Any) -> bool:
    """Whether it is ``None``, NaN or pandas' NA."""
    try:
        return label is None or bool(label != label)
    except TypeError:  # NA is neither equal to itself nor not
        return True


def check_count(value: int, name: str, least: int = 1) -> int:
    """A whole number of at least ``least``, or a refusal.

    >>> check_count(3, "num")
    3
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}", got=f"{name} = {value!r}")
    return int(value)


def _as_array(value: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name} must be an array",
            got=f"a {type(value).__name__} that NumPy cannot convert ({error})",
            cause="rows that differ in length, or a tensor that is on a device or carries a gradient",
            cure="make the rows equal in length; for a tensor hand over .detach().cpu()",
        ) from error


def _refuse_non_numbers(array: np.ndarray, name: str) -> None:
    if array.dtype.kind in "biuf":
        return
    strange = [i for i in np.ndindex(array.shape) if not isinstance(array[i], (bool, int, float, np.number))]
    where = f", {name}[{', '.join(map(str, strange[0]))}] = {array[strange[0]]!r}" if strange else ""
    raise InputError(
        "features must be real numbers",
        got=f"{name} of dtype {array.dtype}{where}",
        cause="a column of text, missing values, or rows that differ in length",
        cure="keep the numeric columns and convert them with .astype('float32')",
    )


def _one_per_row(array: np.ndarray, n: int, name: str) -> np.ndarray:
    if array.ndim != 1:
        raise InputError(
            "labels have one entry per row: shape (samples,)",
            got=f"{name} of shape {array.shape}",
            cause="one-hot labels, or a column that kept its second axis",
            cure=f"use {name}.argmax(axis=1) for one-hot labels, {name}.ravel() for a column",
        )
    if len(array) != n:
        raise InputError(
            "labels and rows must be equal in number",
            got=f"{len(array)} labels in {name} for {n} rows",
            cause="one of them was filtered and the other was not",
            cure="select the same rows from both",
        )
    return array


def _refuse_single_class(array: np.ndarray, name: str) -> None:
    if len(array) == 0 or (array == array[0]).all():
        value = array.tolist()[0] if len(array) else None
        raise InputError(
            "labels need at least two classes",
            got=f"all {len(array)} labels in {name} are {value!r}" if len(array) else f"{name} is empty",
            cause="rows that are sorted by class were cut, or the wrong column was named",
            cure="shuffle before cutting, or leave the labels out to work without them",
        )
