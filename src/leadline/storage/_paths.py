"""Reading and checking of paths. Only regular files are read or replaced."""

import errno
import os
import stat
from io import FileIO
from os import PathLike
from pathlib import Path

from leadline.errors import SaveError


def open_regular(path: str | PathLike[str]) -> FileIO:
    """Open a regular file for reading.

    Pipes and devices raise an error, because reading them could block forever.

    Raises:
        OSError: the file does not exist, cannot be read, or is not a regular file.
    """
    file = FileIO(path, "rb", opener=_open_without_waiting)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is a pipe or a device", str(path))
    return file


def read(path: str | PathLike[str]) -> bytes:
    """Return the content of a regular file. See :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def destination(path: str | PathLike[str]) -> Path:
    """Return the target of a symbolic link, or any other path unchanged.

    The file need not exist yet.

    Raises:
        SaveError: the path is a folder, a pipe or a device, or cannot be accessed.
    """
    path = Path(path)
    try:
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            return target
    except (OSError, ValueError) as error:
        raise not_written(path, error) from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise SaveError(f"could not write {path}: it is {kind}; name a file")
    return target


def not_written(path: Path, error: Exception) -> SaveError:
    """Return the error for a file that could not be written."""
    cause = getattr(error, "strerror", None) or error
    return SaveError(f"could not write {path}: {cause}; what was saved earlier is untouched")


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
