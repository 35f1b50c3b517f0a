"""Temporary folders that go with their process; what one that was killed has left goes when the next one starts."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def temporary(name: str) -> Path:
    """A new folder, named after what it holds and after this process, at whose end it is removed.

    Args:
        name: ``"leadline-jobs"``.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{name}-*-*"):
        if not _is_there(left.name.removeprefix(f"{name}-").partition("-")[0]):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-{os.getpid()}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _is_there(number: str) -> bool:
    """Whether the process may still live; where that cannot be asked without harm, it may."""
    if os.name != "posix" or not number.isdecimal():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
