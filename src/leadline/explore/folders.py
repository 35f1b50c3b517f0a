"""Temporary folders that go with their process; what one that was killed has left goes when the next one starts."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows, where nothing of others is removed
    fcntl = None


def temporary(name: str) -> Path:
    """A new folder, named after what it holds, that is removed when this process ends.

    The process holds it locked, and the lock ends with the process, however that ends.

    Args:
        name: ``"leadline-jobs"``.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{name}-*"):
        _remove_if_left(left)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    if fcntl is not None:
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)  # left open: the end of the process closes it
        if not folder.exists():  # another process has started in between, and taken it for left
            return temporary(name)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _remove_if_left(folder: Path) -> None:
    """Remove a folder that no process holds."""
    if fcntl is None:
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # another user's, or gone
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass  # in use
    finally:
        os.close(handle)
