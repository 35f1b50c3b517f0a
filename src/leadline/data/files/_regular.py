"""Opening of data files. Only regular files are opened, and errors name the file and reason."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from leadline.errors import InputError, LeadlineError


def kind_of(path: Path) -> Literal["file", "folder"]:
    """Return ``"file"`` for a regular file and ``"folder"`` for a folder. Links are followed.

    Raises:
        InputError: the path does not exist, cannot be accessed, or is a pipe, a socket or a device,
            which could block forever.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise unreachable(path, error) from None
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "file"
    kinds = {
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    raise InputError(
        "the data must be a regular file or a folder",
        got=f"{path} is {kinds.get(stat.S_IFMT(mode), 'of another kind')}",
        cure="copy its contents into a file",
    )


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading in binary mode. :func:`kind_of` describes the errors."""
    if kind_of(path) == "folder":
        raise InputError("the data must be a file", got=f"{path} is a folder")
    try:
        return path.open("rb")
    except OSError as error:
        raise unreachable(path, error) from None


def entries(folder: Path) -> list[Path]:
    """Return the entries of a folder without hidden entries, sorted by name."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise unreachable(folder, error) from None


def unreachable(path: Path, error: Exception) -> InputError:
    """Return the error for a path that the operating system could not look up or open."""
    if isinstance(error, PermissionError):
        return InputError(
            "the data must be readable",
            got=f"no permission to read {path}",
            cause="the file, or a folder on the way to it, does not admit this user",
            cure="change the permissions, or copy the data to a folder of your own",
        )
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        is_link = path.is_symlink()
        return InputError(
            "load() needs an existing file or folder",
            got=f"{path} is a link to {os.readlink(path)}, which does not exist"  # noqa: PTH115
            if is_link
            else f"no file or folder {path}",
            cause="a typing error, or a path that is relative to another folder",
            cure="give the full path",
        )
    return InputError(
        "the data must be readable", got=f"{path}: {getattr(error, 'strerror', None) or error}"
    )


@contextmanager
def refusing_damage(what: str, *, cure: str) -> Iterator[None]:
    """Replace any error of another library on a damaged file by an InputError that names ``what``.

    NumPy, zipfile, pandas, pyarrow and Pillow raise more than a dozen kinds of errors on damaged
    files, and the list changes with their releases. The block should only contain calls of these
    libraries, so that it cannot hide errors of Leadline's own code.
    """
    try:
        yield
    except LeadlineError:
        raise
    except Exception as error:  # The list of errors is too long and changes; see above.
        lines = str(error).strip().splitlines()
        reason = lines[0][:200] if lines else type(error).__name__
        raise InputError(
            "the file must be readable",
            got=f"{what}: {reason}",
            cause="it is damaged, still being written, or of another format than its ending says",
            cure=cure,
        ) from error
