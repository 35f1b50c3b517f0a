"""Loading of arrays, tables and images from files, without executing code from them."""

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

    ============  ==============================================================================
    ``.npz``      an array ``X`` and optionally an array ``y``
    ``.npy``      one array, without labels
    ``.csv``      one column per feature, separated by commas, semicolons or tabs, and optionally
                  a column ``y`` of labels; the header may be missing if all columns are numbers
    ``.parquet``  the same as ``.csv`` (needs the extra ``parquet``)
    folder        images of the same size, either in one subfolder per class, or all directly
                  in the folder and without labels
    ============  ==============================================================================

    An array has shape ``(n, d)``, or contains images of shape ``(n, H, W)``, ``(n, H, W, C)`` or
    ``(n, C, H, W)``, where C is 1 or 3. Integer images and all arrays of dtype uint8 are divided by
    255, unless they contain only 0 and 1. Other values, including TIFF files of floats, are not
    scaled. Labels of any kind become class indices, and the names of the classes are kept. In a
    column of text labels only an empty cell is a missing label; ``NA`` is a class name. Files are
    never unpickled.

    Images are PNG, JPEG, GIF, BMP, WebP, TIFF, PGM or PPM. The format is recognised from the
    content, not from the name. Images are rotated according to their EXIF orientation, and
    transparent pixels become white; ``Dataset.notes`` then contains a note.

    Sizes are checked before memory is allocated. Data are refused if they do not fit into the free
    memory, or if they are compressed and more than 100 times as large as their file. Images of more
    than 89 million pixels and CSV tables of more than 200,000 columns are refused as well.

    Args:
        path: file or folder.
        labels: name of the column or array of labels; by default ``y``, if it exists.

    Raises:
        InputError: the path does not exist or cannot be read, or its data break a rule of
            :func:`check_features` or :func:`class_indices`. The message gives the position of the
            fault.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "ropes.csv")
    ...     _ = path.write_text("length,weight,kind\\n1.5,3,hemp\\n2.5,4,wire\\n")
    ...     data = load(path, labels="kind")
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
    """Read rows as :func:`load` does, and labels that may be missing for some rows.

    Args:
        path: file or folder.
        labels: name of the column or array of labels; by default ``y``, if it exists.

    Returns:
        The rows without labels, and the labels as they are in the file, or ``None`` if the file has
        no labels.

    Raises:
        InputError: as for :func:`load`, except that missing labels are allowed.

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
                "path must have the ending of a known format",
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
