"""Locks on files and folders that are being written. They end with the process that holds them.

A lock is a hidden file beside what it protects. It holds the number and the command of the process, so that a refusal
can name it, and it is removed when the lock is released.
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
"""Seconds that every writer waits: a lock that is being released just now refuses nobody."""

MARK = b'{"pid": '
"""The bytes of every lock behind the first one."""


@contextmanager
def lock_folder(folder: str | PathLike[str], *, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock on a folder, which is created if it is missing.

    Args:
        folder: what is being written.
        patience: seconds to wait for another process; by default the lock is refused at once.

    Raises:
        SaveError: another process or thread holds the lock (it is named), the folder cannot be written, or a file of
            others has the name of the lock.
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
    """The hidden file that holds the lock on one file."""
    return path.parent / f".leadline-{short_digest(path.name)}.lock"


def short_digest(name: str) -> str:
    """Twelve hexadecimal digits that stand for a file name of any length.

    >>> short_digest("codes.npy")
    '8be53caad4b6'
    """
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]


@contextmanager
def _locked(target: Path, place: Path, patience: float) -> Iterator[None]:
    from filelock import SoftFileLock, Timeout  # slow to import, and only writers need it

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = _acquire(place, max(patience, MOMENT))
    except Timeout:
        if not place.exists():
            raise SaveError(f"could not write {target}: the lock {place} cannot be made") from None
        raise SaveError(
            f"{target} is being written by {_holder(place)}; wait for it, or name another place"
        ) from None
    except (
        RuntimeError
    ):  # filelock's word for a second lock in the same thread, which would wait for itself
        raise SaveError(
            f"{target} is being written by this process already; name another place"
        ) from None
    except _ForeignFileError:
        raise SaveError(
            f"could not write {target}: {place} was not written by Leadline; name another place, or move that file away"
        ) from None
    except (OSError, ValueError) as error:
        raise not_written(target, error) from error
    process = os.getpid()
    try:
        yield
    finally:
        if (
            os.getpid() == process
        ):  # a forked child that leaves the block must not release its parent's lock
            if os.name == "posix" and not isinstance(
                lock, SoftFileLock
            ):  # safe while the lock is held: who waits for it opens a new file
                with suppress(OSError):
                    place.unlink()
            lock.release()


def _acquire(place: Path, waiting: float) -> "BaseFileLock":
    """Take the lock of the operating system; where the file system has none, the existence of the file is the lock."""
    from filelock import FileLock, SoftFileLock

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flock not supported")
        lock = FileLock(place, timeout=waiting, poll_interval=0.02, is_singleton=False)
        lock.acquire()
    if not isinstance(lock, SoftFileLock):
        try:
            _write_holder(place)
        except BaseException:
            lock.release()
            raise
    return lock


class _ForeignFileError(Exception):
    """The file at the place of a lock belongs to somebody else."""


def _write_holder(place: Path) -> None:
    """Write who holds the lock. The first byte stays free: on Windows it is the locked one.

    Raises:
        _ForeignFileError: the file is not a lock of Leadline's, or it has a second name (a hard link).
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
        with suppress(OSError):  # the lock holds on a full disk too
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, b" " + json.dumps(holder).encode())
    finally:
        os.close(descriptor)


def _command() -> str:
    return Path(sys.argv[0]).name if sys.argv else ""


def _holder(place: Path) -> str:
    """The process that holds a lock, in words."""
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
