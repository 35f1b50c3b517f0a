"""Locks on files and folders that are being written. A lock ends with its process.

A lock is a hidden file in the same folder. It contains the process ID and the command of its
process, so that an error can name them, and it is removed when the lock is released.
"""

import hashlib
import json
import os
import socket
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from leadline.errors import SaveError
from leadline.storage._json import parse_json
from leadline.storage._paths import destination, not_written, open_regular

if TYPE_CHECKING:
    from filelock import BaseFileLock

PATIENCE = 30.0
"""Seconds that a short write waits for another short write of the same file."""

MOMENT = 0.2
"""Seconds that every writer waits, in case the lock is just being released."""

MARK = b'{"pid": '
"""The beginning of every lock file, after its first byte."""


@contextmanager
def lock_folder(folder: str | PathLike[str], *, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock on a folder, which is created if it is missing.

    Args:
        folder: the folder that is being written.
        patience: seconds to wait for another process; by default the error is raised at once.

    Raises:
        SaveError: another process or thread holds the lock, the folder cannot be written, or
            another program's file has the name of the lock.
    """
    folder = Path(folder)
    with _locked(folder, folder / ".leadline.lock", patience):
        yield


@contextmanager
def lock_file(path: str | PathLike[str], *, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock on one file; its folder is created if it is missing. See :func:`lock_folder`.

    A symbolic link and the file that it points to have the same lock.
    """
    path = destination(path)
    with _locked(path, place_of_lock(path), patience):
        yield


def place_of_lock(path: Path) -> Path:
    """Return the path of the hidden lock file for a file."""
    return path.parent / f".leadline-{short_digest(path.name)}.lock"


def short_digest(name: str) -> str:
    """Return twelve hexadecimal digits that stand for a file name of any length.

    >>> short_digest("codes.npy")
    '8be53caad4b6'
    """
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]


@contextmanager
def _locked(target: Path, place: Path, patience: float) -> Iterator[None]:
    from filelock import SoftFileLock, Timeout  # The import is slow, and only writers need it.

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = _acquire(place, max(patience, MOMENT))
    except Timeout:
        if not place.exists():
            raise SaveError(f"could not write {target}: the lock {place} cannot be made") from None
        raise SaveError(
            f"{target} is being written by {_holder(place)}; wait for it, or name another place"
        ) from None
    # filelock raises RuntimeError if the same thread holds the lock and would wait for itself.
    except RuntimeError:
        raise SaveError(
            f"{target} is being written by this process already; name another place"
        ) from None
    except _ForeignFileError:
        raise SaveError(
            f"could not write {target}: {place} was not written by Leadline; name another place, "
            "or move that file away"
        ) from None
    except (OSError, ValueError) as error:
        raise not_written(target, error) from error
    process = os.getpid()
    try:
        yield
    finally:
        # A forked child that leaves the block must not release its parent's lock.
        if os.getpid() == process:
            # Removing the file is safe while the lock is held: a waiting process opens a new file.
            if os.name == "posix" and not isinstance(lock, SoftFileLock):
                with suppress(OSError):
                    place.unlink()
            lock.release()


def _acquire(place: Path, waiting: float) -> "BaseFileLock":
    """Acquire the lock of the operating system.

    If the file system does not support locks, the existence of the file is the lock.
    """
    from filelock import FileLock, SoftFileLock

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flock not supported")
        lock = FileLock(place, timeout=waiting, poll_interval=0.02, is_singleton=False)
        lock.acquire()
    if not isinstance(lock, SoftFileLock):
        try:
            _write_holder(place)
        except BaseException:  # An interruption must release the lock, too.
            lock.release()
            raise
    return lock


class _ForeignFileError(Exception):
    """The file at the path of the lock was not written by Leadline."""


def _write_holder(place: Path) -> None:
    """Write the process ID, host and command into the lock file.

    The first byte is not used, because Windows locks it.

    Raises:
        _ForeignFileError: the file is not a lock of Leadline, or it has a second name (a hard
            link).
    """
    descriptor = os.open(
        place, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    )
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise _ForeignFileError
        os.lseek(descriptor, 1, os.SEEK_SET)
        if not MARK.startswith(os.read(descriptor, len(MARK))):
            raise _ForeignFileError
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "command": _command()}
        with suppress(OSError):  # The lock is valid even if the disk is full.
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, b" " + json.dumps(holder).encode())
    finally:
        os.close(descriptor)


def _command() -> str:
    return Path(sys.argv[0]).name if sys.argv else ""


def _holder(place: Path) -> str:
    """Describe the process that holds a lock."""
    try:
        with open_regular(place) as file:
            file.seek(1)
            holder = parse_json(file.read(1000))
        pid = int(holder["pid"])
        command = str(holder["command"])
        host = str(holder["host"])
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return "another process"
    if pid == os.getpid() and host == socket.gethostname():
        return "another thread of this process"
    where = "" if host == socket.gethostname() else f" on {host}"
    return f"process {pid} ({command}){where}" if command else f"process {pid}{where}"
