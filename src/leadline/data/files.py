"""The user's own arrays, tables and images, read without executing anything that they hold."""

import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from os import PathLike
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Bool, Float32

from leadline.data.dataset import Dataset, check_features, class_indices, missing_labels
from leadline.data.pixels import flatten_images, scale_pixels
from leadline.errors import InputError, context, nearest

if TYPE_CHECKING:
    import pandas as pd

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
"""Files in a folder that count as images; others are passed over."""

DAMAGE = (ValueError, OSError, EOFError, NotImplementedError, BadZipFile, zlib.error, TokenError)
"""What NumPy and zipfile raise on files that are damaged or hold objects."""


def load(path: str | PathLike[str], labels: str | None = None) -> Dataset:
    """Read a data set from a file or from a folder of images.

    ================  ==============================================================================================
    ``.npz``          array ``X`` and, where there is one, ``y``
    ``.npy``          one array, without labels
    ``.csv``          one column per feature, separated by commas, semicolons or tabs; column ``y``, where there is
                      one, holds the labels; a header, or none where all columns are numbers
    ``.parquet``      likewise (needs the extra ``parquet``)
    folder            images of one size: subfolders are the classes, or all lie flat and are unlabelled
    ================  ==============================================================================================

    Arrays are ``(n, d)``, or images ``(n, H, W)``, ``(n, H, W, C)`` or ``(n, C, H, W)`` with C 1 or 3. Integer images,
    and any array of dtype uint8, are divided by 255, unless they hold 0 and 1 only; other values, and TIFF files of
    floats, are left as they are. In a column of text labels only an empty cell is a missing label: ``NA`` is a name.
    Labels of any kind become class indices, and their names are kept. Nothing is ever unpickled.

    Args:
        path: file or folder.
        labels: name of the column or of the array that holds the labels; by default ``y``, if there is one.

    Raises:
        InputError: the path does not exist or cannot be read, or what it holds breaks a rule of
            :func:`check_features` or :func:`class_indices`; the message says where.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "ropes.csv").write_text("length,weight,kind\\n1.5,3,hemp\\n2.5,4,wire\\n")
    ...     data = load(Path(folder, "ropes.csv"), labels="kind")
    >>> data.name, data.X.tolist(), data.y.tolist(), data.class_names
    ('ropes', [[1.5, 3.0], [2.5, 4.0]], [0, 1], ('hemp', 'wire'))
    """
    dataset, raw = read(path, labels)
    if raw is None:
        return dataset
    with context(f"while reading {path}"):
        y, names = class_indices(raw.values, raw.name)
        return replace(dataset, y=y, class_names=names)


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels as a file has them, of any kind; some may be missing."""

    values: np.ndarray
    """Shape (n,); an empty cell is ``None`` or NaN."""
    name: str
    """Of the column or of the array."""

    @property
    def known(self) -> Bool[np.ndarray, " n"]:
        """Which rows have a label; see :func:`missing_labels`."""
        return ~missing_labels(self.values)


def read(path: str | PathLike[str], labels: str | None = None) -> tuple[Dataset, Labels | None]:
    """Read rows as :func:`load` does, and their labels as they stand: for data of which few rows are labelled.

    Args:
        path: file or folder.
        labels: name of the column or of the array that holds the labels; by default ``y``, if there is one.

    Returns:
        The rows, without labels; and the labels, of which some may be missing, or ``None`` where there are none.

    Raises:
        InputError: as :func:`load`, labels aside.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "ropes.csv").write_text("length,kind\\n1.5,hemp\\n2.5,\\n")
    ...     rows, kinds = read(Path(folder, "ropes.csv"), labels="kind")
    >>> rows.X.tolist(), kinds.values.tolist()
    ([[1.5], [2.5]], ['hemp', None])
    """
    path = Path(path)
    with context(f"while reading {path}"):
        if path.is_dir():
            return _load_folder(path, labels)
        if not path.exists():
            raise InputError("the data must exist", got=f"no file or folder {path}", cause="a typing error, or a path "
                             "that is relative to another folder", cure="give the full path")  # fmt: skip
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            known = ", ".join(_READERS)
            raise InputError(
                "the ending must tell the format", got=f"{path.name!r}", cure=f"one of {known}, or a folder"
            )
        return reader(path, labels)


def _load_npz(path: Path, labels: str | None) -> "_Read":
    with _opened(path) as archive:
        if isinstance(archive, np.ndarray):
            raise InputError("an .npz file is an archive of arrays", got="a single array", cure="name the file .npy")
        keys = list(archive.files)
        if "X" not in keys:
            raise InputError(
                "the features are the array X",
                got=f"arrays {_listed(keys)}",
                cure="np.savez(path, X=features, y=labels)",
            )
        _refuse_unknown(labels, keys, "array")
        label_key = labels or ("y" if "y" in keys else None)
        X, y = (_read_member(archive, key) if key else None for key in ("X", label_key))
    return _from_arrays(X, y, path.stem, label_key)


def _load_npy(path: Path, labels: str | None) -> "_Read":
    if labels is not None:
        raise InputError(
            "an .npy file holds one array, and so no labels",
            got=f"labels = {labels!r}",
            cure="np.savez(path, X=features, y=labels) keeps both in an .npz file",
        )
    with _opened(path) as X:
        if not isinstance(X, np.ndarray):
            raise InputError("an .npy file is a single array", got="an archive of arrays", cure="name the file .npz")
    return _from_arrays(X, None, path.stem, None)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The array or the archive in a file, which is closed in any case: np.load leaves a damaged archive open."""
    with ExitStack() as stack:
        try:
            content = np.load(stack.enter_context(path.open("rb")), allow_pickle=False)
        except DAMAGE as error:
            raise _refusal(error, path.name) from error
        yield content


