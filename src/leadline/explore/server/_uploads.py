"""Files that were uploaded: refused by their headers where they are too large, and kept until the server ends."""

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
"""Bytes of an upload."""

LARGEST_ARRAYS = 64 * 2**20
"""Bytes of all its arrays once they are unpacked."""

MOST_FEATURES = 4096
"""Numbers in a row, so that training takes seconds."""

MOST_FILES = 8
"""How many are kept; the oldest goes when another comes."""

HEADERS = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


class Uploads:
    """The uploads of one server, in a folder that goes with it."""

    def __init__(self) -> None:
        self._home = temporary("leadline-explorer-uploads")
        self._kept: list[str] = []
        self._lock = threading.Lock()

    def keep(self, sent: str) -> str:
        """Keep an ``.npz`` file as a browser sends it, and return the name of its contents.

        Nothing of it is unpacked before its headers say that it is small, and nothing is ever unpickled. The name that
        it had elsewhere is not used.

        Args:
            sent: ``data:...;base64,...``.

        Raises:
            InputError: too large, no ``.npz`` file, or arrays that :func:`leadline.data.load` refuses.
            SaveError: the temporary folder is full.
        """
        content = _decoded(sent)
        _check_headers(content)
        arrived = self._home / f"{secrets.token_hex(8)}.npz"
        try:
            arrived.write_bytes(content)
            name = name_of(load(arrived))
            with self._lock:
                arrived.replace(self._file(name))
                self._kept = [*(other for other in self._kept if other != name), name]
                for oldest in self._kept[:-MOST_FILES]:
                    self._file(oldest).unlink(missing_ok=True)
                self._kept = self._kept[-MOST_FILES:]
        except (
            InputError
        ) as error:  # without the notes: they name a file that the user does not know
            raise InputError(
                error.rule, got=error.got, cause=error.cause, cure=error.cure
            ) from None
        except OSError as error:
            raise SaveError(
                f"the upload could not be kept: {error.strerror or error}; free some space"
            ) from error
        finally:
            arrived.unlink(missing_ok=True)
        return name

    def path(self, name: str) -> Path:
        """Where the upload with this fingerprint is.

        Raises:
            InputError: it is not here, or no longer.
        """
        if name not in self._kept:
            raise InputError(
                "a link to an upload works where the file is",
                got=f"the upload {name[:40]}, which is not here" if name else "no upload yet",
                cause="uploads are kept until the server ends" if name else None,
                cure="upload the file again: it is known by its contents"
                if name
                else "upload an .npz file",
            )
        return self._file(name)

    def _file(self, name: str) -> Path:
        return self._home / f"{name}.npz"


def uploads() -> Uploads:
    """The uploads of this process; the folder is made once, whichever request comes first."""
    with _making:
        return _uploads()


_making = threading.Lock()


@cache
def _uploads() -> Uploads:
    return Uploads()


def name_of(found: Dataset) -> str:
    """16 hexadecimal digits for all that a file says: rows, labels, names of the classes, and the images' shape.

    >>> X, y = np.eye(2), [0, 1]
    >>> name_of(Dataset(X, y, class_names=("cat", "dog"))) == name_of(Dataset(X, y, class_names=("dog", "cat")))
    False
    """
    names = None if found.class_names is None else np.array(found.class_names, dtype=str)
    shape = np.array([*(found.image_size or ()), found.channels], dtype=np.int64)
    return fingerprint(found.X, found.y, names, shape)


def _decoded(sent: str) -> bytes:
    if not isinstance(sent, str):
        raise _unreadable(f"a {type(sent).__name__}")
    encoded = sent.partition("base64,")[2]
    if len(encoded) > LARGEST_FILE * 4 // 3 + 4:
        raise _too_large(f"{len(encoded) * 3 // 4:,} bytes", LARGEST_FILE, "a file")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _unreadable("bytes that were not sent as a browser does") from None


def _check_headers(content: bytes) -> None:
    """Refuse by what the file says of its arrays, before any of them is read."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            total = sum(
                max(member.file_size, _declared(archive, member)) for member in archive.infolist()
            )
    except InputError:
        raise
    except Exception as error:  # whatever a hostile file makes NumPy or zipfile stumble over
        raise _unreadable(f"{type(error).__name__}: {str(error)[:80]}") from None
    if total > LARGEST_ARRAYS:
        raise _too_large(f"{total:,} bytes", LARGEST_ARRAYS, "all arrays together, unpacked,")


def _declared(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Bytes of the array in a member, told by its header."""
    with archive.open(member) as file:
        version = npy.read_magic(file)
        shape, _, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise InputError(
            "arrays must be plain numbers or strings: pickled objects can run code and are never loaded",
            got=f"{member.filename[:40]!r} is an object array",
            cure="save it with .astype('float32'), labels with .astype(str)",
        )
    if any(type(side) is not int or side < 0 for side in shape):
        raise _unreadable(f"{member.filename[:40]!r} of shape {str(shape)[:40]}")
    features = math.prod(shape[1:])
    if features > MOST_FEATURES:
        raise InputError(
            f"a row has at most {MOST_FEATURES:,} features here",
            got=f"{features:,} in {member.filename[:40]!r}",
            cure="make the images smaller; leadline represent takes them as they are",
        )
    return math.prod(shape) * np.dtype(dtype).itemsize


def _too_large(got: str, most: int, what: str) -> InputError:
    return InputError(
        f"{what} has at most {most // 2**20} MB here",
        got=got,
        cure="upload a part of the rows; leadline represent takes all",
    )


def _unreadable(got: str) -> InputError:
    return InputError(
        "an upload is an .npz file with the features in X and, where there are any, the labels in y",
        got=got,
        cure='np.savez("rows.npz", X=X, y=y)',
    )
