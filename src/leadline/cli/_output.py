"""Checks of input and output paths, and the printed summary of a command."""

import stat
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from leadline.errors import InputError


def check_input(path: Path, name: str) -> None:
    """Refuse a path that is missing, or neither a file nor a folder; a pipe could block for ever.

    Args:
        path: the path.
        name: the argument or option that the user typed.

    Raises:
        InputError: the path is missing, a pipe or a device, or permission is missing.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            return  # the function that reads it names the missing target
        raise InputError(
            f"{name} must be an existing file or folder",
            got=f"{name} {path}, no file or folder of this name",
            cure="check the name and the working directory",
        ) from None
    except OSError as error:
        raise InputError(
            f"{name} must be a file or folder that can be read",
            got=f"{name} {path} ({error.strerror})",
        ) from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            f"{name} must be a file or folder",
            got=f"{name} {path}, which is a pipe or a device",
            cure="copy its content into a file",
        )


def check_writable(out: Path) -> None:
    """Refuse an output folder that cannot be written, before any work starts.

    Args:
        out: the folder that ``--out`` names; it is created if it is missing.

    Raises:
        InputError: the folder cannot be created, or no file can be created in it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        is_taken = isinstance(error, FileExistsError)
        reason = ", which is not a folder" if is_taken else f" ({error.strerror})"
        cause = "missing permission, a full disk, or a path through a file"
        raise InputError(
            "--out must be a folder that can be written",
            got=f"--out {out}{reason}",
            cause=None if is_taken else cause,
            cure="name another folder",
        ) from None


def print_summary(summary: Mapping[str, Any], lines: Iterable[str], *, json: bool) -> None:
    """Print the summary as JSON, or print one line for each sentence."""
    if json:
        from leadline.storage import canonical_json

        sys.stdout.write(canonical_json(summary))
    else:
        print(*lines, sep="\n")