def _read_member(archive: Any, key: str) -> np.ndarray:
    try:
        return archive[key]
    except DAMAGE as error:
        raise _refusal(error, key) from error


def _refusal(error: Exception, what: str) -> InputError:
    if "pickle" in str(error):
        return InputError(
            "arrays must be plain numbers or strings: pickled objects can run code and are never loaded",
            got=f"{what} is an object array, or a pickle",
            cause="rows that differ in length, missing values, or strings in an array of objects",
            cure="save it with .astype('float32'), labels with .astype(str)",
        )
    return InputError(
        "the file must be readable",
        got=f"{what}: {error}",
        cause="it is damaged, still being written, or of another format than its ending says",
        cure="save it once more with np.save or np.savez",
    )


def _from_arrays(X: Any, y: Any, name: str, label_key: str | None) -> "_Read":
    scaled = scale_pixels(X)
    image_size, channels = None, 1
    if scaled.ndim in (3, 4):
        scaled, image_size, channels = flatten_images(scaled)
    dataset = Dataset(check_features(scaled), None, name, image_size, channels)
    return dataset, None if y is None else Labels(y, label_key or "y")


def _load_csv(path: Path, labels: str | None) -> "_Read":
    import pandas as pd

    try:
        form = _form(path)
        top = pd.read_csv(path, header=None, nrows=21, dtype=str, sep=form["sep"])
        form["header"] = 0 if _is_header(top, form["decimal"]) else None
        table = pd.read_csv(path, low_memory=False, **form)
        table.columns = [str(column) for column in table.columns]
        label_column = _label_column(table, labels)
        if label_column and not pd.api.types.is_numeric_dtype(table[label_column]):
            place = [list(table.columns).index(label_column)]
            names = pd.read_csv(path, usecols=place, keep_default_na=False, na_values=[""], low_memory=False, **form)
            table[label_column] = names.iloc[:, 0]
    except InputError:
        raise
    except (ValueError, OSError, UnicodeError) as error:
        raise InputError(
            "the file must be a table of comma-separated values",
            got=str(error).strip(),
            cure="open it in a text editor",
        ) from error
    if table.columns[0] == "Unnamed: 0":
        raise InputError(
            "every column needs a name",
            got="the first column has none",
            cause="row numbers that pandas wrote along; as a feature they would give the order of the rows away",
            cure="write the table with to_csv(path, index=False)",
        )
    return _from_table(table, path.stem, labels)


def _form(path: Path) -> dict[str, Any]:
    """What separates the cells, and the decimal sign: a comma between digits is one where no other comma stands."""
    with path.open(encoding="utf-8-sig") as file:
        lines = [line for line in islice(file, 21) if line.strip()] or [""]
    bare = re.sub(r"(?<=\d),(?=\d)", "", lines[0])
    separator = next((sign for sign in ";\t" if sign in bare and "," not in bare), ",")
    is_comma_decimal = separator != "," and any(re.search(r"\d,\d", line) for line in lines)
    return {"sep": separator, "decimal": "," if is_comma_decimal else "."}


