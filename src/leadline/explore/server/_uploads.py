"""Uploaded files: checked by their headers first, and kept until the server ends."""

import base64
import binascii
import io
import math
import secrets
import threading
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from leadline.data import Dataset, fingerprint, load
from leadline.errors import InputError, SaveError
from leadline.explore.server._folders import temporary

LARGEST_FILE = 16 * 2**20
"""Largest size of an upload, in bytes."""

LARGEST_ARRAYS = 64 * 2**20
"""Largest size of all unpacked arrays of an upload, in bytes."""

MOST_FEATURES = 4096
"""Largest number of features in a row, so that training takes seconds."""

SHOWN = 40
"""Largest number of characters of a name that an error shows."""

MOST_FILES = 8
"""Largest number of kept uploads; a new upload replaces the oldest."""

HEADERS = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


class Uploads:
    """The uploads of one server, in a temporary folder."""

    def __init__(self) -> None:
        self._home = temporary("leadline-explorer-uploads")
        self._kept: list[str] = []
        self._lock = threading.Lock()

    def keep(self, sent: str) -> str:
        """Keep an ``.npz`` file that a browser sends, and return the digest of its content.

        The headers are checked before anything is unpacked, and nothing is unpickled. The file name
        of the upload is not used.

        Args:
            sent: the content as ``data:...;base64,...``.

        Raises:
            InputError: the file is too large, is not an ``.npz`` file, or holds arrays that
                :func:`leadline.data.load` refuses.
            SaveError: the temporary folder is full.
        """
        content = _decoded(sent)
        _check_headers(content)
        received = self._home / f"{secrets.token_hex(8)}.npz"
        try:
            received.write_bytes(content)
            name = name_of(load(received))
            with self._lock:
                received.replace(self._file(name))
                self._kept = [*(other for other in self._kept if other != name), name]
                for oldest in self._kept[:-MOST_FILES]:
                    self._file(oldest).unlink(missing_ok=True)
                self._kept = self._kept[-MOST_FILES:]
        except InputError as error:
            # A new error leaves out the notes, which name a temporary file.
            raise InputError(
                error.rule, got=error.got, cause=error.cause, cure=error.cure
            ) from None
        except OSError as error:
            raise SaveError(
                f"the upload could not be kept: {error.strerror or error}; free some space"
            ) from error
        finally:
            received.unlink(missing_ok=True)
        return name

    def path(self, name: str) -> Path:
        """Return the path of the upload with this digest.

        Raises:
            InputError: the server does not have the upload.
        """
        if name not in self._kept:
            raise InputError(
                "upload must name a file that was uploaded to this server",
                got=f"upload = {name[:SHOWN]}, which this server does not have"
                if name
                else "no upload yet",
                cause="the server deletes uploads when it ends" if name else None,
                cure="upload the same file again" if name else "upload an .npz file",
            )
        return self._file(name)

    def _file(self, name: str) -> Path:
        return self._home / f"{name}.npz"


def uploads() -> Uploads:
    """Return the uploads of this process; the folder is created at the first request."""
    with _making:
        return _uploads()


_making = threading.Lock()


@cache
def _uploads() -> Uploads:
    return Uploads()


def name_of(dataset: Dataset) -> str:
    """Return a digest of 16 hexadecimal digits of rows, labels, class names and image shape.

    >>> X, y = np.eye(2), [0, 1]
    >>> first = Dataset(X, y, class_names=("cat", "dog"))
    >>> second = Dataset(X, y, class_names=("dog", "cat"))
    >>> name_of(first) == name_of(second)
    False
    """
    names = None
    if dataset.class_names is not None:
        names = np.array(dataset.class_names, dtype=str)
    shape = np.array([*(dataset.image_size or ()), dataset.channels], dtype=np.int64)
    return fingerprint(dataset.X, dataset.y, names, shape)


def _decoded(sent: str) -> bytes:
    """Return the bytes of a file that a browser sent in base64; refuse a file that is too large."""
    if not isinstance(sent, str):
        raise _unreadable(f"a {type(sent).__name__}")
    encoded = sent.partition("base64,")[2]
    if len(encoded) > LARGEST_FILE * 4 // 3 + 4:
        raise _too_large(f"{len(encoded) * 3 // 4:,} bytes", LARGEST_FILE, "an upload")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _unreadable("bytes that are not base64") from None


def _check_headers(content: bytes) -> None:
    """Check the headers of all arrays before any array is read."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            total = sum(
                max(member.file_size, _declared(archive, member)) for member in archive.infolist()
            )
    except InputError:
        raise
    except Exception as error:  # a hostile file can make NumPy or zipfile fail in any way
        raise _unreadable(f"{type(error).__name__}: {str(error)[: 2 * SHOWN]}") from None
    if total > LARGEST_ARRAYS:
        raise _too_large(f"{total:,} bytes", LARGEST_ARRAYS, "all unpacked arrays together")


def _declared(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Return the size of an array in bytes, from its header."""
    with archive.open(member) as file:
        version = npy.read_magic(file)
        shape, _, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise InputError(
            "arrays must be plain numbers or strings; pickled objects can run code",
            got=f"{member.filename[:SHOWN]!r} is an object array",
            cure="save it with .astype('float32'), labels with .astype(str)",
        )
    if any(type(side) is not int or side < 0 for side in shape):
        raise _unreadable(f"{member.filename[:SHOWN]!r} of shape {str(shape)[:SHOWN]}")
    features = math.prod(shape[1:])
    if features > MOST_FEATURES:
        raise InputError(
            f"a row of an upload must have at most {MOST_FEATURES:,} features",
            got=f"{features:,} in {member.filename[:SHOWN]!r}",
            cure="make the images smaller, or use leadline represent, which has no limit",
        )
    return math.prod(shape) * np.dtype(dtype).itemsize


def _too_large(got: str, most: int, name: str) -> InputError:
    return InputError(
        f"{name} must have at most {most // 2**20} MB",
        got=got,
        cure="upload a part of the rows, or use leadline represent, which has no limit",
    )


def _unreadable(got: str) -> InputError:
    return InputError(
        "an upload must be an .npz file with features in X and, optionally, labels in y",
        got=got,
        cure='np.savez("rows.npz", X=X, y=y)',
    )
