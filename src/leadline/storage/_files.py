"""One file, written whole: beside its target first, then renamed in one step."""

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

    Nothing is buffered: a forked child that inherits a buffer would write its bytes a second time.
    """

    def __init__(self, file: FileIO, target: Path):
        self._file = file
        self._target = target

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes and return how many.

        Raises:
            SaveError: the disk is full, for instance; the earlier file is untouched.
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
    """Replace the file at ``path`` with ``content`` in one step; missing folders are created.

    Raises:
        SaveError: it could not be written (full disk, no permission, another writer, a folder, pipe or device of this
            name); what was there is untouched.
    """
    # A file name that is not UTF-8 may be part of the text.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with writing(path) as file:
        file.write(data)


@contextmanager
def writing(
    path: str | PathLike[str], *, slot: str | None = None, patience: float = PATIENCE
) -> Iterator[Writer]:
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
    is_link_of_slot = (
        slot is not None and path.is_symlink()
    )  # the user did not choose this name: replace the link
    target = path if is_link_of_slot else destination(path)
    process = os.getpid()
    with lock_file(target.parent / (slot or target.name), patience=patience):
        partial = unfinished(target, slot)
        file = _open_new(partial, target)
        try:
            yield Writer(file, target)
            if os.getpid() != process:
                raise SaveError(
                    f"could not write {target}: only the process that began to write it can complete it"
                )
            _finish(file, partial, target)
        except BaseException:  # an interruption leaves no litter either
            if os.getpid() != process:  # a forked child leaves the file to its parent
                raise
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                partial.unlink()
            raise


def unfinished(target: Path, slot: str | None = None) -> Path:
    """The hidden file that becomes ``target`` when it is complete."""
    return target.parent / f".leadline-{short_digest(slot or target.name)}.partial"


def remove_leftovers(*targets: Path) -> None:
    """Remove what killed writers of these targets left behind: unfinished files and the locks that protected them."""
    for named in targets:
        with suppress(SaveError, OSError):  # a writer that lives keeps its files
            target = destination(named)
            leftovers = (unfinished(target), place_of_lock(target))
            if any(path.exists() for path in leftovers):
                with lock_file(target):
                    unfinished(target).unlink(missing_ok=True)


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


def _open_new(partial: Path, target: Path) -> FileIO:
    try:
        partial.unlink(missing_ok=True)  # what a killed writer left behind
        return FileIO(partial, "xb")
    except OSError as error:
        raise not_written(target, error) from error


def _finish(file: FileIO, partial: Path, target: Path) -> None:
    try:
        os.fsync(file.fileno())
        file.close()
        if target.exists():
            with suppress(OSError):  # some file systems have no permissions
                shutil.copymode(target, partial)
        partial.replace(target)
    except OSError as error:
        raise not_written(target, error) from error
    sync_folder(target.parent)
