"""The user's own arrays, tables and images, read without executing anything that they hold."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np

from leadline.data.dataset import Dataset, check_features, class_indices
from leadline.data.folders import load_folder
from leadline.data.labels import Labels, Read, listed, refuse_unknown
from leadline.data.pixels import DIVIDED, flatten_images, scale_pixels
from leadline.data.tables import load_csv, load_parquet
from leadline.errors import InputError, context

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
            return load_folder(path, labels)
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


def _load_npz(path: Path, labels: str | None) -> Read:
    with _opened(path) as archive:
        if isinstance(archive, np.ndarray):
            raise InputError("an .npz file is an archive of arrays", got="a single array", cure="name the file .npy")
        keys = list(archive.files)
        if "X" not in keys:
            raise InputError(
                "the features are the array X",
                got=f"arrays {listed(keys)}",
                cure="np.savez(path, X=features, y=labels)",
            )
        refuse_unknown(labels, keys, "array")
        label_key = labels or ("y" if "y" in keys else None)
        X, y = (_read_member(archive, key) if key else None for key in ("X", label_key))
    return _from_arrays(X, y, path.stem, label_key)


def _load_npy(path: Path, labels: str | None) -> Read:
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


def _from_arrays(X: np.ndarray, y: Any, name: str, label_key: str | None) -> Read:
    scaled = scale_pixels(X)
    notes = () if scaled is X else (DIVIDED,)
    image_size, channels = None, 1
    if scaled.ndim in (3, 4):
        scaled, image_size, channels = flatten_images(scaled)
    divisor = None
    if X.dtype.kind in "iu":
        divisor = 1 if scaled is X else 255
    dataset = Dataset(check_features(scaled), None, name, image_size, channels, notes=notes, divisor=divisor)
    return dataset, None if y is None else Labels(y, label_key or "y")


_READERS: dict[str, Callable[[Path, str | None], Read]] = {
    ".npz": _load_npz,
    ".npy": _load_npy,
    ".csv": load_csv,
    ".parquet": load_parquet,
}
