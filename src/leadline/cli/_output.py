"""Parts that the commands share: a switch, checks of paths, and the printed summary."""

import stat
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from leadline.errors import InputError

Switch = Annotated[bool, Parameter(negative=())]
"""A boolean option that has no ``--no-`` form."""


def check_input(path: Path) -> None:
    """Refuse a path that is neither a file nor a folder. A pipe, for example, could block for ever.

    A missing path passes: the function that reads it gives a better error.

    Raises:
        InputError: the path is a pipe or a device, or permission is missing.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            "an input must be a file or folder that can be read",
            got=f"{path} ({error.strerror})",
        ) from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            "an input must be a file or folder", got=f"{path}, which is a pipe or a device"
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
        cause = "missing permission, a full disk, or a path that leads through a file"
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
