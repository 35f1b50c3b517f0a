"""What commands have in common around their work: a switch, the folder that they write into, what they print."""

import stat
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from leadline.errors import InputError

Switch = Annotated[bool, Parameter(negative=())]
"""An option that is given or not, without a ``--no-`` of its own."""


def check_input(path: Path) -> None:
    """Refuse what cannot be read: a pipe, which could block for ever, a device, or a path without permission.

    A path that does not exist is left to the reader, which knows what should be there.

    Raises:
        InputError: it is neither a file nor a folder, or it cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            "an input is a file or folder that can be read", got=f"{path} ({error.strerror})"
        ) from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError("an input is a file or folder", got=f"{path}, which is a pipe or a device")


def check_writable(out: Path) -> None:
    """Refuse before any work starts what could not be written in the end.

    Args:
        out: the folder that ``--out`` names; it is made if missing.

    Raises:
        InputError: it cannot be made, or nothing can be written into it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        is_taken = isinstance(error, FileExistsError)
        raise InputError(
            "--out must be a folder that can be written",
            got=f"--out {out}, which is not a folder"
            if is_taken
            else f"--out {out} ({error.strerror})",
            cause=None if is_taken else "missing permission, a full disk, or a file on the way",
            cure="name another folder",
        ) from None


def tell(summary: Mapping[str, Any], lines: Iterable[str], *, json: bool) -> None:
    """Print what was found: the summary as JSON, or a line for each sentence."""
    if json:
        from leadline.storage import canonical_json

        sys.stdout.write(canonical_json(summary))
    else:
        print(*lines, sep="\n")
