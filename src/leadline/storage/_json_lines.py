"""JSON Lines: files that grow by one JSON object per line and keep complete lines only."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

from leadline.errors import SaveError

READ_SIZE = 4096
"""Bytes that are read at a time to find the end of the last complete line."""


def json_line(record: Any, *, allow_nan: bool = False) -> str:
    r"""Return a record as one line of JSON, including the end of the line.

    Args:
        record: a value that JSON can hold.
        allow_nan: write NaN and infinity as ``NaN`` and ``Infinity``, which only some readers
            accept.

    Raises:
        ValueError: the record holds NaN or infinity, and ``allow_nan`` is false.

    >>> json_line({"step": 1, "loss": 0.5})
    '{"step": 1, "loss": 0.5}\n'
    """
    return json.dumps(record, ensure_ascii=False, allow_nan=allow_nan) + "\n"


def split_lines(content: bytes) -> tuple[list[bytes], bytes]:
    r"""Split the content of a file into its complete lines and the unfinished line after them.

    >>> split_lines(b'{"step": 0}\n{"st')
    ([b'{"step": 0}'], b'{"st')
    """
    *lines, rest = content.split(b"\n")
    return lines, rest


class LineFile:
    """An open file to which complete lines are appended. :func:`appending_lines` opens it."""

    def __init__(self, path: Path, descriptor: int):
        self._path = path
        self._descriptor = descriptor

    def append(self, lines: str, *, sync: bool = True) -> None:
        """Append complete lines. An error leaves the earlier lines, and no unfinished line.

        Args:
            lines: text that ends with the end of a line.
            sync: wait until the lines are on the disk.

        Raises:
            SaveError: the file could not be written, for example because the disk is full.
        """
        size = os.fstat(self._descriptor).st_size
        # A file name that is not valid UTF-8 may be part of the text.
        rest = memoryview(lines.encode("utf-8", "backslashreplace"))
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if sync:
                os.fsync(self._descriptor)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise _not_appended(self._path, error) from error

    def truncate(self, size: int) -> None:
        """Keep only the first ``size`` bytes of the file.

        Raises:
            SaveError: the file could not be written.
        """
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise _not_appended(self._path, error) from error

    def remove_unfinished_line(self, beginning: bytes) -> None:
        """Remove the part of a line that an interrupted writer left at the end of the file.

        Args:
            beginning: the first bytes of every line of this kind of file.

        Raises:
            SaveError: the first or the unfinished line begins otherwise, so another program wrote
                it.
        """
        with open(self._descriptor, "rb", closefd=False) as file:
            size = file.seek(0, os.SEEK_END)
            end = _end_of_last_line(file, size)
            for start in (0, end):
                file.seek(start)
                if not beginning.startswith(file.read(len(beginning))):
                    raise SaveError(
                        f"could not write {self._path}: another program wrote this file; "
                        "name another file, or move this file away"
                    )
        if end < size:
            self.truncate(end)


@contextmanager
def appending_lines(path: str | PathLike[str]) -> Iterator[LineFile]:
    r"""Open a file to append complete lines.

    The file is created if it is missing, its folder is not. The file is not locked; see
    :func:`lock_file`.

    Raises:
        SaveError: the file cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for step in (0, 1):
    ...         with appending_lines(f"{folder}/metrics.jsonl") as file:
    ...             file.append(json_line({"step": step}))
    ...     Path(folder, "metrics.jsonl").read_text()
    '{"step": 0}\n{"step": 1}\n'
    """
    path = Path(path)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        raise _not_appended(path, error) from error
    try:
        yield LineFile(path, descriptor)
    finally:
        os.close(descriptor)


def _end_of_last_line(file: Any, size: int) -> int:
    """Return the position after the last line's end, or 0 if no line is complete."""
    end = size
    while end:
        start = max(0, end - READ_SIZE)
        file.seek(start)
        position = file.read(end - start).rfind(b"\n")
        if position >= 0:
            return start + position + 1
        end = start
    return 0


def _not_appended(path: Path, error: OSError) -> SaveError:
    reason = error.strerror or error
    return SaveError(f"could not write {path}: {reason}; its complete lines are kept")