def _load_parquet(path: Path, labels: str | None) -> "_Read":
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise InputError(
            "reading Parquet needs pyarrow", got="pyarrow is not installed", cure="pip install 'leadline[parquet]'"
        ) from error
    try:
        table = parquet.ParquetFile(path).read().to_pandas()
    except (ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("the file must be a readable Parquet file", got=str(error).strip()) from error
    return _from_table(table, path.stem, labels)


def _from_table(table: "pd.DataFrame", name: str, labels: str | None) -> "_Read":
    if len(table) == 0:
        raise InputError("a table needs at least one row", got="columns without rows", cure="check how it was written")
    table.columns = [str(column) for column in table.columns]
    label_column = _label_column(table, labels)
    features = table.drop(columns=[label_column]) if label_column else table
    for column in features.columns:
        _refuse_text(features[column], column)
    values = features.to_numpy(dtype=np.float64, na_value=np.nan)
    X = check_features(values, columns=list(features.columns))
    if label_column is None:
        return Dataset(X, None, name), None
    raw = table[label_column]
    values = [None if missing else value for value, missing in zip(raw.tolist(), raw.isna(), strict=True)]
    return Dataset(X, None, name), Labels(np.array(values, dtype=object), label_column)


def _label_column(table: "pd.DataFrame", labels: str | None) -> str | None:
    columns = list(table.columns)
    _refuse_unknown(labels, columns, "column")
    return labels or ("y" if "y" in columns else None)


def _refuse_text(column: "pd.Series", name: str) -> None:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        return
    row = next((i for i, value in enumerate(column.tolist()) if not isinstance(value, (bool, int, float))), 0)
    raise InputError(
        "features must be real numbers",
        got=f"row {row} of column {name!r} = {column.tolist()[row]!r}",
        cause="a column of labels or text",
        cure=f"labels={name!r} if it holds the labels, else remove the column or encode it as numbers",
    )


def _load_folder(path: Path, labels: str | None) -> "_Read":
    if labels is not None:
        raise InputError(
            "the labels of a folder of images are its subfolders", got=f"labels = {labels!r}", cure="leave labels out"
        )
    classes = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    flat = _images_in(path)
    if classes and flat:
        raise InputError(
            "a folder holds images, or one subfolder per class, not both",
            got=f"image {flat[0].name} beside subfolder {classes[0].name}",
            cure="move the images into subfolders, or the subfolders away",
        )
    files = {folder.name: _images_in(folder) for folder in classes} if classes else {"": flat}
    empty = [name for name, images in files.items() if not images]
    if empty:
        raise InputError(
            "a folder of images needs at least one image" + (" per class" if classes else ""),
            got=f"no image in {path / empty[0]}",
            cause="another folder was meant, or the images lie one level deeper",
            cure=f"images end in {', '.join(IMAGE_SUFFIXES)}",
        )
    paths = [image for images in files.values() for image in images]
    X, image_size, channels = _read_images(paths)
    dataset = Dataset(X, None, path.resolve().name, image_size, channels)
    names = np.array([name for name, images in files.items() for _ in images])
    return dataset, Labels(names, "subfolders") if classes else None


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.is_file() and entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".")
    )


def _read_images(paths: Sequence[Path]) -> tuple[np.ndarray, tuple[int, int], int]:
    """Grey where every image is grey, else red, green and blue (transparency is dropped); in [0, 1]."""
    images = [_read_image(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape[1:] != images[0].shape[1:]:
            sizes = [f"{p} is {i.shape[2]} x {i.shape[1]}" for p, i in ((paths[0], images[0]), (path, image))]
            raise InputError(
                "images must be of one size",
                got=" and ".join(sizes) + " pixels",
                cure="resize or crop them to one size",
            )
    channels = max(len(image) for image in images)
    X = np.stack([np.broadcast_to(image, (channels, *image.shape[1:])) for image in images])
    return X.reshape(len(X), -1), images[0].shape[1:], channels


def _read_image(path: Path) -> Float32[np.ndarray, "channels H W"]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # grey of 16 bits, which Pillow's own conversion would clip
                return np.asarray(image, dtype=np.float32)[None] / 65535
            if image.mode == "F":
                return np.asarray(image)[None]
            is_grey = image.mode in ("1", "L", "LA")
            pixels = np.asarray(image.convert("L" if is_grey else "RGB"), dtype=np.float32) / 255
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            "every image must be readable",
            got=f"{path}: {error}",
            cause="a damaged or half-copied file",
            cure="replace or remove it",
        ) from error
    return pixels[None] if is_grey else np.moveaxis(pixels, -1, 0)


def _refuse_unknown(labels: str | None, known: list[str], kind: str) -> None:
    if labels is not None and labels not in known:
        raise InputError(
            f"labels names the {kind} that holds the labels",
            got=f"labels = {labels!r}, which is not there",
            cure=f"one of {_listed(nearest(labels, known))}",
        )


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def _is_header(top: "pd.DataFrame", decimal: str) -> bool:
    """Whether the first of these rows names the columns; refused where it could as well be the first row of data.

    Numbers are data, unless they count the columns: 0, 1, 2, ... is how pandas names columns without names.
    """
    first, below = top.iloc[0], top.iloc[1:]
    if first.tolist() == [str(i) for i in range(len(first))]:
        return True
    is_number = [_is_number(cell, decimal) for cell in first]
    if all(is_number):
        return False
    pairs = list(zip(first, is_number, (below[column].dropna() for column in below), strict=True))
    told = [cell for cell, number, _ in pairs if number and cell == cell]
    is_alike = all(number == all(_is_number(x, decimal) for x in cells) for _, number, cells in pairs if len(cells))
    if told and is_alike and len(below):
        raise InputError(
            "the first line must name the columns where some columns are text",
            got=f"the first line is {_listed(first.tolist())}: numbers and text, just where the lines below have them",
            cause="a file without a header, or column names that are numbers",
            cure="put a line of column names on top, and let no name be a number",
        )
    return True


def _is_number(text: Any, decimal: str = ".") -> bool:
    try:
        float(text.replace(decimal, ".") if isinstance(text, str) else text)
    except ValueError:
        return False
    return True


_Read = tuple[Dataset, Labels | None]

_READERS: dict[str, Callable[[Path, str | None], _Read]] = {
    ".npz": _load_npz,
    ".npy": _load_npy,
    ".csv": _load_csv,
    ".parquet": _load_parquet,
}
