"""Paths that users give: only regular files are read, and only regular files are replaced."""

import errno
import os
import stat
from io import FileIO
from os import PathLike
from pathlib import Path

from leadline.errors import SaveError


def open_regular(path: str | PathLike[str]) -> FileIO:
    """Open a regular file for reading. A pipe, which could block for ever, and a device are refused.

    Raises:
        OSError: there is no such file, it cannot be read, or it is not a regular file.
    """
    file = FileIO(path, "rb", opener=_open_without_waiting)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is a pipe or a device", str(path))
    return file


def read(path: str | PathLike[str]) -> bytes:
    """The content of a regular file. See :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def destination(path: str | PathLike[str]) -> Path:
    """The regular file that a path names: the end of a symbolic link, otherwise the path itself.

    It need not exist yet.

    Raises:
        SaveError: the path names a folder, a pipe or a device, or nothing can be written there.
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
    """The error that says what could not be written and why."""
    cause = getattr(error, "strerror", None) or error
    return SaveError(f"could not write {path}: {cause}; what was saved earlier is untouched")


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
