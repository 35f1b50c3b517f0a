"""Opening the user's files: only regular files, and every refusal names the file and the reason."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from leadline.errors import InputError, LeadlineError


def kind_of(path: Path) -> Literal["file", "folder"]:
    """``"file"`` for a regular file, ``"folder"`` for a folder; links are followed.

    Raises:
        InputError: nothing is there, it cannot be reached, or it is a pipe, a socket or a device, which could block
            for ever.
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
    """Open a regular file for reading in binary; see :func:`kind_of` for what is refused."""
    if kind_of(path) == "folder":
        raise InputError("the data must be a file", got=f"{path} is a folder")
    try:
        return path.open("rb")
    except OSError as error:
        raise unreachable(path, error) from None


def entries(folder: Path) -> list[Path]:
    """The entries of a folder, sorted by name, without hidden ones."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise unreachable(folder, error) from None


def unreachable(path: Path, error: Exception) -> InputError:
    """The refusal for a path that the system could not look up or open."""
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
            "the data must exist",
            got=f"{path} is a link to {os.readlink(path)}, which does not exist" if is_link  # noqa: PTH115  as written
            else f"no file or folder {path}",
            cause="a typing error, or a path that is relative to another folder",
            cure="give the full path",
        )  # fmt: skip
    return InputError(
        "the data must be readable", got=f"{path}: {getattr(error, 'strerror', None) or error}"
    )


@contextmanager
def refusing_damage(what: str, *, cure: str) -> Iterator[None]:
    """Turn every error that another library raises on a damaged file into a refusal that names ``what``.

    NumPy, zipfile, pandas, pyarrow and Pillow raise more than a dozen kinds of errors on damaged files, and the list
    changes with their releases. No code of Leadline that could have faults of its own belongs into this block.
    """
    try:
        yield
    except LeadlineError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = lines[0][:200] if lines else type(error).__name__
        raise InputError(
            "the file must be readable",
            got=f"{what}: {reason}",
            cause="it is damaged, still being written, or of another format than its ending says",
            cure=cure,
        ) from error
