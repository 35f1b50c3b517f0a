"""The user's own arrays, tables and images, read without executing anything that they hold."""

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path

from leadline import checks
from leadline.data._classes import class_indices
from leadline.data._dataset import Dataset
from leadline.data.files._arrays import load_npy, load_npz
from leadline.data.files._folders import load_folder
from leadline.data.files._labels import Labels, Read
from leadline.data.files._parquet import load_parquet
from leadline.data.files._regular import kind_of
from leadline.data.files._tables import load_csv
from leadline.errors import InputError, context


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

    Images are PNG, JPEG, GIF, BMP, WebP, TIFF, PGM or PPM, whatever their names say; no other format is opened. They
    are turned upright as their EXIF orientation says, and transparent pixels are laid on white; ``Dataset.notes`` says
    where this was done. Sizes are checked before memory is used: data that do not fit into the free memory, compressed
    data that are more than 100 times as large as their file, images of more than 89 million pixels and tables of more
    than 200,000 columns in CSV are refused.

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
    with context(f"while reading {checks.path(path, 'path')}"):
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
    path = checks.path(path, "path")
    labels = None if labels is None else checks.text(labels, "labels", least=1)
    with context(f"while reading {path}"):
        if kind_of(path) == "folder":
            return load_folder(path, labels)
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            known = ", ".join(_READERS)
            raise InputError(
                "the ending must tell the format",
                got=f"{path.name!r}",
                cure=f"one of {known}, or a folder",
            )
        return reader(path, labels)


_READERS: dict[str, Callable[[Path, str | None], Read]] = {
    ".npz": load_npz,
    ".npy": load_npy,
    ".csv": load_csv,
    ".parquet": load_parquet,
}
