"""Temporary folders of this process, which are removed when the process ends.

The next start removes the folders of killed processes. A folder is removed only if Leadline created
it: its name ends with a digest of the rest of the name, it is a real folder of the same user, the
mark inside it names it, and no process holds its lock. Everything else in the temporary folder
stays unchanged, and is never opened for writing.
"""

import atexit
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from leadline.errors import SaveError

PREFIX = "leadline-explorer"
"""Beginning of the names of these folders."""

LOCK = "in-use.lock"
"""File that the process keeps locked; the operating system releases the lock when it ends."""

MARK = "made-by-leadline.txt"
"""Name of the file that marks a folder as created by Leadline."""

TRIES = 20
"""Number of attempts to create a folder while other processes start."""

_created: dict[Path, tuple[FileLock, int]] = {}
"""Folders of this process, each with its lock and the process that created it."""


def temporary(name: str) -> Path:
    """Make a temporary folder that is removed when this process ends.

    Folders that killed processes left behind are removed first.

    Args:
        name: the beginning of the folder's name, ``"leadline-explorer-jobs"``.

    Raises:
        SaveError: the temporary folder of this machine cannot be written.
    """
    try:
        home = Path(tempfile.gettempdir())
        remove_abandoned()
        for _ in range(TRIES):
            folder_and_lock = _make(home / _new_name(name))
            if folder_and_lock is not None:
                folder, lock = folder_and_lock
                _created[folder] = lock, os.getpid()
                return folder
    except OSError as error:
        raise SaveError(
            "the explorer needs a temporary folder that can be written "
            f"({error.strerror or error}); free some space, or set TMPDIR to another folder"
        ) from error
    raise SaveError(
        f"the explorer could not make a folder in {home}: other processes removed it {TRIES} times"
    )


def remove_abandoned() -> None:
    """Remove the folders of killed explorers, if there are any."""
    with suppress(OSError):
        for folder in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}-*")):
            _remove_if_abandoned(folder)


def remove(folder: Path) -> None:
    """Remove a folder that :func:`temporary` created in this process."""
    lock, process = _created.pop(folder, (None, 0))
    if lock is not None and process == os.getpid():
        _remove(folder, lock)


@atexit.register
def _remove_all() -> None:
    for folder in list(_created):
        remove(folder)


def _new_name(name: str) -> str:
    start = f"{name}-{secrets.token_hex(6)}"
    return f"{start}-{_digest(start)}"


def _digest(text: str) -> str:
    return hashlib.sha256(f"leadline {text}".encode()).hexdigest()[:8]


def _mark(folder: Path) -> bytes:
    return (
        f"Leadline made the folder {folder.name} and removes it when no process uses it.\n".encode()
    )


def _make(folder: Path) -> tuple[Path, FileLock] | None:
    """Create a folder and its lock; ``None`` if another process removed it before it was marked."""
    folder.mkdir(mode=0o700)
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
        (folder / MARK).write_bytes(_mark(folder))
    except (Timeout, FileNotFoundError):
        lock.release(force=True)
        return None
    except OSError:
        _remove(folder, lock)
        raise
    return folder, lock


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a folder that Leadline made and no process uses."""
    try:
        if not _is_ours(folder):
            return
        lock = FileLock(folder / LOCK, thread_local=False)
        lock.acquire(timeout=0)
    except (OSError, Timeout):  # removed by another process, or in use
        return
    _remove(folder, lock)


def _is_ours(folder: Path) -> bool:
    """True if Leadline created the folder: it has the mark, or at most a part of the mark."""
    start, _, digest = folder.name.rpartition("-")
    status = folder.lstat()
    is_of_same_user = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if digest != _digest(start) or not stat.S_ISDIR(status.st_mode) or not is_of_same_user:
        return False
    mark = folder / MARK
    entries = {entry.name: entry for entry in os.scandir(folder)}
    if any(
        name in entries and not entries[name].is_file(follow_symlinks=False)
        for name in (MARK, LOCK)
    ):
        return False
    written = b""
    if MARK in entries:
        with mark.open("rb") as file:
            written = file.read(1000)
    if written == _mark(folder):
        return True
    return _mark(folder).startswith(written) and not entries.keys() - {MARK, LOCK}


def _remove(folder: Path, lock: FileLock) -> None:
    """Remove the content first and the mark last, so that a later start can finish the work."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.name in (MARK, LOCK):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink(missing_ok=True)
        if {entry.name for entry in os.scandir(folder)} <= {MARK, LOCK}:
            (folder / MARK).unlink(missing_ok=True)
    with suppress(OSError):
        lock.release(force=True)  # Windows cannot remove an open file
        if not (folder / MARK).exists():
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
