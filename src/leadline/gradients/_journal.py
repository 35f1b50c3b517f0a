"""A file of JSON Lines that grows while something runs: one object per line, and no line that is half there."""

import json
import math
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from leadline import checks
from leadline.errors import SaveError
from leadline.storage import lock_file

BEGINNING = b'{"step": '
"""The first bytes of every line."""

PATIENCE = 30.0
"""Seconds that a line waits for another process that writes the same file."""

if TYPE_CHECKING:
    import pandas as pd


def append_metrics(path: str | PathLike[str], step: int, scalars: Mapping[str, float]) -> None:
    """Add one line. What an interrupted run left half-written at the end is cut off first.

    Args:
        path: the file; it is made if missing, folders on the way too.
        step: written as ``"step"``.
        scalars: what is not finite has no form in JSON and is written as ``null``.

    Raises:
        SaveError: the file cannot be written; its whole lines are kept.
    """
    path = checks.path(path, "path")
    written = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
    line = json.dumps({"step": step, **written}, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with lock_file(path, patience=PATIENCE), path.open("a+b") as file:
            _cut_half_line(file, path)
            file.write(line.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
    except SaveError:
        raise
    except OSError as error:
        raise SaveError(
            f"could not write {path}: {error.strerror or error}; its whole lines are kept"
        ) from error


def read_metrics(path: str | PathLike[str]) -> "pd.DataFrame":
    """What a monitor wrote, one row per step in ascending order.

    A line that is being written is left out. Where a run was resumed and told a step twice, the later line holds.

    Args:
        path: the file.

    Returns:
        A table with a column for each scalar, indexed by ``step``; NaN where a value was not finite.

    Raises:
        SaveError: there is no such file, or a line of it is damaged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for step in (0, 100):
    ...         append_metrics(f"{folder}/metrics.jsonl", step, {"lstm[0]/slope": -0.5})
    ...     metrics = read_metrics(f"{folder}/metrics.jsonl")
    >>> metrics["lstm[0]/slope"].to_dict()
    {0: -0.5, 100: -0.5}
    """
    import pandas as pd

    path = checks.path(path, "path")
    try:
        lines = path.read_bytes().split(b"\n")[
            :-1
        ]  # behind the last line's end there is nothing, or half a line
    except OSError as error:
        raise SaveError(f"could not read {path}: {error.strerror or error}") from error
    records = {}
    for number, line in enumerate(lines, 1):
        try:
            record = dict(json.loads(line))
            records[int(record.pop("step"))] = record
        except (ValueError, TypeError, KeyError) as error:
            raise SaveError(
                f"line {number} of {path} is not what a monitor writes ({error!r})"
            ) from error
    table = pd.DataFrame.from_dict(
        {step: records[step] for step in sorted(records)}, orient="index", dtype=float
    )
    return table.rename_axis("step")


def _cut_half_line(file: BinaryIO, path: Path) -> None:
    """Make the file end with its last whole line. Refuse a file in which somebody else has written."""
    size = file.seek(0, os.SEEK_END)
    end = _end_of_last_line(file, size)
    for start in (0, end):  # the first line, and what stands behind the last whole one
        file.seek(start)
        if not BEGINNING.startswith(file.read(len(BEGINNING))):
            raise SaveError(
                f"could not write {path}: the file that is there was not written by a monitor"
            )
    if end < size:
        file.truncate(end)


def _end_of_last_line(file: BinaryIO, size: int) -> int:
    """The position behind the last line's end; 0 where there is none."""
    end = size
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
