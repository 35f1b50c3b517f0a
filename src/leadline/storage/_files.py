"""One file, written whole: beside its target first, then renamed in one step."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from leadline.errors import SaveError
from leadline.storage._locks import PATIENCE, lock_file, place_of_lock, short_digest


class Writer:
    """The new content of a file. :func:`writing` creates it."""

    def __init__(self, file: BinaryIO, target: Path):
        self._file = file
        self._target = target

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes and return how many.

        Raises:
            SaveError: the disk is full, for instance; the earlier file is untouched.
        """
        try:
            return self._file.write(data)
        except OSError as error:
            raise not_written(self._target, error) from error


def write(path: str | PathLike[str], content: str | bytes) -> None:
    """Replace the file at ``path`` with ``content`` in one step; missing folders are created.

    Raises:
        SaveError: it could not be written (full disk, no permission, another writer); an earlier file is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    with writing(path) as file:
        file.write(data)


@contextmanager
def writing(path: str | PathLike[str], *, slot: str | None = None, patience: float = PATIENCE) -> Iterator[Writer]:
    """Write a file of any size in parts; it replaces the file at ``path`` when the block ends without an error.

    The file is locked while it is written. A symbolic link stays one: the file that it points to is replaced.

    Args:
        path: the target; missing folders are created.
        slot: names that share a slot share their lock and their unfinished file. For names that are chosen anew for
            each content: the next writer then finds what a killed one left behind. By default the name of the file.
        patience: seconds to wait for another process that writes the same file.

    Raises:
        SaveError: see :func:`write`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(f"{folder}/numbers.txt") as file:
    ...         _ = file.write(b"1 2 ")
    ...         _ = file.write(b"3")
    ...     Path(folder, "numbers.txt").read_text()
    '1 2 3'
    """
    path = Path(path)
    target = path.resolve() if path.is_symlink() else path
    with lock_file(target.with_name(slot or target.name), patience=patience):
        partial = unfinished(target, slot)
        file = _open_new(partial, target)
        try:
            yield Writer(file, target)
            _finish(file, partial, target)
        except BaseException:  # an interruption leaves no litter either
            with suppress(OSError):  # closing writes what is buffered, and a full disk refuses it again
                file.close()
            with suppress(OSError):
                partial.unlink()
            raise


def unfinished(target: Path, slot: str | None = None) -> Path:
    """The hidden file that becomes ``target`` when it is complete."""
    return target.with_name(f".leadline-{short_digest(slot or target.name)}.partial")


def remove_leftovers(*targets: Path) -> None:
    """Remove what killed writers of these targets left behind: unfinished files and the locks that protected them."""
    for target in targets:
        leftovers = (unfinished(target), place_of_lock(target))
        if any(path.exists() for path in leftovers):
            with suppress(SaveError, OSError), lock_file(target):  # a writer that lives keeps its files
                unfinished(target).unlink(missing_ok=True)


def not_written(path: Path, error: OSError) -> SaveError:
    """The error that says what could not be written and why."""
    return SaveError(f"could not write {path}: {error.strerror or error}; what was saved earlier is untouched")


def sync_folder(folder: Path) -> None:
    """Ask the disk to keep the names in a folder, as ``fsync`` does for the content of a file."""
    if os.name != "posix":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _open_new(partial: Path, target: Path) -> BinaryIO:
    try:
        partial.unlink(missing_ok=True)  # what a killed writer left behind
        return partial.open("xb")
    except OSError as error:
        raise not_written(target, error) from error


def _finish(file: BinaryIO, partial: Path, target: Path) -> None:
    try:
        file.flush()
        os.fsync(file.fileno())
        file.close()
        if target.exists():
            shutil.copymode(target, partial)
        partial.replace(target)
    except OSError as error:
        raise not_written(target, error) from error
    sync_folder(target.parent)
