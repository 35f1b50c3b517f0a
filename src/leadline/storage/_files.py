"""Atomic replacement of one file: write under a temporary name, then rename."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from os import PathLike
from pathlib import Path

from leadline.errors import SaveError
from leadline.storage._locks import PATIENCE, lock_file, place_of_lock, short_digest
from leadline.storage._paths import destination, not_written


class Writer:
    """The new content of a file. :func:`writing` creates it.

    The output is not buffered, because a forked child would inherit the buffer and write it again.
    """

    def __init__(self, file: FileIO, target: Path):
        self._file = file
        self._target = target

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes and return their number.

        Raises:
            SaveError: the bytes could not be written, for example because the disk is full. The
                earlier file is left unchanged.
        """
        view = memoryview(data)
        size = view.nbytes
        rest = view.cast("B") if size else view
        try:
            while rest.nbytes:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise not_written(self._target, error) from error
        return size


def write(path: str | PathLike[str], content: str | bytes) -> None:
    """Replace the file at ``path`` with ``content`` in one step. Missing folders are created.

    Raises:
        SaveError: the file could not be written: the disk is full, permission is missing, another
            process is writing the file, or ``path`` is a folder, pipe or device. An earlier file is
            left unchanged.
    """
    # A file name that is not UTF-8 may be part of the text.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with writing(path) as file:
        file.write(data)


@contextmanager
def writing(
    path: str | PathLike[str], *, slot: str | None = None, patience: float = PATIENCE
) -> Iterator[Writer]:
    """Write a file in parts, and replace ``path`` when the block ends without an error.

    The file is locked while it is written. If ``path`` is a symbolic link, the link stays and its
    target is replaced.

    Args:
        path: the target; missing folders are created.
        slot: a name under which the lock and the unfinished file are kept; by default the name of
            the file. Use a slot if the name of the file depends on its content: the next writer can
            then find and remove the unfinished file of a killed process.
        patience: seconds to wait for another process that writes the same file.

    Raises:
        SaveError: the file could not be written; see :func:`write`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(f"{folder}/numbers.txt") as file:
    ...         _ = file.write(b"1 2 ")
    ...         _ = file.write(b"3")
    ...     Path(folder, "numbers.txt").read_text()
    '1 2 3'
    """
    path = Path(path)
    # The user did not choose the name of a file with a slot, so a link is replaced, not followed.
    is_link_of_slot = slot is not None and path.is_symlink()
    target = path if is_link_of_slot else destination(path)
    process = os.getpid()
    with lock_file(target.parent / (slot or target.name), patience=patience):
        partial = unfinished(target, slot)
        file = _open_new(partial, target)
        try:
            yield Writer(file, target)
            if os.getpid() != process:
                raise SaveError(
                    f"could not write {target}: only the process that began to write it can "
                    "complete it"
                )
            _finish(file, partial, target)
        except BaseException:  # An interruption must not leave an unfinished file, either.
            if os.getpid() != process:  # In a forked child, the file belongs to the parent.
                raise
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                partial.unlink()
            raise


def unfinished(target: Path, slot: str | None = None) -> Path:
    """Return the path of the hidden file that is renamed to ``target`` when it is complete."""
    return target.parent / f".leadline-{short_digest(slot or target.name)}.partial"


def remove_leftovers(*targets: Path) -> None:
    """Remove the unfinished files and locks that killed writers of these targets left behind."""
    for named in targets:
        with suppress(SaveError, OSError):  # The files of a running writer are kept.
            target = destination(named)
            leftovers = (unfinished(target), place_of_lock(target))
            if any(path.exists() for path in leftovers):
                with lock_file(target):
                    unfinished(target).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Write the entries of a folder to the disk, as ``fsync`` does for the content of a file."""
    if os.name != "posix":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _open_new(partial: Path, target: Path) -> FileIO:
    try:
        partial.unlink(missing_ok=True)  # A killed writer may have left this file behind.
        return FileIO(partial, "xb")
    except OSError as error:
        raise not_written(target, error) from error


def _finish(file: FileIO, partial: Path, target: Path) -> None:
    try:
        os.fsync(file.fileno())
        file.close()
        if target.exists():
            with suppress(OSError):  # Some file systems do not support permissions.
                shutil.copymode(target, partial)
        partial.replace(target)
    except OSError as error:
        raise not_written(target, error) from error
    sync_folder(target.parent)
